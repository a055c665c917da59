//! Which volume suits a claim.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec};
use kiln_apimachinery::quantity::Quantity;

use crate::labels::selects;
use crate::volumes::{class_of, class_of_volume};

const STORAGE: &str = "storage";

/// The size that a claim asks for.
pub(in crate::volumes) fn requested(claim: &PersistentVolumeClaim) -> Option<Quantity> {
    let spec = claim.spec.as_ref()?;
    Quantity::parse(&spec.resources.as_ref()?.requests.as_ref()?.get(STORAGE)?.0).ok()
}

/// The size of a volume.
pub(super) fn capacity(volume: &PersistentVolume) -> Option<Quantity> {
    Quantity::parse(&volume.spec.as_ref()?.capacity.as_ref()?.get(STORAGE)?.0).ok()
}

/// Whether a volume is bound to a claim, or reserved for it.
pub(super) fn is_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(reference) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) else { return false };
    reference.name == claim.metadata.name
        && reference.namespace == claim.metadata.namespace
        && reference.uid.as_ref().is_none_or(|uid| uid.is_empty() || Some(uid) == claim.metadata.uid.as_ref())
}

/// A volume mode; a file system unless it is said otherwise.
fn mode(mode: Option<&String>) -> &str {
    mode.map_or("Filesystem", String::as_str)
}

fn modes(modes: Option<&Vec<String>>) -> BTreeSet<&str> {
    modes.into_iter().flatten().map(String::as_str).collect()
}

fn of<T>(claim: &PersistentVolumeClaim, get: impl Fn(&PersistentVolumeClaimSpec) -> T) -> Option<T> {
    claim.spec.as_ref().map(get)
}

/// Whether a volume's mode is the one that a claim asks for.
pub(super) fn has_mode(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let claimed = claim.spec.as_ref().and_then(|spec| spec.volume_mode.as_ref());
    mode(volume.spec.as_ref().and_then(|spec| spec.volume_mode.as_ref())) == mode(claimed)
}

fn has_attributes(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let wanted = claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref());
    let has = volume.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref());
    wanted.unwrap_or_default() == has.unwrap_or_default()
}

fn has_access(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let wanted = claim.spec.as_ref().and_then(|spec| spec.access_modes.as_ref());
    let has = volume.spec.as_ref().and_then(|spec| spec.access_modes.as_ref());
    modes(wanted).is_subset(&modes(has))
}

/// Why a volume that a claim names cannot be bound to it.
pub(super) fn objection(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<String> {
    let why = if volume.metadata.deletion_timestamp.is_some() {
        let name = volume.metadata.name.as_deref().unwrap_or_default();
        return Some(format!("the volume is marked for deletion {name:?}"));
    } else if capacity(volume) < requested(claim) {
        "requested PV is too small"
    } else if class_of_volume(volume) != class_of(claim) {
        "storageClassName does not match"
    } else if !has_attributes(volume, claim) {
        "volumeAttributesClassName does not match"
    } else if !has_mode(volume, claim) {
        "incompatible volumeMode"
    } else if !has_access(volume, claim) {
        "incompatible accessMode"
    } else {
        return None;
    };
    Some(why.to_owned())
}

/// The volume for a claim: the one that is reserved for it; else, unless the scheduler is to choose, the smallest of those with the
/// fewest access modes that are enough.
pub(super) fn best(
    volumes: Vec<Arc<PersistentVolume>>,
    claim: &PersistentVolumeClaim,
    delayed: bool,
) -> Option<Arc<PersistentVolume>> {
    let fits = |volume: &PersistentVolume| {
        let free = volume.spec.as_ref().is_none_or(|spec| spec.claim_ref.is_none());
        (free || is_for(volume, claim))
            && has_access(volume, claim)
            && capacity(volume) >= requested(claim)
            && has_mode(volume, claim)
            && has_attributes(volume, claim)
            && volume.metadata.deletion_timestamp.is_none()
    };
    let mut fitting: Vec<_> = volumes.into_iter().filter(|volume| fits(volume)).collect();
    if let Some(at) = fitting.iter().position(|volume| is_for(volume, claim)) {
        return Some(fitting.swap_remove(at));
    }
    if delayed {
        return None;
    }
    let selector = of(claim, |spec| spec.selector.clone()).flatten();
    fitting.retain(|volume| {
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
        phase == Some("Available")
            && selector.as_ref().is_none_or(|selector| selects(selector, volume.metadata.labels.as_ref()))
            && class_of_volume(volume) == class_of(claim)
    });
    let order = |volume: &PersistentVolume| {
        let modes = volume.spec.as_ref().and_then(|spec| spec.access_modes.as_ref()).map_or(0, Vec::len);
        (modes, capacity(volume), volume.metadata.name.clone())
    };
    fitting.into_iter().min_by(|a, b| order(a).partial_cmp(&order(b)).unwrap_or(std::cmp::Ordering::Equal))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn claim(spec: Value) -> PersistentVolumeClaim {
        let mut whole = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "5Gi"}}});
        for (key, value) in spec.as_object().unwrap() {
            whole[key] = value.clone();
        }
        serde_json::from_value(json!({"metadata": {"name": "c", "namespace": "n", "uid": "u"}, "spec": whole})).unwrap()
    }

    fn volume(name: &str, size: &str, spec: Value) -> Arc<PersistentVolume> {
        let mut whole = json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": size}});
        for (key, value) in spec.as_object().unwrap() {
            whole[key] = value.clone();
        }
        let labels = json!({"size": size});
        let volume =
            json!({"metadata": {"name": name, "labels": labels}, "spec": whole, "status": {"phase": "Available"}});
        Arc::new(serde_json::from_value(volume).unwrap())
    }

    #[test]
    fn the_smallest_volume_that_is_enough_is_taken() {
        let volumes = || {
            vec![
                volume("small", "1Gi", json!({})),
                volume("big", "50Gi", json!({})),
                volume("right", "10Gi", json!({})),
                volume("many", "6Gi", json!({"accessModes": ["ReadWriteOnce", "ReadWriteMany"]})),
                volume("fast", "5Gi", json!({"storageClassName": "fast"})),
                volume("block", "5Gi", json!({"volumeMode": "Block"})),
                volume("taken", "5Gi", json!({"claimRef": {"name": "x", "namespace": "n", "uid": "y"}})),
            ]
        };
        let rows = [
            (json!({}), Some("right")),
            (json!({"accessModes": ["ReadWriteMany"]}), Some("many")),
            (json!({"accessModes": ["ReadOnlyMany"]}), None),
            (json!({"storageClassName": "fast"}), Some("fast")),
            (json!({"storageClassName": "slow"}), None),
            (json!({"volumeMode": "Block"}), Some("block")),
            (json!({"selector": {"matchLabels": {"size": "50Gi"}}}), Some("big")),
            (json!({"resources": {"requests": {"storage": "20Gi"}}}), Some("big")),
            (json!({"resources": {"requests": {"storage": "60Gi"}}}), None),
        ];
        for (spec, wanted) in rows {
            let found = best(volumes(), &claim(spec.clone()), false);
            assert_eq!(found.and_then(|volume| volume.metadata.name.clone()).as_deref(), wanted, "{spec}");
            assert_eq!(best(volumes(), &claim(spec), true), None);
        }
        let mut reserved = volumes();
        reserved.push(volume("mine", "70Gi", json!({"claimRef": {"name": "c", "namespace": "n"}})));
        for delayed in [false, true] {
            let found = best(reserved.clone(), &claim(json!({})), delayed);
            assert_eq!(found.and_then(|volume| volume.metadata.name.clone()).as_deref(), Some("mine"));
        }
    }

    #[test]
    fn a_volume_that_a_claim_names_must_suit_it() {
        let rows = [
            (json!({}), None),
            (json!({"capacity": {"storage": "1Gi"}}), Some("requested PV is too small")),
            (json!({"storageClassName": "x"}), Some("storageClassName does not match")),
            (json!({"volumeMode": "Block"}), Some("incompatible volumeMode")),
            (json!({"accessModes": ["ReadOnlyMany"]}), Some("incompatible accessMode")),
        ];
        for (spec, why) in rows {
            assert_eq!(objection(&volume("v", "5Gi", spec.clone()), &claim(json!({}))).as_deref(), why, "{spec}");
        }
    }
}
