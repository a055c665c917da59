//! What a pod's operating system rules out, and pods that are the host's processes.

use kiln_apimachinery::path::Path;
use serde_json::Value;

use super::Report;
use crate::registry::workloads::view::{get, is, is_zero, items, text};

const FOR_WINDOWS: &str = "cannot be set for a windows pod";
const FOR_LINUX: &str = "windows options cannot be set for a linux pod";
/// Lists of containers, in the order in which they are looked at.
pub(super) const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Fields of a pod's security context that Windows has not.
const POD_FIELDS: &[&str] = &[
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
    "seLinuxChangePolicy",
];
/// The same of containers'.
const CONTAINER_FIELDS: &[&str] = &[
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];

pub(super) fn check(spec: &Value, path: &Path<'_>, r: &mut Report) {
    let Some(os) = get(spec, "os") else { return };
    let at = path.child("os");
    match text(os, "name") {
        "" => r.required(&at.child("name"), ""),
        "linux" => linux(spec, path, r),
        "windows" => windows(spec, path, r),
        other => r.unsupported(&at, other, &["linux", "windows"]),
    }
}

fn linux(spec: &Value, path: &Path<'_>, r: &mut Report) {
    if get(spec, "securityContext").is_some_and(|c| get(c, "windowsOptions").is_some()) {
        r.forbidden(&path.child("securityContext.windowsOptions"), FOR_LINUX);
    }
    for list in LISTS {
        let at = path.child(list);
        for (i, container) in items(spec, list).iter().enumerate() {
            if get(container, "securityContext").is_some_and(|c| get(c, "windowsOptions").is_some()) {
                r.forbidden(&at.index(i).child("securityContext.windowsOptions"), FOR_LINUX);
            }
        }
    }
}

fn windows(spec: &Value, path: &Path<'_>, r: &mut Report) {
    for key in ["hostUsers", "hostPID", "hostIPC", "shareProcessNamespace"] {
        let set = match key {
            "hostPID" | "hostIPC" => is(spec, key),
            _ => get(spec, key).is_some(),
        };
        if set {
            r.forbidden(&path.child(key), FOR_WINDOWS);
        }
    }
    if let Some(context) = get(spec, "securityContext") {
        let path = path.child("securityContext");
        for key in POD_FIELDS {
            if get(context, key).is_some() && (*key != "sysctls" || !is_zero(context.get(*key))) {
                r.forbidden(&path.child(key), FOR_WINDOWS);
            }
        }
    }
    for list in LISTS {
        let at = path.child(list);
        for (i, container) in items(spec, list).iter().enumerate() {
            let Some(context) = get(container, "securityContext") else { continue };
            let path = at.index(i);
            let path = path.child("securityContext");
            for key in CONTAINER_FIELDS.iter().filter(|key| get(context, key).is_some()) {
                r.forbidden(&path.child(key), FOR_WINDOWS);
            }
        }
    }
}

/// Containers that are processes of a Windows host: all of them, or none.
pub(super) fn host_process(spec: &Value, path: &Path<'_>, r: &mut Report) {
    let of = |owner: &Value| {
        let options = get(owner, "securityContext").and_then(|c| get(c, "windowsOptions"));
        options.and_then(|o| get(o, "hostProcess")).and_then(Value::as_bool)
    };
    let pod = of(spec);
    let (mut all, mut on_host) = (0, 0);
    for list in LISTS {
        let at = path.child(list);
        for (i, container) in items(spec, list).iter().enumerate() {
            all += 1;
            let own = of(container);
            if let (Some(pod), Some(own)) = (pod, own)
                && pod != own
            {
                let why = format!("pod hostProcess value must be identical if both are specified, was {pod}");
                r.invalid(&at.index(i).child("securityContext.windowsOptions.hostProcess"), own, &why);
            }
            on_host += u32::from(own.or(pod).unwrap_or(false));
        }
    }
    if on_host == 0 {
        return;
    }
    if on_host != all {
        let why = "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        r.invalid(path, "", why);
    }
    if !is(spec, "hostNetwork") {
        let why = "hostNetwork must be true if pod contains any hostProcess containers";
        r.invalid(&path.child("hostNetwork"), false, why);
    }
}

/// Pods with users of their own share nothing of the host's.
pub(super) fn host_users(spec: &Value, path: &Path<'_>, r: &mut Report) {
    if get(spec, "hostUsers") != Some(&Value::Bool(false)) {
        return;
    }
    const WHY: &str = "when `hostUsers` is false";
    for (key, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if is(spec, key) {
            r.forbidden(&path.child(shown), WHY);
        }
    }
    for list in LISTS {
        let at = path.child(list);
        for (i, container) in items(spec, list).iter().enumerate() {
            if !items(container, "volumeDevices").is_empty() {
                r.forbidden(&at.index(i).child("volumeDevices"), WHY);
            }
        }
    }
}
