//! Strict reading of objects: JSON (or any serde format) into a `Value`, with the keys that stand twice told apart instead
//! of silently merged.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// How deep an object may be nested. Readers of JSON stop at 128 levels; what is kept must come back out of a list in a watch,
/// with the owners of its fields nested as deep as itself.
pub const MAX_DEPTH: usize = 100;

/// True if lists and objects are nested in a value more than `most` deep; text and numbers are no level.
pub fn deeper_than(value: &Value, most: usize) -> bool {
    let Some(below) = most.checked_sub(1) else { return value.is_array() || value.is_object() };
    match value {
        Value::Array(items) => items.iter().any(|inner| deeper_than(inner, below)),
        Value::Object(map) => map.values().any(|inner| deeper_than(inner, below)),
        _ => false,
    }
}

/// What was read: the value, and the paths of keys that stood twice (the last one counts), such as `data.a`.
#[derive(Debug)]
pub struct Decoded {
    /// The value.
    pub value: Value,
    /// Paths of duplicate keys, in order of appearance.
    pub duplicates: Vec<String>,
}

/// Reads JSON. The error is serde_json's, with line and column.
pub fn json(bytes: &[u8]) -> Result<Decoded, serde_json::Error> {
    let mut de = serde_json::Deserializer::from_slice(bytes);
    let decoded = from_deserializer(&mut de)?;
    de.end()?;
    Ok(decoded)
}

/// Reads from any self-describing format, such as YAML.
pub fn from_deserializer<'de, D: Deserializer<'de>>(de: D) -> Result<Decoded, D::Error> {
    let mut duplicates = Vec::new();
    let mut path = Vec::new();
    let value = Seed { path: &mut path, duplicates: &mut duplicates }.deserialize(de)?;
    Ok(Decoded { value, duplicates })
}

struct Seed<'a> {
    path: &'a mut Vec<String>,
    duplicates: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<Value, D::Error> {
        de.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value with text keys")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_f64<E: Error>(self, v: f64) -> Result<Value, E> {
        Number::from_f64(v).map(Value::Number).ok_or_else(|| E::custom("a number that JSON can't hold"))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::String(v.to_owned()))
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::String(v))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, de: D) -> Result<Value, D::Error> {
        self.deserialize(de)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        loop {
            self.path.push(format!("[{}]", out.len()));
            let next = seq.next_element_seed(Seed { path: self.path, duplicates: self.duplicates })?;
            self.path.pop();
            match next {
                Some(value) => out.push(value),
                None => return Ok(Value::Array(out)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            self.path.push(key.clone());
            let value = map.next_value_seed(Seed { path: self.path, duplicates: self.duplicates })?;
            if out.insert(key, value).is_some() {
                self.duplicates.push(join(self.path));
            }
            self.path.pop();
        }
        Ok(Value::Object(out))
    }
}

fn join(path: &[String]) -> String {
    let mut out = String::new();
    for part in path {
        if !out.is_empty() && !part.starts_with('[') {
            out.push('.');
        }
        out.push_str(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_stand_twice_are_named_by_path() {
        let d = json(br#"{"data":{"a":"1","a":"2"},"l":[{"x":1,"x":1}]}"#).unwrap();
        assert_eq!(d.duplicates, ["data.a", "l[0].x"]);
        assert_eq!(d.value["data"]["a"], "2");
        assert!(json(b"{} {}").is_err());
    }

    #[test]
    fn a_number_is_the_same_after_any_way_through_the_store() {
        for text in [
            "27777777777777777777777777777777777777777777777777777777777777777777777",
            "0.1",
            "2.2250738585072011e-308",
        ] {
            let once = json(text.as_bytes()).unwrap().value;
            assert_eq!(json(once.to_string().as_bytes()).unwrap().value, once, "{text}");
        }
    }

    #[test]
    fn levels_are_lists_and_objects() {
        let nest = |depth| (0..depth).fold(Value::Null, |inner, _| serde_json::json!([inner, {}]));
        assert!(!deeper_than(&Value::Null, 0) && deeper_than(&nest(1), 1) && !deeper_than(&nest(1), 2));
        assert!(deeper_than(&nest(9), 9) && !deeper_than(&nest(9), 10));
    }
}
