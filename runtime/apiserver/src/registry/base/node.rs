//! Nodes: pod CIDRs that are set once, taints that make sense, capacities that are quantities.

use kiln_apimachinery::net::Cidr;
use kiln_apimachinery::path::Path;
use kiln_apimachinery::{FieldError, meta, names};
use serde_json::{Value, json};

use crate::registry::rules::{Errors, list, name, net, quantities, required_one_of, text};
use crate::registry::strategy::Strategy;

const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

pub(crate) struct Nodes;

impl Strategy for Nodes {
    fn default(&self, object: &mut Value) {
        let spec = meta::child(object, "spec");
        // The first of the networks, and all of them, say the same.
        let (one, all) = (spec.get("podCIDR").cloned(), spec.get("podCIDRs").cloned());
        let first = all.as_ref().and_then(|a| a.get(0)).cloned();
        match (one.filter(|v| *v != json!("")), first) {
            (Some(one), None) => {
                spec.insert("podCIDRs".into(), json!([one]));
            }
            (None, Some(first)) => {
                spec.insert("podCIDR".into(), first);
            }
            _ => {}
        }
        let status = meta::child(object, "status");
        // A node that does not say what pods may use of it lets them use all.
        if !status.contains_key("allocatable")
            && let Some(capacity) = status.get("capacity").cloned()
        {
            status.insert("allocatable".into(), capacity);
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let Some(spec) = object.get("spec") else { return errors };
        // Upstream says `metadata` where it means `spec`, and clients know it so.
        taints(&Path::new("metadata.taints"), list(spec, "taints"), &mut errors);
        for field in ["status.capacity", "status.allocatable"] {
            let path = Path::new(field);
            let key = field.trim_start_matches("status.");
            for (resource, value) in meta::at(object, &["status", key]).and_then(Value::as_object).into_iter().flatten()
            {
                quantities::amount(&path.child(resource), resource, value, &mut errors);
            }
        }
        let path = Path::new("spec.podCIDRs");
        let cidrs = meta::strings(spec.get("podCIDRs"));
        let read: Vec<Option<Cidr>> =
            cidrs.iter().enumerate().map(|(i, c)| net::cidr(&path.index(i), c, &[], &mut errors)).collect();
        let v6 = read.iter().flatten().filter(|c| c.is_v6()).count();
        if cidrs.len() > 2 || (cidrs.len() == 2 && v6 != 1) {
            let why = "may specify no more than one CIDR for each IP family";
            errors.push(FieldError::invalid(path, &json!(cidrs), why));
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let at = |o: &Value, key: &str| meta::at(o, &["spec", key]).cloned();
        let had = at(old, "podCIDRs").filter(|v| *v != json!([]));
        if had.is_some() && at(new, "podCIDRs") != had {
            let why = "node updates may not change podCIDR except from \"\" to valid";
            errors.push(FieldError::forbidden("spec.podCIDRs", why));
        }
        let provider = |o: &Value| meta::text(o, &["spec", "providerID"]).to_owned();
        if !provider(old).is_empty() && provider(new) != provider(old) {
            let why = "node updates may not change providerID except from \"\" to valid";
            errors.push(FieldError::forbidden("spec.providerID", why));
        }
        if at(new, "externalID") != at(old, "externalID") {
            errors.push(FieldError::forbidden("spec.externalID", "may not be updated"));
        }
        let path = Path::new("status.addresses");
        let addresses = new.get("status").map(|s| list(s, "addresses")).unwrap_or_default();
        for (i, address) in addresses.iter().enumerate() {
            if addresses[..i].contains(address) {
                errors.push(FieldError::duplicate(path.index(i), address));
            }
        }
        errors
    }
}

fn taints(path: &Path<'_>, all: &[Value], errors: &mut Errors) {
    for (i, taint) in all.iter().enumerate() {
        let at = path.index(i);
        let (key, value, effect) = (text(taint, "key"), text(taint, "value"), text(taint, "effect"));
        name(&at.child("key"), key, names::qualified_name, errors);
        name(&at.child("value"), value, names::label_value, errors);
        required_one_of(&at.child("effect"), effect, EFFECTS, errors);
        if all[..i].iter().any(|t| text(t, "key") == key && text(t, "effect") == effect) {
            errors.push(FieldError::duplicate(at, taint).because("taints must be unique by key and effect pair"));
        }
    }
}
