//! What the server sees of the node's pods.

use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};

use crate::pods::{Pods, RunningPod, RuntimeContainer, State};
use crate::probes::counts::Count;
use crate::volumes::VolumeAt;

/// The pods of the node.
pub trait Host: Send + Sync {
    /// The pod of this name.
    fn pod(&self, namespace: &str, name: &str) -> Option<PodView>;
    /// All pods.
    fn pods(&self) -> Vec<PodView>;
    /// The volumes of pods that have room of their own.
    fn volumes(&self) -> Vec<VolumeAt>;
    /// How often probes were made: by namespace, name and uid of the pod, container and kind.
    fn probes(&self) -> Vec<ProbeCount>;
}

/// See [`Host::probes`].
pub type ProbeCount = ((String, String, String, String, &'static str), Count);

impl Host for Pods {
    fn pod(&self, namespace: &str, name: &str) -> Option<PodView> {
        self.get(namespace, name).map(view)
    }

    fn pods(&self) -> Vec<PodView> {
        self.list().into_iter().map(view).collect()
    }

    fn volumes(&self) -> Vec<VolumeAt> {
        Self::volumes(self)
    }

    fn probes(&self) -> Vec<ProbeCount> {
        Self::probes(self).all()
    }
}

fn view(pod: RunningPod) -> PodView {
    let container = |c: &RuntimeContainer| ContainerView {
        id: c.id.clone(),
        name: c.name.clone(),
        running: c.state == State::Running,
        log: c.log_path.clone().into(),
    };
    PodView {
        sandbox: pod.sandbox().map(str::to_owned),
        containers: pod.containers().iter().map(container).collect(),
        pod: pod.pod,
        status: pod.status,
    }
}

/// A pod as it is now.
#[derive(Debug, Clone)]
pub struct PodView {
    /// Its object, with the spec that it runs by.
    pub pod: Arc<Pod>,
    /// Its status, where it is newer than the object's.
    pub status: Option<Arc<PodStatus>>,
    /// The runtime's id of its sandbox, if one is ready.
    pub sandbox: Option<String>,
    /// Its containers as the runtime has them, the newest first.
    pub containers: Vec<ContainerView>,
}

/// A container as the runtime has it.
#[derive(Debug, Clone)]
pub struct ContainerView {
    /// The runtime's id.
    pub id: String,
    /// The name in the pod's spec.
    pub name: String,
    /// Whether it runs.
    pub running: bool,
    /// Its log.
    pub log: PathBuf,
}

impl PodView {
    /// The pod's name.
    pub(crate) fn name(&self) -> &str {
        self.pod.metadata.name.as_deref().unwrap_or_default()
    }

    /// Its namespace.
    pub(crate) fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// Its uid.
    pub(crate) fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }

    /// The newest status that there is.
    pub(crate) fn status(&self) -> Option<&PodStatus> {
        self.status.as_deref().or(self.pod.status.as_ref())
    }

    /// Whether the spec has a container of this name, of any kind.
    pub(crate) fn has_container(&self, name: &str) -> bool {
        let Some(spec) = &self.pod.spec else { return false };
        let named = |c: &Container| c.name == name;
        spec.containers.iter().any(named)
            || spec.init_containers.iter().flatten().any(named)
            || spec.ephemeral_containers.iter().flatten().any(|c| c.name == name)
    }

    /// Whether a container of this name has a terminal.
    pub(crate) fn has_tty(&self, name: &str) -> bool {
        let Some(spec) = &self.pod.spec else { return false };
        let tty = |c: &Container| c.name == name && c.tty == Some(true);
        spec.containers.iter().any(tty)
            || spec.init_containers.iter().flatten().any(tty)
            || spec.ephemeral_containers.iter().flatten().any(|c| c.name == name && c.tty == Some(true))
    }

    /// The container of this name that runs.
    pub(crate) fn running(&self, name: &str) -> Option<&ContainerView> {
        self.containers.iter().find(|c| c.name == name && c.running)
    }
}
