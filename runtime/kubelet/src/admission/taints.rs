//! Taints that end pods at once.

use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};

use crate::resources::is_static;

/// Whether a pod tolerates what the node's `NoExecute` taints are about. A pod of the node's own files always does.
pub(super) fn are_tolerated(pod: &Pod, node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref()).into_iter().flatten();
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let mut executing = taints.filter(|taint| taint.effect == "NoExecute");
    is_static(pod) || executing.all(|taint| tolerations.iter().any(|toleration| tolerates(toleration, taint)))
}

pub(crate) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (effect, key) = (text(&toleration.effect), text(&toleration.key));
    if !effect.is_empty() && effect != taint.effect || !key.is_empty() && key != taint.key {
        return false;
    }
    match toleration.operator.as_deref() {
        None | Some("" | "Equal") => text(&toleration.value) == text(&taint.value),
        Some("Exists") => true,
        Some(_) => false,
    }
}
