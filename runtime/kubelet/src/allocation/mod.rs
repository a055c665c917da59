//! What of its resources the node has given to each pod. A pod that runs may ask for others (`pods/resize`, KEP-1287): until there
//! is room it goes on with those that it has. In flow pods as the API has them, out flow pods with the resources that they have,
//! which is what all the rest of the kubelet reckons with, and what is to be told of those that wait. Kept in the pod's folder,
//! so that a kubelet after this one does not give away the same room twice.

mod actual;
mod change;
mod resize;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use serde::{Deserialize, Serialize};

pub use actual::container_status_resources;
pub use change::{Change, changes};
pub use resize::{Resize, message};

use crate::volumes::Dirs;

const FILE: &str = "allocated";

/// What the pods have. Cloning it is cheap and shares it.
#[derive(Debug, Clone)]
pub struct Allocations {
    dirs: Dirs,
    known: Arc<Mutex<HashMap<String, Arc<Allocated>>>>,
}

/// What one pod has.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Allocated {
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<ResourceRequirements>,
    containers: BTreeMap<String, ResourceRequirements>,
}

impl Allocated {
    fn of(pod: &Pod) -> Self {
        let Some(spec) = &pod.spec else { return Self::default() };
        let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        let of = |container: &Container| (container.name.clone(), container.resources.clone().unwrap_or_default());
        Self { pod: spec.resources.clone(), containers: containers.map(of).collect() }
    }

    fn is_nothing(&self) -> bool {
        let empty = ResourceRequirements::default();
        self.pod.is_none() && self.containers.values().all(|resources| *resources == empty)
    }

    fn give(&self, pod: &mut Pod) {
        let Some(spec) = &mut pod.spec else { return };
        spec.resources.clone_from(&self.pod);
        for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
            if let Some(resources) = self.containers.get(&container.name) {
                container.resources = Some(resources.clone());
            }
        }
    }
}

impl Allocations {
    /// Nothing known yet: what is on disk is read when its pod is asked for.
    pub fn new(dirs: Dirs) -> Self {
        Self { dirs, known: Arc::default() }
    }

    /// A pod with the resources that it has: the same pod, if those are what it asks for.
    pub fn apply(&self, pod: &Arc<Pod>) -> Arc<Pod> {
        match self.find(uid(pod)) {
            Some(allocated) if *allocated != Allocated::of(pod) => {
                let mut given = (**pod).clone();
                allocated.give(&mut given);
                Arc::new(given)
            }
            _ => pod.clone(),
        }
    }

    /// Gives a pod what it asks for, when it is taken by the node. One that was taken before keeps what it has.
    ///
    /// # Errors
    /// If it can't be written down; it is given all the same.
    pub fn admit(&self, pod: &Pod) -> io::Result<()> {
        if self.find(uid(pod)).is_some() {
            return Ok(());
        }
        self.set(pod)
    }

    /// Forgets a pod that is over.
    pub fn release(&self, uid: &str) {
        self.known().remove(uid);
        // The pod's folder may be gone already.
        _ = fs::remove_file(self.dirs.pod(uid).join(FILE));
    }

    /// Whether a pod asks for other resources than it has.
    pub fn is_resized(&self, pod: &Pod) -> bool {
        self.find(uid(pod)).is_some_and(|allocated| *allocated != Allocated::of(pod))
    }

    fn set(&self, pod: &Pod) -> io::Result<()> {
        let allocated = Allocated::of(pod);
        // What asks for nothing can never ask for something: its class would change.
        let is_nothing = allocated.is_nothing();
        let text = serde_json::to_vec(&allocated)?;
        self.known().insert(uid(pod).to_owned(), Arc::new(allocated));
        if is_nothing {
            return Ok(());
        }
        let folder = self.dirs.pod(uid(pod));
        let new = folder.join("..allocated");
        fs::create_dir_all(&folder)?;
        fs::write(&new, text)?;
        fs::rename(new, folder.join(FILE))
    }

    fn find(&self, uid: &str) -> Option<Arc<Allocated>> {
        if let Some(known) = self.known().get(uid) {
            return Some(known.clone());
        }
        let text = fs::read(self.dirs.pod(uid).join(FILE)).ok()?;
        let allocated: Arc<Allocated> = Arc::new(serde_json::from_slice(&text).ok()?);
        self.known().insert(uid.to_owned(), allocated.clone());
        Some(allocated)
    }

    /// No code panics while it holds the lock, so a poisoned lock still guards a whole map.
    fn known(&self) -> MutexGuard<'_, HashMap<String, Arc<Allocated>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests;
