//! Which requests wait for which: flow schemas and priority levels.

pub(crate) mod defaults;
mod level;
mod schema;

use jiff::Timestamp;
use kiln_apimachinery::path;
use kiln_apimachinery::{FieldError, meta};
use serde_json::Value;

use crate::registry::cells::{NONE, items};
use crate::registry::columns::Cell::{Path, With};
use crate::registry::columns::{AGE, Column, NAME, text};
use crate::registry::resource::{Resource, v1};
use crate::registry::rules::{Errors, required};

pub(crate) const GROUP: &str = "flowcontrol.apiserver.k8s.io";

/// The type of the condition of schemas whose level is missing.
pub(crate) const DANGLING: &str = "Dangling";

/// Names of the schemas and levels that stay as they are.
const MANDATORY: [&str; 2] = ["exempt", "catch-all"];

const SCHEMA: &[Column] = &[
    NAME,
    text("PriorityLevel", Path(&["spec", "priorityLevelConfiguration", "name"])),
    text("MatchingPrecedence", Path(&["spec", "matchingPrecedence"])),
    text("DistinguisherMethod", With(distinguisher)),
    AGE,
    text("MissingPL", With(missing_level)),
];
const LEVEL: &[Column] = &[
    NAME,
    text("Type", Path(&["spec", "type"])),
    text("NominalConcurrencyShares", With(|o, _| limited(o, &["nominalConcurrencyShares"]))),
    text("Queues", With(|o, _| limited(o, &["limitResponse", "queuing", "queues"]))),
    text("HandSize", With(|o, _| limited(o, &["limitResponse", "queuing", "handSize"]))),
    text("QueueLengthLimit", With(|o, _| limited(o, &["limitResponse", "queuing", "queueLengthLimit"]))),
    AGE,
];

fn distinguisher(schema: &Value, _: Timestamp) -> Value {
    let method = meta::at(schema, &["spec", "distinguisherMethod", "type"]).and_then(Value::as_str);
    method.unwrap_or(NONE).into()
}

fn missing_level(schema: &Value, _: Timestamp) -> Value {
    dangling(schema).map_or("?", |c| meta::text(c, &["status"])).into()
}

/// The condition of a schema that says whether its level is missing.
pub(crate) fn dangling(schema: &Value) -> Option<&Value> {
    items(schema, &["status", "conditions"]).iter().find(|c| meta::text(c, &["type"]) == DANGLING)
}

/// The name of a schema's level.
pub(crate) fn level_of(schema: &Value) -> &str {
    meta::text(schema, &["spec", "priorityLevelConfiguration", "name"])
}

fn limited(level: &Value, path: &[&str]) -> Value {
    let limits = meta::at(level, &["spec", "limited"]).unwrap_or(&Value::Null);
    meta::at(limits, path).filter(|v| v.is_number()).cloned().unwrap_or_else(|| NONE.into())
}

/// The rows. One kind, one paragraph: a table reads better than a tower.
#[rustfmt::skip]
pub(crate) fn rows() -> Vec<Resource> {
    vec![
        v1(GROUP, "FlowSchema", "flowschemas").cluster().with_status().generations()
            .columns(SCHEMA).strategy(schema::Schemas),
        v1(GROUP, "PriorityLevelConfiguration", "prioritylevelconfigurations").cluster().with_status().generations()
            .columns(LEVEL).strategy(level::Levels),
    ]
}

/// The status is written without its object's metadata.
fn keep_metadata(new: &mut Value, old: &Value) {
    let managed = meta::at(new, &["metadata", "managedFields"]).cloned();
    let revision = meta::at(new, &["metadata", "resourceVersion"]).cloned();
    crate::registry::strategy::keep(new, old, "metadata");
    let metadata = meta::metadata_mut(new);
    for (key, value) in [("managedFields", managed), ("resourceVersion", revision)] {
        match value {
            Some(value) => metadata.insert(key.into(), value),
            None => metadata.remove(key),
        };
    }
}

/// The rules for what a status says.
fn conditions(object: &Value) -> Errors {
    let mut errors = Errors::new();
    let path = path::Path::new("status.conditions");
    let all = items(object, &["status", "conditions"]);
    for (i, condition) in all.iter().enumerate() {
        let kind = meta::text(condition, &["type"]);
        let at = path.index(i);
        if all[..i].iter().any(|c| meta::text(c, &["type"]) == kind) {
            errors.push(FieldError::duplicate(at.child("type"), &kind.into()));
        }
        required(&at.child("type"), kind, &mut errors);
    }
    errors
}
