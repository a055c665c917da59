//! The request that makes of one status another: a strategic merge patch of what is different, so that what others write
//! into a status stays.

use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Map, Value, json};

/// Lists whose elements a strategic merge patch merges, by this key.
const KEYED: &[(&str, &str)] =
    &[("conditions", "type"), ("podIPs", "ip"), ("hostIPs", "ip"), ("resourceClaimStatuses", "name")];

/// The fields of `wanted` that are not those of `known`; `None` if there are none.
pub(crate) fn difference(known: Option<&PodStatus>, wanted: &PodStatus) -> Option<Value> {
    let fields = |status: &PodStatus| match serde_json::to_value(status) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    let (known, wanted) = (known.map(fields).unwrap_or_default(), fields(wanted));
    let mut patch = Map::new();
    for (field, wanted) in &wanted {
        let known = known.get(field).unwrap_or(&Value::Null);
        if same(known, wanted) {
            continue;
        }
        let patched = match KEYED.iter().find(|(keyed, _)| keyed == field) {
            Some((_, key)) if field == "conditions" => by_key(known, wanted, key),
            Some(_) => replaced(wanted),
            None => wanted.clone(),
        };
        patch.insert(field.clone(), patched);
    }
    for field in known.keys().filter(|field| !wanted.contains_key(*field)) {
        patch.insert(field.clone(), Value::Null);
    }
    if patch.is_empty() { None } else { Some(Value::Object(patch)) }
}

/// Whether two values say the same: null, false, zero and what is empty are as if they were not there, which is how the API
/// shows what is not set.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let of = |map: &Map<String, Value>, key: &String| map.get(key).cloned().unwrap_or(Value::Null);
            a.keys().chain(b.keys()).all(|key| same(&of(a, key), &of(b, key)))
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Null, other) | (other, Value::Null) => is_empty(other),
        (a, b) => a == b,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
        Value::Bool(true) => false,
    }
}

/// The elements that are different, and orders to remove those that are gone.
fn by_key(known: &Value, wanted: &Value, key: &str) -> Value {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let (known, wanted) = (list(known), list(wanted));
    let mut patch = Vec::new();
    for element in &wanted {
        let before = known.iter().find(|known| known[key] == element[key]);
        if before.is_some_and(|before| same(before, element)) {
            continue;
        }
        let mut element = element.clone();
        if let (Some(before), Some(fields)) = (before.and_then(Value::as_object), element.as_object_mut()) {
            for gone in before.keys() {
                fields.entry(gone).or_insert(Value::Null);
            }
        }
        patch.push(element);
    }
    for gone in known.iter().filter(|known| wanted.iter().all(|wanted| wanted[key] != known[key])) {
        patch.push(json!({ key: gone[key], "$patch": "delete" }));
    }
    Value::Array(patch)
}

fn replaced(wanted: &Value) -> Value {
    let mut list = wanted.as_array().cloned().unwrap_or_default();
    list.push(json!({ "$patch": "replace" }));
    Value::Array(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{PodCondition, PodIP};

    fn condition(kind: &str, status: &str, reason: Option<&str>) -> PodCondition {
        let reason = reason.map(str::to_owned);
        PodCondition { type_: kind.to_owned(), status: status.to_owned(), reason, ..PodCondition::default() }
    }

    #[test]
    fn only_what_is_different_is_written() {
        let known = PodStatus {
            phase: Some("Pending".to_owned()),
            message: Some("wait".to_owned()),
            conditions: Some(vec![condition("Ready", "False", Some("X")), condition("A", "True", None)]),
            pod_ips: Some(vec![PodIP { ip: "10.0.0.1".to_owned() }]),
            ..PodStatus::default()
        };
        let mut wanted = known.clone();
        assert_eq!(difference(Some(&known), &wanted), None);
        wanted.message = None;
        wanted.conditions = Some(vec![condition("Ready", "True", None)]);
        wanted.pod_ips = Some(vec![PodIP { ip: "10.0.0.2".to_owned() }]);
        let patch = json!({
            "message": null,
            "conditions": [{"type": "Ready", "status": "True", "reason": null}, {"type": "A", "$patch": "delete"}],
            "podIPs": [{"ip": "10.0.0.2"}, {"$patch": "replace"}],
        });
        assert_eq!(difference(Some(&known), &wanted), Some(patch));
    }
}
