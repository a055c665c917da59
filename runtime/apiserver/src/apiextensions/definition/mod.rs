//! Definitions of custom resources as objects: defaults, what writers may not set, and the rules for them.

mod conversion;
mod defaults;
mod names;
mod openapi;
mod rules;
mod spec;
mod structural;

use jiff::Timestamp;
use kiln_apimachinery::names::{NameRule, dns1123_subdomain};
use kiln_apimachinery::{FieldError, meta};
use serde_json::{Value, json};

use super::{DEFINITIONS, GROUP};
use crate::registry::cells::items;
use crate::registry::columns::Cell::Path as At;
use crate::registry::columns::{Column, NAME, text};
use crate::registry::resource::v1;
use crate::registry::strategy::{Strategy, Writer, default_to, put, split_status};
use crate::registry::{Resource, rules::Errors};

const COLUMNS: &[Column] = &[NAME, text("Created At", At(&["metadata", "creationTimestamp"]))];

/// Marks a definition in a group of the Kubernetes community as reviewed.
const APPROVED: &str = "api-approved.kubernetes.io";

/// The row.
pub(crate) fn rows() -> Vec<Resource> {
    vec![
        v1(GROUP, "CustomResourceDefinition", DEFINITIONS)
            .cluster()
            .short(&["crd", "crds"])
            .categories(&["api-extensions"])
            .with_status()
            .generations()
            .conditional_update()
            .columns(COLUMNS)
            .strategy(Definitions),
    ]
}

/// The version in which objects are stored.
pub(crate) fn storage_version(definition: &Value) -> &str {
    let stored = |v: &&Value| v.get("storage") == Some(&Value::Bool(true));
    items(definition, &["spec", "versions"]).iter().find(stored).map_or("", |v| meta::text(v, &["name"]))
}

/// The condition of a type, if it is there.
pub(crate) fn condition<'d>(definition: &'d Value, kind: &str) -> Option<&'d Value> {
    items(definition, &["status", "conditions"]).iter().find(|c| meta::text(c, &["type"]) == kind)
}

/// True if a condition is there and holds.
pub(crate) fn is_true(definition: &Value, kind: &str) -> bool {
    condition(definition, kind).is_some_and(|c| meta::text(c, &["status"]) == "True")
}

/// Sets a condition; its time of transition changes with its status.
pub(crate) fn set_condition(definition: &mut Value, kind: &str, status: &str, reason: &str, why: &str, now: Timestamp) {
    let generation = meta::at(definition, &["metadata", "generation"]).and_then(Value::as_i64).unwrap_or(0);
    let list = meta::child(definition, "status").entry("conditions").or_insert_with(|| json!([]));
    let Value::Array(list) = list else { return };
    let found = list.iter_mut().find(|c| meta::text(c, &["type"]) == kind);
    let since = match &found {
        Some(old) if meta::text(old, &["status"]) == status => meta::text(old, &["lastTransitionTime"]).to_owned(),
        _ => kiln_apimachinery::time::rfc3339(now),
    };
    let new = json!({
        "type": kind, "status": status, "reason": reason, "message": why, "lastTransitionTime": since,
        "observedGeneration": generation,
    });
    match found {
        Some(old) => *old = new,
        None => list.push(new),
    }
}

/// Formats in a definition's schemas that are not known, each once.
pub(crate) fn unknown_formats(definition: &Value) -> Vec<String> {
    fn walk(schema: &Value, out: &mut Vec<String>) {
        let Some(map) = schema.as_object() else { return };
        if let Some(format) = map.get("format").and_then(Value::as_str) {
            let kind = map.get("type").and_then(Value::as_str).unwrap_or_default();
            if !format.is_empty() && !super::schema::known_format(kind, format) && !out.iter().any(|f| f == format) {
                out.push(format.to_owned());
            }
        }
        for key in ["items", "additionalProperties", "not"] {
            map.get(key).into_iter().for_each(|s| walk(s, out));
        }
        for key in ["allOf", "anyOf", "oneOf"] {
            map.get(key).and_then(Value::as_array).into_iter().flatten().for_each(|s| walk(s, out));
        }
        map.get("properties").and_then(Value::as_object).into_iter().flatten().for_each(|(_, s)| walk(s, out));
    }
    let mut out = Vec::new();
    for version in items(definition, &["spec", "versions"]) {
        meta::at(version, &["schema", "openAPIV3Schema"]).into_iter().for_each(|s| walk(s, &mut out));
    }
    out
}

struct Definitions;

/// The version in which objects are stored is one in which some may be stored.
fn note_storage_version(definition: &mut Value) {
    let version = storage_version(definition).to_owned();
    if version.is_empty() {
        return;
    }
    let stored = meta::child(definition, "status").entry("storedVersions").or_insert_with(|| json!([]));
    match stored {
        Value::Array(list) if list.iter().any(|v| v == version.as_str()) => {}
        Value::Array(list) => list.push(version.into()),
        other => *other = json!([version]),
    }
}

impl Strategy for Definitions {
    fn name_rule(&self) -> NameRule {
        dns1123_subdomain
    }

    fn default(&self, object: &mut Value) {
        let spec = meta::child(object, "spec");
        spec.entry("conversion").or_insert_with(|| json!({"strategy": "None"}));
        let names = spec.entry("names").or_insert_with(|| json!({}));
        let kind = meta::text(names, &["kind"]).to_owned();
        if meta::text(names, &["singular"]).is_empty() {
            put(names, "singular", Some(kind.to_lowercase().into()));
        }
        if meta::text(names, &["listKind"]).is_empty() && !kind.is_empty() {
            put(names, "listKind", Some(format!("{kind}List").into()));
        }
        if let Some(service) = object.pointer_mut("/spec/conversion/webhook/clientConfig/service") {
            default_to(service, "port", 443);
        }
        if items(object, &["status", "storedVersions"]).is_empty() {
            note_storage_version(object);
        }
    }

    fn prepare_create(&self, _writer: &Writer<'_>, object: &mut Value) {
        put(object, "status", Some(json!({})));
        note_storage_version(object);
    }

    fn prepare_update(&self, writer: &Writer<'_>, new: &mut Value, old: &Value) {
        split_status(writer, new, old);
        if writer.subresource.is_empty() {
            note_storage_version(new);
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        check(object, None)
    }

    fn validate_write(&self, writer: &Writer<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        if writer.subresource == "status" {
            let mut errors = Errors::new();
            names::check(&kiln_apimachinery::path::Path::new("status.acceptedNames"), accepted(new), &mut errors);
            return errors;
        }
        check(new, Some(old))
    }
}

fn accepted(definition: &Value) -> &Value {
    meta::at(definition, &["status", "acceptedNames"]).unwrap_or(&Value::Null)
}

/// The rules for a definition, new or changed.
fn check(new: &Value, old: Option<&Value>) -> Errors {
    let mut errors = Errors::new();
    let wanted = format!("{}.{}", meta::text(new, &["spec", "names", "plural"]), meta::text(new, &["spec", "group"]));
    if old.is_none() && meta::name(new) != wanted {
        let why = "must be spec.names.plural+\".\"+spec.group";
        errors.push(FieldError::invalid("metadata.name", &meta::name(new).into(), why));
    }
    spec::check(new, old, &mut errors);
    names::check(&kiln_apimachinery::path::Path::new("status.acceptedNames"), accepted(new), &mut errors);
    stored_versions(new, &mut errors);
    approval(new, old, &mut errors);
    let preserves = |o: &Value| meta::at(o, &["spec", "preserveUnknownFields"]) == Some(&Value::Bool(true));
    if preserves(new) && !old.is_some_and(preserves) {
        let why =
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.push(FieldError::invalid("spec.preserveUnknownFields", &true.into(), why));
    }
    errors
}

fn stored_versions(definition: &Value, errors: &mut Errors) {
    let shown = meta::at(definition, &["status", "storedVersions"]).cloned().unwrap_or_default();
    let stored = meta::strings(Some(&shown));
    if stored.is_empty() {
        errors.push(FieldError::invalid("status.storedVersions", &shown, "must have at least one stored version"));
        return;
    }
    let versions = items(definition, &["spec", "versions"]);
    for version in versions.iter().filter(|v| v.get("storage") == Some(&Value::Bool(true))) {
        let name = meta::text(version, &["name"]);
        if !stored.contains(&name) {
            let why = format!("must have the storage version {name}");
            errors.push(FieldError::invalid("status.storedVersions", &shown, &why));
        }
    }
    for (at, name) in stored.iter().enumerate() {
        if !versions.iter().any(|v| meta::text(v, &["name"]) == *name) {
            let why = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until \
                 a storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
            );
            errors.push(FieldError::invalid(format!("status.storedVersions[{at}]"), &(*name).into(), &why));
        }
    }
}

/// What an annotation says of the review of a definition in a group of the community.
#[derive(PartialEq, Eq)]
enum Approval {
    Approved,
    Bypassed,
    Missing(&'static str),
    Invalid(String),
}

fn approval_of(definition: &Value) -> Approval {
    match meta::annotation(definition, APPROVED) {
        None | Some("") => Approval::Missing(
            "protected groups must have approval annotation \"api-approved.kubernetes.io\", see \
             https://github.com/kubernetes/enhancements/pull/1111",
        ),
        Some(text) if text.starts_with("unapproved") => Approval::Bypassed,
        Some(text) => match text.split_once("://") {
            Some((scheme, rest)) if !scheme.is_empty() && rest.split('/').next().is_some_and(|h| !h.is_empty()) => {
                Approval::Approved
            }
            _ => Approval::Invalid(
                "protected groups must have approval annotation \"api-approved.kubernetes.io\" with either a URL or a reason \
                 starting with \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111"
                    .into(),
            ),
        },
    }
}

/// True for groups that belong to the Kubernetes community.
fn is_protected(group: &str) -> bool {
    let of = |end: &str| group == end || group.strip_suffix(end).is_some_and(|g| g.ends_with('.'));
    of("k8s.io") || of("kubernetes.io")
}

fn approval(new: &Value, old: Option<&Value>, errors: &mut Errors) {
    if !is_protected(meta::text(new, &["spec", "group"])) {
        return;
    }
    let now = approval_of(new);
    if old.is_some_and(|old| approval_of(old) == now) {
        return;
    }
    let field = format!("metadata.annotations[{APPROVED}]");
    match now {
        Approval::Approved | Approval::Bypassed => {}
        Approval::Missing(why) => errors.push(FieldError::required(field, why)),
        Approval::Invalid(why) => {
            let shown = meta::annotation(new, APPROVED).unwrap_or_default();
            errors.push(FieldError::invalid(field, &shown.into(), &why));
        }
    }
}

/// What condition `KubernetesAPIApprovalPolicyConformant` is to say; none for groups that need no approval.
pub(crate) fn approval_condition(definition: &Value) -> Option<(&'static str, &'static str, String)> {
    if !is_protected(meta::text(definition, &["spec", "group"])) {
        return None;
    }
    let told = meta::annotation(definition, APPROVED).unwrap_or_default();
    Some(match approval_of(definition) {
        Approval::Approved => ("True", "ApprovedAnnotation", format!("approved in {told}")),
        Approval::Bypassed => ("False", "UnapprovedAnnotation", format!("not approved: {told:?}")),
        Approval::Missing(why) => ("False", "MissingAnnotation", why.to_owned()),
        Approval::Invalid(why) => ("False", "InvalidAnnotation", why),
    })
}
