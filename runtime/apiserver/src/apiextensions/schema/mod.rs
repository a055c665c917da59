//! Structural schemas of custom resources, kept small: an operator's bundle has thousands of fields, most of which say no
//! more than a name and a type, and many of which say the same. A schema is a few flat arrays of small records that refer
//! to each other by index, each distinct record once; descriptions are left out.
//!
//! In flows the `openAPIV3Schema` of a definition that is valid; out flow answers about objects: what is pruned, what is
//! added, what is wrong, and how lists merge. Nothing here knows a request or a store.

mod build;
mod check;
mod embedded;
mod fill;
mod formats;
mod lists;
mod prune;
mod types;

use std::sync::OnceLock;

use regex_lite::Regex;
use serde_json::Value;

use super::rules::Compiled;

pub(crate) use check::{check, check_change, same_keys};
pub(crate) use embedded::{coerce, validate as validate_embedded};
pub(crate) use fill::{defaults, nulls};
pub(crate) use formats::known as known_format;
pub(crate) use lists::unique;
pub(crate) use prune::{prune, prune_value};

/// A slice of a schema's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Name {
    at: u32,
    len: u32,
}

/// No other node.
const NONE: u32 = u32::MAX;

/// The `type` of a schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Not said.
    #[default]
    Any,
    Object,
    Array,
    Text,
    Integer,
    Number,
    Boolean,
    /// `x-kubernetes-int-or-string`.
    IntOrString,
}

impl Kind {
    fn of(name: &str) -> Self {
        match name {
            "object" => Self::Object,
            "array" => Self::Array,
            "string" => Self::Text,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            _ => Self::Any,
        }
    }

    /// As complaints name it.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Any => "",
            Self::Object => "object",
            Self::Array => "array",
            Self::Text => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::IntOrString => "integer,string",
        }
    }
}

/// `x-kubernetes-list-type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum List {
    #[default]
    Atomic,
    Set,
    Map,
}

/// What is true of a node, or of some node below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Flags(u16);

impl Flags {
    const NULLABLE: u16 = 1;
    const PRESERVES: u16 = 2;
    const EMBEDDED: u16 = 4;
    const ATOMIC: u16 = 8;
    /// The values of other keys are described by a schema, or anything goes.
    const ADDITIONAL: u16 = 16;
    /// No other keys than those named: `additionalProperties: false`.
    const CLOSED: u16 = 32;
    /// A node here or below has a default.
    const FILLS: u16 = 64;
    /// A list here or below is a set or a map.
    const UNIQUE: u16 = 128;
    /// An object here or below is a whole resource.
    const EMBEDS: u16 = 256;
    /// A node here or below has rules in CEL.
    const RULES: u16 = 512;
    /// What is inherited from below.
    const UP: u16 = Self::FILLS | Self::UNIQUE | Self::EMBEDS | Self::RULES;

    fn has(self, flag: u16) -> bool {
        self.0 & flag != 0
    }
}

/// One schema within a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Node {
    kind: Kind,
    list: List,
    flags: Flags,
    /// Its properties, by name.
    fields: (u32, u32),
    /// The schema of elements or of other keys' values.
    inner: u32,
    /// Where its facts are.
    facts: (u32, u16),
}

/// What a schema says beside its structure.
#[derive(Debug)]
enum Fact {
    Default(Box<Value>),
    Enum(Box<[Value]>),
    Required(Box<[Name]>),
    Format(Name),
    Pattern(Box<Pattern>),
    /// Bound, and whether it is excluded.
    Minimum(f64, bool),
    Maximum(f64, bool),
    MultipleOf(f64),
    MinLength(i64),
    MaxLength(i64),
    MinItems(i64),
    MaxItems(i64),
    MinProperties(i64),
    MaxProperties(i64),
    AllOf(Box<[u32]>),
    AnyOf(Box<[u32]>),
    OneOf(Box<[u32]>),
    Not(u32),
    /// Keys of a list that is a map.
    Keys(Box<[Name]>),
    /// `x-kubernetes-validations`.
    Rules(Box<RuleSet>),
}

/// A pattern that texts must match, made ready when the first text comes.
#[derive(Debug)]
struct Pattern {
    text: Name,
    compiled: OnceLock<Option<Regex>>,
}

/// The rules in CEL of a node.
#[derive(Debug)]
pub(crate) struct RuleSet {
    /// As they stand in the definition.
    pub(crate) sources: Box<[Value]>,
    /// Made ready when the first object comes.
    pub(crate) compiled: OnceLock<Compiled>,
}

/// A schema.
#[derive(Debug, Default)]
pub(crate) struct Schema {
    text: Box<str>,
    nodes: Box<[Node]>,
    fields: Box<[(Name, u32)]>,
    facts: Box<[Fact]>,
    root: u32,
}

impl Schema {
    /// The schema of whole objects.
    pub(crate) fn root(&self) -> SchemaRef<'_> {
        SchemaRef { schema: self, node: self.root }
    }

    /// Bytes of RAM that the schema takes, about.
    #[cfg(test)]
    pub(crate) fn heap_size(&self) -> usize {
        self.text.len() + size_of_val(&*self.nodes) + size_of_val(&*self.fields) + size_of_val(&*self.facts)
    }
}

/// A node of a schema.
#[derive(Clone, Copy)]
pub(crate) struct SchemaRef<'t> {
    schema: &'t Schema,
    node: u32,
}

impl std::fmt::Debug for SchemaRef<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.record())
    }
}

/// What is said of a node that is not there.
const NOTHING: Node =
    Node { kind: Kind::Any, list: List::Atomic, flags: Flags(0), fields: (0, 0), inner: NONE, facts: (0, 0) };

impl<'t> SchemaRef<'t> {
    fn record(self) -> Node {
        self.schema.nodes.get(self.node as usize).copied().unwrap_or(NOTHING)
    }

    fn to(self, node: u32) -> Self {
        Self { node, ..self }
    }

    fn str(self, name: Name) -> &'t str {
        let start = name.at as usize;
        self.schema.text.get(start..start + name.len as usize).unwrap_or_default()
    }

    fn has(self, flag: u16) -> bool {
        self.record().flags.has(flag)
    }

    /// What the node's `type` says.
    pub(crate) fn kind(self) -> Kind {
        self.record().kind
    }

    /// How the elements of a list are told apart.
    pub(crate) fn list(self) -> List {
        self.record().list
    }

    /// Null is a value.
    pub(crate) fn is_nullable(self) -> bool {
        self.has(Flags::NULLABLE)
    }

    /// Fields that are not described stay.
    pub(crate) fn preserves(self) -> bool {
        self.has(Flags::PRESERVES)
    }

    /// The object is a whole resource with kind and metadata.
    pub(crate) fn is_embedded(self) -> bool {
        self.has(Flags::EMBEDDED)
    }

    /// The object has one owner.
    pub(crate) fn is_atomic(self) -> bool {
        self.has(Flags::ATOMIC)
    }

    /// True if some node of this one's tree has a default.
    pub(crate) fn fills(self) -> bool {
        self.has(Flags::FILLS)
    }

    /// True if some node of this one's tree has rules in CEL.
    pub(crate) fn has_rules(self) -> bool {
        self.has(Flags::RULES)
    }

    fn fields(self) -> &'t [(Name, u32)] {
        let (start, end) = self.record().fields;
        self.schema.fields.get(start as usize..end as usize).unwrap_or_default()
    }

    /// The properties with their names, in the order of the names.
    pub(crate) fn properties(self) -> impl Iterator<Item = (&'t str, Self)> {
        self.fields().iter().map(move |(name, node)| (self.str(*name), self.to(*node)))
    }

    /// A property.
    pub(crate) fn property(self, name: &str) -> Option<Self> {
        let fields = self.fields();
        let at = fields.binary_search_by(|(n, _)| self.str(*n).cmp(name)).ok()?;
        Some(self.to(fields[at].1))
    }

    /// True if keys beside the properties are described, if only by "anything".
    pub(crate) fn takes_others(self) -> bool {
        self.has(Flags::ADDITIONAL)
    }

    fn inner(self) -> Option<Self> {
        Some(self.record().inner).filter(|i| *i != NONE).map(|i| self.to(i))
    }

    /// The schema of the elements of a list.
    pub(crate) fn items(self) -> Option<Self> {
        self.inner().filter(|_| !self.takes_others())
    }

    /// The schema of the values of keys that are no properties.
    pub(crate) fn additional(self) -> Option<Self> {
        self.inner().filter(|_| self.takes_others())
    }

    /// The schema of a field, by its name or as one of the others.
    pub(crate) fn field_schema(self, name: &str) -> Option<Self> {
        self.property(name).or_else(|| self.additional())
    }

    fn facts(self) -> &'t [Fact] {
        let (start, count) = self.record().facts;
        self.schema.facts.get(start as usize..start as usize + usize::from(count)).unwrap_or_default()
    }

    /// What an absent value counts as.
    pub(crate) fn default(self) -> Option<&'t Value> {
        self.facts().iter().find_map(|f| match f {
            Fact::Default(value) => Some(&**value),
            _ => None,
        })
    }

    /// The fields that tell the elements of a list apart.
    pub(crate) fn keys(self) -> impl Iterator<Item = &'t str> {
        let found = self.facts().iter().find_map(|f| match f {
            Fact::Keys(keys) => Some(&**keys),
            _ => None,
        });
        found.unwrap_or_default().iter().map(move |k| self.str(*k))
    }

    /// The rules in CEL of this very node.
    pub(crate) fn rules(self) -> Option<&'t RuleSet> {
        self.facts().iter().find_map(|f| match f {
            Fact::Rules(rules) => Some(&**rules),
            _ => None,
        })
    }

    /// `format`, or empty.
    pub(crate) fn format(self) -> &'t str {
        let found = self.facts().iter().find_map(|f| match f {
            Fact::Format(name) => Some(self.str(*name)),
            _ => None,
        });
        found.unwrap_or_default()
    }

    /// The most characters, elements or keys that a value may have, if that is said.
    pub(crate) fn most(self) -> Option<u64> {
        self.facts().iter().find_map(|f| match f {
            Fact::MaxLength(n) | Fact::MaxItems(n) | Fact::MaxProperties(n) => u64::try_from(*n).ok(),
            Fact::Enum(values) => values.iter().map(|v| v.as_str().map_or(0, |s| s.chars().count() as u64)).max(),
            _ => None,
        })
    }

    /// True for a property that must be there.
    pub(crate) fn requires(self, property: &str) -> bool {
        self.facts().iter().any(|f| match f {
            Fact::Required(names) => names.iter().any(|n| self.str(*n) == property),
            _ => false,
        })
    }
}

#[cfg(test)]
mod tests;
