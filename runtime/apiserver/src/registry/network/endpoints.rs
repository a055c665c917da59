//! Endpoints and EndpointSlices.

use kiln_apimachinery::path::Path;
use kiln_apimachinery::{FieldError, meta, names};
use serde_json::Value;

use crate::registry::rules::{self, Errors, domain, given, list, name, net, number, required_one_of, text};
use crate::registry::strategy::{Strategy, Writer, default_to};

const ADDRESS_TYPES: &[&str] = &["FQDN", "IPv4", "IPv6"];
const MAX_ENDPOINTS: usize = 1000;
const MAX_ADDRESSES: usize = 100;
const MAX_PORTS: usize = 20000;
const MAX_HINTS: usize = 8;

pub(crate) struct Endpoints;

impl Strategy for Endpoints {
    fn default(&self, object: &mut Value) {
        for subset in object.get_mut("subsets").and_then(Value::as_array_mut).into_iter().flatten() {
            for port in subset.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
                default_to(port, "protocol", "TCP");
            }
        }
    }

    fn prepare_update(&self, _writer: &Writer<'_>, _new: &mut Value, _old: &Value) {}

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let path = Path::new("subsets");
        for (i, subset) in list(object, "subsets").iter().enumerate() {
            self::subset(&path.index(i), subset, &mut errors);
        }
        errors
    }

    fn validate_write(&self, _writer: &Writer<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        // What was good once may stay.
        if new.get("subsets") == old.get("subsets") { Errors::new() } else { self.validate(new) }
    }
}

fn subset(path: &Path<'_>, subset: &Value, errors: &mut Errors) {
    if list(subset, "addresses").is_empty() && list(subset, "notReadyAddresses").is_empty() {
        errors.push(FieldError::required(path, "must specify `addresses` or `notReadyAddresses`"));
    }
    for key in ["addresses", "notReadyAddresses"] {
        let addresses = path.child(key);
        for (i, address) in list(subset, key).iter().enumerate() {
            let path = addresses.index(i);
            net::ip(&path.child("ip"), text(address, "ip"), &[], errors);
            if !text(address, "hostname").is_empty() {
                name(&path.child("hostname"), text(address, "hostname"), names::dns1123_label, errors);
            }
            if let Some(node) = given(address, "nodeName").and_then(Value::as_str) {
                name(&path.child("nodeName"), node, names::dns1123_subdomain, errors);
            }
            net::endpoint_ip(&path.child("ip"), text(address, "ip"), errors);
        }
    }
    let (ports, all) = (path.child("ports"), list(subset, "ports"));
    for (i, port) in all.iter().enumerate() {
        let path = ports.index(i);
        match text(port, "name") {
            "" if all.len() > 1 => errors.push(FieldError::required(path.child("name"), "")),
            "" => {}
            port_name => name(&path.child("name"), port_name, names::dns1123_label, errors),
        }
        net::port(&path.child("port"), number(port, "port"), errors);
        required_one_of(&path.child("protocol"), text(port, "protocol"), net::PROTOCOLS, errors);
        if let Some(protocol) = given(port, "appProtocol").and_then(Value::as_str) {
            name(&path.child("appProtocol"), protocol, names::qualified_name, errors);
        }
    }
}

pub(crate) struct EndpointSlices;

impl Strategy for EndpointSlices {
    fn default(&self, object: &mut Value) {
        for port in object.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
            default_to(port, "name", "");
            default_to(port, "protocol", "TCP");
        }
    }

    fn prepare_create(&self, _writer: &Writer<'_>, object: &mut Value) {
        drop_topology(object);
    }

    fn prepare_update(&self, _writer: &Writer<'_>, new: &mut Value, old: &Value) {
        // Labels say whose slice it is, so their changes count as well.
        if meta::labels(new) != meta::labels(old) {
            let generation = meta::at(old, &["metadata", "generation"]).and_then(Value::as_i64).unwrap_or(0);
            meta::metadata_mut(new).insert("generation".into(), (generation + 1).into());
        }
        drop_topology(new);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = ports(object);
        endpoints(object, &mut errors);
        errors
    }

    fn validate_write(&self, _writer: &Writer<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = ports(new);
        // What was good once may stay.
        if new.get("endpoints") != old.get("endpoints") {
            endpoints(new, &mut errors);
        }
        let path = Path::new("addressType");
        rules::immutable(&path, new.get("addressType"), old.get("addressType"), &mut errors);
        errors
    }
}

/// A field of the beta, which version 1 shows and does not take.
fn drop_topology(slice: &mut Value) {
    for endpoint in slice.get_mut("endpoints").and_then(Value::as_array_mut).into_iter().flatten() {
        meta::object_mut(endpoint).remove("deprecatedTopology");
    }
}

fn ports(slice: &Value) -> Errors {
    let mut errors = Errors::new();
    required_one_of(&Path::new("addressType"), text(slice, "addressType"), ADDRESS_TYPES, &mut errors);
    let (path, all) = (Path::new("ports"), list(slice, "ports"));
    if all.len() > MAX_PORTS {
        errors.push(FieldError::too_many(path, all.len(), MAX_PORTS));
        return errors;
    }
    for (i, port) in all.iter().enumerate() {
        let path = path.index(i);
        let port_name = text(port, "name");
        if !port_name.is_empty() {
            name(&path.child("name"), port_name, names::dns1123_label, &mut errors);
        }
        if all[..i].iter().any(|p| text(p, "name") == port_name) {
            errors.push(FieldError::duplicate(path.child("name"), &port_name.into()));
        }
        required_one_of(&path.child("protocol"), text(port, "protocol"), net::PROTOCOLS, &mut errors);
        if let Some(protocol) = given(port, "appProtocol").and_then(Value::as_str) {
            name(&path.child("appProtocol"), protocol, names::qualified_name, &mut errors);
        }
    }
    errors
}

fn endpoints(slice: &Value, errors: &mut Errors) {
    let (path, all) = (Path::new("endpoints"), list(slice, "endpoints"));
    if all.len() > MAX_ENDPOINTS {
        errors.push(FieldError::too_many(path, all.len(), MAX_ENDPOINTS));
        return;
    }
    for (i, endpoint) in all.iter().enumerate() {
        let path = path.index(i);
        addresses(&path.child("addresses"), endpoint, text(slice, "addressType"), errors);
        if let Some(node) = given(endpoint, "nodeName").and_then(Value::as_str) {
            name(&path.child("nodeName"), node, names::dns1123_subdomain, errors);
        }
        if let Some(host) = given(endpoint, "hostname").and_then(Value::as_str) {
            name(&path.child("hostname"), host, names::dns1123_label, errors);
        }
        if let Some(given) = given(endpoint, "hints") {
            let path = path.child("hints");
            hints(&path.child("forZones"), list(given, "forZones"), names::label_value, errors);
            hints(&path.child("forNodes"), list(given, "forNodes"), names::dns1123_subdomain, errors);
        }
    }
}

fn addresses(path: &Path<'_>, endpoint: &Value, kind: &str, errors: &mut Errors) {
    let all = meta::strings(endpoint.get("addresses"));
    match all.len() {
        0 => errors.push(FieldError::required(path, "must contain at least 1 address")),
        n if n > MAX_ADDRESSES => errors.push(FieldError::too_many(path, n, MAX_ADDRESSES)),
        _ => {}
    }
    for (i, address) in all.into_iter().enumerate() {
        let at = path.index(i);
        let read = match kind {
            "IPv4" => net::ip(&at, address, &[], errors),
            "IPv6" => net::canonical_ip(&at, address, errors),
            "FQDN" => {
                domain::fully_qualified(&at, address, errors);
                None
            }
            _ => None,
        };
        let Some(read) = read else { continue };
        if read.is_ipv4() != (kind == "IPv4") {
            errors.push(FieldError::invalid(path, &address.into(), &format!("must be an {kind} address")));
        }
        net::endpoint_ip(&at, address, errors);
    }
}

fn hints(path: &Path<'_>, all: &[Value], rule: names::NameRule, errors: &mut Errors) {
    if all.len() > MAX_HINTS {
        errors.push(FieldError::too_many(path, all.len(), MAX_HINTS));
        return;
    }
    for (i, hint) in all.iter().enumerate() {
        let at = path.index(i);
        let hinted = text(hint, "name");
        if all[..i].iter().any(|h| text(h, "name") == hinted) {
            errors.push(FieldError::duplicate(at.child("name"), &hinted.into()));
        }
        name(&at.child("name"), hinted, rule, errors);
    }
}
