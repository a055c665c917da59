//! How objects become those of another version, as a definition says it.

use kiln_apimachinery::path::Path;
use kiln_apimachinery::{FieldError, meta, names};
use serde_json::{Value, json};

use crate::registry::rules::{Errors, client, required_one_of};

const ACCEPTED: [&str; 2] = ["v1", "v1beta1"];

pub(super) fn check(path: &Path<'_>, conversion: &Value, errors: &mut Errors) {
    let strategy = meta::text(conversion, &["strategy"]);
    required_one_of(&path.child("strategy"), strategy, &["None", "Webhook"], errors);
    let webhook = conversion.get("webhook").filter(|w| w.is_object());
    let found = webhook.and_then(|w| w.get("clientConfig")).filter(|c| c.is_object());
    let versions = meta::strings(webhook.and_then(|w| w.get("conversionReviewVersions")));
    let (client_path, versions_path) = (path.child("webhookClientConfig"), path.child("conversionReviewVersions"));
    if strategy != "Webhook" {
        if found.is_some() {
            let why = "should not be set when strategy is not set to Webhook";
            errors.push(FieldError::forbidden(client_path, why));
        }
        if !versions.is_empty() {
            let why = "should not be set when strategy is not set to Webhook";
            errors.push(FieldError::forbidden(versions_path, why));
        }
        return;
    }
    match found {
        None => errors.push(FieldError::required(client_path, "required when strategy is set to Webhook")),
        Some(found) => client::config(&client_path, found, errors),
    }
    review_versions(&versions_path, &versions, errors);
}

fn review_versions(path: &Path<'_>, versions: &[&str], errors: &mut Errors) {
    if versions.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    for (at, version) in versions.iter().enumerate() {
        if versions[..at].contains(version) {
            errors.push(FieldError::invalid(path.index(at), &(*version).into(), "duplicate version"));
            continue;
        }
        for why in names::dns1035_label(version) {
            errors.push(FieldError::invalid(path.index(at), &(*version).into(), &why));
        }
    }
    if !versions.iter().any(|v| ACCEPTED.contains(v)) {
        let why = format!("must include at least one of {}", ACCEPTED.join(", "));
        errors.push(FieldError::invalid(path, &json!(versions), &why));
    }
}
