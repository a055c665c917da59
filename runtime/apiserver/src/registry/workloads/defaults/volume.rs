//! Volumes, by the kind of their source.

use kiln_apimachinery::meta;
use serde_json::{Value, json};

use super::container::{field_ref, pull_policy};
use super::resources::{canonical, canonical_requirements};
use crate::registry::strategy::{default_to, put};
use crate::registry::workloads::view::{fill, get_mut, items_mut, make, text};

/// Permissions of files made from objects: 0644.
const MODE: i64 = 0o644;
const HOUR: i64 = 3600;

pub(super) fn volume(volume: &mut Value) {
    let named = meta::object_mut(volume).iter().any(|(key, value)| key != "name" && !value.is_null());
    if !named {
        meta::object_mut(volume).insert("emptyDir".into(), json!({}));
    }
    if let Some(source) = get_mut(volume, "emptyDir") {
        canonical(source, "sizeLimit");
    }
    if let Some(source) = get_mut(volume, "hostPath") {
        default_to(source, "type", "");
    }
    for key in ["secret", "configMap"] {
        if let Some(source) = get_mut(volume, key) {
            default_to(source, "defaultMode", MODE);
        }
    }
    if let Some(source) = get_mut(volume, "downwardAPI") {
        default_to(source, "defaultMode", MODE);
        items_mut(source, "items").iter_mut().for_each(field_ref);
    }
    if let Some(source) = get_mut(volume, "projected") {
        projected(source);
    }
    if let Some(source) = get_mut(volume, "image") {
        let policy = pull_policy(text(source, "reference"));
        fill(source, "pullPolicy", policy);
    }
    if let Some(template) = get_mut(volume, "ephemeral").and_then(|e| get_mut(e, "volumeClaimTemplate")) {
        claim_spec(make(template, "spec"));
    }
    remote(volume);
}

/// The specification of a claim, wherever it stands.
pub(in crate::registry::workloads) fn claim_spec(spec: &mut Value) {
    default_to(spec, "volumeMode", "Filesystem");
    canonical_requirements(make(spec, "resources"));
}

fn projected(source: &mut Value) {
    default_to(source, "defaultMode", MODE);
    for part in items_mut(source, "sources") {
        // Both are behind gates that are closed by default.
        put(part, "clusterTrustBundle", None);
        put(part, "podCertificate", None);
        if let Some(api) = get_mut(part, "downwardAPI") {
            items_mut(api, "items").iter_mut().for_each(field_ref);
        }
        if let Some(token) = get_mut(part, "serviceAccountToken") {
            default_to(token, "expirationSeconds", HOUR);
        }
    }
}

/// Storage that other systems serve.
fn remote(volume: &mut Value) {
    let texts: &[(&str, &[(&str, &str)])] = &[
        ("iscsi", &[("iscsiInterface", "default")]),
        ("rbd", &[("pool", "rbd"), ("user", "admin"), ("keyring", "/etc/ceph/keyring")]),
        ("scaleIO", &[("storageMode", "ThinProvisioned"), ("fsType", "xfs")]),
    ];
    for (key, fields) in texts {
        if let Some(source) = get_mut(volume, key) {
            for (field, value) in *fields {
                fill(source, field, *value);
            }
        }
    }
    if let Some(source) = get_mut(volume, "azureDisk") {
        for (field, value) in [("cachingMode", "ReadWrite"), ("fsType", "ext4"), ("kind", "Shared")] {
            default_to(source, field, value);
        }
        default_to(source, "readOnly", false);
    }
}
