//! Which families of addresses a Service has: what it says, what it had, and what the cluster can give.

use std::net::IpAddr;

use kiln_apimachinery::{FieldError, meta, net};
use serde_json::{Map, Value, json};

use crate::registry::network::cluster_ips;
use crate::registry::strategy::put;

/// The families of the cluster, the default one first.
pub(super) type Families = [&'static str];

pub(super) const V4: &str = "IPv4";
pub(super) const V6: &str = "IPv6";

pub(super) fn family_of(address: IpAddr) -> &'static str {
    if address.is_ipv4() { V4 } else { V6 }
}

fn other(family: &str) -> &'static str {
    if family == V4 { V6 } else { V4 }
}

fn text<'a>(service: &'a Value, key: &str) -> &'a str {
    meta::text(service, &["spec", key])
}

fn list<'a>(service: &'a Value, key: &str) -> Vec<&'a str> {
    meta::strings(meta::at(service, &["spec", key]))
}

fn is_external(service: &Value) -> bool {
    text(service, "type") == "ExternalName"
}

fn set(service: &mut Value, key: &str, value: impl Into<Value>) {
    meta::child(service, "spec").insert(key.into(), value.into());
}

/// `clusterIP` and the first of `clusterIPs` say the same, whichever of the two the writer set or cleared.
pub(super) fn normalize(service: &mut Value, old: Option<&Value>) {
    let given = text(service, "clusterIP").to_owned();
    let Some(old) = old else {
        if !given.is_empty() && list(service, "clusterIPs").is_empty() {
            set(service, "clusterIPs", json!([given]));
        }
        return;
    };
    let (was, were) = (text(old, "clusterIP"), list(old, "clusterIPs"));
    if !were.is_empty() && list(service, "clusterIPs").is_empty() && was == given {
        set(service, "clusterIPs", json!(were));
    }
    if was != given && list(service, "clusterIPs") == were {
        let spec = meta::child(service, "spec");
        if !was.is_empty() && given.is_empty() {
            spec.remove("clusterIPs");
        } else {
            spec.insert("clusterIPs".into(), json!([given]));
        }
    }
}

/// An update that leaves everything about families as it is, or leaves it to the cluster.
pub(super) fn is_settled(new: &Value, old: &Value) -> bool {
    const PREFER: &str = "PreferDualStack";
    let old_policy = text(old, "ipFamilyPolicy");
    text(new, "ipFamilyPolicy") == PREFER
        && (old_policy.is_empty() || old_policy == PREFER)
        && text(new, "type") == text(old, "type")
        && !is_external(new)
        && list(new, "clusterIPs") == list(old, "clusterIPs")
        && list(new, "ipFamilies") == list(old, "ipFamilies")
}

/// Fills in policy and families, or says why that can't be.
pub(super) fn fill(service: &mut Value, old: Option<&Value>, cluster: &Families) -> Result<(), Vec<FieldError>> {
    if is_external(service) || old.is_some_and(|old| is_settled(service, old)) {
        return Ok(());
    }
    let selects = !meta::string_map(meta::at(service, &["spec", "selector"])).is_empty();
    let bare_headless = text(service, "clusterIP") == "None" && !selects;
    if text(service, "ipFamilyPolicy").is_empty() {
        let policy = match old.map(|o| text(o, "ipFamilyPolicy")).filter(|p| !p.is_empty()) {
            Some(policy) => policy.to_owned(),
            // Who manages the endpoints may well have some of both families.
            None if bare_headless => "RequireDualStack".to_owned(),
            None => "SingleStack".to_owned(),
        };
        set(service, "ipFamilyPolicy", policy);
    }
    let errors = cluster_ips::validate(service, old);
    if !errors.is_empty() {
        return Err(errors);
    }
    if let Some(old) = old {
        reduce(service, old)?;
    }
    name_families(service, cluster)?;
    complete(service, cluster, bare_headless)
}

/// A change to a single family lets go of the second of each; nothing else does.
fn reduce(service: &mut Value, old: &Value) -> Result<(), Vec<FieldError>> {
    let policy = meta::at(service, &["spec", "ipFamilyPolicy"]).cloned().unwrap_or_default();
    let mut errors = Vec::new();
    for (key, what) in [("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")] {
        let (new, was) = (list(service, key), list(old, key));
        if policy == "SingleStack" {
            if new == was && new.len() > 1 {
                let first = json!([new[0]]);
                set(service, key, first);
            }
        } else if !new.is_empty() && new.len() < was.len() {
            let why = format!("must be 'SingleStack' to release the secondary {what}");
            errors.push(FieldError::invalid("spec.ipFamilyPolicy", &policy, &why));
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// Families of the addresses that are given; complaints about those that the policy or the cluster has no place for.
fn name_families(service: &mut Value, cluster: &Families) -> Result<(), Vec<FieldError>> {
    let mut errors = Vec::new();
    if text(service, "ipFamilyPolicy") == "SingleStack" {
        for (key, what) in [("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families")] {
            if list(service, key).len() == 2 {
                let why = format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
                errors.push(FieldError::invalid("spec.ipFamilyPolicy", &"SingleStack".into(), &why));
            }
        }
    }
    let mut families: Vec<String> = list(service, "ipFamilies").into_iter().map(str::to_owned).collect();
    let all = meta::at(service, &["spec", "clusterIPs"]).cloned().unwrap_or_default();
    for (i, ip) in list(service, "clusterIPs").into_iter().enumerate().take_while(|(_, ip)| *ip != "None") {
        let Some(family) = net::parse_ip_loosely(ip).map(family_of).filter(|_| i >= families.len()) else { continue };
        if cluster.contains(&family) {
            families.push(family.to_owned());
        } else {
            let why = format!("{family} is not configured on this cluster");
            errors.push(FieldError::invalid(format!("spec.clusterIPs[{i}]"), &all, &why));
        }
    }
    if !families.is_empty() {
        set(service, "ipFamilies", families);
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// The families that are left to the cluster.
fn complete(service: &mut Value, cluster: &Families, bare_headless: bool) -> Result<(), Vec<FieldError>> {
    let policy = text(service, "ipFamilyPolicy").to_owned();
    let mut families: Vec<String> = list(service, "ipFamilies").into_iter().map(str::to_owned).collect();
    let mut errors = Vec::new();
    if !bare_headless {
        if policy == "RequireDualStack" && cluster.len() < 2 {
            let why = "this cluster is not configured for dual-stack services";
            errors.push(FieldError::invalid("spec.ipFamilyPolicy", &policy.as_str().into(), why));
        }
        for (i, family) in families.iter().enumerate().filter(|(_, f)| !cluster.contains(&f.as_str())) {
            let why = "not configured on this cluster";
            errors.push(FieldError::invalid(format!("spec.ipFamilies[{i}]"), &family.as_str().into(), why));
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    if families.is_empty() {
        families.extend(cluster.first().map(|f| (*f).to_owned()));
    }
    if policy != "SingleStack" && families.len() == 1 && (bare_headless || cluster.len() == 2) {
        families.push(other(&families[0]).to_owned());
    }
    set(service, "ipFamilies", families);
    Ok(())
}

/// Gives an update what the writer left out and the object has: addresses and ports that were given to it.
pub(super) fn patch_allocated(new: &mut Value, old: &Value) {
    if !is_external(old) && !is_external(new) {
        if text(new, "clusterIP").is_empty() {
            put_in_spec(new, old, "clusterIP");
        }
        if list(new, "clusterIPs").is_empty() && !list(old, "clusterIPs").is_empty() {
            put_in_spec(new, old, "clusterIPs");
        }
    }
    if super::service::needs_node_ports(old) && super::service::needs_node_ports(new) {
        patch_node_ports(new, old);
    }
    if super::service::needs_health_check(old)
        && super::service::needs_health_check(new)
        && super::service::number(&new["spec"], "healthCheckNodePort") == 0
    {
        put_in_spec(new, old, "healthCheckNodePort");
    }
}

fn put_in_spec(new: &mut Value, old: &Value, key: &str) {
    let kept = meta::at(old, &["spec", key]).cloned();
    meta::child(new, "spec");
    if let Some(spec) = new.get_mut("spec") {
        put(spec, key, kept);
    }
}

/// A port without a node port keeps that which the port of its name had, unless another one took it.
fn patch_node_ports(new: &mut Value, old: &Value) {
    let ports = |service: &Value| -> Vec<Value> {
        meta::at(service, &["spec", "ports"]).and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let node_port = |p: &Value| super::service::number(p, "nodePort");
    let (old_ports, new_ports) = (ports(old), ports(new));
    let mut used: Vec<i64> = old_ports.iter().map(node_port).filter(|n| *n != 0).collect();
    used.retain(|n| new_ports.iter().any(|p| node_port(p) == *n));
    let list = new.pointer_mut("/spec/ports").and_then(Value::as_array_mut);
    for port in list.into_iter().flatten().filter(|p| super::service::number(p, "nodePort") == 0) {
        let named = old_ports.iter().rev().find(|o| meta::text(o, &["name"]) == meta::text(port, &["name"]));
        if let Some(number) = named.map(node_port).filter(|n| *n != 0 && !used.contains(n)) {
            let port: &mut Map<String, Value> = meta::object_mut(port);
            port.insert("nodePort".into(), number.into());
        }
    }
}
