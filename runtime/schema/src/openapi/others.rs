//! Documents of other servers in this server's own: what of one belongs to a group and version, and how definitions of one
//! name are told apart. That paths meet cannot be: each document keeps those of its own group and version alone, of which
//! this server then has none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde_json::{Map, Value, json};

/// How references to definitions and to shared parameters begin.
const DEFINITIONS: &str = "#/definitions/";
const PARAMETERS: &str = "#/parameters/";
/// The kinds that a definition is of.
const KINDS: &str = "x-kubernetes-group-version-kind";

/// What of another server's document of version 2 is of a group and version: the paths, and the definitions but for those that
/// other paths alone need. Parameters that several operations share stand in each of them afterwards.
pub fn excerpt(document: &Value, group: &str, version: &str) -> Value {
    let root = format!("/{}/", super::root(group, version));
    let shared = object(document, "parameters");
    let (all, definitions) = (object(document, "paths"), object(document, "definitions"));
    let own = all.iter().filter(|(path, _)| path.starts_with(&root));
    let paths: Map<_, _> = own.map(|(path, item)| (path.clone(), inlined(item, shared, 0))).collect();
    if paths.is_empty() {
        return json!({"definitions": {}, "paths": {}});
    }
    let before = needed(all.values().chain(shared.values()), definitions);
    let now = needed(paths.values(), definitions);
    let kept = definitions.iter().filter(|(name, _)| now.contains(name.as_str()) || !before.contains(name.as_str()));
    let kept: Map<_, _> = kept.map(|(name, schema)| (name.clone(), schema.clone())).collect();
    json!({"definitions": kept, "paths": paths})
}

/// What other servers' excerpts add to a document.
#[derive(Debug, Default)]
pub(super) struct Others {
    /// Definitions that the document has not.
    pub(super) definitions: BTreeMap<String, Value>,
    /// Definitions that the document has, which are of these kinds as well.
    kinds: BTreeMap<String, Value>,
    /// Paths, with references to what definitions are called now.
    pub(super) paths: Vec<(String, Value)>,
}

impl Others {
    /// The names of definitions that matter for how others are called.
    pub(super) fn names(excerpts: &[Value]) -> BTreeSet<&str> {
        excerpts.iter().flat_map(|excerpt| object(excerpt, "definitions").keys().map(String::as_str)).collect()
    }

    /// Puts excerpts together, those of servers that come first first. A definition of a name that is taken by another one is
    /// called `NAME_v2`, `NAME_v3` and so on; one that is the same but for its kinds is of both servers' kinds.
    ///
    /// `taken` are the document's own definitions of those names.
    pub(super) fn of(excerpts: &[Value], mut taken: BTreeMap<String, Value>) -> Self {
        let mut out = Self::default();
        let own: BTreeSet<String> = taken.keys().cloned().collect();
        for excerpt in excerpts {
            let definitions = object(excerpt, "definitions");
            let mut names = BTreeMap::new();
            for (name, schema) in definitions {
                let new = free_name(name, schema, definitions, &taken);
                if new != *name {
                    names.insert(name.as_str(), new);
                }
            }
            for (name, schema) in definitions {
                let new = names.get(name.as_str()).unwrap_or(name);
                match taken.get_mut(new) {
                    None => drop(taken.insert(new.clone(), renamed(schema, &names))),
                    Some(there) => {
                        if let Some(kinds) = both_kinds(there, schema) {
                            there[KINDS] = kinds.clone();
                            if own.contains(new) {
                                out.kinds.insert(new.clone(), kinds);
                            }
                        }
                    }
                }
            }
            let paths = object(excerpt, "paths").iter();
            out.paths.extend(paths.map(|(path, item)| (path.clone(), renamed(item, &names))));
        }
        taken.retain(|name, _| !own.contains(name));
        out.definitions = taken;
        out
    }

    /// One of the document's own definitions, with what others add to it.
    pub(super) fn amended(&self, (name, mut schema): (String, Value)) -> (String, Value) {
        if let Some(kinds) = self.kinds.get(&name) {
            schema[KINDS] = kinds.clone();
        }
        (name, schema)
    }
}

/// The members of an object in a document; none if there is no such object.
fn object<'a>(document: &'a Value, key: &str) -> &'a Map<String, Value> {
    static NONE: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
    document.get(key).and_then(Value::as_object).unwrap_or(&NONE)
}

/// A value with shared parameters in place of references to them.
fn inlined(value: &Value, shared: &Map<String, Value>, depth: usize) -> Value {
    let target = |value: &Value| {
        let name = value.get("$ref")?.as_str()?.strip_prefix(PARAMETERS)?;
        // A parameter that refers to itself is nobody's.
        shared.get(name).filter(|_| depth < 2)
    };
    if let Some(parameter) = target(value) {
        return inlined(parameter, shared, depth + 1);
    }
    match value {
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), inlined(value, shared, depth))).collect(),
        Value::Array(list) => list.iter().map(|value| inlined(value, shared, depth)).collect(),
        other => other.clone(),
    }
}

/// Calls `found` with every reference to a definition.
fn references<'a>(value: &'a Value, found: &mut dyn FnMut(&'a str)) {
    match value {
        Value::Object(map) => {
            if let Some(name) = map.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix(DEFINITIONS)) {
                found(name);
            }
            map.values().for_each(|value| references(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

/// The names of definitions that values refer to, and those that these refer to in turn.
fn needed<'a>(from: impl Iterator<Item = &'a Value>, definitions: &'a Map<String, Value>) -> BTreeSet<&'a str> {
    let (mut names, mut queue) = (BTreeSet::new(), Vec::new());
    from.for_each(|value| references(value, &mut |name| queue.push(name)));
    while let Some(name) = queue.pop() {
        if names.insert(name)
            && let Some(schema) = definitions.get(name)
        {
            references(schema, &mut |name| queue.push(name));
        }
    }
    names
}

/// What a definition is called where those that are `taken` are already.
fn free_name(name: &str, schema: &Value, beside: &Map<String, Value>, taken: &BTreeMap<String, Value>) -> String {
    let fits = |new: &str| taken.get(new).is_some_and(|there| is_same(there, schema));
    if !taken.contains_key(name) || fits(name) {
        return name.to_owned();
    }
    let mut candidates = (2_u32..).map(|n| format!("{name}_v{n}"));
    let free = candidates.find(|new| fits(new) || !taken.contains_key(new) && !beside.contains_key(new));
    free.unwrap_or_default()
}

/// Whether two definitions say the same, but for their kinds.
fn is_same(one: &Value, other: &Value) -> bool {
    let (Some(one), Some(other)) = (one.as_object(), other.as_object()) else { return one == other };
    let rest = |map: &Map<String, Value>| map.len() - usize::from(map.contains_key(KINDS));
    rest(one) == rest(other)
        && one.iter().filter(|(key, _)| *key != KINDS).all(|(key, value)| other.get(key) == Some(value))
}

/// The kinds of two definitions that are the same otherwise, in order; `None` if the first has them all.
fn both_kinds(there: &Value, new: &Value) -> Option<Value> {
    let list = |value: &Value| value.get(KINDS).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut all = list(there);
    let count = all.len();
    for kind in list(new) {
        if !all.contains(&kind) {
            all.push(kind);
        }
    }
    let key = |kind: &Value| ["group", "version", "kind"].map(|key| kind[key].as_str().unwrap_or_default().to_owned());
    all.sort_by_cached_key(key);
    (all.len() > count).then_some(Value::Array(all))
}

/// A value with references to what definitions are called now.
fn renamed(value: &Value, names: &BTreeMap<&str, String>) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| {
                let old = value.as_str().filter(|_| key == "$ref").and_then(|r| r.strip_prefix(DEFINITIONS));
                let new = old.and_then(|old| names.get(old)).map(|new| Value::from(format!("{DEFINITIONS}{new}")));
                (key.clone(), new.unwrap_or_else(|| renamed(value, names)))
            })
            .collect(),
        Value::Array(list) => list.iter().map(|value| renamed(value, names)).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(name: &str) -> Value {
        json!({"$ref": format!("{DEFINITIONS}{name}")})
    }

    fn of_kind(kind: &str) -> Value {
        json!({"type": "object", KINDS: [{"group": "g", "version": "v1", "kind": kind}]})
    }

    #[test]
    fn an_excerpt_has_the_paths_of_the_version_and_what_they_need() {
        let operation = |name| json!({"get": {"responses": {"200": {"schema": reference(name)}}}});
        let document = json!({
            "definitions": {
                "A": {"properties": {"b": reference("B"), "$ref": {"type": "string"}}}, "B": {}, "C": {"items": reference("D")}, "D": {},
                "Unused": {}, "Body": {},
            },
            "parameters": {
                "body-1": {"in": "body", "name": "body", "schema": reference("Body")},
                "loop": {"$ref": "#/parameters/loop"},
            },
            "paths": {
                "/apis/g/v1/": operation("A"),
                "/apis/g/v1/as": {"parameters": [{"$ref": "#/parameters/body-1"}, {"$ref": "#/parameters/loop"}]},
                "/apis/g/v1beta1/as": operation("C"),
                "/healthz": operation("C"),
            },
        });
        let found = excerpt(&document, "g", "v1");
        let keys = |key: &str| found[key].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys("definitions"), ["A", "B", "Body", "Unused"]);
        assert_eq!(keys("paths"), ["/apis/g/v1/", "/apis/g/v1/as"]);
        assert_eq!(found["paths"]["/apis/g/v1/as"]["parameters"][0], document["parameters"]["body-1"]);
        assert_eq!(excerpt(&document, "g", "v2"), json!({"definitions": {}, "paths": {}}));
    }

    #[test]
    fn definitions_of_one_name_are_told_apart_and_equal_ones_are_one() {
        let other = |text: &str| json!({"description": text});
        let excerpt = |definitions: Value, needs: &str| json!({"definitions": definitions, "paths": {(format!("/{needs}")): reference(needs)}});
        let own = BTreeMap::from([("X".to_owned(), other("own")), ("K".to_owned(), of_kind("A"))]);
        let excerpts = [
            excerpt(json!({"X": other("one"), "Y": {"items": reference("X")}}), "X"),
            // The names that come next are the server's own, or another's.
            excerpt(json!({"X": other("two"), "X_v3": other("three")}), "X"),
            excerpt(json!({"X": other("one"), "K": of_kind("B")}), "X"),
            excerpt(json!({"X": other("own")}), "X"),
        ];
        assert_eq!(Others::names(&excerpts), BTreeSet::from(["K", "X", "X_v3", "Y"]));
        let merged = Others::of(&excerpts, own);
        let expected = [
            ("X_v2", other("one")),
            ("X_v3", other("three")),
            ("X_v4", other("two")),
            ("Y", json!({"items": reference("X_v2")})),
        ];
        assert_eq!(merged.definitions, expected.map(|(name, schema)| (name.to_owned(), schema)).into());
        let paths: Vec<_> = merged.paths.iter().map(|(_, item)| item["$ref"].as_str().unwrap()).collect();
        assert_eq!(paths, ["X_v2", "X_v4", "X_v2", "X"].map(|name| format!("{DEFINITIONS}{name}")));
        let (_, amended) = merged.amended(("K".to_owned(), of_kind("A")));
        assert_eq!(amended[KINDS], json!([of_kind("A")[KINDS][0], of_kind("B")[KINDS][0]]));
        assert_eq!(merged.amended(("X".to_owned(), other("own"))).1, other("own"));
    }
}
