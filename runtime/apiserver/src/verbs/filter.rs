//! Which stored objects a list or a watch is about. Nothing is parsed unless a selector needs it, and then only that field.

use std::borrow::Cow;
use std::collections::BTreeMap;

use kiln_apimachinery::selector::FieldTerm;
use kiln_apimachinery::{FieldSelector, LabelSelector, Status};
use kiln_storage::Record;
use serde::Deserialize;

use super::Cx;
use super::pluck::Wanted;

/// Fields whose absence means something else than the empty text.
const ABSENT: &[(&str, &str)] = &[
    ("spec.unschedulable", "false"),
    ("spec.hostNetwork", "false"),
    ("status.replicas", "0"),
    ("status.succeeded", "0"),
];

/// Names of selectable fields that are not where the field is: events are kept in the core shape, and some names are old.
const ELSEWHERE: &[(&str, &str)] = &[
    ("source", "source.component"),
    ("reportingController", "reportingComponent"),
    ("spec.host", "spec.nodeName"),
    ("status.successful", "status.succeeded"),
];

/// Fields that stand in for another that is empty: events of the new kind name no source.
const INSTEAD: &[(&str, &str)] = &[("source.component", "reportingComponent")];

/// The selectors of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    labels: LabelSelector,
    /// Terms about the body of objects.
    fields: Vec<FieldTerm>,
    /// Where those terms look: each place once, and those that stand in.
    places: Vec<String>,
    wanted: Wanted,
    /// Terms about names and namespaces, which the key answers.
    keys: FieldSelector,
    namespaced: bool,
    custom: bool,
    converts: bool,
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
        let resource = &cx.resource;
        let (mut keys, mut fields) = (FieldSelector::default(), Vec::new());
        // A path with a name is about that object.
        if cx.info.named {
            if !all.is_empty() && all.exact("metadata.name") != Some(&cx.info.name) {
                return Err(Status::bad_request("fieldSelector metadata.name doesn't match requested name"));
            }
            let name = FieldTerm { field: "metadata.name".into(), value: cx.info.name.clone(), equal: true };
            keys.terms.push(name);
        }
        for mut term in all.terms {
            let (own, custom) = (!resource.selectable.is_empty(), resource.custom.is_some());
            match term.field.as_str() {
                "metadata.name" => keys.terms.push(term),
                // Kinds with fields of their own to select say which they have, and cluster-scoped ones have no namespace.
                "metadata.namespace" if resource.namespaced || !own => keys.terms.push(term),
                field if selectable(resource, field) => {
                    if !custom {
                        term.field = place(field);
                    }
                    fields.push(term);
                }
                field if own || custom => {
                    return Err(Status::bad_request(format!("field label not supported: {field}")));
                }
                field => {
                    return Err(Status::bad_request(format!(
                        "{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
                    )));
                }
            }
        }
        let mut places: Vec<String> = Vec::new();
        for field in fields.iter().map(|t| t.field.as_str()) {
            for place in std::iter::once(field).chain(instead(field)) {
                if !places.iter().any(|p| p == place) {
                    places.push(place.to_owned());
                }
            }
        }
        let custom = resource.custom.is_some();
        let wanted = Wanted::new(places.iter().map(String::as_str));
        let converts = resource.custom.as_ref().is_some_and(|custom| custom.converter.changes_objects())
            && !(labels.is_empty() && fields.is_empty());
        Ok(Self { labels, fields, places, wanted, keys, namespaced: resource.namespaced, custom, converts })
    }

    /// Whether records must be as the request's version shows them before they are matched: the stored version may have other
    /// fields.
    pub(crate) fn converts(&self) -> bool {
        self.converts
    }

    /// True if everything is selected.
    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty() && self.keys.is_empty()
    }

    /// The namespace to look in, if that of the request is all of them and the selectors name one.
    pub(crate) fn namespace<'a>(&'a self, asked: &'a str) -> &'a str {
        match self.keys.exact("metadata.namespace") {
            // An odd name selects nothing, but must not become a part of a key.
            Some(one) if asked.is_empty() && self.namespaced && !one.contains('/') => one,
            _ => asked,
        }
    }

    /// The key of the one object that can be selected, if the prefix is that of its namespace.
    pub(crate) fn key(&self, prefix: &str) -> Option<String> {
        let name = self.keys.exact("metadata.name").filter(|n| !n.is_empty() && !n.contains('/'))?;
        // /registry/group/plural/ and, for a namespace, one part more.
        let parts = if self.namespaced { 5 } else { 4 };
        (prefix.matches('/').count() == parts).then(|| format!("{prefix}{name}"))
    }

    /// True if the record is selected. What can't be parsed has no labels and no fields.
    pub(crate) fn matches(&self, record: &Record) -> bool {
        self.matches_key(&record.key) && self.matches_labels(&record.value) && self.matches_fields(&record.value)
    }

    /// True if the key may be of a selected object.
    pub(crate) fn matches_key(&self, key: &str) -> bool {
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
        let found = self.wanted.of(value, self.places.len());
        let text = |field: &str| {
            let at = self.places.iter().position(|p| p == field);
            at.and_then(|at| found[at].as_deref()).filter(|text| !text.is_empty())
        };
        self.fields.iter().all(|term| {
            let found = text(&term.field).or_else(|| instead(&term.field).filter(|_| !self.custom).and_then(text));
            let absent = || if self.custom { "" } else { absent(&term.field) };
            (found.unwrap_or_else(absent) == term.value) == term.equal
        })
    }
}

/// The field that stands in for one that is empty.
fn instead(field: &str) -> Option<&'static str> {
    INSTEAD.iter().find(|(name, _)| *name == field).map(|(_, place)| *place)
}

fn selectable(resource: &crate::registry::Resource, field: &str) -> bool {
    let old_name = field == "spec.host" && resource.plural == "pods";
    old_name || resource.selectable.iter().any(|s| s == field)
}

/// Where a selectable field is kept.
fn place(field: &str) -> String {
    if let Some(rest) = field.strip_prefix("regarding.") {
        return format!("involvedObject.{rest}");
    }
    ELSEWHERE.iter().find(|(name, _)| *name == field).map_or(field, |(_, place)| place).to_owned()
}

fn absent(field: &str) -> &'static str {
    ABSENT.iter().find(|(name, _)| *name == field).map_or("", |(_, text)| text)
}
