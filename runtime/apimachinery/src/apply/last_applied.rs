//! The way from client-side apply, which keeps its last configuration in an annotation, to server-side apply.

use serde_json::Value;

use super::compare::compare;
use super::fields::set_of;
use super::set::Set;
use crate::meta;
use crate::typed::Type;

/// The manager that is known to come from client-side apply.
pub(super) const MANAGER: &str = "kubectl";
const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The fields that client-side apply set and that have their value still; `None` if there is no usable annotation.
pub(super) fn still_owned<T: Type>(ty: T, live: &Value, version: &str) -> Option<Set> {
    let last: Value = serde_json::from_str(meta::annotation(live, ANNOTATION)?).ok()?;
    if last.get("apiVersion").and_then(Value::as_str) != Some(version) {
        return None;
    }
    super::check::check(ty, &last).ok()?;
    let mut fields = set_of(ty, &last);
    let comparison = compare(ty, Some(&last), Some(live));
    for changed in [&comparison.modified, &comparison.added, &comparison.removed] {
        fields.subtract(changed);
    }
    Some(fields)
}

/// Writes the configuration into the annotation, if the object has one, so that client-side apply may go on with it.
pub(super) fn renew(object: &mut Value, config: &Value) {
    if meta::annotation(object, ANNOTATION).is_none_or(str::is_empty) {
        return;
    }
    let mut config = config.clone();
    if let Some(Value::Object(annotations)) = config.pointer_mut("/metadata/annotations") {
        annotations.remove(ANNOTATION);
    }
    meta::set_annotation(object, ANNOTATION, &format!("{config}\n"));
    let sizes = meta::string_map(meta::at(object, &["metadata", "annotations"]));
    if sizes.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() > meta::MAX_ANNOTATIONS {
        meta::child(object, "metadata")
            .get_mut("annotations")
            .and_then(Value::as_object_mut)
            .map(|annotations| annotations.remove(ANNOTATION));
    }
}
