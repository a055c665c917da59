//! The table in RAM: a few flat arrays of small records that refer to each other by index, and one text that all names are
//! slices of.

use std::borrow::Cow;

use kiln_apimachinery::typed::{ListType, PatchStrategy};

/// A slice of the table's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Text {
    pub(crate) at: u32,
    pub(crate) len: u16,
}

/// What values of a type look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// A string.
    Text,
    /// `true` or `false`.
    Bool,
    /// A whole number that 32 bits hold.
    Int32,
    /// A whole number that 64 bits hold.
    Int64,
    /// Any number.
    Double,
    /// A string with bytes in base64.
    Bytes,
    /// An RFC 3339 time in whole seconds.
    Time,
    /// An RFC 3339 time in microseconds.
    MicroTime,
    /// An amount such as `1.5Gi`.
    Quantity,
    /// A number or a string.
    IntOrString,
    /// Any JSON: an object of whatever kind.
    Raw,
    /// Any JSON: a set of fields.
    Fields,
    /// Any JSON: a value in a schema.
    Json,
    /// A schema or a list of schemas.
    SchemaOrArray,
    /// A schema or a boolean.
    SchemaOrBool,
    /// A schema or a list of strings.
    SchemaOrStrings,
    /// A list of strings that protobuf wraps in a message.
    Texts,
    /// An object with known fields.
    Struct,
    /// A list.
    List,
    /// An object with any keys and values of one type.
    Map,
    /// Any JSON, of which nothing is known.
    Any,
}

/// `x-kubernetes-map-type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum MapType {
    #[default]
    Unsaid,
    Atomic,
    Granular,
}

/// A type as a field has it. `of` is the struct, or the node of the elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    pub(crate) code: Code,
    pub(crate) of: u32,
    /// What Go calls it, if that is not plain from the code.
    pub(crate) go: Text,
    /// Index into the table's facts; the first has none.
    pub(crate) facts: u16,
}

/// What a schema says of a field beside its type.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// `None` if the schema says nothing.
    pub(crate) list: Option<ListType>,
    pub(crate) map: MapType,
    pub(crate) strategy: PatchStrategy,
    pub(crate) merge_key: Text,
    /// JSON of the default, if it is not the one that follows from the type.
    pub(crate) default: Option<Text>,
    pub(crate) keys: Box<[Text]>,
    pub(crate) values: Box<[Text]>,
}

/// One field of a struct.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub(crate) name: Text,
    /// The protobuf number; 0 if protobuf has not got it.
    pub(crate) number: u16,
    pub(crate) flags: u8,
    pub(crate) node: u32,
}

/// The field's zero is not the same as its absence.
pub(crate) const POINTER: u8 = 1;
/// JSON written by Go always has the field.
pub(crate) const ALWAYS: u8 = 2;
/// The schema requires the field.
pub(crate) const REQUIRED: u8 = 4;
/// The fields of the field's type are the struct's own.
pub(crate) const INLINE: u8 = 8;

impl Field {
    pub(crate) fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// A struct. Its fields stand together in the table, in order of their protobuf numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Struct {
    pub(crate) name: Text,
    /// True for a kind: an object with `kind` and `apiVersion`.
    pub(crate) kind: bool,
    pub(crate) atomic: bool,
    pub(crate) fields: (u32, u32),
    /// The JSON fields by name, embedded ones among them, as (name, field).
    pub(crate) names: (u32, u32),
    /// Those of them that are always there or have such fields somewhere, likewise.
    pub(crate) fills: (u32, u32),
}

/// Types that refer to each other.
#[derive(Debug, Default)]
pub struct Table {
    pub(crate) text: Cow<'static, str>,
    /// Short and long names of groups.
    pub(crate) groups: Vec<(Text, Text)>,
    /// By name.
    pub(crate) structs: Vec<Struct>,
    pub(crate) fields: Vec<Field>,
    pub(crate) names: Vec<(Text, u32)>,
    pub(crate) fills: Vec<(Text, u32)>,
    /// The first ones are the structs' own, in their order.
    pub(crate) nodes: Vec<Node>,
    pub(crate) facts: Vec<Facts>,
}

impl Table {
    pub(crate) fn str(&self, text: Text) -> &str {
        let start = text.at as usize;
        self.text.get(start..start + usize::from(text.len)).unwrap_or_default()
    }

    /// A struct by its name in the table, such as `core.v1.PodSpec`.
    pub fn named(&self, name: &str) -> Option<TypeRef<'_>> {
        let at = self.structs.binary_search_by(|s| self.str(s.name).cmp(name)).ok()?;
        Some(TypeRef { table: self, node: u32::try_from(at).ok()? })
    }

    /// Bytes of RAM that the table takes, its text apart.
    pub fn heap_size(&self) -> usize {
        fn of<T>(v: &Vec<T>) -> usize {
            v.capacity() * size_of::<T>()
        }
        let facts: usize = self.facts.iter().map(|f| (f.keys.len() + f.values.len()) * size_of::<Text>()).sum();
        of(&self.groups)
            + of(&self.structs)
            + of(&self.fields)
            + of(&self.names)
            + of(&self.fills)
            + of(&self.nodes)
            + of(&self.facts)
            + facts
    }
}

/// A type in a table.
#[derive(Clone, Copy)]
pub struct TypeRef<'t> {
    pub(crate) table: &'t Table,
    pub(crate) node: u32,
}

/// What a node says if an index is wrong, which a parsed table has not.
const NOTHING: Node = Node { code: Code::Any, of: 0, go: Text { at: 0, len: 0 }, facts: 0 };
/// What there is to say of most types.
static NO_FACTS: std::sync::LazyLock<Facts> = std::sync::LazyLock::new(Facts::default);

impl<'t> TypeRef<'t> {
    pub(crate) fn record(self) -> Node {
        self.table.nodes.get(self.node as usize).copied().unwrap_or(NOTHING)
    }

    pub(crate) fn facts(self) -> &'t Facts {
        self.table.facts.get(usize::from(self.record().facts)).unwrap_or(&NO_FACTS)
    }

    pub(crate) fn to(self, node: u32) -> Self {
        Self { table: self.table, node }
    }

    /// What values of the type look like.
    pub fn code(self) -> Code {
        self.record().code
    }

    /// Of a list or map, the type of the elements.
    pub fn inner(self) -> Self {
        self.to(self.record().of)
    }

    /// The struct, if it is one.
    pub(crate) fn structure(self) -> Option<&'t Struct> {
        let node = self.record();
        match node.code {
            Code::Struct => self.table.structs.get(node.of as usize),
            _ => None,
        }
    }

    /// Of a struct, its own fields in order of protobuf numbers.
    pub(crate) fn fields(self) -> &'t [Field] {
        let range = self.structure().map(|s| s.fields).unwrap_or_default();
        self.table.fields.get(range.0 as usize..range.1 as usize).unwrap_or_default()
    }

    /// Of a struct, the field of this JSON name, its own or an embedded one.
    pub(crate) fn json_field(self, name: &str) -> Option<&'t Field> {
        let range = self.structure()?.names;
        let names = self.table.names.get(range.0 as usize..range.1 as usize)?;
        let at = names.binary_search_by(|(n, _)| self.table.str(*n).cmp(name)).ok()?;
        self.table.fields.get(names[at].1 as usize)
    }

    /// Of a struct, the JSON names and types of all its fields, those of embedded ones too, by name.
    pub fn members(self) -> impl Iterator<Item = (&'t str, Self)> {
        let range = self.structure().map(|s| s.names).unwrap_or_default();
        let names = self.table.names.get(range.0 as usize..range.1 as usize).unwrap_or_default();
        let field = move |at: u32| self.table.fields.get(at as usize).map(|f| self.to(f.node));
        names.iter().filter_map(move |(name, at)| Some((self.table.str(*name), field(*at)?)))
    }

    /// Of a struct, its name in the table, such as `core.v1.PodSpec`.
    pub fn name(self) -> &'t str {
        self.structure().map_or("", |s| self.table.str(s.name))
    }

    /// True for an object of a kind of its own.
    pub fn is_kind(self) -> bool {
        self.structure().is_some_and(|s| s.kind)
    }
}

impl std::fmt::Debug for TypeRef<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {}", self.code(), self.name())
    }
}
