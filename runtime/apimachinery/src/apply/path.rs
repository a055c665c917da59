//! One step into an object: a field, a list's element by its keys or its value, or an index. Written as text in the keys of
//! `fieldsV1` and, for people, in the messages about conflicts.

use std::cmp::Ordering;
use std::fmt::{self, Write as _};

use serde_json::{Map, Value};

/// A step into an object.
#[derive(Clone, Debug)]
pub enum Element {
    /// A field of a struct or a key of a map: `f:name`.
    Field(Box<str>),
    /// The element of a list with these key fields, sorted by name: `k:{"name":"x"}`.
    Key(Vec<(Box<str>, Value)>),
    /// The element of a set with this value: `v:"x"`.
    Value(Value),
    /// The element at an index, which no list of today's schemas is owned by: `i:0`.
    Index(i64),
}

impl Element {
    /// A field.
    pub fn field(name: &str) -> Self {
        Self::Field(name.into())
    }

    /// Reads a key of `fieldsV1`; `None` for a kind of step that is not known, which is to be skipped.
    pub(super) fn parse(text: &str) -> Result<Option<Self>, String> {
        let (Some(kind), Some(b':')) = (text.as_bytes().first(), text.as_bytes().get(1)) else {
            return Err(match text.len() {
                0 | 1 => "key must be 2 characters long:".to_owned(),
                _ => format!("missing colon: {text}"),
            });
        };
        let rest = &text[2..];
        let bad = |e: serde_json::Error| e.to_string();
        Ok(Some(match kind {
            b'f' => Self::Field(rest.into()),
            b'v' => Self::Value(serde_json::from_str(rest).map_err(bad)?),
            b'k' => {
                let map: Map<String, Value> = serde_json::from_str(rest).map_err(bad)?;
                Self::Key(map.into_iter().map(|(k, v)| (k.into_boxed_str(), v)).collect())
            }
            b'i' => Self::Index(rest.parse().map_err(|e| format!("{rest}: {e}"))?),
            _ => return Ok(None),
        }))
    }

    /// The key in `fieldsV1`.
    pub(super) fn to_key(&self) -> String {
        match self {
            Self::Field(name) => {
                let mut out = String::with_capacity(name.len() + 2);
                out.push_str("f:");
                out.push_str(name);
                out
            }
            Self::Key(fields) => {
                let mut out = String::from("k:{");
                for (i, (name, value)) in fields.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    // Writing into a String can't fail.
                    let _ = write!(out, "{}:{value}", Value::from(&**name));
                }
                out.push('}');
                out
            }
            Self::Value(value) => format!("v:{value}"),
            Self::Index(index) => format!("i:{index}"),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Field(_) => 0,
            Self::Key(_) => 1,
            Self::Value(_) => 2,
            Self::Index(_) => 3,
        }
    }
}

impl Ord for Element {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Field(a), Self::Field(b)) => a.cmp(b),
            (Self::Key(a), Self::Key(b)) => {
                let pairs = a.iter().zip(b).map(|(a, b)| a.0.cmp(&b.0).then_with(|| order(&a.1, &b.1)));
                let first = pairs.into_iter().find(|o| o.is_ne());
                first.unwrap_or_else(|| a.len().cmp(&b.len()))
            }
            (Self::Value(a), Self::Value(b)) => order(a, b),
            (Self::Index(a), Self::Index(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Element {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Element {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Element {}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(fields) => {
                f.write_str("[")?;
                for (i, (name, value)) in fields.iter().enumerate() {
                    write!(f, "{}{name}={value}", if i > 0 { "," } else { "" })?;
                }
                f.write_str("]")
            }
            Self::Value(value) => write!(f, "[={value}]"),
            Self::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// A total order of JSON values: numbers, texts, booleans, arrays, objects, null.
fn order(a: &Value, b: &Value) -> Ordering {
    fn rank(v: &Value) -> u8 {
        match v {
            Value::Number(_) => 0,
            Value::String(_) => 1,
            Value::Bool(_) => 2,
            Value::Array(_) => 3,
            Value::Object(_) => 4,
            Value::Null => 5,
        }
    }
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => match (x.as_i64(), y.as_i64()) {
            (Some(x), Some(y)) => x.cmp(&y),
            _ => x.as_f64().unwrap_or(0.0).total_cmp(&y.as_f64().unwrap_or(0.0)),
        },
        (Value::String(x), Value::String(y)) => x.cmp(y),
        (Value::Bool(x), Value::Bool(y)) => x.cmp(y),
        (Value::Array(x), Value::Array(y)) => {
            let first = x.iter().zip(y).map(|(a, b)| order(a, b)).find(|o| o.is_ne());
            first.unwrap_or_else(|| x.len().cmp(&y.len()))
        }
        (Value::Object(x), Value::Object(y)) => {
            let pair =
                |((ak, av), (bk, bv)): ((&String, &Value), (&String, &Value))| ak.cmp(bk).then_with(|| order(av, bv));
            let first = x.iter().zip(y).map(pair).find(|o| o.is_ne());
            first.unwrap_or_else(|| x.len().cmp(&y.len()))
        }
        _ => rank(a).cmp(&rank(b)),
    }
}

/// Equality that takes `1` and `1.0` for the same, and null for the absent value it stands for in an object.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(_), Value::Number(_)) => order(a, b).is_eq(),
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(a, b)| same(a, b)),
        (Value::Object(x), Value::Object(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|((ak, av), (bk, bv))| ak == bk && same(av, bv))
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_step_is_written_and_read_back_in_every_form() {
        let cases = [
            (Element::field("a/b.c"), "f:a/b.c", ".a/b.c"),
            (
                Element::Key(vec![("containerPort".into(), json!(80)), ("protocol".into(), json!("TCP"))]),
                r#"k:{"containerPort":80,"protocol":"TCP"}"#,
                r#"[containerPort=80,protocol="TCP"]"#,
            ),
            (Element::Value(json!("x")), r#"v:"x""#, r#"[="x"]"#),
            (Element::Index(3), "i:3", "[3]"),
        ];
        for (element, key, shown) in cases {
            assert_eq!(element.to_key(), key);
            assert_eq!(element.to_string(), shown);
            assert_eq!(Element::parse(key).unwrap(), Some(element));
        }
    }

    #[test]
    fn an_unknown_kind_of_step_is_skipped_and_a_malformed_one_refused() {
        assert_eq!(Element::parse("z:what"), Ok(None));
        assert_eq!(Element::parse("name"), Err("missing colon: name".to_owned()));
        assert!(Element::parse("f").is_err() && Element::parse("k:[1]").is_err() && Element::parse("i:x").is_err());
    }

    #[test]
    fn fields_come_before_keys_and_numbers_are_ordered_as_numbers() {
        let key = |n: i64| Element::Key(vec![("port".into(), json!(n))]);
        assert!(Element::field("z") < key(1) && key(9) < key(80) && key(80) < Element::Value(json!(1)));
        assert_eq!(Element::Value(json!(1)), Element::Value(json!(1.0)));
    }
}
