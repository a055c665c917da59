//! Strategic merge patch: a merge patch that knows, by [`super::rule`], which lists merge element by element, and that takes
//! directives (`$patch`, `$retainKeys`, `$setElementOrder/…`, `$deleteFromPrimitiveList/…`).

use serde_json::{Map, Value};

use super::PatchError;
use super::rules::{ListRule, rule};

const PATCH: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder/";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";

/// Applies a strategic merge patch to `object`, an object of `kind`.
pub fn apply(kind: &str, object: &mut Value, patch: Value) -> Result<(), PatchError> {
    let Value::Object(patch) = patch else {
        return Err(PatchError::Malformed("a strategic merge patch must be an object".into()));
    };
    let original = match object.take() {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    let mut path = Vec::new();
    *object = Value::Object(Merger { kind }.map(original, patch, &mut path)?);
    Ok(())
}

struct Merger<'k> {
    kind: &'k str,
}

type Path = Vec<String>;

impl Merger<'_> {
    fn map(
        &self,
        mut original: Map<String, Value>,
        mut patch: Map<String, Value>,
        path: &mut Path,
    ) -> Result<Map<String, Value>, PatchError> {
        if let Some(directive) = patch.remove(PATCH) {
            match directive.as_str() {
                Some("replace") => return Ok(patch),
                Some("delete") => return Ok(Map::new()),
                Some("merge") => {}
                _ => return Err(malformed(format!("unknown patch type found: {directive} in map"))),
            }
        }
        if let Some(keep) = patch.remove(RETAIN) {
            let keep = list(keep, RETAIN)?;
            original.retain(|k, _| keep.iter().any(|v| v.as_str() == Some(k)));
        }
        let mut orders = Map::new();
        let (directives, fields): (Vec<_>, Vec<_>) = patch.into_iter().partition(|(k, _)| k.starts_with('$'));
        for (key, value) in directives {
            if let Some(field) = key.strip_prefix(ORDER) {
                orders.insert(field.to_owned(), value);
            } else if let Some(field) = key.strip_prefix(DELETE_FROM) {
                let gone = list(value, &key)?;
                if let Some(Value::Array(items)) = original.get_mut(field) {
                    items.retain(|item| !gone.contains(item));
                }
            } else {
                return Err(malformed(format!("unknown directive {key:?}")));
            }
        }
        for (key, value) in fields {
            path.push(key.clone());
            let order = orders.remove(&key);
            let merged = self.field(original.remove(&key), value, order, path);
            path.pop();
            if let Some(value) = merged? {
                original.insert(key, value);
            }
        }
        // An order without a patch of its list still sorts the list.
        for (key, order) in orders {
            if let Some(Value::Array(items)) = original.remove(&key) {
                path.push(key.clone());
                let rule = self.rule(path);
                path.pop();
                let sorted = reorder(items.clone(), &items, &list(order, ORDER)?, rule);
                original.insert(key, Value::Array(sorted));
            }
        }
        Ok(original)
    }

    fn rule(&self, path: &Path) -> ListRule {
        rule(self.kind, &path.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn field(
        &self,
        old: Option<Value>,
        new: Value,
        order: Option<Value>,
        path: &mut Path,
    ) -> Result<Option<Value>, PatchError> {
        match (old, new) {
            (_, Value::Null) => Ok(None),
            (Some(Value::Object(old)), Value::Object(new)) => self.map(old, new, path).map(|m| Some(Value::Object(m))),
            (_, Value::Object(new)) => self.map(Map::new(), new, path).map(|m| Some(Value::Object(m))),
            (old, Value::Array(new)) => {
                let old = match old {
                    Some(Value::Array(old)) => old,
                    _ => Vec::new(),
                };
                let rule = self.rule(path);
                let mut merged = match rule {
                    ListRule::Atomic => new,
                    ListRule::Set => union(old.clone(), new),
                    ListRule::Key(key) => self.keyed(old.clone(), new, key, path)?,
                };
                if let Some(order) = order {
                    merged = reorder(merged, &old, &list(order, ORDER)?, rule);
                }
                Ok(Some(Value::Array(merged)))
            }
            (_, new) => Ok(Some(new)),
        }
    }

    fn keyed(&self, old: Vec<Value>, new: Vec<Value>, key: &str, path: &mut Path) -> Result<Vec<Value>, PatchError> {
        let replaces = |v: &Value| v.get(PATCH).and_then(Value::as_str) == Some("replace");
        if new.iter().any(|v| replaces(v) && v.get(key).is_none()) {
            return Ok(new.into_iter().filter(|v| !(replaces(v) && v.get(key).is_none())).collect());
        }
        let mut out = old;
        for item in new {
            let Value::Object(item) = item else {
                return Err(malformed(format!("{}: every element must be an object", path.join("."))));
            };
            let Some(id) = item.get(key).cloned() else {
                return Err(malformed(format!(
                    "map: {} does not contain declared merge key: {key}",
                    Value::Object(item)
                )));
            };
            let at = out.iter().position(|v| v.get(key) == Some(&id));
            if item.get(PATCH).and_then(Value::as_str) == Some("delete") {
                out.retain(|v| v.get(key) != Some(&id));
                continue;
            }
            match at.map(|i| (i, out[i].take())) {
                Some((i, Value::Object(old))) => out[i] = Value::Object(self.map(old, item, path)?),
                Some((i, _)) => out[i] = Value::Object(self.map(Map::new(), item, path)?),
                None => out.push(Value::Object(self.map(Map::new(), item, path)?)),
            }
        }
        Ok(out)
    }
}

fn malformed(text: String) -> PatchError {
    PatchError::Malformed(text)
}

fn list(value: Value, what: &str) -> Result<Vec<Value>, PatchError> {
    match value {
        Value::Array(list) => Ok(list),
        other => Err(malformed(format!("{what} must be a list, not {other}"))),
    }
}

fn union(mut old: Vec<Value>, new: Vec<Value>) -> Vec<Value> {
    for value in new {
        if !old.contains(&value) {
            old.push(value);
        }
    }
    old
}

/// Sorts `merged`: the elements that `order` names stand in its order; the others, which only the server has, keep their place
/// among those by the order of the server's list `before`.
fn reorder(merged: Vec<Value>, before: &[Value], order: &[Value], rule: ListRule) -> Vec<Value> {
    let id = |v: &Value| match rule {
        ListRule::Key(key) => v.get(key).cloned().unwrap_or(Value::Null),
        _ => v.clone(),
    };
    let place = |list: &[Value], v: &Value| list.iter().position(|x| id(x) == id(v));
    let (mut named, mut others): (Vec<_>, Vec<_>) = merged.into_iter().partition(|v| place(order, v).is_some());
    named.sort_by_key(|v| place(order, v));
    others.sort_by_key(|v| place(before, v));
    let mut out = Vec::with_capacity(named.len() + others.len());
    let mut others = others.into_iter().peekable();
    for value in named {
        if let Some(here) = place(before, &value) {
            while let Some(other) = others.next_if(|o| place(before, o).is_some_and(|p| p < here)) {
                out.push(other);
            }
        }
        out.push(value);
    }
    out.extend(others);
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patched(kind: &str, mut object: Value, patch: Value) -> Value {
        apply(kind, &mut object, patch).unwrap();
        object
    }

    #[test]
    fn conditions_merge_by_type_and_keep_the_others() {
        let o = json!({"status": {"conditions": [{"type": "Ready", "status": "True", "x": 1}, {"type": "Disk", "status": "False"}]}});
        let p = json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}, {"type": "New", "status": "True"}]}});
        assert_eq!(
            patched("Node", o, p)["status"]["conditions"],
            json!([{"type": "Ready", "status": "Unknown", "x": 1}, {"type": "Disk", "status": "False"}, {"type": "New", "status": "True"}])
        );
    }

    #[test]
    fn taints_have_no_merge_key_and_are_replaced() {
        let o = json!({"spec": {"taints": [{"key": "a"}, {"key": "b"}]}});
        assert_eq!(
            patched("Node", o, json!({"spec": {"taints": [{"key": "b"}]}}))["spec"]["taints"],
            json!([{"key": "b"}])
        );
    }

    #[test]
    fn an_element_is_deleted_by_directive_and_order_is_kept() {
        let o = json!({"spec": {"containers": [{"name": "a"}, {"name": "server-only"}, {"name": "b"}]}});
        let p = json!({"spec": {"$setElementOrder/containers": [{"name": "c"}, {"name": "b"}],
            "containers": [{"name": "a", "$patch": "delete"}, {"name": "c", "image": "i"}]}});
        assert_eq!(
            patched("Pod", o, p)["spec"]["containers"],
            json!([{"name": "c", "image": "i"}, {"name": "server-only"}, {"name": "b"}])
        );
    }

    #[test]
    fn finalizers_are_a_set_that_shrinks_by_its_directive() {
        let o = json!({"metadata": {"finalizers": ["a", "b"]}});
        let p = json!({"metadata": {"finalizers": ["b", "c"], "$deleteFromPrimitiveList/finalizers": ["a"]}});
        assert_eq!(patched("ConfigMap", o, p)["metadata"]["finalizers"], json!(["b", "c"]));
    }

    #[test]
    fn maps_are_replaced_deleted_or_reduced_on_demand() {
        let o = json!({"a": {"x": 1, "y": 2}, "b": {"x": 1}, "c": {"x": 1, "y": 2}});
        let p = json!({"a": {"$patch": "replace", "z": 3}, "b": {"$patch": "delete"}, "c": {"$retainKeys": ["y", "n"], "n": 5}});
        assert_eq!(patched("X", o, p), json!({"a": {"z": 3}, "b": {}, "c": {"y": 2, "n": 5}}));
    }

    #[test]
    fn an_element_without_its_merge_key_is_refused() {
        let mut o = json!({});
        let e = apply("Node", &mut o, json!({"status": {"conditions": [{"status": "True"}]}})).unwrap_err();
        assert!(e.to_string().contains("does not contain declared merge key: type"), "{e}");
    }

    #[test]
    fn nulls_in_new_maps_leave_nothing_behind() {
        assert_eq!(patched("X", json!({}), json!({"m": {"a": null, "b": 1}})), json!({"m": {"b": 1}}));
    }
}
