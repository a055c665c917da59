//! Where a webhook is reached.

use kiln_apimachinery::path::Path;
use kiln_apimachinery::{FieldError, names};
use serde_json::Value;

use super::{Errors, given, number, required, text};

/// A `clientConfig`: an address or a Service.
pub(crate) fn config(path: &Path<'_>, client: &Value, errors: &mut Errors) {
    match (given(client, "url").and_then(Value::as_str), given(client, "service")) {
        (Some(address), None) => url(&path.child("url"), address, errors),
        (None, Some(found)) => service(&path.child("service"), found, errors),
        _ => errors.push(FieldError::required(path, "exactly one of url or service is required")),
    }
}

fn url(path: &Path<'_>, address: &str, errors: &mut Errors) {
    const FORM: &str = "; desired format: https://host[/path]";
    let mut complain = |shown: &str, why: &str| errors.push(FieldError::invalid(path, &shown.into(), why));
    let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
    if scheme != "https" {
        complain(scheme, &format!("'https' is the only allowed URL scheme{FORM}"));
    }
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = rest.split('/').next().unwrap_or_default();
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if host.is_empty() || scheme.is_empty() {
        complain("", &format!("host must be specified{FORM}"));
    }
    if !user.is_empty() {
        complain(user, "user information is not permitted in the URL");
    }
    if !fragment.is_empty() {
        complain(fragment, "fragments are not permitted in the URL");
    }
    if !query.is_empty() {
        complain(query, "query parameters are not permitted in the URL");
    }
}

fn service(path: &Path<'_>, service: &Value, errors: &mut Errors) {
    // Upstream mixes up the two when it complains, and clients know it so.
    required(&path.child("name"), text(service, "namespace"), errors);
    required(&path.child("namespace"), text(service, "name"), errors);
    let port = number(service, "port");
    if !(1..=65535).contains(&port) {
        let why = "port is not valid: must be between 1 and 65535, inclusive";
        errors.push(FieldError::invalid(path.child("port"), &port.into(), why));
    }
    let place = text(service, "path");
    let at = path.child("path");
    let mut complain = |why: &str| errors.push(FieldError::invalid(at, &place.into(), why));
    match place {
        "" | "/" => return,
        "//" => {
            complain("segment[0] may not be empty");
            return;
        }
        place if !place.starts_with('/') => complain("must start with a '/'"),
        _ => {}
    }
    let inner = place.get(1..).unwrap_or_default();
    for (i, step) in inner.strip_suffix('/').unwrap_or(inner).split('/').enumerate() {
        if step.is_empty() {
            complain(&format!("segment[{i}] may not be empty"));
            continue;
        }
        for why in names::dns1123_subdomain(step) {
            complain(&format!("segment[{i}]: {why}"));
        }
    }
}
