//! Schemas out of the JSON of a definition. Nodes and facts that say the same are kept once.

use std::collections::HashMap;
use std::sync::OnceLock;

use serde_json::{Map, Value};

use super::{Fact, Flags, Kind, List, NONE, Name, Node, Pattern, RuleSet, Schema};

impl Schema {
    /// Reads an `openAPIV3Schema`.
    pub(crate) fn read(source: &Value) -> Self {
        let mut builder = Builder::default();
        let root = builder.node(source);
        Self {
            text: builder.text.into(),
            nodes: builder.nodes.into(),
            fields: builder.fields.into(),
            facts: builder.facts.into(),
            root,
        }
    }
}

#[derive(Default)]
struct Builder {
    text: String,
    names: HashMap<String, Name>,
    nodes: Vec<Node>,
    known_nodes: HashMap<Node, u32>,
    fields: Vec<(Name, u32)>,
    known_fields: HashMap<Vec<(Name, u32)>, (u32, u32)>,
    facts: Vec<Fact>,
    /// Runs of facts by the JSON that they come from.
    known_facts: HashMap<String, (u32, u16)>,
}

/// The length of a list, as an index into it.
fn end<T>(list: &[T]) -> u32 {
    u32::try_from(list.len()).unwrap_or(NONE)
}

impl Builder {
    fn name(&mut self, text: &str) -> Name {
        if let Some(known) = self.names.get(text) {
            return *known;
        }
        let at = u32::try_from(self.text.len()).unwrap_or(NONE);
        let name = Name { at, len: u32::try_from(text.len()).unwrap_or(0) };
        self.text.push_str(text);
        self.names.insert(text.to_owned(), name);
        name
    }

    fn texts(&mut self, value: &Value) -> Box<[Name]> {
        let texts = value.as_array().into_iter().flatten().filter_map(Value::as_str);
        texts.map(|t| self.name(t)).collect()
    }

    fn node(&mut self, source: &Value) -> u32 {
        let empty = Map::new();
        let map = source.as_object().unwrap_or(&empty);
        let yes = |key: &str| map.get(key) == Some(&Value::Bool(true));
        let text = |key: &str| map.get(key).and_then(Value::as_str).unwrap_or_default();
        let mut flags = 0;
        for (key, flag) in [
            ("nullable", Flags::NULLABLE),
            ("x-kubernetes-preserve-unknown-fields", Flags::PRESERVES),
            ("x-kubernetes-embedded-resource", Flags::EMBEDDED | Flags::EMBEDS),
        ] {
            if yes(key) {
                flags |= flag;
            }
        }
        if text("x-kubernetes-map-type") == "atomic" {
            flags |= Flags::ATOMIC;
        }
        let kind = if yes("x-kubernetes-int-or-string") { Kind::IntOrString } else { Kind::of(text("type")) };
        let list = match text("x-kubernetes-list-type") {
            "set" => List::Set,
            "map" => List::Map,
            _ => List::Atomic,
        };
        if list != List::Atomic {
            flags |= Flags::UNIQUE;
        }
        let fields = self.properties(map.get("properties"), &mut flags);
        let mut inner = NONE;
        if let Some(items) = map.get("items").filter(|i| i.is_object()) {
            inner = self.child(items, &mut flags);
        }
        match map.get("additionalProperties") {
            Some(Value::Bool(false)) => flags |= Flags::CLOSED,
            Some(Value::Bool(true)) => flags |= Flags::ADDITIONAL,
            Some(schema @ Value::Object(_)) => {
                inner = self.child(schema, &mut flags);
                flags |= Flags::ADDITIONAL;
            }
            _ => {}
        }
        let place = format!("{kind:?}{fields:?}{inner}{flags}");
        let facts = self.facts(map, &place, &mut flags);
        let node = Node { kind, list, flags: Flags(flags), fields, inner, facts };
        if let Some(known) = self.known_nodes.get(&node) {
            return *known;
        }
        let at = end(&self.nodes);
        self.nodes.push(node);
        self.known_nodes.insert(node, at);
        at
    }

    /// The node of a schema below, whose traits are the upper one's too.
    fn child(&mut self, source: &Value, flags: &mut u16) -> u32 {
        let at = self.node(source);
        *flags |= self.nodes[at as usize].flags.0 & Flags::UP;
        at
    }

    fn properties(&mut self, source: Option<&Value>, flags: &mut u16) -> (u32, u32) {
        let mut found: Vec<(&String, u32)> = Vec::new();
        for (name, schema) in source.and_then(Value::as_object).into_iter().flatten() {
            found.push((name, self.child(schema, flags)));
        }
        found.sort_unstable_by_key(|(name, _)| *name);
        let found: Vec<(Name, u32)> = found.into_iter().map(|(name, node)| (self.name(name), node)).collect();
        if found.is_empty() {
            return (0, 0);
        }
        if let Some(known) = self.known_fields.get(&found) {
            return *known;
        }
        let start = end(&self.fields);
        self.fields.extend_from_slice(&found);
        let range = (start, end(&self.fields));
        self.known_fields.insert(found, range);
        range
    }

    /// `place` tells nodes apart whose rules, though the same words, are about other fields.
    fn facts(&mut self, map: &Map<String, Value>, place: &str, flags: &mut u16) -> (u32, u16) {
        const KEYS: [&str; 20] = [
            "default",
            "enum",
            "required",
            "format",
            "pattern",
            "minimum",
            "maximum",
            "multipleOf",
            "minLength",
            "maxLength",
            "minItems",
            "maxItems",
            "minProperties",
            "maxProperties",
            "allOf",
            "anyOf",
            "oneOf",
            "not",
            "x-kubernetes-list-map-keys",
            "x-kubernetes-validations",
        ];
        let told: Vec<(&str, &Value)> =
            KEYS.iter().filter_map(|key| map.get(*key).filter(|v| !v.is_null()).map(|v| (*key, v))).collect();
        if told.is_empty() {
            return (0, 0);
        }
        for (key, _) in &told {
            match *key {
                "default" => *flags |= Flags::FILLS,
                "x-kubernetes-validations" => *flags |= Flags::RULES,
                _ => {}
            }
        }
        let excludes = |key: &str| map.get(key) == Some(&Value::Bool(true));
        let (above, below) = (excludes("exclusiveMaximum"), excludes("exclusiveMinimum"));
        let words: String = told.iter().map(|(key, value)| format!("{key}:{value};")).collect();
        let place = if map.contains_key("x-kubernetes-validations") { place } else { "" };
        let words = format!("{words}{above}{below}{place}");
        if let Some(known) = self.known_facts.get(&words) {
            return *known;
        }
        // Schemas inside facts have facts of their own, which must not stand among these.
        let made: Vec<Fact> = told.iter().filter_map(|(key, value)| self.fact(key, value, above, below)).collect();
        let start = end(&self.facts);
        let range = (start, u16::try_from(made.len()).unwrap_or(0));
        self.facts.extend(made);
        self.known_facts.insert(words, range);
        range
    }

    fn fact(&mut self, key: &str, value: &Value, above: bool, below: bool) -> Option<Fact> {
        let whole = || value.as_i64();
        Some(match key {
            "default" => Fact::Default(Box::new(value.clone())),
            "enum" => Fact::Enum(value.as_array()?.iter().cloned().collect()),
            "required" => Fact::Required(self.texts(value)),
            "format" => Fact::Format(self.name(value.as_str()?)),
            "pattern" => {
                let text = self.name(value.as_str()?);
                Fact::Pattern(Box::new(Pattern { text, compiled: OnceLock::new() }))
            }
            "minimum" => Fact::Minimum(value.as_f64()?, below),
            "maximum" => Fact::Maximum(value.as_f64()?, above),
            "multipleOf" => Fact::MultipleOf(value.as_f64()?),
            "minLength" => Fact::MinLength(whole()?),
            "maxLength" => Fact::MaxLength(whole()?),
            "minItems" => Fact::MinItems(whole()?),
            "maxItems" => Fact::MaxItems(whole()?),
            "minProperties" => Fact::MinProperties(whole()?),
            "maxProperties" => Fact::MaxProperties(whole()?),
            "allOf" => Fact::AllOf(self.schemas(value)),
            "anyOf" => Fact::AnyOf(self.schemas(value)),
            "oneOf" => Fact::OneOf(self.schemas(value)),
            "not" => Fact::Not(self.node(value)),
            "x-kubernetes-list-map-keys" => Fact::Keys(self.texts(value)),
            "x-kubernetes-validations" => {
                let sources = value.as_array()?.iter().cloned().collect();
                Fact::Rules(Box::new(RuleSet { sources, compiled: OnceLock::new() }))
            }
            _ => return None,
        })
    }

    fn schemas(&mut self, value: &Value) -> Box<[u32]> {
        value.as_array().into_iter().flatten().map(|schema| self.node(schema)).collect()
    }
}
