//! PriorityLevelConfigurations.

use kiln_apimachinery::path::Path;
use kiln_apimachinery::{FieldError, meta};
use serde_json::{Value, json};

use crate::registry::rules::{Errors, given, number, one_of, text};
use crate::registry::strategy::{Strategy, Writer, default_to, put, split_status};

pub(crate) struct Levels;

const MAX_QUEUES: i64 = 10_000_000;
/// Bits of the hash that hands are dealt by.
const MAX_ENTROPY: i64 = 60;

impl Strategy for Levels {
    fn default(&self, object: &mut Value) {
        meta::child(object, "spec");
        if let Some(exempt) = object.pointer_mut("/spec/exempt").filter(|e| e.is_object()) {
            default_to(exempt, "nominalConcurrencyShares", 0);
            default_to(exempt, "lendablePercent", 0);
        }
        if let Some(limited) = object.pointer_mut("/spec/limited").filter(|l| l.is_object()) {
            default_to(limited, "nominalConcurrencyShares", 30);
            default_to(limited, "lendablePercent", 0);
        }
        if let Some(queuing) = object.pointer_mut("/spec/limited/limitResponse/queuing").filter(|q| q.is_object()) {
            for (key, value) in [("handSize", 8), ("queues", 64), ("queueLengthLimit", 50)] {
                if queuing.get(key).and_then(Value::as_i64).unwrap_or(0) == 0 {
                    put(queuing, key, Some(value.into()));
                }
            }
        }
    }

    fn prepare_create(&self, _writer: &Writer<'_>, object: &mut Value) {
        put(object, "status", Some(json!({})));
    }

    fn prepare_update(&self, writer: &Writer<'_>, new: &mut Value, old: &Value) {
        split_status(writer, new, old);
        if writer.subresource == "status" {
            super::keep_metadata(new, old);
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let Some(spec) = object.get("spec") else { return errors };
        let path = Path::new("spec");
        let (kind, level) = (text(spec, "type"), meta::name(object));
        if (level == "exempt") != (kind == "Exempt") {
            let why = "must be 'Exempt' if and only if `name` is 'exempt'";
            errors.push(FieldError::invalid(path.child("type"), &kind.into(), why));
        }
        let (limited, exempt) = (given(spec, "limited"), given(spec, "exempt"));
        match kind {
            "Exempt" => {
                if limited.is_some() {
                    errors.push(FieldError::forbidden(path.child("limited"), "must be nil if the type is not Limited"));
                }
                if let Some(exempt) = exempt {
                    shares(&path.child("exempt"), exempt, &mut errors);
                }
            }
            "Limited" => {
                if exempt.is_some() {
                    errors.push(FieldError::forbidden(path.child("exempt"), "must be nil if the type is Limited"));
                }
                match limited {
                    None => {
                        let why = "must not be empty when type is Limited";
                        errors.push(FieldError::required(path.child("limited"), why));
                    }
                    Some(limited) => self::limited(&path.child("limited"), limited, &mut errors),
                }
            }
            other => one_of(&path.child("type"), other, &["Exempt", "Limited"], &mut errors),
        }
        mandatory(object, spec, &mut errors);
        errors
    }

    fn validate_write(&self, writer: &Writer<'_>, new: &Value, _old: &Value) -> Vec<FieldError> {
        if writer.subresource == "status" { super::conditions(new) } else { self.validate(new) }
    }
}

/// The levels that a cluster can't do without are as they are; shares of those that are exempt may change.
fn mandatory(object: &Value, spec: &Value, errors: &mut Errors) {
    let level = meta::name(object);
    let fixed = super::defaults::levels().into_iter().find(|o| meta::name(o) == level);
    let Some(mut fixed) = fixed.filter(|_| super::MANDATORY.contains(&level)) else { return };
    let mut but = "";
    if level == "exempt" {
        put(&mut fixed["spec"], "exempt", spec.get("exempt").cloned());
        but = " except the 'spec.exempt' field";
    }
    if fixed.get("spec") != Some(spec) {
        errors.push(FieldError::invalid("spec", spec, &format!("spec of '{level}'{but} must equal the fixed value")));
    }
}

fn shares(path: &Path<'_>, holder: &Value, errors: &mut Errors) {
    let count = number(holder, "nominalConcurrencyShares");
    if count < 0 {
        let at = path.child("nominalConcurrencyShares");
        errors.push(FieldError::invalid(at, &count.into(), "must be a non-negative integer"));
    }
    let percent = number(holder, "lendablePercent");
    if !(0..=100).contains(&percent) {
        let at = path.child("lendablePercent");
        errors.push(FieldError::invalid(at, &percent.into(), "must be between 0 and 100, inclusive"));
    }
}

fn limited(path: &Path<'_>, limited: &Value, errors: &mut Errors) {
    shares(path, limited, errors);
    let at = path.child("limitResponse");
    let response = limited.get("limitResponse").unwrap_or(&Value::Null);
    match (text(response, "type"), given(response, "queuing")) {
        ("Reject", Some(_)) => {
            let why = "must be nil if limited.limitResponse.type is not Limited";
            errors.push(FieldError::forbidden(at.child("queuing"), why));
        }
        ("Reject", None) => {}
        ("Queue", None) => {
            let why = "must not be empty if limited.limitResponse.type is Limited";
            errors.push(FieldError::required(at.child("queuing"), why));
        }
        ("Queue", Some(queuing)) => queues(&at.child("queuing"), queuing, errors),
        (other, _) => one_of(&at.child("type"), other, &["Queue", "Reject"], errors),
    }
    let borrowed = number(limited, "borrowingLimitPercent");
    if borrowed < 0 {
        let at = path.child("borrowingLimitPercent");
        errors.push(FieldError::invalid(at, &borrowed.into(), "if specified, must be a non-negative integer"));
    }
}

fn queues(path: &Path<'_>, queuing: &Value, errors: &mut Errors) {
    let [length, count, hand] = ["queueLengthLimit", "queues", "handSize"].map(|key| number(queuing, key));
    let mut complain =
        |key: &str, value: i64, why: &str| errors.push(FieldError::invalid(path.child(key), &value.into(), why));
    if length <= 0 {
        complain("queueLengthLimit", length, "must be positive");
    }
    if count <= 0 {
        complain("queues", count, "must be positive");
    } else if count > MAX_QUEUES {
        complain("queues", count, &format!("must not be greater than {MAX_QUEUES}"));
    }
    if hand <= 0 {
        complain("handSize", hand, "must be positive");
    } else if hand > count {
        complain("handSize", hand, &format!("should not be greater than queues ({count})"));
    } else if entropy(count, hand) > MAX_ENTROPY {
        let why = format!(
            "required entropy bits of deckSize {count} and handSize {hand} should not be greater than {MAX_ENTROPY}"
        );
        complain("handSize", hand, &why);
    }
}

/// How many bits it takes to deal a hand, rather too many than too few.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "numbers of queues are small")]
fn entropy(deck: i64, hand: i64) -> i64 {
    ((deck as f64).log2() * hand as f64).ceil() as i64
}
