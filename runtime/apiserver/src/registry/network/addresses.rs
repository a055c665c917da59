//! ServiceCIDRs and the IPAddresses that are taken out of them.

use kiln_apimachinery::names::{self, NameRule};
use kiln_apimachinery::net::Cidr;
use kiln_apimachinery::path::Path;
use kiln_apimachinery::{FieldError, meta, time};
use serde_json::{Value, json};

use crate::registry::rules::{self, Errors, given, name, net, required_name, text};
use crate::registry::strategy::{Strategy, Writer, put, split_status};

pub(crate) struct IpAddresses;

/// The name is the address, written as it would be shown.
fn address_name(value: &str) -> Vec<String> {
    let mut errors = Errors::new();
    net::canonical_ip(&Path::new(""), value, &mut errors);
    errors.iter().map(|e| e.detail().to_owned()).collect()
}

impl Strategy for IpAddresses {
    fn name_rule(&self) -> NameRule {
        address_name
    }

    fn default(&self, object: &mut Value) {
        meta::child(object, "spec");
    }

    fn prepare_update(&self, _writer: &Writer<'_>, _new: &mut Value, _old: &Value) {}

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let path = Path::new("spec.parentRef");
        let Some(parent) = object.get("spec").and_then(|s| given(s, "parentRef")) else {
            errors.push(FieldError::required(path, ""));
            return errors;
        };
        if !text(parent, "group").is_empty() {
            name(&path.child("group"), text(parent, "group"), names::dns1123_subdomain, &mut errors);
        }
        required_name(&path.child("resource"), text(parent, "resource"), names::path_segment, &mut errors);
        required_name(&path.child("name"), text(parent, "name"), names::path_segment, &mut errors);
        if !text(parent, "namespace").is_empty() {
            name(&path.child("namespace"), text(parent, "namespace"), names::path_segment, &mut errors);
        }
        errors
    }

    fn validate_write(&self, _writer: &Writer<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let parent = |o: &Value| meta::at(o, &["spec", "parentRef"]).cloned();
        rules::immutable(&Path::new("spec.parentRef"), parent(new).as_ref(), parent(old).as_ref(), &mut errors);
        errors
    }
}

pub(crate) struct ServiceCidrs;

impl Strategy for ServiceCidrs {
    fn default(&self, object: &mut Value) {
        meta::child(object, "spec");
    }

    fn prepare_create(&self, writer: &Writer<'_>, object: &mut Value) {
        // Addresses are looked up in the store, so there is nothing to wait for.
        let ready = json!({
            "type": "Ready", "status": "True", "reason": "", "message": "Kubernetes Service CIDR is ready",
            "lastTransitionTime": time::rfc3339(writer.now),
        });
        put(object, "status", Some(json!({"conditions": [ready]})));
    }

    fn prepare_update(&self, writer: &Writer<'_>, new: &mut Value, old: &Value) {
        split_status(writer, new, old);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        cidrs(object, &mut errors);
        errors
    }

    fn validate_write(&self, writer: &Writer<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        if writer.subresource == "status" {
            return errors;
        }
        let list = |o: &Value| -> Vec<String> {
            meta::strings(meta::at(o, &["spec", "cidrs"])).into_iter().map(str::to_owned).collect()
        };
        let (new_list, old_list) = (list(new), list(old));
        let path = Path::new("spec.cidrs");
        match (old_list.len(), new_list.len()) {
            // A second family may join.
            (1, 2) => {
                if new_list[0] != old_list[0] {
                    errors.push(FieldError::invalid(path.index(0), &new_list[0].as_str().into(), rules::IMMUTABLE));
                }
                cidrs(new, &mut errors);
            }
            (was, is) if was == is => {
                for (i, (new, _)) in new_list.iter().zip(&old_list).enumerate().filter(|(_, (n, o))| n != o) {
                    errors.push(FieldError::invalid(path.index(i), &new.as_str().into(), rules::IMMUTABLE));
                }
            }
            _ => errors.push(FieldError::invalid(path, &json!(new_list), rules::IMMUTABLE)),
        }
        errors
    }
}

fn cidrs(object: &Value, errors: &mut Errors) {
    let all = meta::strings(meta::at(object, &["spec", "cidrs"]));
    let path = Path::new("spec.cidrs");
    match all.len() {
        0 => {
            errors.push(FieldError::required(path, "at least one CIDR required"));
            return;
        }
        1 | 2 => {}
        _ => {
            let spec = object.get("spec").cloned().unwrap_or_default();
            errors.push(FieldError::invalid(path, &spec, "may only hold up to 2 values"));
            return;
        }
    }
    let read: Vec<Option<Cidr>> =
        all.iter().enumerate().map(|(i, c)| net::canonical_cidr(&path.index(i), c, errors)).collect();
    if let [Some(a), Some(b)] = read.as_slice()
        && a.is_v6() == b.is_v6()
    {
        let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.push(FieldError::invalid(path, &json!(all), why));
    }
}
