//! A pod's specification as a whole.

use kiln_apimachinery::path::Path;
use kiln_apimachinery::{meta, names};
use serde_json::Value;

use super::os::LISTS;
use super::volumes::Volumes;
use super::{
    Report, affinity, annotations, container, containers, network, os, resources, security, spread, tolerations,
    volumes,
};
use crate::registry::workloads::view::{entries, get, int, items, text};

const RESTART_POLICIES: &[&str] = &["Always", "OnFailure", "Never"];

/// What the parts of a pod need to know of the whole.
pub(super) struct Pod<'a> {
    pub(super) volumes: Volumes<'a>,
    pub(super) claims: Vec<&'a str>,
    pub(super) restart_policy: &'a str,
    /// False for a pod with users of its own.
    pub(super) host_users: bool,
}

/// A specification of a pod, with the pod's metadata, or in a template, without.
pub(super) fn check(spec: &Value, metadata: Option<&Value>, path: &Path<'_>, r: &mut Report) {
    let is_pod = metadata.is_some();
    if int(spec, "terminationGracePeriodSeconds").is_none() {
        r.required(&path.child("terminationGracePeriodSeconds"), "");
    }
    let owner = metadata.map_or("", |m| text(m, "name"));
    let pod = Pod {
        volumes: volumes::check(spec, owner, is_pod, &path.child("volumes"), r),
        claims: items(spec, "resourceClaims").iter().map(|c| text(c, "name")).filter(|n| !n.is_empty()).collect(),
        restart_policy: text(spec, "restartPolicy"),
        host_users: get(spec, "hostUsers") != Some(&Value::Bool(false)),
    };
    claims(spec, metadata, &path.child("resourceClaims"), r);
    containers::check(spec, &pod, path, r);
    resources::of_pod(spec, &pod.claims, path, r);
    r.one_of(&path.child("restartPolicy"), pod.restart_policy, RESTART_POLICIES);
    network::check(spec, is_pod, path, r);
    r.labels(spec.get("nodeSelector"), &path.child("nodeSelector"));
    security::of_pod(spec, &path.child("securityContext"), r);
    let secrets = path.child("imagePullSecrets");
    for (i, secret) in items(spec, "imagePullSecrets").iter().enumerate() {
        if secret.as_object().is_some_and(|s| s.keys().any(|k| k != "name")) {
            r.invalid(&secrets.index(i), secret.clone(), "only name may be set");
        }
    }
    if let Some(found) = get(spec, "affinity") {
        affinity::check(found, &path.child("affinity"), r);
    }
    gates(spec, path, r);
    spread::check(items(spec, "topologySpreadConstraints"), &path.child("topologySpreadConstraints"), r);
    os::host_process(spec, path, r);
    os::host_users(spec, path, r);
    tolerations(items(spec, "tolerations"), &path.child("tolerations"), r);
    references(spec, path, r);
    if let Some(seconds) = int(spec, "activeDeadlineSeconds") {
        r.range(&path.child("activeDeadlineSeconds"), seconds, 1, i64::from(i32::MAX));
    }
    if let Some(policy) = get(spec, "preemptionPolicy").and_then(Value::as_str) {
        r.one_of(&path.child("preemptionPolicy"), policy, &["PreemptLowerPriority", "Never"]);
    }
    if entries(spec, "overhead").next().is_some() {
        resources::overhead(spec, &path.child("overhead"), r);
    }
    os::check(spec, path, r);
    key_files(spec, path, r);
}

/// A whole pod, whether it is new or changed.
pub(in crate::registry::workloads) fn pod(pod: &Value, r: &mut Report) {
    let none = Value::Null;
    let (metadata, spec) = (pod.get("metadata").unwrap_or(&none), pod.get("spec").unwrap_or(&none));
    let path = Path::new("spec");
    annotations::pod_annotations(metadata.get("annotations"), spec, &Path::new("metadata.annotations"), r);
    check(spec, Some(metadata), &path, r);
    if text(spec, "serviceAccountName").is_empty() {
        let all = path.child("volumes");
        for (i, volume) in items(spec, "volumes").iter().enumerate() {
            let at = all.index(i);
            let at = at.child("projected.sources");
            for (j, source) in get(volume, "projected").map_or(&[][..], |p| items(p, "sources")).iter().enumerate() {
                if get(source, "serviceAccountToken").is_some() {
                    let why = "must not be specified when serviceAccountName is not set";
                    r.forbidden(&at.index(j).child("serviceAccountToken"), why);
                }
            }
        }
    }
    for list in ["containers", "initContainers"] {
        let all = path.child(list);
        for (i, c) in items(spec, list).iter().enumerate() {
            container::image(c, &all.index(i), r);
        }
    }
}

/// A new pod.
pub(in crate::registry::workloads) fn new_pod(object: &Value, r: &mut Report) {
    pod(object, r);
    let none = Value::Null;
    let (metadata, spec) = (object.get("metadata").unwrap_or(&none), object.get("spec").unwrap_or(&none));
    let path = Path::new("spec");
    if !items(spec, "ephemeralContainers").is_empty() {
        r.forbidden(&path.child("ephemeralContainers"), "cannot be set on create");
    }
    if !text(spec, "nodeName").is_empty() && !items(spec, "schedulingGates").is_empty() {
        r.forbidden(&path.child("nodeName"), "cannot be set until all schedulingGates have been cleared");
    }
    annotations::profiles_match(metadata, spec, &path, r);
}

fn claims(spec: &Value, metadata: Option<&Value>, all: &Path<'_>, r: &mut Report) {
    let mirror = metadata.is_some_and(|m| meta::at(m, &["annotations", annotations::MIRROR]).is_some());
    let mut seen: Vec<&str> = Vec::new();
    for (i, claim) in items(spec, "resourceClaims").iter().enumerate() {
        if mirror {
            r.forbidden(&Path::new(""), "static pods do not support resource claims");
            continue;
        }
        let path = all.index(i);
        match text(claim, "name") {
            "" => r.required(&path.child("name"), ""),
            name if seen.contains(&name) => r.duplicate(&path.child("name"), name),
            name => {
                r.name(&path.child("name"), name, names::dns1123_label);
                seen.push(name);
            }
        }
        let sources = ["resourceClaimName", "resourceClaimTemplateName"];
        match sources.iter().filter(|key| get(claim, key).is_some()).count() {
            0 => {
                let why = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
                r.invalid(&path, claim.clone(), why);
            }
            1 => {}
            _ => {
                let why = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
                r.invalid(&path, claim.clone(), why);
            }
        }
        for key in sources {
            if let Some(name) = get(claim, key).and_then(Value::as_str) {
                r.name(&path.child(key), name, names::dns1123_subdomain);
            }
        }
    }
}

/// What a pod waits for before it is placed, and before it is ready.
fn gates(spec: &Value, path: &Path<'_>, r: &mut Report) {
    let all = path.child("readinessGates");
    for (i, gate) in items(spec, "readinessGates").iter().enumerate() {
        r.name(&all.index(i).child("conditionType"), text(gate, "conditionType"), names::qualified_name);
    }
    let all = path.child("schedulingGates");
    let mut seen: Vec<&str> = Vec::new();
    for (i, gate) in items(spec, "schedulingGates").iter().enumerate() {
        let name = text(gate, "name");
        r.name(&all.index(i), name, names::qualified_name);
        if seen.contains(&name) {
            r.duplicate(&all.index(i), name);
        }
        seen.push(name);
    }
}

/// Names of other objects.
fn references(spec: &Value, path: &Path<'_>, r: &mut Report) {
    for key in ["serviceAccountName", "nodeName", "priorityClassName", "runtimeClassName"] {
        let name = text(spec, key);
        let set = if key == "runtimeClassName" { get(spec, key).is_some() } else { !name.is_empty() };
        if set {
            r.name(&path.child(key), name, names::dns1123_subdomain);
        }
    }
}

/// Variables out of files: the volume is there and is an empty directory at first.
fn key_files(spec: &Value, path: &Path<'_>, r: &mut Report) {
    for list in LISTS {
        let all = path.child(list);
        for (i, container) in items(spec, list).iter().enumerate() {
            let at = all.index(i);
            let at = at.child("env");
            for (j, variable) in items(container, "env").iter().enumerate() {
                let Some(file) = get(variable, "valueFrom").and_then(|v| get(v, "fileKeyRef")) else { continue };
                let name = text(file, "volumeName");
                let at = at.index(j);
                let at = at.child("valueFrom.fileKeyRef.volumeName");
                match items(spec, "volumes").iter().find(|v| text(v, "name") == name) {
                    None => r.not_found(&at, name),
                    Some(v) if get(v, "emptyDir").is_none() => {
                        r.invalid(&at, name, "referenced volume must be of type emptyDir");
                    }
                    Some(_) => {}
                }
            }
        }
    }
}
