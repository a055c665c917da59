//! Single fields out of JSON bytes, without building the rest: a watch with a field selector asks this of every event.

use std::borrow::Cow;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Which fields are wanted: a tree of keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// Where the text of this field goes.
    slot: Option<usize>,
    children: Vec<(String, Wanted)>,
}

impl Wanted {
    /// The fields at paths with dots; the texts come in the same order.
    pub(crate) fn new<'a>(paths: impl Iterator<Item = &'a str>) -> Self {
        let mut root = Self::default();
        for (slot, path) in paths.enumerate() {
            let mut node = &mut root;
            for key in path.split('.') {
                let at = node.children.iter().position(|(k, _)| k == key).unwrap_or_else(|| {
                    node.children.push((key.to_owned(), Self::default()));
                    node.children.len() - 1
                });
                node = &mut node.children[at].1;
            }
            node.slot = Some(slot);
        }
        root
    }

    /// The texts of the fields in `json`; absent for what is not there or is no text, number or boolean.
    pub(crate) fn of<'j>(&self, json: &'j [u8], count: usize) -> Vec<Option<Cow<'j, str>>> {
        let mut out = vec![None; count];
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        // What can't be read to its end has the fields found until then.
        let _read = Walk { node: self, out: &mut out }.deserialize(&mut deserializer);
        out
    }
}

struct Walk<'w, 'j> {
    node: &'w Wanted,
    out: &'w mut Vec<Option<Cow<'j, str>>>,
}

impl<'j> Walk<'_, 'j> {
    fn put(self, text: Cow<'j, str>) {
        if let Some(slot) = self.node.slot {
            self.out[slot] = Some(text);
        }
    }
}

impl<'j> DeserializeSeed<'j> for Walk<'_, 'j> {
    type Value = ();

    fn deserialize<D: Deserializer<'j>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// A key, borrowed where the JSON allows.
struct Key;

impl<'j> DeserializeSeed<'j> for Key {
    type Value = Cow<'j, str>;

    fn deserialize<D: Deserializer<'j>>(self, deserializer: D) -> Result<Cow<'j, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'j> Visitor<'j> for Key {
    type Value = Cow<'j, str>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, text: &'j str) -> Result<Cow<'j, str>, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Cow<'j, str>, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

impl<'j> Visitor<'j> for Walk<'_, 'j> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.put(Cow::Borrowed(if value { "true" } else { "false" }));
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.put(Cow::Owned(value.to_string()));
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.put(Cow::Owned(value.to_string()));
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.put(Cow::Owned(value.to_string()));
        Ok(())
    }

    fn visit_borrowed_str<E>(self, text: &'j str) -> Result<(), E> {
        self.put(Cow::Borrowed(text));
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.put(Cow::Owned(text.to_owned()));
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'j>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'j>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(Key)? {
            match self.node.children.iter().find(|(k, _)| *k == key) {
                Some((_, node)) => map.next_value_seed(Walk { node, out: &mut *self.out })?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanted_fields_are_found_and_nothing_else_matters() {
        let wanted = Wanted::new(["spec.nodeName", "status.phase", "spec.on", "none.at.all", "status.n"].into_iter());
        let json = br#"{"a":[{"spec":1}],"spec":{"x":{"nodeName":"no"},"on":true,"nodeName":"pi\"1"},"status":{"n":3,"phase":"Up"}}"#;
        let found = wanted.of(json, 5);
        let texts: Vec<_> = found.iter().map(|t| t.as_deref()).collect();
        assert_eq!(texts, [Some("pi\"1"), Some("Up"), Some("true"), None, Some("3")]);
        assert_eq!(wanted.of(b"no json", 5), vec![None; 5]);
    }
}
