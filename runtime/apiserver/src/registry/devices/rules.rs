//! The rules that claims, classes and slices of devices keep. That selectors compile is checked where they are evaluated.

use kiln_apimachinery::path::Path;
use kiln_apimachinery::{FieldError, meta, names};
use serde_json::{Value, json};

use crate::registry::rules::{
    self, Errors, driver_name, given, list, name, number, one_of, required, required_name, selector, text,
};

const MAX_REQUESTS: usize = 32;
const MAX_ALTERNATIVES: usize = 8;
const MAX_RESERVATIONS: usize = 256;
const MAX_DEVICES: usize = 128;
const MAX_DEVICES_WITH_MORE: usize = 64;
const MAX_EXPRESSION: usize = 10 * 1024;
const TAINT_EFFECTS: &[&str] = &["NoExecute", "NoSchedule", "None"];

/// Items of a list, no more than may be, each with its own key.
fn set<'a>(
    path: &Path<'_>,
    all: &'a [Value],
    max: usize,
    key: fn(&Value) -> &str,
    errors: &mut Errors,
    mut check: impl FnMut(&Path<'_>, &'a Value, &mut Errors),
) {
    if all.len() > max {
        errors.push(FieldError::too_many(path, all.len(), max));
        return;
    }
    for (i, item) in all.iter().enumerate() {
        check(&path.index(i), item, errors);
    }
    for (i, item) in all.iter().enumerate() {
        if all[..i].iter().any(|other| key(other) == key(item)) {
            errors.push(FieldError::duplicate(path.index(i), &key(item).into()));
        }
    }
}

fn named(item: &Value) -> &str {
    text(item, "name")
}

/// What a claim asks for.
pub(super) fn claim_spec(path: &Path<'_>, spec: &Value, errors: &mut Errors) {
    let devices = spec.get("devices").unwrap_or(&Value::Null);
    let path = path.child("devices");
    let requests = list(devices, "requests");
    set(&path.child("requests"), requests, MAX_REQUESTS, named, errors, request);
    let constraints = path.child("constraints");
    if list(devices, "constraints").len() > MAX_REQUESTS {
        errors.push(FieldError::too_many(constraints, list(devices, "constraints").len(), MAX_REQUESTS));
    }
    for (i, constraint) in list(devices, "constraints").iter().enumerate() {
        let at = constraints.index(i);
        references(&at.child("requests"), constraint, requests, errors);
        if given(constraint, "matchAttribute").is_none() && given(constraint, "distinctAttribute").is_none() {
            let why =
                "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set";
            errors.push(FieldError::required(at, why));
        }
    }
    let config = path.child("config");
    for (i, entry) in list(devices, "config").iter().enumerate() {
        let at = config.index(i);
        references(&at.child("requests"), entry, requests, errors);
        configuration(&at, entry, errors);
    }
}

fn request(path: &Path<'_>, request: &Value, errors: &mut Errors) {
    required_name(&path.child("name"), named(request), names::dns1123_label, errors);
    let (exactly, alternatives) = (given(request, "exactly"), list(request, "firstAvailable"));
    let one = "exactly one of `exactly` or `firstAvailable` is required";
    match exactly {
        None if alternatives.is_empty() => errors.push(FieldError::required(path, one)),
        Some(_) if !alternatives.is_empty() => {
            let why = format!("{one}, but multiple fields are set");
            errors.push(FieldError::invalid(path, &Value::Null, &why));
        }
        Some(exactly) => exact(&path.child("exactly"), exactly, errors),
        None => {
            let at = path.child("firstAvailable");
            set(&at, alternatives, MAX_ALTERNATIVES, named, errors, |at, alternative, errors| {
                required_name(&at.child("name"), named(alternative), names::dns1123_label, errors);
                exact(at, alternative, errors);
            });
        }
    }
}

fn exact(path: &Path<'_>, request: &Value, errors: &mut Errors) {
    let class = text(request, "deviceClassName");
    required_name(&path.child("deviceClassName"), class, names::dns1123_subdomain, errors);
    selectors(&path.child("selectors"), list(request, "selectors"), errors);
    let count = number(request, "count");
    match text(request, "allocationMode") {
        "All" if count != 0 => {
            let why = "must not be specified when allocationMode is 'All'";
            errors.push(FieldError::invalid(path.child("count"), &count.into(), why));
        }
        "ExactCount" if count <= 0 => {
            errors.push(FieldError::invalid(path.child("count"), &count.into(), "must be greater than zero"));
        }
        mode => one_of(&path.child("allocationMode"), mode, &["All", "ExactCount"], errors),
    }
}

/// Selectors in CEL.
pub(super) fn selectors(path: &Path<'_>, all: &[Value], errors: &mut Errors) {
    if all.len() > MAX_REQUESTS {
        errors.push(FieldError::too_many(path, all.len(), MAX_REQUESTS));
        return;
    }
    for (i, selector) in all.iter().enumerate() {
        let at = path.index(i);
        match given(selector, "cel") {
            None => errors.push(FieldError::required(at.child("cel"), "")),
            Some(cel) => {
                let expression = text(cel, "expression");
                let at = at.child("cel.expression");
                required(&at, expression, errors);
                if expression.len() > MAX_EXPRESSION {
                    errors.push(FieldError::too_long(at, MAX_EXPRESSION));
                }
            }
        }
    }
}

/// Names of requests, or of their alternatives.
fn references(path: &Path<'_>, holder: &Value, requests: &[Value], errors: &mut Errors) {
    for (i, reference) in meta::strings(holder.get("requests")).into_iter().enumerate() {
        let (one, alternative) = reference.split_once('/').unwrap_or((reference, ""));
        let found = requests.iter().find(|r| named(r) == one).is_some_and(|r| {
            alternative.is_empty() || list(r, "firstAvailable").iter().any(|a| named(a) == alternative)
        });
        if !found {
            let why =
                "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
            errors.push(FieldError::invalid(path.index(i), &reference.into(), why));
        }
    }
}

/// Parameters for a driver.
pub(super) fn configuration(path: &Path<'_>, entry: &Value, errors: &mut Errors) {
    match given(entry, "opaque") {
        None => errors.push(FieldError::required(path.child("opaque"), "")),
        Some(opaque) => {
            driver_name(&path.child("opaque.driver"), text(opaque, "driver"), errors);
            if given(opaque, "parameters").is_none() {
                errors.push(FieldError::required(path.child("opaque.parameters"), ""));
            }
        }
    }
}

/// Who has a claim, and what it was given.
pub(super) fn claim_status(new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    let (status, was) = (new.get("status").unwrap_or(&Value::Null), old.get("status").unwrap_or(&Value::Null));
    let path = Path::new("status");
    let reserved = list(status, "reservedFor");
    let at = path.child("reservedFor");
    set(
        &at,
        reserved,
        MAX_RESERVATIONS,
        |r| text(r, "uid"),
        &mut errors,
        |at, consumer, errors| {
            for key in ["resource", "name", "uid"] {
                required(&at.child(key), text(consumer, key), errors);
            }
        },
    );
    let allocation = given(status, "allocation");
    if !reserved.is_empty() && allocation.is_none() {
        errors.push(FieldError::forbidden(at, "may not be specified when `allocated` is not set"));
    } else if meta::is_terminating(new) && reserved.iter().any(|r| !list(was, "reservedFor").contains(r)) {
        let why = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
        errors.push(FieldError::forbidden(at, why));
    }
    if let (Some(allocation), Some(before)) = (allocation, given(was, "allocation")) {
        rules::immutable(&path.child("allocation"), Some(allocation), Some(before), &mut errors);
    }
    errors
}

/// What a driver tells of its devices.
pub(super) fn slice(spec: &Value, old: Option<&Value>) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("spec");
    driver_name(&path.child("driver"), text(spec, "driver"), &mut errors);
    pool(&path.child("pool"), spec.get("pool").unwrap_or(&Value::Null), &mut errors);
    if let Some(old) = old {
        let pool = |spec: &Value| spec.pointer("/pool/name").cloned();
        rules::immutable(&path.child("pool.name"), pool(spec).as_ref(), pool(old).as_ref(), &mut errors);
        for key in ["driver", "nodeName"] {
            rules::immutable(&path.child(key), spec.get(key), old.get(key), &mut errors);
        }
    }
    placement(&path, spec, &mut errors);
    if given(spec, "sharedCounters").is_some() && given(spec, "devices").is_some() {
        let why = "only one of `sharedCounters` or `devices` is allowed";
        errors.push(FieldError::invalid(path, &"".into(), why));
    }
    let devices = list(spec, "devices");
    let more = |d: &Value| !list(d, "taints").is_empty() || !list(d, "consumesCounters").is_empty();
    let max = if devices.iter().any(more) { MAX_DEVICES_WITH_MORE } else { MAX_DEVICES };
    set(&path.child("devices"), devices, max, named, &mut errors, device);
    let counters = path.child("sharedCounters");
    set(&counters, list(spec, "sharedCounters"), MAX_ALTERNATIVES, named, &mut errors, |at, counter, errors| {
        required_name(&at.child("name"), named(counter), names::dns1123_label, errors);
    });
    errors
}

fn pool(path: &Path<'_>, pool: &Value, errors: &mut Errors) {
    let at = path.child("name");
    required(&at, named(pool), errors);
    if !named(pool).is_empty() {
        for part in named(pool).split('/') {
            name(&at, part, names::dns1123_subdomain, errors);
        }
    }
    let (count, generation) = (number(pool, "resourceSliceCount"), number(pool, "generation"));
    if count <= 0 {
        errors.push(FieldError::invalid(path.child("resourceSliceCount"), &count.into(), "must be greater than zero"));
    }
    if generation < 0 {
        let why = "must be greater than or equal to zero";
        errors.push(FieldError::invalid(path.child("generation"), &generation.into(), why));
    }
}

/// Which nodes the devices are on, said in one way.
fn placement(path: &Path<'_>, spec: &Value, errors: &mut Errors) {
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    let mut said = Vec::new();
    match given(spec, "nodeName").and_then(Value::as_str) {
        Some("") => {
            let why = "must be either unset or set to a non-empty string";
            errors.push(FieldError::invalid(path.child("nodeName"), &"".into(), why));
        }
        Some(node) => {
            said.push("`nodeName`");
            name(&path.child("nodeName"), node, names::dns1123_subdomain, errors);
        }
        None => {}
    }
    if let Some(found) = given(spec, "nodeSelector") {
        said.push("`nodeSelector`");
        let at = path.child("nodeSelector");
        selector::node_selector(&at, found, errors);
        let terms = list(found, "nodeSelectorTerms");
        if terms.len() != 1 {
            let why = "must have exactly one node selector term";
            errors.push(FieldError::invalid(at.child("nodeSelectorTerms"), &json!(terms), why));
        }
    }
    for (key, word) in [("allNodes", "`allNodes`"), ("perDeviceNodeSelection", "`perDeviceNodeSelection`")] {
        match given(spec, key).and_then(Value::as_bool) {
            Some(true) => said.push(word),
            Some(false) => {
                let why = "must be either unset or set to true";
                errors.push(FieldError::invalid(path.child(key), &false.into(), why));
            }
            None => {}
        }
    }
    match said.len() {
        0 => errors.push(FieldError::required(path, ONE)),
        1 => {}
        _ => {
            let shown = format!("{{{}}}", said.join(", "));
            let why = format!("{ONE}, but multiple fields are set");
            errors.push(FieldError::invalid(path, &shown.into(), &why));
        }
    }
}

fn device(path: &Path<'_>, device: &Value, errors: &mut Errors) {
    required_name(&path.child("name"), named(device), names::dns1123_label, errors);
    let attributes = path.child("attributes");
    for (key, attribute) in device.get("attributes").and_then(Value::as_object).into_iter().flatten() {
        let values = attribute.as_object().map_or(0, |a| a.values().filter(|v| !v.is_null()).count());
        if values != 1 {
            let shown = if values == 0 { "".into() } else { attribute.clone() };
            errors.push(FieldError::invalid(attributes.key(key), &shown, "exactly one value must be specified"));
        }
    }
    let taints = path.child("taints");
    for (i, taint) in list(device, "taints").iter().enumerate() {
        let at = taints.index(i);
        name(&at.child("key"), text(taint, "key"), names::qualified_name, errors);
        name(&at.child("value"), text(taint, "value"), names::label_value, errors);
        rules::required_one_of(&at.child("effect"), text(taint, "effect"), TAINT_EFFECTS, errors);
    }
}
