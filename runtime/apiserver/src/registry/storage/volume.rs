//! PersistentVolumes.

use kiln_apimachinery::{FieldError, meta, time};
use serde_json::{Value, json};

use super::volume_rules;
use crate::registry::strategy::{Strategy, Writer, default_to, put, split_status};

pub(crate) struct Volumes;

impl Strategy for Volumes {
    fn default(&self, object: &mut Value) {
        meta::child(object, "spec");
        if let Some(spec) = object.get_mut("spec") {
            default_to(spec, "persistentVolumeReclaimPolicy", "Retain");
            default_to(spec, "volumeMode", "Filesystem");
            if let Some(path) = spec.get_mut("hostPath").filter(|p| p.is_object()) {
                default_to(path, "type", "");
            }
            if let Some(iscsi) = spec.get_mut("iscsi").filter(|p| p.is_object()) {
                default_to(iscsi, "iscsiInterface", "default");
            }
            if let Some(rbd) = spec.get_mut("rbd").filter(|p| p.is_object()) {
                default_to(rbd, "pool", "rbd");
                default_to(rbd, "user", "admin");
                default_to(rbd, "keyring", "/etc/ceph/keyring");
            }
            if let Some(scale) = spec.get_mut("scaleIO").filter(|p| p.is_object()) {
                default_to(scale, "storageMode", "ThinProvisioned");
                default_to(scale, "fsType", "xfs");
            }
            if let Some(disk) = spec.get_mut("azureDisk").filter(|p| p.is_object()) {
                default_to(disk, "cachingMode", "ReadWrite");
                default_to(disk, "kind", "Shared");
                default_to(disk, "fsType", "ext4");
                default_to(disk, "readOnly", false);
            }
        }
        meta::child(object, "status").entry("phase").or_insert("Pending".into());
    }

    fn prepare_create(&self, writer: &Writer<'_>, object: &mut Value) {
        let status = json!({"phase": "Pending", "lastPhaseTransitionTime": time::rfc3339(writer.now)});
        put(object, "status", Some(status));
    }

    fn prepare_update(&self, writer: &Writer<'_>, new: &mut Value, old: &Value) {
        split_status(writer, new, old);
        if writer.subresource != "status" {
            return;
        }
        let phase = |o: &Value| meta::text(o, &["status", "phase"]).to_owned();
        let since = |o: &Value| meta::text(o, &["status", "lastPhaseTransitionTime"]).to_owned();
        let (old_since, new_since) = (since(old), since(new));
        let kept = if phase(old) == phase(new) { old_since.clone() } else { time::rfc3339(writer.now) };
        if !kept.is_empty() && (new_since.is_empty() || (phase(old) != phase(new) && new_since == old_since)) {
            meta::child(new, "status").insert("lastPhaseTransitionTime".into(), kept.into());
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        volume_rules::validate(object)
    }

    fn validate_write(&self, writer: &Writer<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        if writer.subresource == "status" {
            return Vec::new();
        }
        let mut errors = volume_rules::validate(new);
        errors.extend(volume_rules::validate_update(new, old));
        errors
    }
}
