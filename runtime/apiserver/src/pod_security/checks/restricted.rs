//! What the level `restricted` looks at: what a pod must say to have no more rights than it needs.

use std::collections::BTreeSet;

use kiln_apimachinery::meta;
use serde_json::Value;

use super::baseline::{added, seccomp as set_seccomp};
use super::{Finding, Pod, counted, of_containers, plural, quoted};

/// Volumes that bring nothing of the node's or of a network's.
const VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// What is set by nobody, though it must be.
fn unset(reason: &'static str, containers: &[&str], what: &str) -> Option<Finding> {
    (!containers.is_empty())
        .then(|| Finding { reason, detail: format!("pod or {} must set securityContext.{what}", counted(containers)) })
}

pub(super) fn escalation(pod: &Pod<'_>) -> Option<Finding> {
    let containers = pod.of_contexts(|context| context["allowPrivilegeEscalation"] != false);
    let what = || "must set securityContext.allowPrivilegeEscalation=false".to_owned();
    of_containers("allowPrivilegeEscalation != false", &containers, what)
}

pub(super) fn escalation_but_windows(pod: &Pod<'_>) -> Option<Finding> {
    if pod.is_windows() { None } else { escalation(pod) }
}

pub(super) fn capabilities(pod: &Pod<'_>) -> Option<Finding> {
    let keeping = pod.of_contexts(|context| !meta::strings(context["capabilities"].get("drop")).contains(&"ALL"));
    let (adding, beyond) = added(pod, &["NET_BIND_SERVICE"]);
    let kept = (!keeping.is_empty())
        .then(|| format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", counted(&keeping)));
    let set = (!adding.is_empty()).then(|| {
        let (who, what) = (counted(&adding), quoted(&beyond));
        format!("{who} must not include {what} in securityContext.capabilities.add")
    });
    let both: Vec<String> = kept.into_iter().chain(set).collect();
    (!both.is_empty()).then(|| Finding { reason: "unrestricted capabilities", detail: both.join("; ") })
}

pub(super) fn capabilities_but_windows(pod: &Pod<'_>) -> Option<Finding> {
    if pod.is_windows() { None } else { capabilities(pod) }
}

pub(super) fn volumes(pod: &Pod<'_>) -> Option<Finding> {
    let all = pod.spec["volumes"].as_array().into_iter().flatten();
    let bad: Vec<&Value> = all.filter(|volume| VOLUMES.iter().all(|source| volume[source].is_null())).collect();
    // A volume is its name and its source.
    let source = |volume: &'_ &Value| {
        let fields = volume.as_object().into_iter().flatten();
        let mut sources = fields.filter(|(field, value)| *field != "name" && !value.is_null());
        sources.next().map_or_else(|| "unknown".to_owned(), |(field, _)| field.clone())
    };
    let kinds: BTreeSet<String> = bad.iter().map(source).collect();
    let detail = || {
        let (noun, uses) = (plural(bad.len(), "volume", "volumes"), plural(bad.len(), "uses", "use"));
        let kind = plural(kinds.len(), "restricted volume type", "restricted volume types");
        let names = bad.iter().map(|volume| meta::text(volume, &["name"]));
        format!("{noun} {} {uses} {kind} {}", quoted(names), quoted(&kinds))
    };
    (!bad.is_empty()).then(|| Finding { reason: "restricted volume types", detail: detail() })
}

pub(super) fn non_root(pod: &Pod<'_>) -> Option<Finding> {
    const REASON: &str = "runAsNonRoot != true";
    let setters = pod.setters(|context| context["runAsNonRoot"] == false);
    if !setters.is_empty() {
        let detail = format!("{} must not set securityContext.runAsNonRoot=false", setters.join(" and "));
        return Some(Finding { reason: REASON, detail });
    }
    let is_set = pod.context()["runAsNonRoot"] == true;
    let containers = pod.of_contexts(|context| !is_set && context["runAsNonRoot"].is_null());
    unset(REASON, &containers, "runAsNonRoot=true")
}

pub(super) fn non_root_of_host_users(pod: &Pod<'_>) -> Option<Finding> {
    if pod.has_own_users() { None } else { non_root(pod) }
}

pub(super) fn root(pod: &Pod<'_>) -> Option<Finding> {
    let setters = pod.setters(|context| context["runAsUser"] == 0);
    let detail = || format!("{} must not set runAsUser=0", setters.join(" and "));
    (!setters.is_empty()).then(|| Finding { reason: "runAsUser=0", detail: detail() })
}

pub(super) fn root_of_host_users(pod: &Pod<'_>) -> Option<Finding> {
    if pod.has_own_users() { None } else { root(pod) }
}

pub(super) fn seccomp(pod: &Pod<'_>) -> Option<Finding> {
    let is_set = !pod.context()["seccompProfile"].is_null();
    let containers = pod.of_contexts(|context| !is_set && context["seccompProfile"].is_null());
    set_seccomp(pod)
        .or_else(|| unset("seccompProfile", &containers, "seccompProfile.type to \"RuntimeDefault\" or \"Localhost\""))
}

pub(super) fn seccomp_but_windows(pod: &Pod<'_>) -> Option<Finding> {
    if pod.is_windows() { None } else { seccomp(pod) }
}
