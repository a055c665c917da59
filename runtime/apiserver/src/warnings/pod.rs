//! Pods and their templates.

use kiln_apimachinery::meta;
use serde_json::{Value, json};

use super::{addresses, containers, deprecated_label, fractional, has, items, node_term, overlaps, storage};

/// What the annotations begin with that tell a container's profile.
pub(super) const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP: &str = "seccomp.security.alpha.kubernetes.io/pod";

const ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    ("security.alpha.kubernetes.io/unsafe-sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
];

const VOLUMES: [(&str, &str); 9] = [
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// A pod, whose path is empty, or a template, whose path ends with a dot.
pub(super) fn check(path: &str, pod: &Value, out: &mut Vec<String>) {
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    nodes(path, spec, out);
    for (key, why) in ANNOTATIONS.iter().filter(|(key, _)| meta::annotation(pod, key).is_some()) {
        out.push(format!("{path}metadata.annotations[{key}]: {why}"));
    }
    volumes(path, spec, out);
    overlaps::check(items(spec, &["volumes"]), out);
    twice(&format!("{path}spec.hostAliases"), items(spec, &["hostAliases"]), "ip", out);
    let secrets = items(spec, &["imagePullSecrets"]);
    twice(&format!("{path}spec.imagePullSecrets"), secrets, "name", out);
    for (i, _) in secrets.iter().enumerate().filter(|(_, s)| meta::text(s, &["name"]).is_empty()) {
        out.push(format!("{path}spec.imagePullSecrets[{i}].name: invalid empty name \"\""));
    }
    let overhead = spec.get("overhead");
    fractional(&format!("{path}spec.overhead"), overhead, &["memory", "ephemeral-storage"], out);
    let profile = meta::at(spec, &["securityContext", "seccompProfile"]);
    if profile.is_none_or(Value::is_null) && meta::annotation(pod, SECCOMP).is_some() {
        out.push(format!(
            "{path}metadata.annotations[{SECCOMP}]: non-functional in v1.27+; use the \"seccompProfile\" field instead"
        ));
    }
    containers::check(path, pod, spec, out);
    if spec.get("terminationGracePeriodSeconds").and_then(Value::as_i64).is_some_and(|s| s < 0) {
        out.push(format!(
            "{path}spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        ));
    }
    affinity(path, spec, out);
    let servers = meta::strings(meta::at(spec, &["dnsConfig", "nameservers"]));
    let at = |i: usize| format!("{path}spec.dnsConfig.nameservers[{i}]");
    out.extend(servers.iter().enumerate().filter_map(|(i, ip)| addresses::address(&at(i), ip)));
    for (i, alias) in items(spec, &["hostAliases"]).iter().enumerate() {
        out.extend(addresses::address(&format!("{path}spec.hostAliases[{i}].ip"), meta::text(alias, &["ip"])));
    }
}

/// Labels of nodes that are not to be used any more.
fn nodes(path: &str, spec: &Value, out: &mut Vec<String>) {
    for key in meta::string_map(spec.get("nodeSelector")).into_keys() {
        out.extend(deprecated_label(key).map(|why| format!("{path}spec.nodeSelector[{key}]: {why}")));
    }
    if let Some(affinity) = meta::at(spec, &["affinity", "nodeAffinity"]) {
        let at = format!("{path}spec.affinity.nodeAffinity");
        let required = "requiredDuringSchedulingIgnoredDuringExecution";
        for (i, term) in items(affinity, &[required, "nodeSelectorTerms"]).iter().enumerate() {
            node_term(&format!("{at}.{required}.nodeSelectorTerms[{i}]"), term, false, out);
        }
        let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
        for (i, term) in items(affinity, &[preferred]).iter().enumerate() {
            let term = term.get("preference").unwrap_or(&Value::Null);
            node_term(&format!("{at}.{preferred}[{i}].preference"), term, true, out);
        }
    }
    for (i, constraint) in items(spec, &["topologySpreadConstraints"]).iter().enumerate() {
        let (at, key) =
            (format!("{path}spec.topologySpreadConstraints[{i}]"), meta::text(constraint, &["topologyKey"]));
        out.extend(deprecated_label(key).map(|why| format!("{at}.topologyKey: {key} is {why}")));
        no_selector(&at, constraint, out);
    }
}

fn no_selector(path: &str, term: &Value, out: &mut Vec<String>) {
    if !has(term, "labelSelector") {
        out.push(format!("{path}.labelSelector: a null labelSelector results in matching no pod"));
    }
}

fn volumes(path: &str, spec: &Value, out: &mut Vec<String>) {
    for (i, volume) in items(spec, &["volumes"]).iter().enumerate() {
        let at = format!("{path}spec.volumes[{i}]");
        for (key, why) in VOLUMES.iter().filter(|(key, _)| has(volume, key)) {
            let shown = if *key == "storageos" { "storageOS" } else { key };
            out.push(format!("{at}.{shown}: {why}"));
        }
        let claim = meta::at(volume, &["ephemeral", "volumeClaimTemplate", "spec"]);
        storage::claim_spec(&format!("{at}.ephemeral.volumeClaimTemplate.spec"), claim, out);
    }
}

/// Elements that are told apart by a key which stands twice.
fn twice(path: &str, list: &[Value], key: &str, out: &mut Vec<String>) {
    let mut known = Vec::new();
    for (i, value) in list.iter().map(|item| meta::text(item, &[key])).enumerate() {
        if known.contains(&value) {
            out.push(format!("{path}[{i}].{key}: duplicate {key} {value:?}"));
        } else {
            known.push(value);
        }
    }
}

fn affinity(path: &str, spec: &Value, out: &mut Vec<String>) {
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(affinity) = meta::at(spec, &["affinity", kind]) else { continue };
        let at = format!("{path}spec.affinity.{kind}");
        let required = "requiredDuringSchedulingIgnoredDuringExecution";
        for (i, term) in items(affinity, &[required]).iter().enumerate() {
            no_selector(&format!("{at}.{required}[{i}]"), term, out);
        }
        let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
        for (i, term) in items(affinity, &[preferred]).iter().enumerate() {
            let term = term.get("podAffinityTerm").unwrap_or(&Value::Null);
            no_selector(&format!("{at}.{preferred}[{i}].podAffinityTerm"), term, out);
        }
    }
}

/// The AppArmor profile that an annotation tells, if it is one.
pub(crate) fn app_armor_profile(note: &str) -> Option<Value> {
    match note {
        "unconfined" => Some(json!({"type": "Unconfined"})),
        "runtime/default" => Some(json!({"type": "RuntimeDefault"})),
        _ => {
            let file = note.strip_prefix("localhost/").filter(|f| !f.is_empty() && f.trim() == *f)?;
            Some(json!({"type": "Localhost", "localhostProfile": file}))
        }
    }
}

pub(super) fn use_the_field(path: &str, key: &str) -> String {
    format!("{path}metadata.annotations[{key}]: deprecated since v1.30; use the \"appArmorProfile\" field instead")
}

/// Annotations of a new pod that are about to become fields.
pub(crate) fn app_armor(pod: &Value) -> Vec<String> {
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    if meta::text(spec, &["os", "name"]) == "windows" {
        return Vec::new();
    }
    let whole = meta::at(spec, &["securityContext", "appArmorProfile"]).filter(|p| !p.is_null());
    let lists = ["initContainers", "containers", "ephemeralContainers"].into_iter();
    let untold = lists
        .flat_map(|list| items(spec, &[list]))
        .filter(|container| meta::at(container, &["securityContext", "appArmorProfile"]).is_none_or(Value::is_null));
    let keys = untold.map(|container| format!("{APP_ARMOR}{}", meta::text(container, &["name"])));
    let told = |key: &String| {
        let note = meta::annotation(pod, key)?;
        let profile = app_armor_profile(note);
        (profile.is_none() || profile.as_ref() != whole).then_some(())
    };
    keys.filter(|key| told(key).is_some()).map(|key| use_the_field("", &key)).collect()
}
