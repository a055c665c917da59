//! NetworkPolicies.

use kiln_apimachinery::net::Cidr;
use kiln_apimachinery::path::Path;
use kiln_apimachinery::{FieldError, meta};
use serde_json::{Value, json};

use crate::registry::rules::{Errors, given, list, name, net, number, one_of, selector, text};
use crate::registry::strategy::{Strategy, Writer, default_to};

const TYPES: &[&str] = &["Ingress", "Egress"];
/// Rules of both directions, and where each names its peers.
const DIRECTIONS: [(&str, &str); 2] = [("ingress", "from"), ("egress", "to")];

pub(crate) struct NetworkPolicies;

impl Strategy for NetworkPolicies {
    fn default(&self, object: &mut Value) {
        meta::child(object, "spec");
        let Some(spec) = object.get_mut("spec") else { return };
        default_to(spec, "podSelector", json!({}));
        if list(spec, "policyTypes").is_empty() {
            let both = !list(spec, "egress").is_empty();
            let types = if both { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
            meta::object_mut(spec).insert("policyTypes".into(), types);
        }
        for (rules, _) in DIRECTIONS {
            for rule in spec.get_mut(rules).and_then(Value::as_array_mut).into_iter().flatten() {
                for port in rule.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
                    default_to(port, "protocol", "TCP");
                }
            }
        }
    }

    fn prepare_update(&self, _writer: &Writer<'_>, _new: &mut Value, _old: &Value) {}

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validate(object, &[])
    }

    fn validate_write(&self, _writer: &Writer<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        validate(new, &networks(old))
    }
}

/// All networks that a policy names.
fn networks(policy: &Value) -> Vec<&str> {
    let mut out = Vec::new();
    let Some(spec) = policy.get("spec") else { return out };
    for (rules, peers) in DIRECTIONS {
        for peer in list(spec, rules).iter().flat_map(|rule| list(rule, peers)) {
            if let Some(block) = given(peer, "ipBlock") {
                out.push(text(block, "cidr"));
                out.extend(meta::strings(block.get("except")));
            }
        }
    }
    out
}

fn validate(object: &Value, known: &[&str]) -> Errors {
    let mut errors = Errors::new();
    let Some(spec) = object.get("spec") else { return errors };
    let path = Path::new("spec");
    let pods = spec.get("podSelector").unwrap_or(&Value::Null);
    selector::label_selector(&path.child("podSelector"), pods, &mut errors);
    for (rules, peers) in DIRECTIONS {
        let rules_path = path.child(rules);
        for (i, rule) in list(spec, rules).iter().enumerate() {
            let path = rules_path.index(i);
            let (ports_path, peers_path) = (path.child("ports"), path.child(peers));
            for (p, entry) in list(rule, "ports").iter().enumerate() {
                port(&ports_path.index(p), entry, &mut errors);
            }
            for (p, entry) in list(rule, peers).iter().enumerate() {
                peer(&peers_path.index(p), entry, known, &mut errors);
            }
        }
    }
    let types = meta::strings(spec.get("policyTypes"));
    let types_path = path.child("policyTypes");
    if types.len() > TYPES.len() {
        errors.push(FieldError::invalid(types_path, &json!(types), "may not specify more than two policyTypes"));
        return errors;
    }
    for (i, kind) in types.into_iter().enumerate() {
        one_of(&types_path.index(i), kind, TYPES, &mut errors);
    }
    errors
}

fn port(path: &Path<'_>, entry: &Value, errors: &mut Errors) {
    one_of(&path.child("protocol"), text(entry, "protocol"), &["TCP", "UDP", "SCTP"], errors);
    let end = given(entry, "endPort").and_then(Value::as_i64);
    let end_path = path.child("endPort");
    match given(entry, "port") {
        Some(Value::String(port_name)) => {
            if let Some(end) = end {
                let why = "may not be specified when `port` is non-numeric";
                errors.push(FieldError::invalid(end_path, &end.into(), why));
            }
            name(&path.child("port"), port_name, net::port_name, errors);
        }
        Some(_) => {
            let first = number(entry, "port");
            net::port(&path.child("port"), first, errors);
            if let Some(end) = end {
                if end < first {
                    let why = "must be greater than or equal to `port`";
                    errors.push(FieldError::invalid(end_path, &first.into(), why));
                }
                net::port(&end_path, end, errors);
            }
        }
        None => {
            if let Some(end) = end {
                let why = "may not be specified when `port` is not specified";
                errors.push(FieldError::invalid(end_path, &end.into(), why));
            }
        }
    }
}

fn peer(path: &Path<'_>, peer: &Value, known: &[&str], errors: &mut Errors) {
    let mut count = 0;
    for key in ["podSelector", "namespaceSelector"] {
        if let Some(found) = given(peer, key) {
            count += 1;
            selector::label_selector(&path.child(key), found, errors);
        }
    }
    let block = given(peer, "ipBlock");
    if let Some(block) = block {
        ip_block(&path.child("ipBlock"), block, known, errors);
    }
    match (count, block) {
        (0, None) => errors.push(FieldError::required(path, "must specify a peer")),
        (1.., Some(_)) => {
            errors.push(FieldError::forbidden(path, "may not specify both ipBlock and another peer"));
        }
        _ => {}
    }
}

fn ip_block(path: &Path<'_>, block: &Value, known: &[&str], errors: &mut Errors) {
    let cidr = text(block, "cidr");
    if cidr.is_empty() {
        errors.push(FieldError::required(path.child("cidr"), ""));
        return;
    }
    net::cidr(&path.child("cidr"), cidr, known, errors);
    let Some(whole) = Cidr::parse_loosely(cidr) else { return };
    let except = path.child("except");
    for (i, text) in meta::strings(block.get("except")).into_iter().enumerate() {
        net::cidr(&except.index(i), text, known, errors);
        let Some(part) = Cidr::parse_loosely(text) else { continue };
        if !whole.contains(part.masked().address()) || whole.bits() >= part.bits() {
            errors.push(FieldError::invalid(except.index(i), &text.into(), "must be a strict subset of `cidr`"));
        }
    }
}
