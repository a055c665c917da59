//! Which stored objects a list or a watch is about. Nothing is parsed unless a selector needs it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use kiln_apimachinery::{FieldSelector, LabelSelector, Status, meta};
use kiln_storage::Record;
use serde::Deserialize;
use serde_json::Value;

use super::Cx;

/// Paths whose absence means `false`.
const BOOLEANS: &[&str] = &["spec.unschedulable", "spec.hostNetwork"];

/// The selectors of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    labels: LabelSelector,
    /// Terms about the body of objects.
    fields: FieldSelector,
    /// Terms about names and namespaces, which the key answers.
    keys: FieldSelector,
    namespaced: bool,
}

#[derive(Deserialize)]
struct Labelled<'a> {
    #[serde(borrow)]
    metadata: Labels<'a>,
}

#[derive(Deserialize)]
struct Labels<'a> {
    #[serde(borrow, default)]
    labels: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
}

impl Filter {
    /// Reads the selectors of a request; a 400 if they can't be read or name fields that can't be selected.
    pub(crate) fn of(cx: &Cx<'_>) -> Result<Self, Status> {
        let labels = LabelSelector::parse(cx.query.get("labelSelector").unwrap_or_default())
            .map_err(|e| Status::bad_request(e.to_string()))?;
        let all = FieldSelector::parse(cx.query.get("fieldSelector").unwrap_or_default())
            .map_err(|e| Status::bad_request(e.to_string()))?;
        let (mut keys, mut fields) = (FieldSelector::default(), FieldSelector::default());
        for term in all.terms {
            match term.field.as_str() {
                "metadata.name" => keys.terms.push(term),
                "metadata.namespace" if cx.resource.namespaced => keys.terms.push(term),
                field if cx.resource.selectable.iter().any(|s| s == field) => fields.terms.push(term),
                field => {
                    // Kinds without fields of their own to select have upstream's general answer.
                    return Err(Status::bad_request(match cx.resource.selectable.is_empty() {
                        true => format!(
                            "{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
                        ),
                        false => format!("field label not supported: {field}"),
                    }));
                }
            }
        }
        // A path with a name is about that object.
        if cx.info.named {
            let one = FieldSelector::parse(&format!("metadata.name={}", cx.info.name));
            keys.terms.extend(one.unwrap_or_default().terms);
        }
        Ok(Self { labels, fields, keys, namespaced: cx.resource.namespaced })
    }

    /// True if everything is selected.
    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty() && self.keys.is_empty()
    }

    /// True if the record is selected. What can't be parsed has no labels and no fields.
    pub(crate) fn matches(&self, record: &Record) -> bool {
        self.matches_key(&record.key) && self.matches_labels(&record.value) && self.matches_fields(&record.value)
    }

    fn matches_key(&self, key: &str) -> bool {
        if self.keys.is_empty() {
            return true;
        }
        let mut parts = key.rsplit('/');
        let name = parts.next().unwrap_or_default();
        let namespace = if self.namespaced { parts.next().unwrap_or_default() } else { "" };
        self.keys.matches(|field| Cow::Borrowed(if field == "metadata.name" { name } else { namespace }))
    }

    fn matches_labels(&self, value: &[u8]) -> bool {
        if self.labels.is_empty() {
            return true;
        }
        let parsed: Option<Labelled<'_>> = serde_json::from_slice(value).ok();
        let labels = parsed.as_ref().map(|p| p.metadata.labels.iter().map(|(k, v)| (k.as_ref(), v.as_ref())).collect());
        self.labels.matches(&labels.unwrap_or_default())
    }

    fn matches_fields(&self, value: &[u8]) -> bool {
        if self.fields.is_empty() {
            return true;
        }
        let object: Value = serde_json::from_slice(value).unwrap_or_default();
        self.fields.matches(|field| field_text(&object, field))
    }
}

/// The text of a selectable field.
fn field_text<'a>(object: &'a Value, field: &str) -> Cow<'a, str> {
    // Events are kept in the core shape, whose names these are.
    let path = match field.strip_prefix("regarding.") {
        Some(rest) => format!("involvedObject.{rest}"),
        None if field == "source" => "source.component".to_owned(),
        None => field.to_owned(),
    };
    let path: Vec<&str> = path.split('.').collect();
    match meta::at(object, &path) {
        Some(Value::String(text)) => Cow::Borrowed(text),
        Some(value @ (Value::Bool(_) | Value::Number(_))) => Cow::Owned(value.to_string()),
        _ if BOOLEANS.contains(&field) => Cow::Borrowed("false"),
        _ => Cow::Borrowed(""),
    }
}
