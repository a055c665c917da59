//! Budgets that say how many pods may be missing at once.

use kiln_apimachinery::path::Path;
use kiln_apimachinery::{FieldError, names};
use serde_json::Value;

use super::check::Report;
use super::controllers::{spec, status, without_status};
use super::view::{get, int, items, make, text};
use crate::registry::strategy::{Strategy, Writer, default_to};

pub(crate) struct Budgets;

/// Counts that a status always has.
const COUNTS: &[&str] = &["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"];
const MAX_REASON: usize = 1024;
const MAX_MESSAGE: usize = 32 * 1024;

fn counts(object: &mut Value) {
    let status = make(object, "status");
    for key in COUNTS {
        default_to(status, key, 0);
    }
}

impl Strategy for Budgets {
    fn default(&self, object: &mut Value) {
        make(object, "spec");
        counts(object);
    }

    fn prepare_create(&self, _writer: &Writer<'_>, object: &mut Value) {
        without_status(object);
        counts(object);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let (spec, mut r, path) = (spec(object), Report::default(), Path::new("spec"));
        let limits = ["minAvailable", "maxUnavailable"].map(|key| (key, get(spec, key)));
        if limits.iter().all(|(_, limit)| limit.is_some()) {
            r.invalid(&path, spec.clone(), "minAvailable and maxUnavailable cannot be both set");
        }
        for (key, limit) in limits {
            if let Some(limit) = limit {
                r.number_or_percent(limit, &path.child(key));
                r.at_most_all(limit, &path.child(key));
            }
        }
        r.selector(spec.get("selector"), &path.child("selector"));
        if let Some(policy) = get(spec, "unhealthyPodEvictionPolicy").and_then(Value::as_str) {
            let known = &["AlwaysAllow", "IfHealthyBudget"];
            if !known.contains(&policy) {
                r.unsupported(&path.child("unhealthyPodEvictionPolicy"), policy, known);
            }
        }
        r.0
    }

    fn validate_write(&self, writer: &Writer<'_>, new: &Value, _old: &Value) -> Vec<FieldError> {
        if writer.subresource != "status" {
            return self.validate(new);
        }
        let (status, mut r, path) = (status(new), Report::default(), Path::new("status"));
        conditions(items(status, "conditions"), &path.child("conditions"), &mut r);
        for key in COUNTS {
            r.nonnegative(status, key, &path);
        }
        r.0
    }
}

/// Conditions in the form that new kinds share.
fn conditions(list: &[Value], all: &Path<'_>, r: &mut Report) {
    let mut seen: Vec<&str> = Vec::new();
    for (i, condition) in list.iter().enumerate() {
        let path = all.index(i);
        let (kind, word, reason) = (text(condition, "type"), text(condition, "status"), text(condition, "reason"));
        if seen.contains(&kind) {
            r.duplicate(&path.child("type"), kind);
        }
        seen.push(kind);
        r.name(&path.child("type"), kind, names::qualified_name);
        if !matches!(word, "True" | "False" | "Unknown") {
            r.unsupported(&path.child("status"), word, &["False", "True", "Unknown"]);
        }
        if let Some(n) = int(condition, "observedGeneration").filter(|n| *n < 0) {
            r.invalid(&path.child("observedGeneration"), n, "must be greater than or equal to zero");
        }
        r.present(condition, "lastTransitionTime", &path);
        match reason {
            "" => r.required(&path.child("reason"), ""),
            reason if !is_reason(reason) => {
                let why = "a condition reason must start with alphabetic character, optionally followed by a string of \
                           alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. \
                           'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex \
                           used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')";
                r.invalid(&path.child("reason"), reason, why);
            }
            reason if reason.len() > MAX_REASON => r.too_long(&path.child("reason"), MAX_REASON),
            _ => {}
        }
        if text(condition, "message").len() > MAX_MESSAGE {
            r.too_long(&path.child("message"), MAX_MESSAGE);
        }
    }
}

fn is_reason(reason: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b',' | b':');
    let last = reason.bytes().last().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    reason.bytes().all(inner) && last && reason.starts_with(|c: char| c.is_ascii_alphabetic())
}
