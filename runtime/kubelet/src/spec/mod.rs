//! From a pod to what the runtime is asked for. In flow a pod, what is known of its node, its volumes and addresses; out flow the
//! configurations of its sandbox and containers. Values, order of checks and errors are those of the upstream kubelet. Only a
//! pod's own folders are written to: its file of host names, its termination messages and the places of its volumes' parts. No
//! call of the runtime or of the API is made, but for [`env_sources`].

mod container;
mod dns;
mod env_file;
mod environment;
mod expand;
pub(crate) mod fields;
mod hostname;
mod hosts;
mod identity;
mod mounts;
mod resources;
mod sandbox;
mod security;
mod services;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod};
use serde_json::Value;

pub use container::container_config;
pub use dns::{Warning, warnings as dns_warnings};
pub use environment::{EnvSources, env_sources};
pub use identity::{container_hash, log_directory, log_path};
pub(crate) use resources::size_name as page_size_name;
pub use resources::{container_resources, sandbox_resources};
pub use sandbox::sandbox_config;
pub use services::{ServiceLink, service_environment};

use crate::cri;
use crate::resources::Amounts;
use crate::sources::SourceError;
use crate::volumes::{Dirs, Mounted};

/// A pod's or container's configuration cannot be made. The text is what the container's status shows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Something in the pod's spec does not go on this node, or goes against another part of it.
    #[error("{0}")]
    Invalid(String),
    /// A ConfigMap or Secret that the environment takes from is missing.
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// What the configurations must know about the node.
#[derive(Debug, Clone)]
pub struct NodeContext {
    /// The Node's name.
    pub name: String,
    /// The Node's addresses, the best first.
    pub addresses: Vec<IpAddr>,
    /// Where the cluster's DNS listens; empty while there is none.
    pub cluster_dns: Vec<IpAddr>,
    /// The cluster's DNS domain, as `cluster.local`.
    pub cluster_domain: String,
    /// The node's own settings of name resolution, usually `/etc/resolv.conf`; none for no resolution at all.
    pub resolv_conf: Option<PathBuf>,
    /// The kubelet's folders.
    pub dirs: Dirs,
    /// Where containers' logs lie, usually `/var/log/pods`.
    pub pod_logs: PathBuf,
    /// What pods can have of the node.
    pub allocatable: Amounts,
    /// Bytes of memory that the machine has.
    pub memory: u64,
    /// The cgroup that all pods are in, as `/kubepods`.
    pub cgroup_root: String,
    /// Whether the kernel has the one hierarchy of cgroup v2.
    pub cgroup_v2: bool,
    /// Whether memory cgroups count swap.
    pub counts_swap: bool,
    /// Sizes in bytes of the huge pages that the kernel has.
    pub huge_pages: Vec<u64>,
    /// Whether limits of processor time are enforced (`cpuCFSQuota`).
    pub cpu_quota: bool,
    /// Whether pods that name no profile of system calls have the runtime's own (`seccompDefault`).
    pub seccomp_default: bool,
    /// Whether the kernel enforces SELinux labels.
    pub selinux: bool,
    /// What the runtime's handlers can do, by name; the default's is empty.
    pub handlers: BTreeMap<String, cri::RuntimeHandlerFeatures>,
}

/// What is known of a pod beside its object.
#[derive(Debug, Clone)]
pub struct PodContext {
    /// Its node.
    pub node: Arc<NodeContext>,
    /// Which sandbox of the pod this is, from 0.
    pub attempt: u32,
    /// The pod's addresses, once its sandbox has them; those of the node for pods in its network.
    pub pod_ips: Vec<String>,
    /// Its volumes by name.
    pub volumes: BTreeMap<String, Mounted>,
    /// What services put into the environment; see [`service_environment`].
    pub services: BTreeMap<String, String>,
    /// The runtime handler of the pod's RuntimeClass; empty for the default.
    pub runtime_handler: String,
    /// The users that the pod's are mapped to, if it has its own (`hostUsers: false`).
    pub user_namespace: Option<cri::UserNamespace>,
}

/// What is known of a container beside its part of the pod.
#[derive(Debug, Clone, Default)]
pub struct ContainerContext {
    /// How often it was started before.
    pub attempt: u32,
    /// The image, as the runtime knows it.
    pub image: String,
    /// The user that the image names by number, if it does.
    pub image_uid: Option<i64>,
    /// The user that the image names by name, if it does.
    pub image_username: String,
    /// What the environment takes from ConfigMaps and Secrets.
    pub sources: EnvSources,
    /// The container whose processes an ephemeral container is to see, by the runtime's id.
    pub target: Option<String>,
    /// The images of image volumes as the runtime knows them, by the volumes' names.
    pub image_volumes: BTreeMap<String, String>,
}

impl PodContext {
    fn handler(&self) -> Option<&cri::RuntimeHandlerFeatures> {
        self.node.handlers.get(&self.runtime_handler)
    }
}

/// An ephemeral container as a container: it has the same fields, and one more of its own.
pub fn of_ephemeral(container: &EphemeralContainer) -> Container {
    let fields = serde_json::to_value(container).unwrap_or(Value::Null);
    serde_json::from_value(fields).unwrap_or_default()
}

fn invalid(why: impl Into<String>) -> SpecError {
    SpecError::Invalid(why.into())
}

/// How messages name a pod: `name_namespace(uid)`.
fn described(pod: &Pod) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let meta = &pod.metadata;
    format!("{}_{}({})", text(&meta.name), text(&meta.namespace), text(&meta.uid))
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

fn host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true)
}

#[cfg(test)]
mod testing;
