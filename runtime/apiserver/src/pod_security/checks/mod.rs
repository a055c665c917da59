//! What each of the Pod Security Standards looks at, by the version that it looks at it since.

mod baseline;
mod restricted;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use kiln_apimachinery::meta;
use serde_json::Value;

use super::levels::{Level, Standard};

/// A pod, or what pods will be.
pub(super) struct Pod<'a> {
    pub(super) metadata: &'a Value,
    pub(super) spec: &'a Value,
}

impl<'a> Pod<'a> {
    /// Its containers, of all kinds.
    fn containers(&self) -> impl Iterator<Item = &'a Value> + use<'a> {
        let spec = self.spec;
        let lists = ["initContainers", "containers", "ephemeralContainers"].into_iter();
        lists.flat_map(move |list| spec[list].as_array().into_iter().flatten())
    }

    /// The names of those containers of which something is true.
    fn of(&self, mut is_so: impl FnMut(&'a Value) -> bool) -> Vec<&'a str> {
        self.containers().filter(|container| is_so(container)).map(|c| meta::text(c, &["name"])).collect()
    }

    /// The same of their security contexts.
    fn of_contexts(&self, mut is_so: impl FnMut(&'a Value) -> bool) -> Vec<&'a str> {
        self.of(|container| is_so(&container["securityContext"]))
    }

    /// The pod's own security context.
    fn context(&self) -> &'a Value {
        &self.spec["securityContext"]
    }

    /// Whether it has users of its own: its root is nobody outside.
    fn has_own_users(&self) -> bool {
        self.spec["hostUsers"] == false
    }

    fn is_windows(&self) -> bool {
        self.spec["os"]["name"] == "windows"
    }

    /// Who of the pod and its containers sets a value that is not allowed; empty if nobody does.
    fn setters(&self, mut is_bad: impl FnMut(&'a Value) -> bool) -> Vec<String> {
        let pod = is_bad(self.context()).then(|| "pod".to_owned());
        let containers = self.of_contexts(is_bad);
        pod.into_iter().chain((!containers.is_empty()).then(|| counted(&containers))).collect()
    }
}

/// What a standard does not allow.
pub(super) struct Finding {
    pub(super) reason: &'static str,
    pub(super) detail: String,
}

/// Both in one, as upstream tells of it.
pub(super) fn told(findings: &[Finding]) -> String {
    findings.iter().map(|f| format!("{} ({})", f.reason, f.detail)).collect::<Vec<_>>().join(", ")
}

/// What looks at a pod.
type Look = fn(&Pod<'_>) -> Option<Finding>;

/// A check: its name, the level that it belongs to, how it looks since which minor version, and the check of a lower level that
/// need not look where it does.
type Check = (&'static str, Level, &'static [(u64, Look)], &'static str);

/// In the order that faults are told in: by level and then by name.
const CHECKS: [Check; 19] = [
    ("appArmorProfile", Level::Baseline, &[(0, baseline::app_armor)], ""),
    ("capabilities_baseline", Level::Baseline, &[(0, baseline::capabilities)], ""),
    ("hostNamespaces", Level::Baseline, &[(0, baseline::host_namespaces)], ""),
    ("hostPathVolumes", Level::Baseline, &[(0, baseline::host_paths)], ""),
    ("hostPorts", Level::Baseline, &[(0, baseline::host_ports)], ""),
    ("hostProbesAndHostLifecycle", Level::Baseline, &[(34, baseline::hosts)], ""),
    ("privileged", Level::Baseline, &[(0, baseline::privileged)], ""),
    ("procMount", Level::Baseline, &[(0, baseline::proc_mount), (35, baseline::proc_mount_of_host_users)], ""),
    ("seLinuxOptions", Level::Baseline, &[(0, baseline::selinux), (31, baseline::selinux_with_engines)], ""),
    ("seccompProfile_baseline", Level::Baseline, &[(0, baseline::seccomp_annotations), (19, baseline::seccomp)], ""),
    (
        "sysctls",
        Level::Baseline,
        &[
            (0, baseline::sysctls::<0>),
            (27, baseline::sysctls::<27>),
            (29, baseline::sysctls::<29>),
            (32, baseline::sysctls::<32>),
        ],
        "",
    ),
    ("windowsHostProcess", Level::Baseline, &[(0, baseline::host_process)], ""),
    (
        "allowPrivilegeEscalation",
        Level::Restricted,
        &[(8, restricted::escalation), (25, restricted::escalation_but_windows)],
        "",
    ),
    (
        "capabilities_restricted",
        Level::Restricted,
        &[(22, restricted::capabilities), (25, restricted::capabilities_but_windows)],
        "capabilities_baseline",
    ),
    ("procMount_restricted", Level::Restricted, &[(35, baseline::proc_mount)], "procMount"),
    ("restrictedVolumes", Level::Restricted, &[(0, restricted::volumes)], "hostPathVolumes"),
    ("runAsNonRoot", Level::Restricted, &[(0, restricted::non_root), (35, restricted::non_root_of_host_users)], ""),
    ("runAsUser", Level::Restricted, &[(23, restricted::root), (35, restricted::root_of_host_users)], ""),
    (
        "seccompProfile_restricted",
        Level::Restricted,
        &[(19, restricted::seccomp), (25, restricted::seccomp_but_windows)],
        "seccompProfile_baseline",
    ),
];

/// What a standard does not allow of a pod.
pub(super) fn evaluate(standard: Standard, pod: &Pod<'_>) -> Vec<Finding> {
    if standard.level == Level::Privileged {
        return Vec::new();
    }
    let version = standard.minor.unwrap_or(u64::MAX);
    let looks = |check: &Check| check.2.iter().rev().find(|(since, _)| *since <= version).map(|(_, look)| *look);
    let at_work = || CHECKS.iter().filter(|check| check.1 <= standard.level && looks(check).is_some());
    let needless: BTreeSet<&str> = at_work().map(|check| check.3).collect();
    at_work().filter(|check| !needless.contains(check.0)).filter_map(looks).filter_map(|look| look(pod)).collect()
}

/// The one word or the other.
fn plural(count: usize, one: &'static str, many: &'static str) -> &'static str {
    if count == 1 { one } else { many }
}

/// Texts in quotes, with commas between.
fn quoted<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> String {
    texts.into_iter().map(|text| format!("\"{}\"", text.as_ref())).collect::<Vec<_>>().join(", ")
}

/// Containers by name.
fn counted(containers: &[&str]) -> String {
    format!("{} {}", plural(containers.len(), "container", "containers"), quoted(containers))
}

/// That containers are not as they must be; nothing if there are none.
fn of_containers(reason: &'static str, containers: &[&str], what: impl FnOnce() -> String) -> Option<Finding> {
    (!containers.is_empty()).then(|| Finding { reason, detail: format!("{} {}", counted(containers), what()) })
}
