//! PersistentVolumeClaims.

use kiln_apimachinery::{FieldError, meta};
use serde_json::{Value, json};

use super::claim_rules;
use crate::registry::strategy::{Strategy, Writer, default_to, put, split_status};

pub(crate) struct Claims;

impl Strategy for Claims {
    fn default(&self, object: &mut Value) {
        meta::child(object, "spec");
        if let Some(spec) = object.get_mut("spec") {
            default_to(spec, "volumeMode", "Filesystem");
            default_to(spec, "resources", json!({}));
        }
        meta::child(object, "status").entry("phase").or_insert("Pending".into());
    }

    fn prepare_create(&self, _writer: &Writer<'_>, object: &mut Value) {
        put(object, "status", Some(json!({"phase": "Pending"})));
        same_sources(object, &Value::Null);
    }

    fn prepare_update(&self, writer: &Writer<'_>, new: &mut Value, old: &Value) {
        split_status(writer, new, old);
        same_sources(new, old);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        claim_rules::validate(object)
    }

    fn validate_write(&self, writer: &Writer<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        if writer.subresource == "status" {
            return claim_rules::validate_status(new);
        }
        let mut errors = claim_rules::validate(new);
        errors.extend(claim_rules::validate_update(new, old));
        errors
    }
}

/// Kinds in the core group that may be copied by the older of the two fields for it.
fn is_old_source(source: &Value) -> bool {
    let text = |key: &str| meta::text(source, &[key]);
    (text("kind") == "PersistentVolumeClaim" && text("apiGroup").is_empty())
        || (text("kind") == "VolumeSnapshot" && text("apiGroup") == "snapshot.storage.k8s.io")
}

/// `dataSource` and `dataSourceRef` say the same where both can, and the older takes two kinds only.
fn same_sources(claim: &mut Value, before: &Value) {
    let in_use = ["dataSource", "dataSourceRef"].iter().any(|key| meta::at(before, &["spec", key]).is_some());
    let Some(spec) = claim.get_mut("spec") else { return };
    let (old, new) = (spec.get("dataSource").cloned(), spec.get("dataSourceRef").cloned());
    // What the older field can't name was always dropped from it without a word.
    let old = match (&old, &new) {
        (Some(source), None) if !in_use && !is_old_source(source) => {
            put(spec, "dataSource", None);
            None
        }
        _ => old,
    };
    match (old, new) {
        (Some(source), None) => put(spec, "dataSourceRef", Some(source)),
        (None, Some(mut reference)) if meta::text(&reference, &["namespace"]).is_empty() => {
            meta::object_mut(&mut reference).remove("namespace");
            put(spec, "dataSource", Some(reference));
        }
        _ => {}
    }
}
