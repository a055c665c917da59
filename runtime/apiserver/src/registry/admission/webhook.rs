//! Webhook configurations.

use kiln_apimachinery::path::Path;
use kiln_apimachinery::{FieldError, meta, names};
use serde_json::{Value, json};

use super::matching::{self, FAILURE, MATCH, REINVOCATION};
use crate::registry::rules::{Errors, client as clients, domain, given, list, name, number, one_of, selector, text};
use crate::registry::strategy::{Strategy, Writer, default_to};
use crate::webhooks::matching::variables;

/// Versions of the review that the server can send.
const VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun"];

pub(crate) struct Webhooks {
    pub(crate) mutating: bool,
}

impl Strategy for Webhooks {
    fn default(&self, object: &mut Value) {
        for webhook in object.get_mut("webhooks").and_then(Value::as_array_mut).into_iter().flatten() {
            default_to(webhook, "failurePolicy", "Fail");
            default_to(webhook, "matchPolicy", "Equivalent");
            default_to(webhook, "namespaceSelector", json!({}));
            default_to(webhook, "objectSelector", json!({}));
            default_to(webhook, "timeoutSeconds", 10);
            if self.mutating {
                default_to(webhook, "reinvocationPolicy", "Never");
            }
            for rule in webhook.get_mut("rules").and_then(Value::as_array_mut).into_iter().flatten() {
                default_to(rule, "scope", "*");
            }
            if let Some(service) = webhook.pointer_mut("/clientConfig/service").filter(|s| s.is_object()) {
                default_to(service, "port", 443);
            }
        }
    }

    fn prepare_update(&self, _writer: &Writer<'_>, _new: &mut Value, _old: &Value) {}

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (path, all) = (Path::new("webhooks"), list(object, "webhooks"));
        for (i, webhook) in all.iter().enumerate() {
            let at = path.index(i);
            self.webhook(&at, webhook, &mut errors);
            versions(&at.child("admissionReviewVersions"), webhook, &mut errors);
            let hook = text(webhook, "name");
            if !hook.is_empty() && all[..i].iter().any(|w| text(w, "name") == hook) {
                errors.push(FieldError::duplicate(at.child("name"), &hook.into()));
            }
        }
        errors
    }
}

impl Webhooks {
    fn webhook(&self, path: &Path<'_>, webhook: &Value, errors: &mut Errors) {
        domain::fully_qualified_name(&path.child("name"), text(webhook, "name"), errors);
        let rules = path.child("rules");
        for (i, rule) in list(webhook, "rules").iter().enumerate() {
            matching::rule(&rules.index(i), rule, errors);
        }
        one_of(&path.child("failurePolicy"), text(webhook, "failurePolicy"), FAILURE, errors);
        one_of(&path.child("matchPolicy"), text(webhook, "matchPolicy"), MATCH, errors);
        match given(webhook, "sideEffects").and_then(Value::as_str) {
            None => {
                let why = format!("must specify one of {}", SIDE_EFFECTS.join(", "));
                errors.push(FieldError::required(path.child("sideEffects"), &why));
            }
            Some(effects) => one_of(&path.child("sideEffects"), effects, SIDE_EFFECTS, errors),
        }
        let timeout = number(webhook, "timeoutSeconds");
        if !(1..=30).contains(&timeout) {
            let why = "the timeout value must be between 1 and 30 seconds";
            errors.push(FieldError::invalid(path.child("timeoutSeconds"), &timeout.into(), why));
        }
        for key in ["namespaceSelector", "objectSelector"] {
            if let Some(found) = given(webhook, key) {
                selector::label_selector(&path.child(key), found, errors);
            }
        }
        if self.mutating {
            one_of(&path.child("reinvocationPolicy"), text(webhook, "reinvocationPolicy"), REINVOCATION, errors);
        }
        let client = webhook.get("clientConfig").unwrap_or(&Value::Null);
        clients::config(&path.child("clientConfig"), client, errors);
        matching::conditions(&path.child("matchConditions"), list(webhook, "matchConditions"), &variables(), errors);
    }
}

fn versions(path: &Path<'_>, webhook: &Value, errors: &mut Errors) {
    let all = meta::strings(webhook.get("admissionReviewVersions"));
    if all.is_empty() {
        let why = format!("must specify one of {}", VERSIONS.join(", "));
        errors.push(FieldError::required(path, &why));
        return;
    }
    for (i, version) in all.iter().enumerate() {
        if all[..i].contains(version) {
            errors.push(FieldError::invalid(path.index(i), &(*version).into(), "duplicate version"));
            continue;
        }
        name(&path.index(i), version, names::dns1035_label, errors);
    }
    if !all.iter().any(|v| VERSIONS.contains(v)) {
        let why = format!("must include at least one of {}", VERSIONS.join(", "));
        errors.push(FieldError::invalid(path, &json!(all), &why));
    }
}
