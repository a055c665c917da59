//! Certificate signing requests: who asks is the server's word; approval and certificate are written through their own
//! subresources.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kiln_apimachinery::names::NameRule;
use kiln_apimachinery::{FieldError, meta, names, time};
use serde_json::{Value, json};
use x509_parser::certificate::X509Certificate;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

use crate::registry::strategy::{Strategy, Writer, put};

/// Conditions that decide, and that only `/approval` writes.
const DECISIONS: [&str; 2] = ["Approved", "Denied"];
/// Conditions that never go again, and are true if they are there.
const LASTING: [&str; 3] = ["Approved", "Denied", "Failed"];
/// What a certificate may be asked to be good for.
const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

pub(crate) struct Requests;

/// The subject of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) common_name: String,
    pub(crate) organizations: Vec<String>,
}

/// Reads the PKCS#10 request in `spec.request` and checks its signature; the error is a sentence.
pub(crate) fn subject(object: &Value) -> Result<Subject, String> {
    let no_request = || "PEM block type must be CERTIFICATE REQUEST".to_owned();
    let pem = STANDARD.decode(meta::text(object, &["spec", "request"])).map_err(|_| no_request())?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).map_err(|_| no_request())?;
    if pem.label != "CERTIFICATE REQUEST" {
        return Err(no_request());
    }
    let (_, request) =
        X509CertificationRequest::from_der(&pem.contents).map_err(|e| format!("not a PKCS#10 request: {e}"))?;
    request.verify_signature().map_err(|e| format!("the signature is wrong: {e}"))?;
    let subject = &request.certification_request_info.subject;
    let common_name = subject.iter_common_name().next().and_then(|c| c.as_str().ok()).unwrap_or_default().to_owned();
    let organizations = subject.iter_organization().filter_map(|o| o.as_str().ok()).map(Into::into).collect();
    Ok(Subject { common_name, organizations })
}

/// The conditions of a request.
fn conditions(object: &Value) -> &[Value] {
    meta::at(object, &["status", "conditions"]).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The conditions of one type.
fn of_type<'a>(object: &'a Value, kind: &str) -> Vec<&'a Value> {
    conditions(object).iter().filter(|c| meta::text(c, &["type"]) == kind).collect()
}

impl Strategy for Requests {
    fn name_rule(&self) -> NameRule {
        // Any name will do.
        |_| Vec::new()
    }

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
        put(new, "spec", old.get("spec").cloned());
        let now = time::rfc3339(writer.now);
        match writer.subresource {
            "approval" => {
                stamp(new, old, &now);
                let conditions = meta::at(new, &["status", "conditions"]).cloned();
                put(new, "status", Some(old.get("status").cloned().unwrap_or_else(|| json!({}))));
                match conditions {
                    Some(conditions) => meta::child(new, "status").insert("conditions".into(), conditions),
                    None => meta::child(new, "status").remove("conditions"),
                };
            }
            "status" => {
                for kind in DECISIONS {
                    preserve(new, old, kind);
                }
                stamp(new, old, &now);
            }
            _ => put(new, "status", old.get("status").cloned()),
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let spec = |key: &str| meta::text(object, &["spec", key]);
        if let Err(why) = subject(object) {
            errors.push(FieldError::invalid("spec.request", &spec("request").into(), &why));
        }
        validate_usages(object, &mut errors);
        match spec("signerName") {
            "kubernetes.io/legacy-unknown" => errors.push(FieldError::invalid(
                "spec.signerName",
                &"kubernetes.io/legacy-unknown".into(),
                "the legacy signerName is not allowed via this API version",
            )),
            name => validate_signer_name(name, &mut errors),
        }
        if let Some(v) = meta::at(object, &["spec", "expirationSeconds"]).filter(|v| v.as_i64().is_none_or(|n| n < 600))
        {
            errors.push(FieldError::invalid(
                "spec.expirationSeconds",
                v,
                "may not specify a duration less than 600 seconds (10 minutes)",
            ));
        }
        validate_conditions(object, &mut errors);
        if let Err(why) = check_certificate(meta::text(object, &["status", "certificate"])) {
            errors.push(FieldError::invalid("status.certificate", &"<certificate data>".into(), &why));
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        for kind in LASTING {
            if of_type(new, kind).len() < of_type(old, kind).len() {
                let why = format!("updates may not remove a condition of type {kind:?}");
                errors.push(FieldError::forbidden("status.conditions", &why));
            }
        }
        let certificate = |o: &Value| meta::text(o, &["status", "certificate"]).to_owned();
        if !certificate(old).is_empty() && certificate(new) != certificate(old) {
            errors.push(FieldError::forbidden(
                "status.certificate",
                "updates may not modify existing certificate content",
            ));
        }
        errors
    }

    fn validate_write(&self, writer: &Writer<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        errors.extend(self.validate_update(new, old));
        // A decision that was there is as it was: see `prepare_update`.
        let added = |kind: &&&str| of_type(new, kind).len() > of_type(old, kind).len();
        for kind in DECISIONS.iter().filter(|_| writer.subresource != "approval").filter(added) {
            let why = format!("updates may not add a condition of type {kind:?}");
            errors.push(FieldError::forbidden("status.conditions", &why));
        }
        errors
    }
}

/// Puts back the decisions of this type as they were, if none was added or removed; else validation refuses.
fn preserve(new: &mut Value, old: &Value, kind: &str) {
    let kept: Vec<Value> = of_type(old, kind).into_iter().cloned().collect();
    if kept.len() != of_type(new, kind).len() {
        return;
    }
    let conditions = new.pointer_mut("/status/conditions").and_then(Value::as_array_mut);
    let places = conditions.into_iter().flatten().filter(|c| meta::text(c, &["type"]) == kind);
    for (place, value) in places.zip(kept) {
        *place = value;
    }
}

/// Fills in when conditions were written and when they changed.
fn stamp(new: &mut Value, old: &Value, now: &str) {
    let before = conditions(old);
    let conditions = new.pointer_mut("/status/conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten() {
        let same = |c: &&Value| c.get("type") == condition.get("type") && c.get("status") == condition.get("status");
        let since = before.iter().find(same).and_then(|c| c.get("lastTransitionTime")).cloned();
        if let Some(map) = condition.as_object_mut() {
            map.entry("lastUpdateTime").or_insert_with(|| now.into());
            map.entry("lastTransitionTime").or_insert_with(|| since.unwrap_or_else(|| now.into()));
        }
    }
}

fn validate_usages(object: &Value, errors: &mut Vec<FieldError>) {
    let usages = meta::strings(meta::at(object, &["spec", "usages"]));
    if usages.is_empty() {
        errors.push(FieldError::required("spec.usages", ""));
    }
    for (i, usage) in usages.iter().enumerate().filter(|(_, u)| !USAGES.contains(*u)) {
        errors.push(FieldError::not_supported(format!("spec.usages[{i}]"), &(*usage).into(), &USAGES));
    }
    for (i, usage) in usages.iter().enumerate().filter(|(i, u)| usages[..*i].contains(*u)) {
        errors.push(FieldError::duplicate(format!("spec.usages[{i}]"), &(*usage).into()));
    }
}

/// `example.com/name`.
fn validate_signer_name(name: &str, errors: &mut Vec<FieldError>) {
    const FIELD: &str = "spec.signerName";
    if name.is_empty() {
        errors.push(FieldError::required(FIELD, ""));
        return;
    }
    let Some((domain, path)) = name.split_once('/').filter(|(_, path)| !path.contains('/')) else {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.push(FieldError::invalid(FIELD, &name.into(), why));
        return;
    };
    if domain.len() > 253 {
        errors.push(FieldError::too_long(FIELD, 253));
    }
    let mut told = |part: &str, label: &str, whys: Vec<String>| {
        let error = |why| FieldError::invalid(FIELD, &part.into(), &format!("validating label {label:?}: {why}"));
        errors.extend(whys.into_iter().map(error));
    };
    domain.split('.').for_each(|label| told(domain, label, names::dns1123_label(label)));
    path.split('.').for_each(|label| told(path, label, names::dns1123_subdomain(label)));
    if !domain.contains('.') {
        let why = "should be a domain with at least two segments separated by dots";
        errors.push(FieldError::invalid(FIELD, &domain.into(), why));
    }
}

fn validate_conditions(object: &Value, errors: &mut Vec<FieldError>) {
    let mut seen: Vec<&str> = Vec::new();
    for (i, condition) in conditions(object).iter().enumerate() {
        let path = |key: &str| format!("status.conditions[{i}].{key}");
        let (kind, status) = (meta::text(condition, &["type"]), meta::text(condition, &["status"]));
        if kind.is_empty() {
            errors.push(FieldError::required(path("type"), ""));
        }
        let allowed: &[&str] = if LASTING.contains(&kind) { &["True"] } else { &["False", "True", "Unknown"] };
        match status {
            "" => errors.push(FieldError::required(path("status"), "")),
            other if !allowed.contains(&other) => {
                errors.push(FieldError::not_supported(path("status"), &other.into(), allowed));
            }
            _ => {}
        }
        let rival = DECISIONS.iter().find(|d| DECISIONS.contains(&kind) && **d != kind);
        if rival.is_some_and(|r| seen.contains(r)) {
            let why = "Approved and Denied conditions are mutually exclusive";
            errors.push(FieldError::invalid("status.conditions", &kind.into(), why));
        }
        if seen.contains(&kind) {
            errors.push(FieldError::duplicate(path("type"), &kind.into()));
        }
        seen.push(kind);
    }
}

/// Checks an issued certificate, base64 of PEM blocks; an empty one is none yet.
fn check_certificate(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    let none = || "must contain at least one CERTIFICATE PEM block".to_owned();
    let bytes = STANDARD.decode(text).map_err(|_| none())?;
    let mut blocks = 0;
    for pem in x509_parser::pem::Pem::iter_from_buffer(&bytes) {
        let Ok(pem) = pem else { break };
        if pem.label != "CERTIFICATE" {
            return Err(format!("only CERTIFICATE PEM blocks are allowed, found {:?}", pem.label));
        }
        X509Certificate::from_der(&pem.contents).map_err(|e| format!("not a certificate: {e}"))?;
        blocks += 1;
    }
    if blocks == 0 { Err(none()) } else { Ok(()) }
}
