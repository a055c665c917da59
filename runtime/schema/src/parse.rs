//! Reading `types.txt`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::OnceLock;

use kiln_apimachinery::gvk;
use kiln_apimachinery::typed::{ListType, PatchStrategy};

use crate::fill;
use crate::table::{
    ALWAYS, Code, Facts, Field, INLINE, MapType, Node, POINTER, REQUIRED, Struct, Table, Text, TypeRef,
};

const TYPES: &str = include_str!("types.txt");

/// The table of built-in types, read at first use.
pub fn builtin() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| parse(TYPES))
}

/// The table as it stands in the source: what documents made of it depend on.
pub fn facts() -> &'static str {
    TYPES
}

/// Kinds that every group and version has.
const EVERYWHERE: &[&str] =
    &["CreateOptions", "DeleteOptions", "GetOptions", "ListOptions", "PatchOptions", "UpdateOptions", "WatchEvent"];
/// Kinds of `v1` and of `meta.k8s.io/v1` that are no resources.
const META: &[&str] = &[
    "APIGroup",
    "APIGroupList",
    "APIResourceList",
    "APIVersions",
    "PartialObjectMetadata",
    "PartialObjectMetadataList",
    "Status",
    "TableOptions",
];

/// The type of a built-in kind.
pub fn lookup(api_version: &str, kind: &str) -> Option<TypeRef<'static>> {
    let table = builtin();
    let (group, version) = gvk::split_api_version(api_version)?;
    if EVERYWHERE.contains(&kind) || (META.contains(&kind) && matches!(api_version, "v1" | "meta.k8s.io/v1")) {
        return table.named(&format!("meta.v1.{kind}"));
    }
    let (short, _) = table.groups.iter().find(|(_, long)| table.str(*long) == group)?;
    table.named(&format!("{}.{version}.{kind}", table.str(*short))).filter(|t| t.is_kind())
}

struct Parser {
    table: Table,
    source: &'static str,
    /// Nodes by the words that stand for them.
    nodes: HashMap<(&'static str, &'static str), u32>,
    facts: HashMap<&'static str, u16>,
}

fn parse(source: &'static str) -> Table {
    let mut parser = Parser {
        table: Table { text: Cow::Borrowed(source), ..Table::default() },
        source,
        nodes: HashMap::new(),
        facts: HashMap::from([("", 0)]),
    };
    parser.table.facts.push(Facts::default());
    let mut types = Vec::new();
    for line in source.lines().filter(|l| !l.starts_with('#')) {
        match line.strip_prefix("group ") {
            Some(names) => parser.group(names),
            None => {
                let (head, fields) = line.split_once('\t').unwrap_or((line, ""));
                types.push((head.trim_end_matches(['^', '@']), head, fields));
            }
        }
    }
    types.sort_unstable_by_key(|(name, ..)| *name);
    for (at, (name, head, _)) in types.iter().enumerate() {
        let (text, at) = (parser.text(name), u32::try_from(at).unwrap_or(u32::MAX));
        let (kind, atomic) = (head.contains('^'), head.contains('@'));
        parser.table.structs.push(Struct { name: text, kind, atomic, fields: (0, 0), names: (0, 0), fills: (0, 0) });
        parser.table.nodes.push(Node { code: Code::Struct, of: at, go: Text::default(), facts: 0 });
        parser.nodes.insert((name, ""), at);
    }
    for (at, (_, _, fields)) in types.iter().enumerate() {
        parser.fields(at, fields);
    }
    for at in 0..types.len() {
        parser.names(at);
    }
    let mut table = parser.table;
    fill::index(&mut table);
    table.structs.shrink_to_fit();
    table.fields.shrink_to_fit();
    table.names.shrink_to_fit();
    table.nodes.shrink_to_fit();
    table.facts.shrink_to_fit();
    table
}

/// The length of a list, as an index into it.
fn end<T>(list: &[T]) -> u32 {
    u32::try_from(list.len()).unwrap_or(u32::MAX)
}

impl Parser {
    /// Where a slice of the source stands in it.
    fn text(&self, slice: &str) -> Text {
        let at = (slice.as_ptr() as usize).wrapping_sub(self.source.as_ptr() as usize);
        match (u32::try_from(at), u16::try_from(slice.len())) {
            (Ok(at), Ok(len)) => Text { at, len },
            _ => Text::default(),
        }
    }

    fn group(&mut self, names: &'static str) {
        let (short, long) = names.split_once(' ').unwrap_or((names, ""));
        let pair = (self.text(short), self.text(long));
        self.table.groups.push(pair);
    }

    fn fields(&mut self, of: usize, words: &'static str) {
        let mut fields: Vec<Field> = words.split('\t').filter_map(|word| self.field(word)).collect();
        fields.sort_by_key(|f| f.number);
        let start = end(&self.table.fields);
        self.table.fields.append(&mut fields);
        self.table.structs[of].fields = (start, end(&self.table.fields));
    }

    fn field(&mut self, word: &'static str) -> Option<Field> {
        let mut parts = word.splitn(4, ':');
        let (head, name, kind) = (parts.next()?, parts.next()?, parts.next()?);
        let facts = parts.next().unwrap_or_default();
        let digits = head.trim_end_matches(|c: char| !c.is_ascii_digit());
        let flags = head[digits.len()..].chars().fold(0, |flags, c| {
            flags
                | match c {
                    '*' => POINTER,
                    '!' => ALWAYS,
                    'r' => REQUIRED,
                    '~' => INLINE,
                    _ => 0,
                }
        });
        let node = self.node(kind, facts)?;
        Some(Field { name: self.text(name), number: digits.parse().unwrap_or(0), flags, node })
    }

    /// The node of a type with facts, made if it is new.
    fn node(&mut self, kind: &'static str, facts: &'static str) -> Option<u32> {
        if let Some(known) = self.nodes.get(&(kind, facts)) {
            return Some(*known);
        }
        let (code, rest) = code(kind);
        let (mut go, mut of) = (Text::default(), 0);
        match code {
            Code::List | Code::Map => {
                let inner = match rest.strip_prefix('/').and_then(|r| r.split_once('/')) {
                    Some((name, inner)) => {
                        go = self.text(name);
                        inner
                    }
                    None => rest,
                };
                of = self.node(inner, "")?;
            }
            Code::Struct => of = self.nodes.get(&(kind, "")).copied()?,
            Code::SchemaOrArray | Code::SchemaOrBool | Code::SchemaOrStrings => {
                of = self.nodes.get(&("apiextensions.v1.JSONSchemaProps", "")).copied()?;
            }
            _ => {
                if let Some(name) = rest.strip_prefix('/') {
                    go = self.text(name);
                }
            }
        }
        let facts_at = self.facts(facts);
        let at = end(&self.table.nodes);
        self.table.nodes.push(Node { code, of, go, facts: facts_at });
        self.nodes.insert((kind, facts), at);
        Some(at)
    }

    fn facts(&mut self, words: &'static str) -> u16 {
        if let Some(known) = self.facts.get(words) {
            return *known;
        }
        let mut facts = Facts::default();
        for word in words.split(';') {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            match key {
                "la" => facts.list = Some(ListType::Atomic),
                "ls" => facts.list = Some(ListType::Set),
                "lm" => {
                    facts.list = Some(ListType::Map);
                    facts.keys = value.split(',').map(|k| self.text(k)).collect();
                }
                "ma" => facts.map = MapType::Atomic,
                "mg" => facts.map = MapType::Granular,
                "ps" => {
                    facts.strategy = match value {
                        "merge" => PatchStrategy::Merge,
                        "merge,retainKeys" => PatchStrategy::MergeRetainKeys,
                        "retainKeys" => PatchStrategy::RetainKeys,
                        "replace" => PatchStrategy::Replace,
                        _ => PatchStrategy::Default,
                    };
                }
                "pk" => facts.merge_key = self.text(value),
                "d" => facts.default = Some(self.text(value)),
                "d-" => facts.default = Some(Text::default()),
                "e" => facts.values = value.split('|').map(|v| self.text(v)).collect(),
                _ => {}
            }
        }
        let at = u16::try_from(self.table.facts.len()).unwrap_or(0);
        self.table.facts.push(facts);
        self.facts.insert(words, at);
        at
    }

    /// Makes the index of a struct's JSON fields.
    fn names(&mut self, of: usize) {
        let mut found = Vec::new();
        self.collect(of, &mut found);
        found.sort_unstable_by(|a, b| self.table.str(a.0).cmp(self.table.str(b.0)));
        let start = end(&self.table.names);
        self.table.names.append(&mut found);
        self.table.structs[of].names = (start, end(&self.table.names));
    }

    fn collect(&self, of: usize, found: &mut Vec<(Text, u32)>) {
        let (from, to) = self.table.structs[of].fields;
        for at in from..to {
            let field = self.table.fields[at as usize];
            if field.is(INLINE) {
                self.collect(self.table.nodes[field.node as usize].of as usize, found);
            } else {
                found.push((field.name, at));
            }
        }
    }
}

/// The code of a type's words, and what stands behind its letter.
fn code(kind: &str) -> (Code, &str) {
    let rest = kind.get(1..).unwrap_or_default();
    let code = match kind.as_bytes().first() {
        Some(b'[') => Code::List,
        Some(b'{') => Code::Map,
        Some(letter) if rest.is_empty() || rest.starts_with('/') => match letter {
            b's' => Code::Text,
            b'b' => Code::Bool,
            b'i' => Code::Int32,
            b'l' => Code::Int64,
            b'd' => Code::Double,
            b'y' => Code::Bytes,
            b'T' => Code::Time,
            b'U' => Code::MicroTime,
            b'Q' => Code::Quantity,
            b'I' => Code::IntOrString,
            b'R' => Code::Raw,
            b'F' => Code::Fields,
            b'J' => Code::Json,
            b'A' => Code::SchemaOrArray,
            b'B' => Code::SchemaOrBool,
            b'P' => Code::SchemaOrStrings,
            b'V' => Code::Texts,
            _ => Code::Any,
        },
        _ => Code::Struct,
    };
    (code, rest)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn the_table_is_small_and_soon_read() {
        let began = Instant::now();
        let table = parse(TYPES);
        let took = began.elapsed();
        println!("{} bytes beside {} of text, {took:?}", table.heap_size(), TYPES.len());
        assert!(table.heap_size() < 300_000, "{}", table.heap_size());
    }

    #[test]
    fn every_word_of_the_table_is_understood() {
        let types = TYPES.lines().filter(|l| !l.starts_with('#') && !l.starts_with("group "));
        let words: usize = types.map(|l| l.split('\t').count() - 1).sum();
        assert_eq!(builtin().fields.len(), words);
        assert!(builtin().nodes.iter().all(|n| n.code != Code::Any));
    }

    #[test]
    fn kinds_are_found_by_version_and_name_and_parts_of_kinds_are_not() {
        assert_eq!(lookup("v1", "Pod").unwrap().name(), "core.v1.Pod");
        assert_eq!(lookup("networking.k8s.io/v1", "Ingress").unwrap().name(), "networking.v1.Ingress");
        assert_eq!(lookup("apps/v1", "DeleteOptions").unwrap().name(), "meta.v1.DeleteOptions");
        assert_eq!(lookup("apps/v1", "DeploymentList").unwrap().name(), "apps.v1.DeploymentList");
        assert!(lookup("v1", "PodSpec").is_none());
        assert!(lookup("apps/v9", "Deployment").is_none());
        assert!(lookup("a/b/c", "Deployment").is_none());
    }
}
