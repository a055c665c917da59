//! Reading and changing `metadata` of objects that are plain JSON values. Readers give nothing for a field of the wrong type;
//! the checks of an object's types refuse such objects at the door.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::field::FieldError;
use crate::names::{self, NameRule};
use crate::random::RandomError;

/// Most bytes of all annotations together.
pub(crate) const MAX_ANNOTATIONS: usize = 256 * 1024;
/// Longest base of a `generateName`; the suffix has five more.
const MAX_GENERATE_BASE: usize = 58;

/// A text at a path of object keys, or `""`.
pub fn text<'a>(object: &'a Value, path: &[&str]) -> &'a str {
    at(object, path).and_then(Value::as_str).unwrap_or_default()
}

/// The value at a path of object keys.
pub fn at<'a>(object: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(object, |v, key| v.get(key))
}

/// `metadata.name`.
pub fn name(object: &Value) -> &str {
    text(object, &["metadata", "name"])
}

/// `metadata.namespace`.
pub fn namespace(object: &Value) -> &str {
    text(object, &["metadata", "namespace"])
}

/// `metadata.uid`.
pub fn uid(object: &Value) -> &str {
    text(object, &["metadata", "uid"])
}

/// `metadata.resourceVersion`.
pub fn resource_version(object: &Value) -> &str {
    text(object, &["metadata", "resourceVersion"])
}

/// True once a delete was asked for.
pub fn is_terminating(object: &Value) -> bool {
    at(object, &["metadata", "deletionTimestamp"]).is_some_and(|v| !v.is_null())
}

/// `metadata.finalizers`.
pub fn finalizers(object: &Value) -> Vec<&str> {
    strings(at(object, &["metadata", "finalizers"]))
}

/// The texts of a list; empty for anything else.
pub fn strings(value: Option<&Value>) -> Vec<&str> {
    value.and_then(Value::as_array).map(|a| a.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

/// `metadata.labels`.
pub fn labels(object: &Value) -> BTreeMap<&str, &str> {
    string_map(at(object, &["metadata", "labels"]))
}

/// One annotation.
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    at(object, &["metadata", "annotations", key]).and_then(Value::as_str)
}

/// A map of texts; empty for anything else.
pub fn string_map(value: Option<&Value>) -> BTreeMap<&str, &str> {
    value
        .and_then(Value::as_object)
        .map(|m| m.iter().filter_map(|(k, v)| v.as_str().map(|v| (k.as_str(), v))).collect())
        .unwrap_or_default()
}

/// The object at `key`, made if it is not there or no object. `parent` becomes an object if it is none.
pub fn child<'a>(parent: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    let map = object_mut(parent);
    object_mut(map.entry(key).or_insert(Value::Null))
}

/// `metadata` for writing.
pub fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    child(object, "metadata")
}

/// The value as a map, replaced by an empty one if it is something else.
pub fn object_mut(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("made an object above"),
    }
}

/// Sets one annotation.
pub fn set_annotation(object: &mut Value, key: &str, value: &str) {
    let metadata = metadata_mut(object);
    object_mut(metadata.entry("annotations").or_insert(Value::Null)).insert(key.into(), value.into());
}

/// `base` cut to 58 bytes plus five random characters.
pub fn generated_name(base: &str) -> Result<String, RandomError> {
    let mut end = base.len().min(MAX_GENERATE_BASE);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    Ok(format!("{}{}", &base[..end], crate::random::suffix()?))
}

/// Checks metadata as every kind needs it.
pub fn validate(object: &Value, namespaced: bool, rule: NameRule) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let m = |key: &str| at(object, &["metadata", key]);
    let generate = text(object, &["metadata", "generateName"]);
    if !generate.is_empty() {
        // The suffix will follow, so a dash at the end is good.
        let probe = format!("{}a", generate.strip_suffix('-').map_or(generate.to_owned(), |g| format!("{g}-")));
        for rule in rule(&probe) {
            errors.push(FieldError::invalid("metadata.generateName", &generate.into(), &rule));
        }
    }
    match name(object) {
        "" => errors.push(FieldError::required("metadata.name", "name or generateName is required")),
        name => {
            errors.extend(rule(name).into_iter().map(|why| FieldError::invalid("metadata.name", &name.into(), &why)))
        }
    }
    match (namespaced, namespace(object)) {
        (true, "") => errors.push(FieldError::required("metadata.namespace", "")),
        (true, ns) => errors.extend(
            names::dns1123_label(ns).into_iter().map(|why| FieldError::invalid("metadata.namespace", &ns.into(), &why)),
        ),
        (false, "") => {}
        (false, _) => errors.push(FieldError::forbidden("metadata.namespace", "not allowed on this type")),
    }
    for (key, value) in labels(object) {
        for why in names::qualified_name(key) {
            errors.push(FieldError::invalid("metadata.labels", &key.into(), &why));
        }
        for why in names::label_value(value) {
            errors.push(FieldError::invalid("metadata.labels", &value.into(), &why));
        }
    }
    let annotations = string_map(m("annotations"));
    for key in annotations.keys() {
        for why in names::qualified_name(&key.to_lowercase()) {
            errors.push(FieldError::invalid("metadata.annotations", &(*key).into(), &why));
        }
    }
    if annotations.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>() > MAX_ANNOTATIONS {
        errors.push(FieldError::too_long("metadata.annotations", MAX_ANNOTATIONS));
    }
    for finalizer in finalizers(object) {
        for why in names::qualified_name(finalizer) {
            errors.push(FieldError::invalid("metadata.finalizers", &finalizer.into(), &why));
        }
    }
    errors.extend(owner_references(m("ownerReferences")));
    errors
}

fn owner_references(list: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut controllers = 0;
    for (i, owner) in list.and_then(Value::as_array).into_iter().flatten().enumerate() {
        for key in ["apiVersion", "kind", "name", "uid"] {
            if text(owner, &[key]).is_empty() {
                let field = format!("metadata.ownerReferences[{i}].{key}");
                errors.push(FieldError::invalid(field, &"".into(), &format!("{key} must not be empty")));
            }
        }
        controllers += u32::from(owner.get("controller") == Some(&Value::Bool(true)));
    }
    if controllers > 1 {
        let all = list.cloned().unwrap_or_default();
        let why = "Only one reference can have Controller set to true";
        errors.push(FieldError::invalid("metadata.ownerReferences", &all, why));
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_generated_name_may_end_in_a_dash_before_the_suffix() {
        let o = json!({"metadata": {"generateName": "web-", "name": "web-abcde", "namespace": "default"}});
        assert_eq!(validate(&o, true, names::dns1123_subdomain), []);
        assert_eq!(generated_name(&"x".repeat(80)).unwrap().len(), 63);
    }
}
