//! How the runtime's sandboxes and containers tell which pod they belong to, so that a kubelet after this one knows them again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod};
use serde::Serialize;

use super::{name, namespace, uid};

/// The labels of both.
pub(super) fn pod_labels(pod: &Pod) -> BTreeMap<String, String> {
    [
        ("io.kubernetes.pod.name", name(pod)),
        ("io.kubernetes.pod.namespace", namespace(pod)),
        ("io.kubernetes.pod.uid", uid(pod)),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

pub(super) fn container_labels(pod: &Pod, container: &Container) -> BTreeMap<String, String> {
    let mut labels = pod_labels(pod);
    labels.insert("io.kubernetes.container.name".to_owned(), container.name.clone());
    labels
}

/// What must be known to end a container properly, should its pod's object be gone by then.
pub(super) fn container_annotations(pod: &Pod, container: &Container, attempt: u32) -> BTreeMap<String, String> {
    let mut annotations = BTreeMap::new();
    let mut set = |key: &str, value: String| annotations.insert(format!("io.kubernetes.{key}"), value);
    set("container.hash", format!("{:x}", container_hash(container)));
    set("container.restartCount", attempt.to_string());
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    set("container.terminationMessagePath", text(&container.termination_message_path));
    set("container.terminationMessagePolicy", text(&container.termination_message_policy));
    if let Some(seconds) = pod.metadata.deletion_grace_period_seconds {
        set("pod.deletionGracePeriod", seconds.to_string());
    }
    if let Some(seconds) = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds) {
        set("pod.terminationGracePeriod", seconds.to_string());
    }
    if let Some(hook) = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref()) {
        set("container.preStopHandler", json(hook));
    }
    if let Some(ports) = container.ports.as_ref().filter(|ports| !ports.is_empty()) {
        set("container.ports", json(ports));
    }
    annotations
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Changes when a container must be made anew: with its name or image, as nothing else of it can change (FNV-1a, 32 bits).
pub fn container_hash(container: &Container) -> u64 {
    let image = container.image.as_deref().unwrap_or_default();
    let bytes = container.name.bytes().chain([0]).chain(image.bytes());
    let hash = bytes.fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    u64::from(hash)
}

/// The folder of a pod's logs.
pub fn log_directory(logs: &Path, pod: &Pod) -> PathBuf {
    logs.join(format!("{}_{}_{}", namespace(pod), name(pod), uid(pod)))
}

/// The file of a container's log, below its pod's folder.
pub fn log_path(container: &str, attempt: u32) -> String {
    format!("{container}/{attempt}.log")
}
