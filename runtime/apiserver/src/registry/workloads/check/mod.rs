//! The rules for pods' specifications, for pods and for all that hold a template of one. Paths and words are those that
//! Kubernetes' clients know.

mod affinity;
mod annotations;
mod claim;
mod container;
mod containers;
mod env;
mod handler;
mod mounts;
mod network;
mod os;
mod projected;
mod remote;
pub(super) mod resources;
mod security;
pub(super) mod spec;
mod spread;
pub(super) mod template;
mod volumes;
mod words;

use std::net::IpAddr;

use kiln_apimachinery::names::{self, NameRule};
use kiln_apimachinery::path::Path;
use kiln_apimachinery::quantity::Quantity;
use kiln_apimachinery::selector::LabelSelector;
use kiln_apimachinery::{FieldError, meta};
use serde_json::Value;

use super::view::{entries, get, int, items, text};

pub(super) use annotations::{annotations, pod_annotations, pod_annotations_update};
pub(super) use claim::claim_spec;
pub(super) use spread::tolerations;
pub(super) use words::{percent, port_name};

pub(super) const NEGATIVE: &str = "must be greater than or equal to 0";
pub(super) const NOT_POSITIVE: &str = "must be greater than zero";
pub(super) const IMMUTABLE: &str = "field is immutable";

/// What is wrong so far.
#[derive(Default)]
pub(super) struct Report(pub(super) Vec<FieldError>);

impl Report {
    pub(super) fn required(&mut self, path: &Path<'_>, detail: &str) {
        self.0.push(FieldError::required(path, detail));
    }

    pub(super) fn invalid(&mut self, path: &Path<'_>, value: impl Into<Value>, detail: &str) {
        self.0.push(FieldError::invalid(path, &value.into(), detail));
    }

    /// A complaint about a value that is not shown.
    pub(super) fn broken(&mut self, path: &Path<'_>, detail: &str) {
        self.0.push(FieldError::invalid_unshown(path, detail));
    }

    pub(super) fn forbidden(&mut self, path: &Path<'_>, detail: &str) {
        self.0.push(FieldError::forbidden(path, detail));
    }

    pub(super) fn unsupported(&mut self, path: &Path<'_>, value: impl Into<Value>, supported: &[&str]) {
        self.0.push(FieldError::not_supported(path, &value.into(), supported));
    }

    pub(super) fn duplicate(&mut self, path: &Path<'_>, value: impl Into<Value>) {
        self.0.push(FieldError::duplicate(path, &value.into()));
    }

    pub(super) fn not_found(&mut self, path: &Path<'_>, value: impl Into<Value>) {
        self.0.push(FieldError::not_found(path, &value.into()));
    }

    pub(super) fn too_long(&mut self, path: &Path<'_>, max: usize) {
        self.0.push(FieldError::too_long(path, max));
    }

    pub(super) fn too_many(&mut self, path: &Path<'_>, count: usize, max: usize) {
        self.0.push(FieldError::too_many(path, count, max));
    }

    /// Complaints if a text breaks a rule for names.
    pub(super) fn name(&mut self, path: &Path<'_>, name: &str, rule: NameRule) {
        for why in rule(name) {
            self.invalid(path, name, &why);
        }
    }

    /// A field that must be one of a few words.
    pub(super) fn one_of(&mut self, path: &Path<'_>, word: &str, supported: &[&str]) {
        if word.is_empty() {
            self.required(path, "");
        } else if !supported.contains(&word) {
            self.unsupported(path, word, supported);
        }
    }

    /// A text that must be there.
    pub(super) fn present(&mut self, object: &Value, key: &str, path: &Path<'_>) {
        if text(object, key).is_empty() {
            self.required(&path.child(key), "");
        }
    }

    /// A number that must not be negative, if it is there.
    pub(super) fn nonnegative(&mut self, object: &Value, key: &str, path: &Path<'_>) {
        if let Some(n) = int(object, key).filter(|n| *n < 0) {
            self.invalid(&path.child(key), n, NEGATIVE);
        }
    }

    pub(super) fn range(&mut self, path: &Path<'_>, n: i64, low: i64, high: i64) {
        if n < low || n > high {
            self.invalid(path, n, &between(low, high));
        }
    }

    /// A number of a port, or a name of one.
    pub(super) fn port_or_name(&mut self, port: Option<&Value>, path: &Path<'_>) {
        match port {
            Some(Value::String(name)) => self.name(path, name, port_name),
            other => self.range(path, other.and_then(Value::as_i64).unwrap_or(0), 1, 65535),
        }
    }

    /// An address; what stood there before stays allowed.
    pub(super) fn ip(&mut self, path: &Path<'_>, address: &str, before: &[&str]) {
        if before.contains(&address) {
            return;
        }
        match address.parse::<IpAddr>() {
            Ok(IpAddr::V6(six)) if six.to_ipv4_mapped().is_some() => {
                self.invalid(path, address, "must not be an IPv4-mapped IPv6 address");
            }
            Ok(_) => {}
            Err(_) if has_leading_zeros(address) => self.invalid(path, address, "must not have leading 0s"),
            Err(_) => {
                self.invalid(path, address, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
            }
        }
    }

    /// A map of labels.
    pub(super) fn labels(&mut self, labels: Option<&Value>, path: &Path<'_>) {
        for (key, value) in meta::string_map(labels) {
            self.name(path, key, names::qualified_name);
            self.name(path, value, names::label_value);
        }
    }

    /// A selector of labels in its object form.
    pub(super) fn selector(&mut self, selector: Option<&Value>, path: &Path<'_>) {
        let Some(selector) = selector.filter(|s| !s.is_null()) else { return };
        self.labels(selector.get("matchLabels"), &path.child("matchLabels"));
        let expressions = path.child("matchExpressions");
        for (i, expression) in items(selector, "matchExpressions").iter().enumerate() {
            let path = expressions.index(i);
            let values = meta::strings(expression.get("values"));
            match text(expression, "operator") {
                "In" | "NotIn" if values.is_empty() => {
                    self.required(&path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'");
                }
                "In" | "NotIn" => {}
                "Exists" | "DoesNotExist" if !values.is_empty() => self.forbidden(
                    &path.child("values"),
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                ),
                "Exists" | "DoesNotExist" => {}
                other => self.invalid(&path.child("operator"), other, "not a valid selector operator"),
            }
            self.name(&path.child("key"), text(expression, "key"), names::qualified_name);
            for (j, value) in values.into_iter().enumerate() {
                self.name(&path.child("values").index(j), value, names::label_value);
            }
        }
    }

    /// A field that may not differ between two states.
    pub(super) fn immutable(&mut self, new: &Value, old: &Value, key: &str, path: &Path<'_>) {
        if get(new, key) != get(old, key) {
            self.invalid(&path.child(key), new.get(key).cloned().unwrap_or_default(), IMMUTABLE);
        }
    }

    /// A number or a percentage of at least zero.
    pub(super) fn number_or_percent(&mut self, value: &Value, path: &Path<'_>) {
        match value {
            Value::String(text) => {
                for why in percent(text) {
                    self.invalid(path, text.as_str(), &why);
                }
            }
            other => {
                if let Some(n) = other.as_i64().filter(|n| *n < 0) {
                    self.invalid(path, n, NEGATIVE);
                }
            }
        }
    }

    /// A percentage of at most a hundred.
    pub(super) fn at_most_all(&mut self, value: &Value, path: &Path<'_>) {
        if percentage(value).is_some_and(|n| n > 100) {
            self.invalid(path, value.clone(), "must not be greater than 100%");
        }
    }
}

/// The number before a percent sign.
fn percentage(value: &Value) -> Option<i64> {
    value.as_str()?.strip_suffix('%')?.parse().ok()
}

/// The number, or that of percents.
pub(super) fn amount(value: &Value) -> i64 {
    percentage(value).or_else(|| value.as_i64()).unwrap_or(0)
}

pub(super) fn between(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

fn has_leading_zeros(address: &str) -> bool {
    let stripped: Vec<&str> =
        address.split('.').map(|p| p.trim_start_matches('0')).map(|p| if p.is_empty() { "0" } else { p }).collect();
    stripped.len() == 4 && stripped.join(".").parse::<IpAddr>().is_ok()
}

/// True if a selector is there, can be read, and selects the labels.
pub(super) fn selects(selector: Option<&Value>, labels: Option<&Value>) -> bool {
    let Some(selector) = selector.filter(|s| !s.is_null()) else { return false };
    LabelSelector::from_object(selector).is_ok_and(|s| s.matches(&meta::string_map(labels)))
}

/// True for a selector without a term.
pub(super) fn is_empty_selector(selector: &Value) -> bool {
    entries(selector, "matchLabels").next().is_none() && items(selector, "matchExpressions").is_empty()
}

/// A quantity at a key.
pub(super) fn quantity(object: &Value, key: &str) -> Option<Quantity> {
    get(object, key).and_then(|v| Quantity::from_value(v).ok())
}
