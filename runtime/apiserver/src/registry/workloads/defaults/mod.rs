//! What a pod's specification means where it says nothing, for pods and for all that make them.

mod container;
pub(super) mod resources;
pub(super) mod volume;

use kiln_apimachinery::meta;
use serde_json::{Value, json};

use super::view::{fill, get, get_mut, int, is, items_mut, make, text};
use crate::registry::strategy::{default_to, put};

/// Seconds that a pod has to end by itself.
const GRACE: i64 = 30;

/// Fills the template of a pod, at `template` in what makes pods. Gives nothing if there is none.
pub(super) fn template(owner: &mut Value) {
    if let Some(template) = get_mut(owner, "template") {
        make(template, "metadata");
        pod_spec(make(template, "spec"));
    }
}

/// Labels of the template, if there are any.
pub(super) fn template_labels(owner: &Value) -> Option<Value> {
    let labels = meta::at(owner, &["spec", "template", "metadata", "labels"])?;
    labels.as_object().filter(|m| !m.is_empty()).map(|_| labels.clone())
}

/// An object without labels has those of its template.
pub(super) fn labels_from_template(owner: &mut Value) {
    if let Some(labels) = template_labels(owner) {
        let metadata = meta::metadata_mut(owner);
        let slot = metadata.entry("labels").or_insert(Value::Null);
        if slot.as_object().is_none_or(serde_json::Map::is_empty) {
            *slot = labels;
        }
    }
}

/// Fills a pod's specification, as pods and templates share it. Fields of features that are off by default go.
pub(super) fn pod_spec(spec: &mut Value) {
    put(spec, "schedulingGroup", None);
    fill(spec, "dnsPolicy", "ClusterFirst");
    fill(spec, "restartPolicy", "Always");
    default_to(spec, "securityContext", json!({}));
    default_to(spec, "terminationGracePeriodSeconds", GRACE);
    fill(spec, "schedulerName", "default-scheduler");
    // An old name of the same field.
    let account = match text(spec, "serviceAccountName") {
        "" => text(spec, "serviceAccount"),
        name => name,
    }
    .to_owned();
    if !account.is_empty() {
        let map = meta::object_mut(spec);
        map.insert("serviceAccountName".into(), account.as_str().into());
        map.insert("serviceAccount".into(), account.into());
    }
    for v in items_mut(spec, "volumes") {
        volume::volume(v);
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for c in items_mut(spec, list) {
            container::container(c);
        }
    }
    resources::canonical_list(spec, "overhead");
    if let Some(resources) = get_mut(spec, "resources") {
        resources::canonical_requirements(resources);
    }
}

/// Fills a pod.
pub(super) fn pod(pod: &mut Value) {
    let spec = make(pod, "spec");
    // Canonical first, so that what follows from limits is canonical too.
    pod_spec(spec);
    // Templates keep what they say: it is for the pods that are made of them.
    if int(spec, "terminationGracePeriodSeconds").is_some_and(|seconds| seconds < 0) {
        put(spec, "terminationGracePeriodSeconds", Some(1.into()));
    }
    for list in ["containers", "initContainers"] {
        items_mut(spec, list).iter_mut().for_each(resources::requests_from_limits);
    }
    resources::pod_level(spec);
    default_to(spec, "enableServiceLinks", true);
    if is(spec, "hostNetwork") {
        for list in ["containers", "initContainers"] {
            items_mut(spec, list).iter_mut().for_each(container::host_ports);
        }
    }
    status(make(pod, "status"));
}

/// Fills a pod's status as nodes write it.
fn status(status: &mut Value) {
    for list in ["initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"] {
        for container in items_mut(status, list) {
            default_to(container, "state", json!({}));
            default_to(container, "lastState", json!({}));
            resources::canonical_list(container, "allocatedResources");
            if let Some(resources) = get_mut(container, "resources") {
                resources::canonical_requirements(resources);
            }
        }
    }
    resources::canonical_list(status, "allocatedResources");
    if let Some(resources) = get_mut(status, "resources") {
        resources::canonical_requirements(resources);
    }
    one_address(status);
}

/// `podIP` is the first of `podIPs`; where they differ, the single one counts.
fn one_address(status: &mut Value) {
    let single = text(status, "podIP").to_owned();
    let first = get(status, "podIPs").and_then(|l| l.get(0)).map(|a| text(a, "ip").to_owned()).unwrap_or_default();
    if single.is_empty() && !first.is_empty() {
        meta::object_mut(status).insert("podIP".into(), first.into());
    } else if single != first {
        meta::object_mut(status).insert("podIPs".into(), json!([{"ip": single}]));
    }
}
