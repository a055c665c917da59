//! The pods of this node: each is run by a worker of its own, from the day that the API (or a file) shows it until nothing of it
//! is left on the machine.
//!
//! In flow pods bound to this node (`manager`), events of the runtime ([`crate::pleg`]) and results of probes; out flow calls of
//! the CRI, statuses (`status` makes them, `writer` writes them) and events. A worker (`worker`) sleeps until one of these wakes
//! it, looks at what the runtime has (`view`), decides (`plan`) and acts (`start`, `stop`): it holds nothing that it could not
//! find out again, so a kubelet that was restarted goes on where it was. [`Pods`] is how the other parts of the kubelet see pods.
//! Nothing here knows how a container's configuration is made of a spec: that is [`crate::spec`].

mod admit;
mod backoff;
mod deadline;
mod ends;
pub(crate) mod events;
pub(crate) mod evict;
mod logs;
pub(crate) mod machine_end;
mod manager;
mod message;
mod orphans;
pub(crate) mod plan;
pub(crate) mod resize;
mod rotate;
mod slot;
mod start;
mod statics;
pub(crate) mod status;
mod stop;
#[cfg(test)]
mod testing;
pub(crate) mod view;
mod worker;
mod writer;

use std::net::IpAddr;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::sync::watch;

use crate::admission::Sysctls;

pub use machine_end::{MachineEnd, Periods};
pub(crate) use manager::{Node, run};
pub use rotate::Rotation;
pub(crate) use slot::Slot;
pub use slot::{Pods, RunningPod};
pub use view::{Container as RuntimeContainer, Sandbox, State};

/// How the pods of this node are run.
#[derive(Clone)]
pub struct Config {
    /// The kubelet's folder.
    pub root: PathBuf,
    /// The folder of containers' logs, `/var/log/pods` by default.
    pub logs: PathBuf,
    /// The folder of static pods' manifests, if there is one.
    pub manifests: Option<PathBuf>,
    /// The node's addresses, best first.
    pub node_ips: watch::Receiver<Vec<IpAddr>>,
    /// The kernel's settings that pods may have.
    pub sysctls: Sysctls,
    /// When logs are begun anew.
    pub rotation: Rotation,
}

/// The annotation that tells where a pod comes from, where it is not the API.
pub(crate) const SOURCE: &str = "kubernetes.io/config.source";
/// The annotation of a mirror pod: which static pod it shows.
pub(crate) const MIRROR: &str = "kubernetes.io/config.mirror";

pub(crate) fn containers(pod: &Pod) -> &[Container] {
    pod.spec.as_ref().map_or(&[], |spec| &spec.containers)
}

pub(crate) fn init_containers(pod: &Pod) -> &[Container] {
    pod.spec.as_ref().and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default()
}

/// Ephemeral containers as the containers that they are.
pub(crate) fn ephemeral_containers(pod: &Pod) -> Vec<Container> {
    let list = pod.spec.as_ref().and_then(|spec| spec.ephemeral_containers.as_deref()).unwrap_or_default();
    // Their fields are those of containers, and one more.
    let container = |ephemeral| serde_json::from_slice(&serde_json::to_vec(ephemeral).ok()?).ok();
    list.iter().filter_map(container).collect()
}

/// A container of any kind by its name.
pub(crate) fn find_container(pod: &Pod, name: &str) -> Option<Container> {
    let known = containers(pod).iter().chain(init_containers(pod)).find(|container| container.name == name);
    known.cloned().or_else(|| ephemeral_containers(pod).into_iter().find(|container| container.name == name))
}

pub(crate) fn is_host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true))
}

pub(crate) fn restart_policy(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()).unwrap_or("Always")
}

/// Whether a pod comes from a file of this machine.
pub(crate) fn is_static(pod: &Pod) -> bool {
    annotation(pod, SOURCE).is_some_and(|source| source != "api")
}

pub(crate) fn annotation<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

pub(crate) fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

pub(crate) fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

pub(crate) fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or("default")
}

/// What of a container must not change while it runs, as its annotation has it.
pub(crate) fn hash(container: &Container) -> String {
    format!("{:x}", crate::spec::container_hash(container))
}

/// A pod as upstream's messages name it: `name_namespace(uid)`.
pub(crate) fn full_name(pod: &Pod) -> String {
    format!("{}_{}({})", name(pod), namespace(pod), uid(pod))
}
