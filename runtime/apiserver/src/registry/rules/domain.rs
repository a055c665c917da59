//! Names of domains beyond the plain ones.

use kiln_apimachinery::path::Path;
use kiln_apimachinery::{FieldError, names};

use super::Errors;

/// What is wrong with a name whose first part may be a star.
pub(crate) fn wildcard(value: &str) -> Vec<String> {
    let mut out = Vec::new();
    if value.len() > 253 {
        out.push("must be no more than 253 bytes".to_owned());
    }
    if !value.strip_prefix("*.").is_some_and(|rest| names::dns1123_subdomain(rest).is_empty()) {
        out.push(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of \
             lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', \
             regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
                .to_owned(),
        );
    }
    out
}

/// A domain, a slash and a path, such as `example.org/controller`.
pub(crate) fn prefixed_path(path: &Path<'_>, value: &str, errors: &mut Errors) {
    if value.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let Some((host, rest)) = value.split_once('/').filter(|(host, rest)| !host.is_empty() && !rest.is_empty()) else {
        let why = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        errors.push(FieldError::invalid(path, &value.into(), why));
        return;
    };
    super::name(path, host, names::dns1123_subdomain, errors);
    if !rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b)) {
        let why = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
        errors.push(FieldError::invalid(path, &rest.into(), why));
    }
}

/// A whole domain name, with or without a dot at its end.
pub(crate) fn fully_qualified(path: &Path<'_>, value: &str, errors: &mut Errors) {
    if value.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let value = value.strip_suffix('.').unwrap_or(value);
    let why = names::dns1123_subdomain(value);
    if !why.is_empty() {
        errors.push(FieldError::invalid(path, &value.into(), &why.join(",")));
    } else if !value.contains('.') {
        let why = "should be a domain with at least two segments separated by dots";
        errors.push(FieldError::invalid(path, &value.into(), why));
    } else if let Some(label) = value.split('.').find(|l| !names::dns1123_label(l).is_empty()) {
        let why = names::dns1123_label(label).join(",");
        errors.push(FieldError::invalid(path, &label.into(), &why));
    }
}

/// A name of three parts at least, as webhooks have it.
pub(crate) fn fully_qualified_name(path: &Path<'_>, value: &str, errors: &mut Errors) {
    if value.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let why = names::dns1123_subdomain(value);
    if !why.is_empty() {
        errors.push(FieldError::invalid(path, &value.into(), &why.join(",")));
    } else if value.split('.').count() < 3 {
        let why = "should be a domain with at least three segments separated by dots";
        errors.push(FieldError::invalid(path, &value.into(), why));
    }
}
