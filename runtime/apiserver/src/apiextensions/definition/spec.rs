//! The rules for a definition's `spec`.
//!
//! What all versions say alike is checked once, and complained of where it stood before versions had schemas of their own:
//! `spec.validation` in place of `spec.versions[0].schema`. Clients know it so.

use kiln_apimachinery::path::Path;
use kiln_apimachinery::{FieldError, meta, names as rules};
use serde_json::Value;

use super::openapi::{self, Options};
use super::{conversion, is_true, names};
use crate::apiextensions::schema::{Kind, Schema, SchemaRef};
use crate::registry::cells::items;
use crate::registry::rules::{Errors, immutable, required_one_of};

const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 8] = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
/// Most fields that selectors may name.
const MOST_SELECTABLE: usize = 8;
/// Longest warning of a version that is deprecated.
const LONGEST_WARNING: usize = 256;

pub(super) fn check(new: &Value, old: Option<&Value>, errors: &mut Errors) {
    let path = Path::new("spec");
    let empty = Value::Null;
    let spec = new.get("spec").unwrap_or(&empty);
    group(&path.child("group"), meta::text(spec, &["group"]), errors);
    required_one_of(&path.child("scope"), meta::text(spec, &["scope"]), &["Cluster", "Namespaced"], errors);
    let versions = items(spec, &["versions"]);
    for (at, version) in versions.iter().enumerate() {
        if schema_of(version).is_none() {
            let path = path.child("versions");
            errors.push(FieldError::required(path.index(at).child("schema.openAPIV3Schema"), ""));
        }
    }
    let same = Same::of(versions);
    each_version(&path.child("versions"), versions, &same, old, errors);
    names_required(&path.child("names"), spec.get("names").unwrap_or(&empty), errors);
    names::check(&path.child("names"), spec.get("names").unwrap_or(&empty), errors);
    if let Some(first) = versions.first() {
        together(&path, first, versions, &same, old, errors);
    }
    conversion::check(&path.child("conversion"), spec.get("conversion").unwrap_or(&empty), errors);
    if let Some(before) = old.and_then(|old| old.get("spec")) {
        let mut fixed: Vec<&[&str]> = vec![&["group"], &["names", "plural"]];
        if old.is_some_and(|old| is_true(old, "Established")) {
            fixed.extend([&["scope"][..], &["names", "kind"]]);
        }
        for field in fixed {
            immutable(&path.child(&field.join(".")), meta::at(spec, field), meta::at(before, field), errors);
        }
    }
}

fn group(path: &Path<'_>, group: &str, errors: &mut Errors) {
    let why = rules::dns1123_subdomain(group);
    if group.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else if !why.is_empty() {
        errors.push(FieldError::invalid(path, &group.into(), &why.join(",")));
    } else if !group.contains('.') {
        errors.push(FieldError::invalid(path, &group.into(), "should be a domain with at least one dot"));
    }
}

fn names_required(path: &Path<'_>, names: &Value, errors: &mut Errors) {
    for key in ["plural", "singular", "kind", "listKind"] {
        if meta::text(names, &[key]).is_empty() {
            errors.push(FieldError::required(path.child(key), ""));
        }
    }
}

fn schema_of(version: &Value) -> Option<&Value> {
    meta::at(version, &["schema", "openAPIV3Schema"]).filter(|s| s.is_object())
}

fn has_status(version: &Value) -> bool {
    meta::at(version, &["subresources", "status"]).is_some_and(|s| !s.is_null())
}

/// What all versions say alike.
struct Same {
    schema: bool,
    subresources: bool,
    columns: bool,
    selectable: bool,
}

impl Same {
    fn of(versions: &[Value]) -> Self {
        let same = |key: &str| versions.windows(2).all(|pair| pair[0].get(key) == pair[1].get(key));
        Self {
            schema: same("schema"),
            subresources: same("subresources"),
            columns: same("additionalPrinterColumns"),
            selectable: same("selectableFields"),
        }
    }
}

/// The version of this name in an older state.
fn before<'o>(old: Option<&'o Value>, name: &str) -> Option<&'o Value> {
    items(old?, &["spec", "versions"]).iter().find(|v| meta::text(v, &["name"]) == name)
}

fn each_version(path: &Path<'_>, versions: &[Value], same: &Same, old: Option<&Value>, errors: &mut Errors) {
    for (at, version) in versions.iter().enumerate() {
        let path = path.index(at);
        let name = meta::text(version, &["name"]);
        let why = rules::dns1035_label(name);
        if !why.is_empty() {
            errors.push(FieldError::invalid(path.child("name"), &name.into(), &why.join(",")));
        }
        deprecation(&path.child("deprecationWarning"), version, errors);
        if !same.schema
            && let Some(schema) = schema_of(version)
        {
            let options = Options::of(schema, has_status(version), before(old, name).and_then(schema_of));
            openapi::check(&path.child("schema.openAPIV3Schema"), schema, &options, errors);
        }
        if !same.subresources {
            scale(&path.child("subresources.scale"), version, errors);
        }
        if !same.columns {
            columns(&path.child("additionalPrinterColumns"), version, errors);
        }
        if !same.selectable {
            selectable(&path.child("selectableFields"), version, errors);
        }
    }
    let names: Vec<&str> = versions.iter().map(|v| meta::text(v, &["name"])).collect();
    if names.iter().enumerate().any(|(at, name)| names[..at].contains(name)) {
        errors.push(FieldError::invalid(path, &Value::Null, "must contain unique version names"));
    }
    if versions.iter().filter(|v| v.get("storage") == Some(&Value::Bool(true))).count() != 1 {
        let why = "must have exactly one version marked as storage version";
        errors.push(FieldError::invalid(path, &Value::Null, why));
    }
}

/// What stands in all versions alike.
fn together(path: &Path<'_>, first: &Value, versions: &[Value], same: &Same, old: Option<&Value>, errors: &mut Errors) {
    if same.schema
        && let Some(schema) = schema_of(first)
    {
        let known = before(old, meta::text(first, &["name"])).and_then(schema_of);
        let options = Options::of(schema, versions.iter().any(has_status), known);
        openapi::check(&path.child("validation.openAPIV3Schema"), schema, &options, errors);
    }
    if same.subresources {
        scale(&path.child("subresources.scale"), first, errors);
    }
    if same.columns {
        columns(&path.child("additionalPrinterColumns"), first, errors);
    }
    if same.selectable {
        selectable(&path.child("selectableFields"), first, errors);
    }
}

fn deprecation(path: &Path<'_>, version: &Value, errors: &mut Errors) {
    let Some(text) = version.get("deprecationWarning").and_then(Value::as_str) else { return };
    let shown = text.into();
    let mut complain = |why: &str| errors.push(FieldError::invalid(path, &shown, why));
    if version.get("deprecated") != Some(&Value::Bool(true)) {
        complain("can only be set for deprecated versions");
        return;
    }
    if text.len() > LONGEST_WARNING {
        complain("must be <= 256 characters long");
    }
    if text.is_empty() {
        complain("must not be an empty string");
    }
    if let Some((at, _)) = text.char_indices().find(|(_, c)| c.is_control()) {
        let why = format!("must only contain printable UTF-8 characters; non-printable character found at index {at}");
        complain(&why);
    }
}

fn simple_path(path: &Path<'_>, text: &str, errors: &mut Errors) -> bool {
    if text.starts_with('.') {
        return true;
    }
    errors.push(FieldError::invalid(path, &text.into(), "must be a simple json path starting with ."));
    false
}

fn scale(path: &Path<'_>, version: &Value, errors: &mut Errors) {
    let Some(scale) = meta::at(version, &["subresources", "scale"]).filter(|s| s.is_object()) else { return };
    let wanted: [(&str, &[&str], &str); 3] = [
        ("specReplicasPath", &[".spec."], "should be a json path under .spec"),
        ("statusReplicasPath", &[".status."], "should be a json path under .status"),
        ("labelSelectorPath", &[".spec.", ".status."], "should be a json path under either .spec or .status"),
    ];
    for (key, starts, why) in wanted {
        let (text, path) = (meta::text(scale, &[key]), path.child(key));
        if text.is_empty() {
            if key != "labelSelectorPath" {
                errors.push(FieldError::required(path, ""));
            }
        } else if simple_path(&path, text, errors) && !starts.iter().any(|s| text.starts_with(s)) {
            errors.push(FieldError::invalid(path, &text.into(), why));
        }
    }
}

fn columns(path: &Path<'_>, version: &Value, errors: &mut Errors) {
    for (at, column) in items(version, &["additionalPrinterColumns"]).iter().enumerate() {
        let path = path.index(at);
        let text = |key: &str| meta::text(column, &[key]);
        if text("name").is_empty() {
            errors.push(FieldError::required(path.child("name"), ""));
        }
        let one_of = format!("must be one of {}", COLUMN_TYPES.join(","));
        if text("type").is_empty() {
            errors.push(FieldError::required(path.child("type"), &one_of));
        } else if !COLUMN_TYPES.contains(&text("type")) {
            errors.push(FieldError::invalid(path.child("type"), &text("type").into(), &one_of));
        }
        if !text("format").is_empty() && !COLUMN_FORMATS.contains(&text("format")) {
            let why = format!("must be one of {}", COLUMN_FORMATS.join(","));
            errors.push(FieldError::invalid(path.child("format"), &text("format").into(), &why));
        }
        if text("jsonPath").is_empty() {
            errors.push(FieldError::required(path.child("JSONPath"), ""));
        } else {
            simple_path(&path.child("JSONPath"), text("jsonPath"), errors);
        }
    }
}

fn selectable(path: &Path<'_>, version: &Value, errors: &mut Errors) {
    let fields = items(version, &["selectableFields"]);
    if fields.is_empty() {
        return;
    }
    let Some(schema) = schema_of(version).map(Schema::read) else {
        let why = "may only be set when `version.schema.openAPIV3Schema` is not included";
        errors.push(FieldError::invalid(path, &"".into(), why));
        return;
    };
    let mut seen: Vec<&str> = Vec::new();
    for (at, field) in fields.iter().enumerate() {
        let (index, text) = (path.index(at), meta::text(field, &["jsonPath"]));
        let at = index.child("jsonPath");
        if text.is_empty() {
            errors.push(FieldError::required(at, ""));
            continue;
        }
        match field_at(schema.root(), text) {
            Err(why) => {
                errors.push(FieldError::invalid(at, &text.into(), &format!("is an invalid path: {why}")));
                continue;
            }
            Ok(found) => {
                if text.starts_with(".metadata") {
                    let why = "must not point to fields in metadata";
                    errors.push(FieldError::invalid(at, &text.into(), why));
                }
                if !found.is_some_and(|f| matches!(f.kind(), Kind::Text | Kind::Boolean | Kind::Integer)) {
                    let why = "must point to a field of type string, boolean or integer. Enum string fields and strings \
                               with formats are allowed.";
                    errors.push(FieldError::invalid(at, &text.into(), why));
                }
            }
        }
        if seen.contains(&text) {
            errors.push(FieldError::duplicate(at, &text.into()));
        } else {
            seen.push(text);
        }
    }
    if seen.len() > MOST_SELECTABLE {
        errors.push(FieldError::too_many(path, seen.len(), MOST_SELECTABLE));
    }
}

/// The schema of the field at a path of plain names.
fn field_at<'s>(root: SchemaRef<'s>, path: &str) -> Result<Option<SchemaRef<'s>>, String> {
    let Some(rest) = path.strip_prefix('.') else {
        return Err("expected [ or . but got: ".to_owned() + path.get(..1).unwrap_or_default());
    };
    let mut at = Some(root);
    for (depth, name) in rest.split('.').enumerate() {
        if name.is_empty() || name.contains('[') {
            return Err("path must be in dot notation".into());
        }
        let meta = depth == 0 && matches!(name, "metadata" | "kind" | "apiVersion");
        at = match at.and_then(|s| s.field_schema(name)) {
            Some(found) => Some(found),
            None if meta || at.is_none() => None,
            None => return Err(format!("does not refer to a valid field: {name}")),
        };
    }
    Ok(at)
}
