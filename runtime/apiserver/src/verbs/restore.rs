//! How the reference tells that a strategic patch does not fit its object: it is merged as a tree of untyped values, which
//! is then restored to the type, and not by way of JSON as the other patches are.

use serde_json::Value;

/// The patch as Go prints such a tree: `map[spec:map[replicas:two]]`.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => n.to_string(),
        Value::String(s) => s.clone(),
        Value::Array(list) => format!("[{}]", list.iter().map(shown).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let mut fields: Vec<_> = map.iter().collect();
            fields.sort_by_key(|(key, _)| *key);
            let fields: Vec<_> = fields.into_iter().map(|(key, value)| format!("{key}:{}", shown(value))).collect();
            format!("map[{}]", fields.join(" "))
        }
    }
}

/// What JSON's decoder says of a value of another type, in the words for trees.
pub(crate) fn reason(why: &str) -> String {
    let words = || {
        let (found, wanted) = why.strip_prefix("json: cannot unmarshal ")?.split_once(" into ")?;
        let (_, wanted) = wanted.rsplit_once(" of type ")?;
        let found = match found.split(' ').next()? {
            "object" => "map",
            "array" => "slice",
            "number" if found.contains('.') => "float64",
            "number" => "int64",
            other => other,
        };
        Some(match wanted {
            "string" | "bool" | "int32" | "int64" | "float64" => format!("unrecognized type: {wanted}"),
            list if list.starts_with("[]") => format!("cannot restore slice from {found}"),
            map if map.starts_with("map[") => format!("cannot restore map from {found}"),
            _ => format!("cannot restore struct from: {found}"),
        })
    };
    words().unwrap_or_else(|| why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{reason, shown};
    use serde_json::json;

    #[test]
    fn a_tree_is_shown_as_go_prints_it() {
        let patch = json!({"b": [1, "x", null], "a": {"c": true, "d": {}}});
        assert_eq!(shown(&patch), "map[a:map[c:true d:map[]] b:[1 x <nil>]]");
    }

    #[test]
    fn what_json_says_is_said_of_trees() {
        let json = |found: &str, wanted: &str| {
            reason(&format!("json: cannot unmarshal {found} into Go struct field Pod.spec.x of type {wanted}"))
        };
        assert_eq!(json("string", "int32"), "unrecognized type: int32");
        assert_eq!(json("object", "[]v1.Container"), "cannot restore slice from map");
        assert_eq!(json("array", "map[string]string"), "cannot restore map from slice");
        assert_eq!(json("number", "v1.PodSpec"), "cannot restore struct from: int64");
        assert_eq!(reason("quantities must match"), "quantities must match");
    }
}
