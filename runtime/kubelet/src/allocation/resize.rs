//! Whether a pod gets the resources that it asks for now.

use std::io;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Node, Pod};
use serde_json::{Value, json};

use super::Allocations;
use crate::admission::{self, Verdict};
use crate::resources::is_static;

/// What became of what a pod asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resize {
    /// It has what it asks for: no condition `PodResizePending`.
    None,
    /// It was given what it asks for: the condition `PodResizeInProgress` until its containers have it, and an event
    /// `ResizeStarted`.
    Given,
    /// There is no room now: the condition `PodResizePending` of reason `Deferred` with this message; to be tried again when another
    /// pod ends or gives back, and an event `ResizeDeferred`.
    Deferred(String),
    /// It can never have it here: likewise of reason `Infeasible`, not tried again, and an event `ResizeInfeasible`.
    Infeasible(String),
}

impl Allocations {
    /// Gives a pod that runs what it asks for, if there is room. `others` are the pods that the node has taken and that are not
    /// over, without this one, with the resources that they have.
    ///
    /// # Errors
    /// If it can't be written down; nothing is given then.
    pub fn resize(&self, pod: &Pod, others: &[Arc<Pod>], node: &Node) -> io::Result<Resize> {
        if !self.is_resized(pod) {
            return Ok(Resize::None);
        }
        if is_static(pod) {
            return Ok(Resize::Infeasible("In-place resize of static-pods is not supported".to_owned()));
        }
        match admission::admit(pod, others, node) {
            Verdict::Reject(rejection) => Ok(Resize::Deferred(rejection.message)),
            // Nobody is ended for what may wait.
            Verdict::Preempt(_) => Ok(Resize::Deferred("Node didn't have enough resources".to_owned())),
            Verdict::Admit => self.set(pod).map(|()| Resize::Given),
        }
    }
}

/// The message of an event about a resize: `what` and the resources of the pod's containers.
pub fn message(what: &str, pod: &Pod, error: &str) -> String {
    let spec = pod.spec.as_ref();
    let of = |container: &Container| {
        let mut summary = json!({"name": container.name});
        if let Some(resources) = &container.resources {
            summary["resources"] = json!(resources);
        }
        summary
    };
    let list = |containers: &[Container]| containers.iter().map(of).collect::<Vec<Value>>();
    let mut fields: Vec<String> = Vec::new();
    let mut add = |name: &str, value: Value| fields.push(format!("{}:{value}", json!(name)));
    let init = spec.and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
    if !init.is_empty() {
        add("initContainers", json!(list(init)));
    }
    add("containers", json!(list(spec.map(|spec| spec.containers.as_slice()).unwrap_or_default())));
    add("generation", json!(pod.metadata.generation.unwrap_or(0)));
    if !error.is_empty() {
        add("error", json!(error));
    }
    format!("{what}: {{{}}}", fields.join(","))
}
