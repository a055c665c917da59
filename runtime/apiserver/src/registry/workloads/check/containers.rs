//! The containers of a pod together.

use kiln_apimachinery::path::Path;
use serde_json::Value;

use super::spec::Pod;
use super::{Report, container, handler};
use crate::registry::workloads::defaults::resources::is_sidecar;
use crate::registry::workloads::view::{get, int, is_zero, items, text};

/// Fields that an ephemeral container may have.
const EPHEMERAL: &[&str] = &[
    "name",
    "image",
    "command",
    "args",
    "workingDir",
    "env",
    "envFrom",
    "volumeMounts",
    "volumeDevices",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "imagePullPolicy",
    "securityContext",
    "stdin",
    "stdinOnce",
    "tty",
    "targetContainerName",
];
const ONLY_SIDECARS: &str = "may not be set for init containers without restartPolicy=Always";

pub(super) fn check(spec: &Value, pod: &Pod<'_>, path: &Path<'_>, r: &mut Report) {
    let containers = items(spec, "containers");
    let at = path.child("containers");
    if containers.is_empty() {
        r.required(&at, "");
    }
    let mut names: Vec<&str> = Vec::new();
    for (i, c) in containers.iter().enumerate() {
        let path = at.index(i);
        container::check(c, pod, &path, r);
        unique(c, &mut names, &path, r);
        handler::lifecycle(c, spec, &path, r);
        handler::probes(c, &path, r);
        container::restart_policy(c, &path, r);
    }
    host_ports(containers, &at, r);
    init(spec, pod, names, &path.child("initContainers"), r);
    ephemeral(spec, pod, &path.child("ephemeralContainers"), r);
}

fn unique<'a>(container: &'a Value, names: &mut Vec<&'a str>, path: &Path<'_>, r: &mut Report) {
    let name = text(container, "name");
    if names.contains(&name) {
        r.duplicate(&path.child("name"), name);
    } else if !name.is_empty() {
        names.push(name);
    }
}

/// Ports of the node, each of which is there once.
fn host_ports(containers: &[Value], all: &Path<'_>, r: &mut Report) {
    let mut seen: Vec<String> = Vec::new();
    for (i, container) in containers.iter().enumerate() {
        let path = all.index(i);
        let path = path.child("ports");
        for (j, port) in items(container, "ports").iter().enumerate() {
            let Some(number) = int(port, "hostPort").filter(|n| *n != 0) else { continue };
            let key = format!("{}/{}/{number}", text(port, "protocol"), text(port, "hostIP"));
            if seen.contains(&key) {
                r.duplicate(&path.index(j).child("hostPort"), key);
            } else {
                seen.push(key);
            }
        }
    }
}

fn init<'a>(spec: &'a Value, pod: &Pod<'_>, mut names: Vec<&'a str>, all: &Path<'_>, r: &mut Report) {
    for (i, c) in items(spec, "initContainers").iter().enumerate() {
        let path = all.index(i);
        container::check(c, pod, &path, r);
        container::restart_policy(c, &path, r);
        unique(c, &mut names, &path, r);
        host_ports(std::slice::from_ref(c), all, r);
        if is_sidecar(c) {
            handler::lifecycle(c, spec, &path, r);
            handler::probes(c, &path, r);
            continue;
        }
        for key in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if get(c, key).is_some() {
                r.forbidden(&path.child(key), ONLY_SIDECARS);
            }
        }
        let policies = path.child("resizePolicy");
        for (j, policy) in items(c, "resizePolicy").iter().enumerate() {
            if text(policy, "restartPolicy") == "RestartContainer" {
                let why = "must not be set to 'RestartContainer' for non-sidecar initContainers";
                r.invalid(&policies.index(j).child("restartPolicy"), "RestartContainer", why);
            }
        }
    }
}

fn ephemeral(spec: &Value, pod: &Pod<'_>, all: &Path<'_>, r: &mut Report) {
    const WHY: &str = "cannot be set for an Ephemeral Container";
    let others = items(spec, "containers").iter().chain(items(spec, "initContainers"));
    let others: Vec<&str> = others.map(|c| text(c, "name")).collect();
    let mut names = others.clone();
    for (i, c) in items(spec, "ephemeralContainers").iter().enumerate() {
        let path = all.index(i);
        container::check(c, pod, &path, r);
        container::image(c, &path, r);
        unique(c, &mut names, &path, r);
        let target = text(c, "targetContainerName");
        if !target.is_empty() && !others.contains(&target) {
            r.not_found(&path.child("targetContainerName"), target);
        }
        for (key, value) in c.as_object().into_iter().flatten() {
            if !EPHEMERAL.contains(&key.as_str()) && !is_zero(Some(value)) {
                r.forbidden(&path.child(key), WHY);
            }
        }
        let mounts = path.child("volumeMounts");
        for (j, mount) in items(c, "volumeMounts").iter().enumerate() {
            for key in ["subPath", "subPathExpr"].into_iter().filter(|key| !text(mount, key).is_empty()) {
                r.forbidden(&mounts.index(j).child(key), WHY);
            }
        }
    }
}
