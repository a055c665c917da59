//! Certificate signing requests: who asks is the server's word; approval and certificate are written through their own
//! subresources.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kiln_apimachinery::{FieldError, meta, time};
use serde_json::{Map, Value, json};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

use crate::registry::strategy::{Strategy, Writer, put};

/// Conditions that decide, and that only `/approval` writes.
const DECISIONS: &[&str] = &["Approved", "Denied"];

pub(crate) struct Requests;

/// The subject of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) common_name: String,
    pub(crate) organizations: Vec<String>,
}

/// Reads the PKCS#10 request in `spec.request`; the error is a sentence. Its signature is the signer's to check.
pub(crate) fn subject(object: &Value) -> Result<Subject, String> {
    let pem = STANDARD.decode(meta::text(object, &["spec", "request"])).map_err(|e| format!("not base64: {e}"))?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).map_err(|e| format!("not PEM: {e}"))?;
    if pem.label != "CERTIFICATE REQUEST" && pem.label != "NEW CERTIFICATE REQUEST" {
        return Err("PEM block type must be CERTIFICATE REQUEST".into());
    }
    let (_, request) =
        X509CertificationRequest::from_der(&pem.contents).map_err(|e| format!("not a PKCS#10 request: {e}"))?;
    let subject = &request.certification_request_info.subject;
    let common_name = subject.iter_common_name().next().and_then(|c| c.as_str().ok()).unwrap_or_default().to_owned();
    let organizations = subject.iter_organization().filter_map(|o| o.as_str().ok()).map(Into::into).collect();
    Ok(Subject { common_name, organizations })
}

impl Strategy for Requests {
    fn prepare_create(&self, writer: &Writer<'_>, object: &mut Value) {
        let user = writer.user;
        let spec = meta::child(object, "spec");
        for key in ["username", "uid", "groups", "extra"] {
            spec.remove(key);
        }
        spec.insert("username".into(), user.name.clone().into());
        spec.insert("groups".into(), json!(user.groups));
        if !user.uid.is_empty() {
            spec.insert("uid".into(), user.uid.clone().into());
        }
        if !user.extra.is_empty() {
            spec.insert("extra".into(), json!(user.extra));
        }
        put(object, "status", Some(json!({})));
    }

    fn prepare_update(&self, writer: &Writer<'_>, new: &mut Value, old: &Value) {
        let status = new.get("status").and_then(Value::as_object).cloned().unwrap_or_default();
        let metadata = new.get("metadata").cloned();
        *new = old.clone();
        put(new, "metadata", metadata);
        let mut kept = old.get("status").and_then(Value::as_object).cloned().unwrap_or_default();
        let decides = |c: &Value| DECISIONS.contains(&meta::text(c, &["type"]));
        let now = time::rfc3339(writer.now);
        match writer.subresource {
            "approval" => {
                let conditions = merged(&kept, &status, |_| true, &now);
                kept.insert("conditions".into(), conditions);
            }
            "status" => {
                let conditions = merged(&kept, &status, |c| !decides(c), &now);
                for (key, value) in status {
                    kept.insert(key, value);
                }
                kept.insert("conditions".into(), conditions);
            }
            _ => {}
        }
        put(new, "status", Some(Value::Object(kept)));
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let spec = |key: &str| meta::text(object, &["spec", key]);
        if spec("request").is_empty() {
            errors.push(FieldError::required("spec.request", ""));
        } else if let Err(why) = subject(object) {
            errors.push(FieldError::invalid("spec.request", &spec("request").into(), &why));
        }
        match spec("signerName") {
            "" => errors.push(FieldError::required("spec.signerName", "")),
            name if name.split_once('/').is_none_or(|(d, p)| d.is_empty() || p.is_empty()) => {
                errors.push(FieldError::invalid(
                    "spec.signerName",
                    &name.into(),
                    "must be a fully qualified domain and path of the form 'example.com/signer-name'",
                ));
            }
            "kubernetes.io/legacy-unknown" => {
                errors.push(FieldError::invalid(
                    "spec.signerName",
                    &"kubernetes.io/legacy-unknown".into(),
                    "the legacy signerName is not allowed via this API version",
                ));
            }
            _ => {}
        }
        if meta::strings(meta::at(object, &["spec", "usages"])).is_empty() {
            errors.push(FieldError::required("spec.usages", ""));
        }
        if let Some(v) = meta::at(object, &["spec", "expirationSeconds"]).filter(|v| v.as_i64().is_none_or(|n| n < 600))
        {
            errors.push(FieldError::invalid(
                "spec.expirationSeconds",
                v,
                "may not specify a duration less than 600 seconds (10 minutes)",
            ));
        }
        let types: Vec<&str> = conditions(object).iter().map(|c| meta::text(c, &["type"])).collect();
        if DECISIONS.iter().all(|d| types.contains(d)) {
            errors.push(FieldError::invalid(
                "status.conditions",
                &json!(types),
                "Approved and Denied conditions are mutually exclusive",
            ));
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let certificate = |o: &Value| meta::text(o, &["status", "certificate"]).to_owned();
        if !certificate(old).is_empty() && certificate(new) != certificate(old) {
            errors.push(FieldError::forbidden(
                "status.certificate",
                "updates may not set or unset an issued certificate",
            ));
        }
        for old in conditions(old).iter().filter(|c| DECISIONS.contains(&meta::text(c, &["type"]))) {
            let kind = meta::text(old, &["type"]);
            if !conditions(new).iter().any(|c| meta::text(c, &["type"]) == kind) {
                errors.push(FieldError::forbidden(
                    "status.conditions",
                    &format!("updates may not remove a condition of type {kind:?}"),
                ));
            }
        }
        errors
    }
}

fn conditions(object: &Value) -> &[Value] {
    meta::at(object, &["status", "conditions"]).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The new conditions of the kinds that may be written here, and the old ones of the others; times filled in.
fn merged(old: &Map<String, Value>, new: &Map<String, Value>, mine: impl Fn(&Value) -> bool, now: &str) -> Value {
    let list = |m: &Map<String, Value>| m.get("conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    let before = list(old);
    let mut out: Vec<Value> = before.iter().filter(|c| !mine(c)).cloned().collect();
    for mut condition in list(new).into_iter().filter(|c| mine(c) && c.is_object()) {
        let same = |c: &&Value| c.get("type") == condition.get("type") && c.get("status") == condition.get("status");
        let since = before.iter().find(same).and_then(|c| c.get("lastTransitionTime")).cloned();
        if let Some(map) = condition.as_object_mut() {
            map.entry("lastUpdateTime").or_insert_with(|| now.into());
            map.entry("lastTransitionTime").or_insert_with(|| since.unwrap_or_else(|| now.into()));
            map.entry("status").or_insert_with(|| "True".into());
        }
        out.push(condition);
    }
    out.into()
}
