//! Volumes, claims and classes of storage.

use kiln_apimachinery::meta;
use serde_json::Value;

use super::{deprecated_label, fractional, has, items, node_term};

const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

const ANNOTATIONS: [(&str, &str); 2] = [
    (BETA_CLASS, "deprecated since v1.8; use \"storageClassName\" attribute instead"),
    ("volume.beta.kubernetes.io/mount-options", "deprecated since v1.31; use \"mountOptions\" attribute instead"),
];

const SOURCES: [(&str, &str, &str); 6] = [
    ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("photonPersistentDisk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

pub(super) fn volume(volume: &Value, out: &mut Vec<String>) {
    let spec = volume.get("spec").unwrap_or(&Value::Null);
    for (key, why) in ANNOTATIONS.iter().filter(|(key, _)| meta::annotation(volume, key).is_some()) {
        out.push(format!("metadata.annotations[{key}]: {why}"));
    }
    if meta::text(spec, &["persistentVolumeReclaimPolicy"]) == "Recycle" {
        out.push(
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is \
             to use dynamic provisioning."
                .into(),
        );
    }
    for (i, term) in items(spec, &["nodeAffinity", "required", "nodeSelectorTerms"]).iter().enumerate() {
        node_term(&format!("spec.nodeAffinity.required.nodeSelectorTerms[{i}]"), term, false, out);
    }
    for (_, shown, why) in SOURCES.iter().filter(|(key, ..)| has(spec, key)) {
        out.push(format!("spec.{shown}: {why}"));
    }
}

pub(super) fn claim(claim: &Value, out: &mut Vec<String>) {
    if meta::annotation(claim, BETA_CLASS).is_some() {
        out.push(format!(
            "metadata.annotations[{BETA_CLASS}]: deprecated since v1.8; use \"storageClassName\" attribute instead"
        ));
    }
    claim_spec("spec", claim.get("spec"), out);
}

/// What a claim asks for, be it one of its own or a part of something.
pub(super) fn claim_spec(path: &str, spec: Option<&Value>, out: &mut Vec<String>) {
    let Some(resources) = spec.and_then(|s| s.get("resources")) else { return };
    for list in ["requests", "limits"] {
        fractional(&format!("{path}.resources.{list}"), resources.get(list), &["storage"], out);
    }
}

pub(super) fn class(class: &Value, out: &mut Vec<String>) {
    for (i, topology) in items(class, &["allowedTopologies"]).iter().enumerate() {
        for (j, expression) in items(topology, &["matchLabelExpressions"]).iter().enumerate() {
            let why = deprecated_label(meta::text(expression, &["key"]));
            out.extend(why.map(|why| format!("allowedTopologies[{i}].matchLabelExpressions[{j}].key: {why}")));
        }
    }
}

pub(super) fn capacity(capacity: &Value, out: &mut Vec<String>) {
    let Some(selector) = capacity.get("nodeTopology") else { return };
    node_term("nodeTopology", selector, false, out);
    for key in meta::string_map(selector.get("matchLabels")).into_keys() {
        out.extend(deprecated_label(key).map(|why| format!("nodeTopology.matchLabels.{key}: {why}")));
    }
}

pub(super) fn driver(new: &Value, old: Option<&Value>, out: &mut Vec<String>) {
    let requests = |o| items(o, &["spec", "tokenRequests"]);
    let changed = old.is_none_or(|old| requests(old) != requests(new));
    let said = meta::at(new, &["spec", "serviceAccountTokenInSecrets"]).is_some_and(|v| !v.is_null());
    if changed && !requests(new).is_empty() && !said {
        out.push(
            "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible \
             logging of tokens in volume attributes"
                .into(),
        );
    }
}
