//! Rules that fields of many kinds share, in the words that clients know. Each adds its complaints to a list.

pub(crate) mod client;
pub(crate) mod domain;
pub(crate) mod net;
pub(crate) mod quantities;
pub(crate) mod selector;

use kiln_apimachinery::path::Path;
use kiln_apimachinery::{FieldError, meta, names};
use serde_json::Value;

/// Complaints, in the order in which they were found.
pub(crate) type Errors = Vec<FieldError>;

/// What is said of a value that may not change.
pub(crate) const IMMUTABLE: &str = "field is immutable";

/// A text at a path within a value, or `""`.
pub(crate) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// A value that is neither absent nor null.
pub(crate) fn given<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    value.get(key).filter(|v| !v.is_null())
}

/// A whole number, or 0.
pub(crate) fn number(value: &Value, key: &str) -> i64 {
    value.get(key).and_then(Value::as_i64).unwrap_or(0)
}

/// The items of a list; none for anything else.
pub(crate) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A text must be one of a set.
pub(crate) fn one_of(path: &Path<'_>, value: &str, supported: &[&str], errors: &mut Errors) {
    if !supported.contains(&value) {
        errors.push(FieldError::not_supported(path, &value.into(), supported));
    }
}

/// A text must be there and one of a set.
pub(crate) fn required_one_of(path: &Path<'_>, value: &str, supported: &[&str], errors: &mut Errors) {
    if value.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else {
        one_of(path, value, supported, errors);
    }
}

/// A text must keep a rule for names.
pub(crate) fn name(path: &Path<'_>, value: &str, rule: names::NameRule, errors: &mut Errors) {
    errors.extend(rule(value).into_iter().map(|why| FieldError::invalid(path, &value.into(), &why)));
}

/// A text must be there and keep a rule for names.
pub(crate) fn required_name(path: &Path<'_>, value: &str, rule: names::NameRule, errors: &mut Errors) {
    if value.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else {
        name(path, value, rule, errors);
    }
}

/// The name of a driver of volumes or devices.
pub(crate) fn driver_name(path: &Path<'_>, driver: &str, errors: &mut Errors) {
    if driver.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    if driver.len() > 63 {
        errors.push(FieldError::too_long(path, 63));
    }
    for why in names::dns1123_subdomain(&driver.to_lowercase()) {
        errors.push(FieldError::invalid(path, &driver.into(), &why));
    }
}

/// The name of a host that a balancer is reached at.
pub(crate) fn host_name(path: &Path<'_>, host: &str, errors: &mut Errors) {
    name(path, host, names::dns1123_subdomain, errors);
    if kiln_apimachinery::net::parse_ip_loosely(host).is_some() {
        errors.push(FieldError::invalid(path, &host.into(), "must be a DNS name, not an IP address"));
    }
}

/// A number may not be below nothing.
pub(crate) fn not_negative(path: &Path<'_>, value: i64, errors: &mut Errors) {
    if value < 0 {
        errors.push(FieldError::invalid(path, &value.into(), "must be greater than or equal to 0"));
    }
}

/// Keys and values of labels.
pub(crate) fn labels(path: &Path<'_>, map: Option<&Value>, errors: &mut Errors) {
    for (key, value) in meta::string_map(map) {
        name(path, key, names::qualified_name, errors);
        errors.extend(names::label_value(value).into_iter().map(|w| FieldError::invalid(path, &value.into(), &w)));
    }
}

/// A value may not differ from the stored one.
pub(crate) fn immutable(path: &Path<'_>, new: Option<&Value>, old: Option<&Value>, errors: &mut Errors) {
    immutable_but(path, new, old, IMMUTABLE, errors);
}

/// The same in other words.
pub(crate) fn immutable_but(path: &Path<'_>, new: Option<&Value>, old: Option<&Value>, why: &str, errors: &mut Errors) {
    let (new, old) = (new.filter(|v| !v.is_null()), old.filter(|v| !v.is_null()));
    if new != old {
        errors.push(FieldError::invalid(path, new.unwrap_or(&Value::Null), why));
    }
}

/// The name of a storage or ingress class, a CSI driver or another object.
pub(crate) fn required(path: &Path<'_>, value: &str, errors: &mut Errors) {
    if value.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
}
