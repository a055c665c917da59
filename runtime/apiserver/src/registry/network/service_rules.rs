//! The rules that Services keep.

use kiln_apimachinery::path::Path;
use kiln_apimachinery::{FieldError, meta, names};
use serde_json::Value;

use super::cluster_ips;
use super::service::is_reached_from_outside;
use crate::registry::rules::{
    Errors, given, host_name, labels, list, name, net, number, one_of, required_one_of, text,
};

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const AFFINITIES: &[&str] = &["ClientIP", "None"];
const POLICIES: &[&str] = &["Cluster", "Local"];
const DISTRIBUTIONS: &[&str] = &["PreferClose", "PreferSameZone", "PreferSameNode"];
const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const MODE: &str = "service.kubernetes.io/topology-mode";
const RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
/// Longest time that a client stays with its endpoint: a day.
const MAX_AFFINITY: i64 = 86400;

fn ips(spec: &Value) -> Vec<&str> {
    meta::strings(spec.get("clusterIPs"))
}

fn is_headless(spec: &Value) -> bool {
    ips(spec) == ["None"]
}

/// The rules for any state; `old` is what an update may leave as it is.
pub(super) fn validate(service: &Value, old: Option<&Value>) -> Errors {
    let mut errors = Errors::new();
    let Some(spec) = service.get("spec") else { return errors };
    if let (Some(mode), Some(hints)) = (meta::annotation(service, MODE), meta::annotation(service, HINTS))
        && mode != hints
    {
        let why = format!("must match annotations[{HINTS}] when both are specified");
        errors.push(FieldError::invalid(format!("metadata.annotations[{MODE}]"), &mode.into(), &why));
    }
    let kind = text(spec, "type");
    if list(spec, "ports").is_empty() && !is_headless(spec) && kind != "ExternalName" {
        errors.push(FieldError::required("spec.ports", ""));
    }
    by_type(spec, kind, &mut errors);
    ports(spec, &mut errors);
    labels(&Path::new("spec.selector"), spec.get("selector"), &mut errors);
    affinity(spec, &mut errors);
    errors.extend(cluster_ips::validate(service, old));
    let path = Path::new("spec.externalIPs");
    let known = meta::strings(old.and_then(|o| meta::at(o, &["spec", "externalIPs"])));
    for (i, ip) in meta::strings(spec.get("externalIPs")).into_iter().enumerate() {
        let before = errors.len();
        net::ip(&path.index(i), ip, &known, &mut errors);
        if errors.len() == before {
            net::endpoint_ip(&path.index(i), ip, &mut errors);
        }
    }
    required_one_of(&Path::new("spec.type"), kind, TYPES, &mut errors);
    duplicate_ports(spec, kind, &mut errors);
    source_ranges(service, spec, kind, old, &mut errors);
    balancer(spec, kind, &mut errors);
    traffic(spec, kind, &mut errors);
    errors
}

fn by_type(spec: &Value, kind: &str, errors: &mut Errors) {
    match kind {
        "LoadBalancer" | "NodePort" if is_headless(spec) => {
            let why = format!("may not be set to 'None' for {kind} services");
            errors.push(FieldError::invalid("spec.clusterIPs[0]", &"None".into(), &why));
        }
        "ExternalName" => {
            for key in ["clusterIPs", "ipFamilies"] {
                if !list(spec, key).is_empty() {
                    errors
                        .push(FieldError::forbidden(format!("spec.{key}"), "may not be set for ExternalName services"));
                }
            }
            if given(spec, "ipFamilyPolicy").is_some() {
                errors.push(FieldError::forbidden("spec.ipFamilyPolicy", "may not be set for ExternalName services"));
            }
            let target = text(spec, "externalName");
            let target = target.strip_suffix('.').unwrap_or(target);
            if target.is_empty() {
                errors.push(FieldError::required("spec.externalName", ""));
            } else {
                name(&Path::new("spec.externalName"), target, names::dns1123_subdomain, errors);
            }
        }
        _ => {}
    }
}

fn ports(spec: &Value, errors: &mut Errors) {
    let path = Path::new("spec.ports");
    let all = list(spec, "ports");
    for (i, port) in all.iter().enumerate() {
        let path = path.index(i);
        let port_name = text(port, "name");
        if !port_name.is_empty() {
            name(&path.child("name"), port_name, names::dns1123_label, errors);
            if all[..i].iter().any(|p| text(p, "name") == port_name) {
                errors.push(FieldError::duplicate(path.child("name"), &port_name.into()));
            }
        } else if all.len() > 1 {
            errors.push(FieldError::required(path.child("name"), ""));
        }
        net::port(&path.child("port"), number(port, "port"), errors);
        required_one_of(&path.child("protocol"), text(port, "protocol"), net::PROTOCOLS, errors);
        net::port_or_name(&path.child("targetPort"), port.get("targetPort"), errors);
        if let Some(protocol) = given(port, "appProtocol").and_then(Value::as_str) {
            name(&path.child("appProtocol"), protocol, names::qualified_name, errors);
        }
    }
}

fn duplicate_ports(spec: &Value, kind: &str, errors: &mut Errors) {
    let path = Path::new("spec.ports");
    let all = list(spec, "ports");
    let protocol = |p: &'_ Value| text(p, "protocol").to_owned();
    let node = |p: &Value| number(p, "nodePort");
    for (i, port) in all.iter().enumerate() {
        if kind == "ClusterIP" && node(port) != 0 {
            let why = "may not be used when `type` is 'ClusterIP'";
            errors.push(FieldError::forbidden(path.index(i).child("nodePort"), why));
        }
    }
    for (i, port) in all.iter().enumerate().filter(|(_, p)| node(p) != 0) {
        if all[..i].iter().any(|p| node(p) == node(port) && protocol(p) == protocol(port)) {
            errors.push(FieldError::duplicate(path.index(i).child("nodePort"), &node(port).into()));
        }
    }
    for (i, port) in all.iter().enumerate() {
        if all[..i].iter().any(|p| number(p, "port") == number(port, "port") && protocol(p) == protocol(port)) {
            let shown = serde_json::json!({"port": number(port, "port"), "protocol": protocol(port)});
            errors.push(FieldError::duplicate(path.index(i), &shown));
        }
    }
}

fn affinity(spec: &Value, errors: &mut Errors) {
    let affinity = text(spec, "sessionAffinity");
    required_one_of(&Path::new("spec.sessionAffinity"), affinity, AFFINITIES, errors);
    if affinity != "ClientIP" {
        return;
    }
    if let Some(seconds) = spec.pointer("/sessionAffinityConfig/clientIP/timeoutSeconds").and_then(Value::as_i64)
        && !(1..=MAX_AFFINITY).contains(&seconds)
    {
        let why = format!("must be greater than 0 and less than {MAX_AFFINITY}");
        let field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
        errors.push(FieldError::invalid(field, &seconds.into(), &why));
    }
}

fn source_ranges(service: &Value, spec: &Value, kind: &str, old: Option<&Value>, errors: &mut Errors) {
    let only = "may only be used when `type` is 'LoadBalancer'";
    let ranges = meta::strings(spec.get("loadBalancerSourceRanges"));
    if !ranges.is_empty() {
        let path = Path::new("spec.LoadBalancerSourceRanges");
        if kind != "LoadBalancer" {
            errors.push(FieldError::forbidden(path, only));
        }
        let known = meta::strings(old.and_then(|o| meta::at(o, &["spec", "loadBalancerSourceRanges"])));
        let known: Vec<&str> = known.into_iter().map(str::trim).collect();
        for (i, range) in ranges.into_iter().enumerate() {
            net::cidr(&path.index(i), range.trim(), &known, errors);
        }
    } else if let Some(value) = meta::annotation(service, RANGES) {
        let annotations = Path::new("metadata.annotations");
        let path = annotations.key(RANGES);
        if kind != "LoadBalancer" {
            errors.push(FieldError::forbidden(path, only));
        }
        if old.and_then(|o| meta::annotation(o, RANGES)) != Some(value) && !value.trim().is_empty() {
            for range in value.trim().split(',') {
                net::cidr(&path, range.trim(), &[], errors);
            }
        }
    }
}

fn balancer(spec: &Value, kind: &str, errors: &mut Errors) {
    let only = "may only be used when `type` is 'LoadBalancer'";
    if kind == "LoadBalancer" {
        if let Some(class) = given(spec, "loadBalancerClass").and_then(Value::as_str) {
            name(&Path::new("spec.loadBalancerClass"), class, names::qualified_name, errors);
        }
        return;
    }
    for key in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
        if given(spec, key).is_some() {
            errors.push(FieldError::forbidden(format!("spec.{key}"), only));
        }
    }
}

fn traffic(spec: &Value, kind: &str, errors: &mut Errors) {
    let external = text(spec, "externalTrafficPolicy");
    let path = Path::new("spec.externalTrafficPolicy");
    if is_reached_from_outside(spec) {
        required_one_of(&path, external, POLICIES, errors);
    } else if !external.is_empty() {
        let why = "may only be set for externally-accessible services";
        errors.push(FieldError::invalid(path, &external.into(), why));
    }
    // One that is needed and not given is allocated after this.
    let check = number(spec, "healthCheckNodePort");
    if check != 0 {
        let path = Path::new("spec.healthCheckNodePort");
        if kind == "LoadBalancer" && external == "Local" {
            net::port(&path, check, errors);
        } else {
            let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.push(FieldError::invalid(path, &check.into(), why));
        }
    }
    if let Some(policy) = given(spec, "internalTrafficPolicy").and_then(Value::as_str) {
        one_of(&Path::new("spec.internalTrafficPolicy"), policy, POLICIES, errors);
    }
    if let Some(distribution) = given(spec, "trafficDistribution").and_then(Value::as_str) {
        one_of(&Path::new("spec.trafficDistribution"), distribution, DISTRIBUTIONS, errors);
    }
}

/// The rules for what a load balancer says of itself.
pub(super) fn balancer_status(service: &Value, old: Option<&Value>) -> Errors {
    let mut errors = Errors::new();
    let Some(balancer) = meta::at(service, &["status", "loadBalancer"]) else { return errors };
    let kind = meta::text(service, &["spec", "type"]);
    let path = Path::new("status.loadBalancer.ingress");
    let entries = list(balancer, "ingress");
    if kind != "LoadBalancer" && !entries.is_empty() {
        errors.push(FieldError::forbidden(path, "may only be used when `spec.type` is 'LoadBalancer'"));
        return errors;
    }
    let known: Vec<&str> = old
        .and_then(|o| meta::at(o, &["status", "loadBalancer"]))
        .map(|b| list(b, "ingress").iter().map(|e| text(e, "ip")).filter(|ip| !ip.is_empty()).collect())
        .unwrap_or_default();
    for (i, entry) in entries.iter().enumerate() {
        let path = path.index(i);
        let (ip, host) = (text(entry, "ip"), text(entry, "hostname"));
        if !ip.is_empty() {
            net::ip(&path.child("ip"), ip, &known, &mut errors);
        }
        match given(entry, "ipMode").and_then(Value::as_str) {
            None if !ip.is_empty() => {
                errors.push(FieldError::required(path.child("ipMode"), "must be specified when `ip` is set"));
            }
            None => {}
            Some(_) if ip.is_empty() => {
                let why = "may not be specified when `ip` is not set";
                errors.push(FieldError::forbidden(path.child("ipMode"), why));
            }
            Some(mode) => one_of(&path.child("ipMode"), mode, &["Proxy", "VIP"], &mut errors),
        }
        if !host.is_empty() {
            host_name(&path.child("hostname"), host, &mut errors);
        }
    }
    errors
}

/// The rules for a change.
pub(super) fn validate_update(new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    let (Some(spec), Some(was)) = (new.get("spec"), old.get("spec")) else { return errors };
    if text(spec, "type") != "ExternalName" && text(was, "type") != "ExternalName" {
        kept_addresses(spec, was, &mut errors);
        kept_families(spec, was, &mut errors);
    }
    let balanced = |s: &Value| text(s, "type") == "LoadBalancer";
    if balanced(spec) && balanced(was) && spec.get("loadBalancerClass") != was.get("loadBalancerClass") {
        let shown = spec.get("loadBalancerClass").cloned().unwrap_or_default();
        errors.push(FieldError::invalid("spec.loadBalancerClass", &shown, "may not change once set"));
    }
    let checked = |s: &Value| balanced(s) && text(s, "externalTrafficPolicy") == "Local";
    if checked(spec) && checked(was) && number(spec, "healthCheckNodePort") != number(was, "healthCheckNodePort") {
        errors.push(FieldError::forbidden("spec.healthCheckNodePort", "field is immutable"));
    }
    errors
}

fn kept_addresses(spec: &Value, was: &Value, errors: &mut Errors) {
    if is_headless(spec) && is_headless(was) {
        return;
    }
    let (new, old) = (ips(spec), ips(was));
    let shown = spec.get("clusterIPs").cloned().unwrap_or_default();
    for (i, ip) in old.iter().enumerate().take(if new.len() == old.len() { old.len() } else { 1 }) {
        if new.get(i).is_some_and(|n| n != ip) {
            errors.push(FieldError::invalid(format!("spec.clusterIPs[{i}]"), &shown, "may not change once set"));
        }
    }
    if new.is_empty() && !old.is_empty() {
        errors.push(FieldError::invalid("spec.clusterIPs[0]", &shown, "primary clusterIP can not be unset"));
    }
    if new.len() == 1 && old.len() > 1 && text(spec, "ipFamilyPolicy") != "SingleStack" {
        let policy = spec.get("ipFamilyPolicy").cloned().unwrap_or_default();
        let why = "must be set to 'SingleStack' when releasing the secondary clusterIP";
        errors.push(FieldError::invalid("spec.ipFamilyPolicy", &policy, why));
    }
}

fn kept_families(spec: &Value, was: &Value, errors: &mut Errors) {
    if is_headless(spec) || is_headless(was) {
        return;
    }
    let families =
        |s: &Value| -> Vec<String> { meta::strings(s.get("ipFamilies")).into_iter().map(str::to_owned).collect() };
    let (new, old) = (families(spec), families(was));
    let shown = spec.get("ipFamilies").cloned().unwrap_or_default();
    let count = if new.len() == old.len() { old.len() } else { 1 };
    for _ in old.iter().zip(&new).take(count).filter(|(was, is)| was != is) {
        errors.push(FieldError::invalid("spec.ipFamilies[0]", &shown, "may not change once set"));
    }
    if new.len() == 1 && old.len() > 1 && text(spec, "ipFamilyPolicy") != "SingleStack" {
        let policy = spec.get("ipFamilyPolicy").cloned().unwrap_or_default();
        let why = "must be set to 'SingleStack' when releasing the secondary ipFamily";
        errors.push(FieldError::invalid("spec.ipFamilyPolicy", &policy, why));
    }
}
