//! A small type tree: a workload with lists of every type, and a bag of untyped JSON.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its own part of these")]

use kiln_apimachinery::apply::{Set, Writer};
use kiln_apimachinery::typed::{Kind, ListType, PatchRule, PatchStrategy, Scalar, Type};
use serde_json::{Value, json};

#[derive(Debug)]
pub struct Node {
    kind: Kind,
    scalar: Scalar,
    fields: &'static [(&'static str, &'static Node)],
    inner: Option<&'static Node>,
    list: ListType,
    keys: &'static [&'static str],
    atomic: bool,
    always: &'static [&'static str],
    patch: PatchRule<'static>,
}

const SCALAR: Node = Node {
    kind: Kind::Scalar,
    scalar: Scalar::Any,
    fields: &[],
    inner: None,
    list: ListType::Atomic,
    keys: &[],
    atomic: false,
    always: &[],
    patch: PatchRule { merge_key: None, strategy: PatchStrategy::Default },
};
const fn rule(merge_key: Option<&'static str>, strategy: PatchStrategy) -> PatchRule<'static> {
    PatchRule { merge_key, strategy }
}
const fn structure(fields: &'static [(&'static str, &'static Node)]) -> Node {
    Node { kind: Kind::Struct, fields, ..SCALAR }
}
const fn keyed(item: &'static Node, keys: &'static [&'static str], merge_key: &'static str) -> Node {
    Node {
        kind: Kind::List,
        inner: Some(item),
        list: ListType::Map,
        keys,
        patch: rule(Some(merge_key), PatchStrategy::Merge),
        ..SCALAR
    }
}

const TEXT: Node = Node { scalar: Scalar::Text, ..SCALAR };
const NUMBER: Node = Node { scalar: Scalar::Number, ..SCALAR };
const BOOLEAN: Node = Node { scalar: Scalar::Boolean, ..SCALAR };
const ANY: Node = Node { kind: Kind::Any, ..SCALAR };
const TEXTS: Node = Node { kind: Kind::Map, inner: Some(&TEXT), ..SCALAR };
const TEXT_SET: Node = Node {
    kind: Kind::List,
    inner: Some(&TEXT),
    list: ListType::Set,
    patch: rule(None, PatchStrategy::Merge),
    ..SCALAR
};
const TEXT_LIST: Node = Node { kind: Kind::List, inner: Some(&TEXT), ..SCALAR };
const ENV: Node = structure(&[("name", &TEXT), ("value", &TEXT)]);
const PORT: Node =
    structure(&[("containerPort", &NUMBER), ("protocol", &TEXT), ("name", &TEXT), ("hostPort", &NUMBER)]);
const RESOURCES: Node = structure(&[("limits", &TEXTS), ("requests", &TEXTS)]);
const CONTAINER: Node = Node {
    always: &["resources"],
    ..structure(&[
        ("name", &TEXT),
        ("image", &TEXT),
        ("command", &TEXT_LIST),
        ("args", &TEXT_LIST),
        ("imagePullPolicy", &TEXT),
        ("terminationMessagePath", &TEXT),
        ("terminationMessagePolicy", &TEXT),
        ("env", &keyed(&ENV, &["name"], "name")),
        ("ports", &keyed(&PORT, &["containerPort", "protocol"], "containerPort")),
        ("resources", &RESOURCES),
    ])
};
const EMPTY_DIR: Node = structure(&[("medium", &TEXT)]);
const CONFIG_MAP: Node = structure(&[("name", &TEXT), ("optional", &BOOLEAN)]);
const VOLUME: Node = structure(&[("name", &TEXT), ("emptyDir", &EMPTY_DIR), ("configMap", &CONFIG_MAP)]);
const VOLUMES: Node =
    Node { patch: rule(Some("name"), PatchStrategy::MergeRetainKeys), ..keyed(&VOLUME, &["name"], "name") };
const SELECTOR: Node = Node { atomic: true, ..structure(&[("matchLabels", &TEXTS)]) };
const STRATEGY: Node =
    Node { patch: rule(None, PatchStrategy::RetainKeys), ..structure(&[("type", &TEXT), ("rollingUpdate", &TEXTS)]) };
const TOLERATION: Node = structure(&[("key", &TEXT), ("value", &TEXT)]);
const SPEC: Node = Node {
    always: &["containers", "strategy"],
    ..structure(&[
        ("replicas", &NUMBER),
        ("paused", &BOOLEAN),
        ("containers", &keyed(&CONTAINER, &["name"], "name")),
        ("volumes", &VOLUMES),
        ("selector", &SELECTOR),
        ("strategy", &STRATEGY),
        ("tolerations", &Node { kind: Kind::List, inner: Some(&TOLERATION), ..SCALAR }),
        ("nodeName", &TEXT),
        ("restartPolicy", &TEXT),
    ])
};
const CONDITION: Node = structure(&[("type", &TEXT), ("status", &TEXT), ("reason", &TEXT)]);
const STATUS: Node =
    structure(&[("readyReplicas", &NUMBER), ("phase", &TEXT), ("conditions", &keyed(&CONDITION, &["type"], "type"))]);
const METADATA: Node = structure(&[
    ("name", &TEXT),
    ("namespace", &TEXT),
    ("uid", &TEXT),
    ("resourceVersion", &TEXT),
    ("creationTimestamp", &TEXT),
    ("generation", &NUMBER),
    ("labels", &TEXTS),
    ("annotations", &TEXTS),
    ("finalizers", &TEXT_SET),
    ("managedFields", &Node { kind: Kind::List, inner: Some(&ANY), ..SCALAR }),
]);
const ROOT: Node = Node {
    always: &["metadata", "spec", "status"],
    ..structure(&[
        ("apiVersion", &TEXT),
        ("kind", &TEXT),
        ("metadata", &METADATA),
        ("spec", &SPEC),
        ("status", &STATUS),
        ("data", &TEXTS),
        ("bag", &ANY),
    ])
};

#[derive(Clone, Copy, Debug)]
pub struct Ty(&'static Node);

pub const THING: Ty = Ty(&ROOT);
pub const UNTYPED: Ty = Ty(&ANY);

impl Type for Ty {
    fn kind(&self) -> Kind {
        self.0.kind
    }
    fn field(&self, name: &str) -> Option<Self> {
        match self.0.kind {
            Kind::Any => Some(*self),
            Kind::Map => self.0.inner.map(Ty),
            _ => self.0.fields.iter().find(|(n, _)| *n == name).map(|(_, node)| Ty(node)),
        }
    }
    fn item(&self) -> Option<Self> {
        self.0.inner.map(Ty)
    }
    fn scalar(&self) -> Scalar {
        self.0.scalar
    }
    fn always(&self, name: &str) -> bool {
        self.0.always.contains(&name)
    }
    fn list(&self) -> ListType {
        self.0.list
    }
    fn key(&self, index: usize) -> Option<&str> {
        self.0.keys.get(index).copied()
    }
    fn key_default(&self, key: &str) -> Option<Value> {
        (key == "protocol").then(|| json!("TCP"))
    }
    fn atomic(&self) -> bool {
        self.0.atomic
    }
    fn patch(&self) -> PatchRule<'_> {
        self.0.patch
    }
}

pub fn writer<'a>(manager: &'a str, now: &'a str, ignored: &'a Set) -> Writer<'a> {
    Writer { manager, api_version: "v1", serves: &|version| version == "v1beta1", subresource: "", now, ignored }
}

/// An object of the kind with these parts.
pub fn thing(parts: Value) -> Value {
    let mut object = json!({"apiVersion": "v1", "kind": "Thing", "metadata": {"name": "t", "namespace": "default"}});
    merge(&mut object, parts);
    object
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            from.into_iter().for_each(|(key, value)| merge(into.entry(key).or_insert(Value::Null), value));
        }
        (into, from) => *into = from,
    }
}
