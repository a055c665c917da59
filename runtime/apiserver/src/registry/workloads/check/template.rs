//! Templates of pods.

use kiln_apimachinery::path::Path;
use serde_json::Value;

use super::{Report, annotations, spec};
use crate::registry::workloads::view::{get, items, text};

/// A template of a pod.
pub(in crate::registry::workloads) fn check(template: &Value, path: &Path<'_>, r: &mut Report) {
    let none = Value::Null;
    let metadata = template.get("metadata").unwrap_or(&none);
    let pod = template.get("spec").unwrap_or(&none);
    r.labels(metadata.get("labels"), &path.child("labels"));
    let at = path.child("annotations");
    annotations::annotations(metadata.get("annotations"), &at, r);
    annotations::pod_annotations(metadata.get("annotations"), pod, &at, r);
    spec::check(pod, None, &path.child("spec"), r);
    annotations::profiles_match(metadata, pod, &path.child("spec"), r);
    if !items(pod, "ephemeralContainers").is_empty() {
        r.forbidden(&path.child("spec.ephemeralContainers"), "ephemeral containers not allowed in pod template");
    }
}

/// A template of pods that run for good; `kind` is what makes them.
pub(in crate::registry::workloads) fn runs_for_good(template: &Value, kind: &str, path: &Path<'_>, r: &mut Report) {
    let none = Value::Null;
    let pod = template.get("spec").unwrap_or(&none);
    let policy = text(pod, "restartPolicy");
    if policy != "Always" {
        r.unsupported(&path.child("spec.restartPolicy"), policy, &["Always"]);
    }
    if get(pod, "activeDeadlineSeconds").is_some() {
        let why = format!("activeDeadlineSeconds in {kind} is not Supported");
        r.forbidden(&path.child("spec.activeDeadlineSeconds"), &why);
    }
}

/// The labels of a template must be those that its owner selects.
pub(in crate::registry::workloads) fn is_selected(selected: bool, template: &Value, path: &Path<'_>, r: &mut Report) {
    if !selected {
        let labels = kiln_apimachinery::meta::at(template, &["metadata", "labels"]).cloned().unwrap_or_default();
        r.invalid(&path.child("metadata.labels"), labels, "`selector` does not match template `labels`");
    }
}
