//! ConfigMaps and Secrets: keys, size, immutability, `stringData`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kiln_apimachinery::{FieldError, meta, names};
use serde_json::{Value, json};

use crate::registry::strategy::{Strategy, Writer, default_to, immutable, put};

/// Most bytes of all values together.
const MAX_SIZE: usize = 1024 * 1024;

pub(crate) struct ConfigMaps;

impl Strategy for ConfigMaps {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut size = 0;
        for (key, text) in meta::string_map(object.get("data")) {
            check_key("data", key, &mut errors);
            if meta::at(object, &["binaryData", key]).is_some() {
                let why = "duplicate of key present in binaryData";
                errors.push(FieldError::invalid(format!("data[{key}]"), &key.into(), why));
            }
            size += text.len();
        }
        for (key, text) in meta::string_map(object.get("binaryData")) {
            check_key("binaryData", key, &mut errors);
            size += base64_len(text);
        }
        if size > MAX_SIZE {
            errors.push(FieldError::too_long("", MAX_SIZE));
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        frozen(new, old, &["data", "binaryData"])
    }
}

pub(crate) struct Secrets;

/// Types that must have certain keys.
const REQUIRED_KEYS: &[(&str, &[&str])] = &[
    ("kubernetes.io/dockercfg", &[".dockercfg"]),
    ("kubernetes.io/dockerconfigjson", &[".dockerconfigjson"]),
    ("kubernetes.io/ssh-auth", &["ssh-privatekey"]),
    ("kubernetes.io/tls", &["tls.crt", "tls.key"]),
];

impl Strategy for Secrets {
    fn default(&self, object: &mut Value) {
        default_to(object, "type", "Opaque");
        let strings = object.get("stringData").and_then(Value::as_object).cloned();
        if let Some(strings) = strings {
            let encoded = strings.into_iter().map(|(key, value)| match value {
                Value::String(text) => (key, Value::String(STANDARD.encode(text))),
                other => (key, other),
            });
            meta::child(object, "data").extend(encoded);
        }
        put(object, "stringData", None);
    }

    fn prepare_update(&self, _writer: &Writer<'_>, new: &mut Value, old: &Value) {
        if meta::text(new, &["type"]).is_empty() {
            put(new, "type", old.get("type").cloned());
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut size = 0;
        for (key, text) in meta::string_map(object.get("data")) {
            check_key("data", key, &mut errors);
            size += base64_len(text);
        }
        if size > MAX_SIZE {
            errors.push(FieldError::too_long("data", MAX_SIZE));
        }
        let kind = meta::text(object, &["type"]);
        for key in REQUIRED_KEYS.iter().filter(|(t, _)| *t == kind).flat_map(|(_, keys)| keys.iter()) {
            if meta::at(object, &["data", key]).is_none() {
                errors.push(FieldError::required(format!("data[{key}]"), ""));
            }
        }
        if kind == "kubernetes.io/basic-auth"
            && ["username", "password"].iter().all(|k| meta::at(object, &["data", k]).is_none())
        {
            errors.push(FieldError::required("data[username]", ""));
            errors.push(FieldError::required("data[password]", ""));
        }
        if kind == "kubernetes.io/service-account-token"
            && meta::annotation(object, "kubernetes.io/service-account.name").is_none()
        {
            errors.push(FieldError::required("metadata.annotations[kubernetes.io/service-account.name]", ""));
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = frozen(new, old, &["data"]);
        immutable(new, old, &["type"], &mut errors);
        errors
    }
}

fn check_key(field: &str, key: &str, errors: &mut Vec<FieldError>) {
    for why in names::config_key(key) {
        errors.push(FieldError::invalid(format!("{field}[{key}]"), &key.into(), &why));
    }
}

/// Bytes in a text that was checked to be base64.
fn base64_len(text: &str) -> usize {
    text.trim_end_matches('=').len() * 3 / 4
}

/// Complaints about changes of an object that was made immutable.
fn frozen(new: &Value, old: &Value, fields: &[&str]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if old.get("immutable") != Some(&json!(true)) {
        return errors;
    }
    let why = "field is immutable when `immutable` is set";
    if new.get("immutable") != Some(&json!(true)) {
        errors.push(FieldError::forbidden("immutable", why));
    }
    for field in fields.iter().filter(|f| new.get(**f) != old.get(**f)) {
        errors.push(FieldError::forbidden(*field, why));
    }
    errors
}
