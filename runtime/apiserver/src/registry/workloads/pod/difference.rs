//! Where two objects differ, for people.

use std::fmt::Write as _;

use kiln_apimachinery::path::Path;
use serde_json::Value;

/// A line for what is gone and a line for what is new, at every place that differs.
pub(super) fn difference(old: &Value, new: &Value) -> String {
    let mut out = String::new();
    walk(Some(old), Some(new), &Path::new(""), &mut out);
    out
}

fn walk(old: Option<&Value>, new: Option<&Value>, path: &Path<'_>, out: &mut String) {
    match (old, new) {
        (Some(a), Some(b)) if a == b => {}
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let more = b.keys().filter(|k| !a.contains_key(*k));
            for key in a.keys().chain(more) {
                walk(a.get(key), b.get(key), &path.child(key), out);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            for i in 0..a.len().max(b.len()) {
                walk(a.get(i), b.get(i), &path.index(i), out);
            }
        }
        (a, b) => {
            for (sign, value) in [('-', a), ('+', b)] {
                if let Some(value) = value {
                    // Writing to a String can't fail.
                    let _ok = writeln!(out, "{sign} {path}: {value}");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_place_that_differs_is_told() {
        let old = json!({"a": [1, {"b": "x"}], "c": true});
        let new = json!({"a": [1, {"b": "y"}, 3], "d": null});
        let told = difference(&old, &new);
        assert_eq!(told, "- a[1].b: \"x\"\n+ a[1].b: \"y\"\n+ a[2]: 3\n- c: true\n+ d: null\n");
    }
}
