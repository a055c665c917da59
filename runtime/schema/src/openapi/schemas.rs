//! Types as schemas.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kiln_apimachinery::typed::{ListType, PatchStrategy};
use serde_json::{Map, Value, json};

use super::descriptions::Descriptions;
use super::{Custom, Dialect, Served, custom};
use crate::builtin;
use crate::lookup;
use crate::table::{Code, Field, INLINE, MapType, REQUIRED, TypeRef};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const EXTENSIONS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1";

/// A type's name in documents.
pub(super) fn model(ty: TypeRef<'_>) -> String {
    let name = ty.name();
    match name.split_once('.').unwrap_or((name, "")) {
        ("meta", rest) => format!("io.k8s.apimachinery.pkg.apis.meta.{rest}"),
        ("apiextensions", rest) => format!("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.{rest}"),
        ("apiregistration", rest) => format!("io.k8s.kube-aggregator.pkg.apis.apiregistration.{rest}"),
        _ => format!("io.k8s.api.{name}"),
    }
}

/// The name in documents of a type with a decoder of its own.
fn special(code: Code) -> Option<String> {
    Some(match code {
        Code::Time => format!("{META}.Time"),
        Code::MicroTime => format!("{META}.MicroTime"),
        Code::Fields => format!("{META}.FieldsV1"),
        Code::Quantity => "io.k8s.apimachinery.pkg.api.resource.Quantity".into(),
        Code::IntOrString => "io.k8s.apimachinery.pkg.util.intstr.IntOrString".into(),
        Code::Raw => "io.k8s.apimachinery.pkg.runtime.RawExtension".into(),
        Code::Json => format!("{EXTENSIONS}.JSON"),
        Code::SchemaOrArray => format!("{EXTENSIONS}.JSONSchemaPropsOrArray"),
        Code::SchemaOrBool => format!("{EXTENSIONS}.JSONSchemaPropsOrBool"),
        Code::SchemaOrStrings => format!("{EXTENSIONS}.JSONSchemaPropsOrStringArray"),
        _ => return None,
    })
}

fn special_schema(code: Code, dialect: Dialect) -> Value {
    match (code, dialect) {
        (Code::Time | Code::MicroTime, _) => json!({"type": "string", "format": "date-time"}),
        (Code::Quantity, Dialect::V2) => json!({"type": "string"}),
        (Code::Quantity, Dialect::V3) => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        (Code::IntOrString, Dialect::V2) => json!({"type": "string", "format": "int-or-string"}),
        (Code::IntOrString, Dialect::V3) => {
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
        }
        (Code::Raw | Code::Fields, _) => json!({"type": "object"}),
        _ => json!({}),
    }
}

/// What a document's types are.
#[derive(Clone, Copy, Debug)]
enum Model<'a> {
    Struct(TypeRef<'static>),
    Special(Code),
    /// The body of a patch.
    Patch,
    /// A custom kind, or the list of one.
    Custom(&'a Served<'a>, &'a Custom<'a>),
    List(&'a Served<'a>, &'a Custom<'a>),
}

/// The types that a document has to define, by name.
#[derive(Debug, Default)]
pub(super) struct Reached<'a>(BTreeMap<String, Model<'a>>);

impl<'a> Reached<'a> {
    /// Adds a custom kind and its list.
    pub(super) fn custom(&mut self, served: &'a Served<'a>, custom: &'a Custom<'a>) {
        self.0.insert(custom::model(served, served.kind), Model::Custom(served, custom));
        self.0.insert(custom::model(served, custom.list_kind), Model::List(served, custom));
        let builtin = crate::builtin();
        for name in ["meta.v1.ObjectMeta", "meta.v1.ListMeta"] {
            builtin.named(name).into_iter().for_each(|ty| self.add(ty));
        }
    }

    /// Adds a kind and its list.
    pub(super) fn kind(&mut self, api_version: &str, kind: &str) {
        for name in [kind.to_owned(), format!("{kind}List")] {
            if let Some(ty) = lookup(api_version, &name) {
                self.add(ty);
            }
        }
    }

    /// Adds what every document has.
    pub(super) fn common(&mut self) {
        for kind in ["APIResourceList", "DeleteOptions", "Status", "WatchEvent"] {
            if let Some(ty) = lookup("v1", kind) {
                self.add(ty);
            }
        }
        self.0.insert(format!("{META}.Patch"), Model::Patch);
    }

    /// Only those of these names.
    pub(super) fn only(mut self, names: &BTreeSet<&str>) -> Self {
        self.0.retain(|name, _| names.contains(name.as_str()));
        self
    }

    fn add(&mut self, ty: TypeRef<'static>) {
        match ty.code() {
            Code::List | Code::Map => self.add(ty.inner()),
            Code::Struct => {
                let name = model(ty);
                if self.0.insert(name, Model::Struct(ty)).is_none() {
                    self.fields(ty);
                }
            }
            code => {
                if let Some(name) = special(code) {
                    self.0.insert(name, Model::Special(code));
                    if matches!(code, Code::SchemaOrArray | Code::SchemaOrBool | Code::SchemaOrStrings) {
                        self.add(ty.inner());
                    }
                }
            }
        }
    }

    fn fields(&mut self, ty: TypeRef<'static>) {
        for field in ty.fields() {
            let inner = ty.to(field.node);
            if field.is(INLINE) { self.fields(inner) } else { self.add(inner) }
        }
    }

    /// The definitions, one after another.
    pub(super) fn definitions(self, dialect: Dialect) -> impl Iterator<Item = (String, Value)> + 'a {
        let mut descriptions = Descriptions::new();
        self.0.into_iter().map(move |(name, model)| {
            let (own, fields) = descriptions.of(&name);
            let mut schema = match model {
                Model::Struct(ty) => definition(ty, dialect, &fields),
                Model::Special(code) => special_schema(code, dialect),
                Model::Patch => json!({"type": "object"}),
                Model::Custom(served, custom) => custom::definition(served, custom, dialect),
                Model::List(served, custom) => custom::list(served, custom, dialect),
            };
            if let Some(own) = own {
                schema["description"] = own.into();
            }
            (name, schema)
        })
    }
}

fn definition(ty: TypeRef<'_>, dialect: Dialect, descriptions: &HashMap<&str, &str>) -> Value {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    let mut queue = vec![ty];
    while let Some(part) = queue.pop() {
        for field in part.fields() {
            if field.is(INLINE) {
                queue.push(part.to(field.node));
                continue;
            }
            let name = part.table.str(field.name);
            if field.is(REQUIRED) {
                required.push(name);
            }
            let schema = property(ty, part, field, dialect, descriptions.get(name).copied());
            properties.insert(name.to_owned(), schema);
        }
    }
    let mut out = json!({"type": "object"});
    if !properties.is_empty() {
        out["properties"] = properties.into();
    }
    if !required.is_empty() {
        out["required"] = json!(required);
    }
    if ty.structure().is_some_and(|s| s.atomic) {
        out["x-kubernetes-map-type"] = "atomic".into();
    }
    if let Some(kind) = kind_of(ty) {
        out["x-kubernetes-group-version-kind"] = json!([kind]);
    }
    out
}

/// Group, version and kind of a type that is a kind.
fn kind_of(ty: TypeRef<'_>) -> Option<Value> {
    let name = ty.name();
    let (group, rest) = name.split_once('.')?;
    let (version, kind) = rest.split_once('.')?;
    if !ty.is_kind() && kind != "WatchEvent" {
        return None;
    }
    let table = builtin();
    let long = table.groups.iter().find(|(short, _)| table.str(*short) == group).map_or("", |(_, l)| table.str(*l));
    Some(json!({"group": long, "version": version, "kind": kind}))
}

fn property(of: TypeRef<'_>, part: TypeRef<'_>, field: &Field, dialect: Dialect, description: Option<&str>) -> Value {
    let ty = part.to(field.node);
    let (table, facts) = (ty.table, ty.facts());
    let mut schema = schema(ty, dialect);
    let mut more = Map::new();
    if let Some(text) = description {
        more.insert("description".into(), text.into());
    }
    if dialect == Dialect::V3
        && let Some(default) = of.default_of(table.str(field.name))
    {
        more.insert("default".into(), default);
    }
    if !facts.values.is_empty() {
        let values: Value = facts.values.iter().map(|v| table.str(*v)).collect();
        if ty.code() == Code::List { schema["items"]["enum"] = values } else { schema["enum"] = values }
    }
    let list = match facts.list {
        Some(ListType::Atomic) => Some("atomic"),
        Some(ListType::Set) => Some("set"),
        Some(ListType::Map) => Some("map"),
        None => None,
    };
    if let Some(list) = list {
        more.insert("x-kubernetes-list-type".into(), list.into());
    }
    if !facts.keys.is_empty() {
        more.insert("x-kubernetes-list-map-keys".into(), facts.keys.iter().map(|k| table.str(*k)).collect());
    }
    match facts.map {
        MapType::Unsaid => {}
        MapType::Atomic => drop(more.insert("x-kubernetes-map-type".into(), "atomic".into())),
        MapType::Granular => drop(more.insert("x-kubernetes-map-type".into(), "granular".into())),
    }
    let strategy = match facts.strategy {
        PatchStrategy::Default => None,
        PatchStrategy::Replace => Some("replace"),
        PatchStrategy::Merge => Some("merge"),
        PatchStrategy::RetainKeys => Some("retainKeys"),
        PatchStrategy::MergeRetainKeys => Some("merge,retainKeys"),
    };
    if let Some(strategy) = strategy {
        more.insert("x-kubernetes-patch-strategy".into(), strategy.into());
    }
    let key = table.str(facts.merge_key);
    if !key.is_empty() {
        more.insert("x-kubernetes-patch-merge-key".into(), key.into());
    }
    // In version 3 nothing may stand beside a reference.
    if dialect == Dialect::V3 && !more.is_empty() && schema.get("$ref").is_some() {
        schema = json!({"allOf": [schema]});
    }
    if let Value::Object(map) = &mut schema {
        map.append(&mut more);
    }
    schema
}

fn schema(ty: TypeRef<'_>, dialect: Dialect) -> Value {
    match ty.code() {
        Code::Text => json!({"type": "string"}),
        Code::Bool => json!({"type": "boolean"}),
        Code::Int32 => json!({"type": "integer", "format": "int32"}),
        Code::Int64 => json!({"type": "integer", "format": "int64"}),
        Code::Double => json!({"type": "number", "format": "double"}),
        Code::Bytes => json!({"type": "string", "format": "byte"}),
        Code::Texts => json!({"type": "array", "items": {"type": "string"}}),
        Code::List => json!({"type": "array", "items": schema(ty.inner(), dialect)}),
        Code::Map => json!({"type": "object", "additionalProperties": schema(ty.inner(), dialect)}),
        Code::Struct => dialect.reference(&model(ty)),
        code => special(code).map_or(json!({}), |name| dialect.reference(&name)),
    }
}
