//! What is in use stays until nobody uses it: claims, volumes and classes of attributes are made with the finalizer that
//! keeps them.

use kiln_apimachinery::meta;
use serde_json::{Value, json};

/// What the controllers take off a claim that is to go once no pod uses it.
pub(super) const CLAIM: &str = "kubernetes.io/pvc-protection";
/// What the controllers take off a volume that is to go once no claim has it.
pub(super) const VOLUME: &str = "kubernetes.io/pv-protection";
/// What the controllers take off a class of attributes that is to go once no claim and no volume has it.
pub(super) const ATTRIBUTES: &str = "kubernetes.io/vac-protection";

/// Gives a new object a finalizer, unless it brings it.
pub(super) fn protect(object: &mut Value, finalizer: &str) {
    if meta::finalizers(object).contains(&finalizer) {
        return;
    }
    let finalizers = meta::child(object, "metadata").entry("finalizers").or_insert(Value::Null);
    match finalizers.as_array_mut() {
        Some(list) => list.push(finalizer.into()),
        None => *finalizers = json!([finalizer]),
    }
}
