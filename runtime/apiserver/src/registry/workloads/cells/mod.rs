//! Cells of workloads that are more than a field.

pub(super) mod autoscaler;
pub(super) mod job;
pub(super) mod pod;

use jiff::Timestamp;
use kiln_apimachinery::selector::LabelSelector;
use kiln_apimachinery::{meta, time};
use serde_json::Value;

use super::view::{get, int, items, text};
use crate::registry::cells::NONE;

/// A time since, for people.
fn since(at: &str, now: Timestamp) -> String {
    time::age(Some(at), now)
}

/// The names or images of the containers at a path.
fn of_containers(object: &Value, path: &[&str], key: &str) -> Value {
    let spec = meta::at(object, path).unwrap_or(&Value::Null);
    items(spec, "containers").iter().map(|c| text(c, key)).collect::<Vec<_>>().join(",").into()
}

const TEMPLATE: &[&str] = &["spec", "template", "spec"];

pub(super) fn names(object: &Value, _: Timestamp) -> Value {
    of_containers(object, TEMPLATE, "name")
}

pub(super) fn images(object: &Value, _: Timestamp) -> Value {
    of_containers(object, TEMPLATE, "image")
}

/// The same for a template that is the object itself.
pub(super) fn bare_names(object: &Value, _: Timestamp) -> Value {
    of_containers(object, &["template", "spec"], "name")
}

pub(super) fn bare_images(object: &Value, _: Timestamp) -> Value {
    of_containers(object, &["template", "spec"], "image")
}

/// Labels as `a=b,c=d`.
fn labels(map: Option<&Value>) -> Value {
    let pairs = meta::string_map(map).into_iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>();
    if pairs.is_empty() { NONE.into() } else { pairs.join(",").into() }
}

pub(super) fn bare_labels(object: &Value, _: Timestamp) -> Value {
    labels(meta::at(object, &["template", "metadata", "labels"]))
}

pub(super) fn node_selector(object: &Value, _: Timestamp) -> Value {
    labels(meta::at(object, &["spec", "template", "spec", "nodeSelector"]))
}

pub(super) fn plain_selector(object: &Value, _: Timestamp) -> Value {
    labels(meta::at(object, &["spec", "selector"]))
}

/// A selector as text, its terms by key: `a=b,c in (d,e),!f`. `None` if it is none.
pub(crate) fn selector_terms(selector: &Value) -> Option<String> {
    LabelSelector::from_object(selector).ok()?;
    let labels = meta::string_map(selector.get("matchLabels"));
    let mut terms: Vec<(&str, String)> = labels.into_iter().map(|(k, v)| (k, format!("{k}={v}"))).collect();
    for expression in items(selector, "matchExpressions") {
        let key = text(expression, "key");
        let mut values = meta::strings(expression.get("values"));
        values.sort_unstable();
        let values = values.join(",");
        let term = match text(expression, "operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        };
        terms.push((key, term));
    }
    terms.sort_by_key(|(key, _)| *key);
    Some(terms.into_iter().map(|(_, term)| term).collect::<Vec<_>>().join(","))
}

/// A selector for people; `<none>` if it selects nothing or everything.
fn selector_text(selector: Option<&Value>) -> String {
    match selector.map(selector_terms) {
        None => NONE.into(),
        Some(Some(terms)) if terms.is_empty() => NONE.into(),
        Some(Some(terms)) => terms,
        Some(None) => "<error>".into(),
    }
}

pub(super) fn selector(object: &Value, _: Timestamp) -> Value {
    selector_text(meta::at(object, &["spec", "selector"])).into()
}

pub(super) fn job_selector(object: &Value, _: Timestamp) -> Value {
    selector_text(meta::at(object, &["spec", "jobTemplate", "spec", "selector"])).into()
}

pub(super) fn job_names(object: &Value, _: Timestamp) -> Value {
    of_containers(object, &["spec", "jobTemplate", "spec", "template", "spec"], "name")
}

pub(super) fn job_images(object: &Value, _: Timestamp) -> Value {
    of_containers(object, &["spec", "jobTemplate", "spec", "template", "spec"], "image")
}

/// Ready of desired replicas.
pub(super) fn ready(object: &Value, _: Timestamp) -> Value {
    let n = |part: &str, key: &str| object.get(part).and_then(|p| int(p, key)).unwrap_or(0);
    format!("{}/{}", n("status", "readyReplicas"), n("spec", "replicas")).into()
}

fn count(object: &Value, part: &str, key: &str) -> Value {
    object.get(part).and_then(|p| int(p, key)).unwrap_or(0).into()
}

/// Replicas of the newest template.
pub(super) fn updated(object: &Value, _: Timestamp) -> Value {
    count(object, "status", "updatedReplicas")
}

pub(super) fn available(object: &Value, _: Timestamp) -> Value {
    count(object, "status", "availableReplicas")
}

/// Most replicas that an autoscaler makes.
pub(super) fn maximum(object: &Value, _: Timestamp) -> Value {
    count(object, "spec", "maxReplicas")
}

/// Replicas that an autoscaler has seen.
pub(super) fn current(object: &Value, _: Timestamp) -> Value {
    count(object, "status", "currentReplicas")
}

/// The number of a revision.
pub(super) fn revision(object: &Value, _: Timestamp) -> Value {
    int(object, "revision").unwrap_or(0).into()
}

/// The name of what controls a revision.
pub(super) fn controller(object: &Value, _: Timestamp) -> Value {
    let metadata = object.get("metadata").unwrap_or(&Value::Null);
    let owner = items(metadata, "ownerReferences").iter().find(|o| super::view::is(o, "controller"));
    let Some(owner) = owner else { return NONE.into() };
    let kind = text(owner, "kind").to_lowercase();
    let group = text(owner, "apiVersion").split_once('/').map_or("", |(group, _)| group);
    let dot = if group.is_empty() { "" } else { "." };
    format!("{kind}{dot}{group}/{}", text(owner, "name")).into()
}

/// What a budget leaves, or how much may go: a number or a percentage.
fn number_or_percentage(object: &Value, key: &str) -> Value {
    match object.get("spec").and_then(|s| get(s, key)) {
        Some(Value::String(text)) => text.as_str().into(),
        Some(value) => value.to_string().into(),
        None => "N/A".into(),
    }
}

pub(super) fn min_available(budget: &Value, _: Timestamp) -> Value {
    number_or_percentage(budget, "minAvailable")
}

pub(super) fn max_unavailable(budget: &Value, _: Timestamp) -> Value {
    number_or_percentage(budget, "maxUnavailable")
}
