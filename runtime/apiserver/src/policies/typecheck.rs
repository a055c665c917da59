//! Whether a policy's expressions fit the types that it matches: what does not is told in its status and changes nothing else.

use std::sync::Arc;

use kiln_apimachinery::meta;
use kiln_cel::{Field, ObjectType, Program, Size, Type};
use kiln_schema::{Code, TypeRef};
use serde_json::{Value, json};

use super::variables;
use crate::apiextensions::rules::type_of;
use crate::registry::cells::items;
use crate::registry::{Registry, Resource};

/// The most types that a policy is checked against.
const MOST: usize = 10;

/// `status.typeChecking` of a ValidatingAdmissionPolicy.
pub(super) fn check(registry: &Registry, policy: &Value) -> Value {
    let spec = policy.get("spec").unwrap_or(&Value::Null);
    let types = matched(registry, spec);
    let params = spec.get("paramKind").and_then(|kind| {
        let (version, kind) = (meta::text(kind, &["apiVersion"]), meta::text(kind, &["kind"]));
        let all = registry.all();
        all.iter().find(|r| r.kind == kind && r.api_version() == version).map(|row| of_row(row))
    });
    let check = |source: &str| -> Vec<String> {
        let mut told = Vec::new();
        for (name, ty) in &types {
            let mut known = variables(false);
            for (variable, known) in &mut known {
                match (*variable, &params) {
                    ("object" | "oldObject", _) => *known = ty.clone(),
                    ("params", Some(params)) => *known = params.clone(),
                    _ => {}
                }
            }
            if let Err(why) = Program::compile(source, &known) {
                told.push(format!("{name}: compilation failed: {why}\n"));
            }
        }
        told
    };
    let mut warnings = Vec::new();
    for (i, validation) in items(spec, &["validations"]).iter().enumerate() {
        for key in ["expression", "messageExpression"] {
            let source = meta::text(validation, &[key]);
            let told = if source.is_empty() { Vec::new() } else { check(source) };
            if !told.is_empty() {
                warnings.push(json!({"fieldRef": format!("spec.validations[{i}].{key}"), "warning": told.join("\n")}));
            }
        }
    }
    if warnings.is_empty() { json!({}) } else { json!({"expressionWarnings": warnings}) }
}

/// The types that a policy names one by one, with their names.
fn matched(registry: &Registry, spec: &Value) -> Vec<(String, Type)> {
    let mut rows = Vec::new();
    for rule in items(spec, &["matchConstraints", "resourceRules"]) {
        let plain = |key: &str| {
            let all = meta::strings(rule.get(key));
            if all.iter().any(|one| one.contains('*')) { Vec::new() } else { all }
        };
        let resources = meta::strings(rule.get("resources")).into_iter().filter(|r| !r.contains(['*', '/']));
        for resource in resources {
            for group in plain("apiGroups") {
                for version in plain("apiVersions") {
                    rows.extend(registry.get(group, version, resource));
                }
            }
        }
    }
    rows.sort_by(|a, b| (&a.group, &a.version, &a.kind).cmp(&(&b.group, &b.version, &b.kind)));
    rows.dedup_by(|a, b| a.kind == b.kind && a.api_version() == b.api_version());
    let name = |row: &Resource| format!("{}/{}, Kind={}", row.group, row.version, row.kind);
    rows.iter().take(MOST).map(|row| (name(row), of_row(row))).collect()
}

fn of_row(row: &Resource) -> Type {
    match (&row.custom, row.schema) {
        (Some(custom), _) => with_metadata(type_of(custom.schema.root(), true, &row.kind)),
        (None, Some(ty)) => of(ty, &mut Vec::new()),
        (None, None) => Type::Dyn,
    }
}

/// The type of a custom kind whose metadata may be asked for whole: rules of definitions see less of it.
fn with_metadata(ty: Type) -> Type {
    let Type::Object(object) = &ty else { return ty };
    let field = |f: &Field| match f.json.as_str() {
        "metadata" => Field::new("metadata", Type::Dyn),
        name => Field::new(name, f.ty.clone()),
    };
    Type::Object(Arc::new(ObjectType::new(&object.name, object.fields.iter().map(field).collect())))
}

/// A type of the table's. What holds itself is not followed.
fn of<'t>(ty: TypeRef<'t>, within: &mut Vec<&'t str>) -> Type {
    match ty.code() {
        Code::Text => Type::TEXT,
        Code::Bool => Type::Bool,
        Code::Int32 | Code::Int64 => Type::Int,
        Code::Double => Type::Double,
        Code::Bytes => Type::Bytes(Size::UNKNOWN),
        Code::Time | Code::MicroTime => Type::Time,
        Code::Texts => Type::list(Type::TEXT),
        Code::List => Type::list(of(ty.inner(), within)),
        Code::Map => Type::map(of(ty.inner(), within)),
        Code::Struct if !within.contains(&ty.name()) => {
            within.push(ty.name());
            let fields = ty.members().map(|(name, of_field)| Field::new(name, of(of_field, within)));
            let fields: Vec<Field> = fields.collect();
            within.pop();
            Type::Object(Arc::new(ObjectType::new(ty.name(), fields)))
        }
        _ => Type::Dyn,
    }
}
