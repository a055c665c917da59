//! The rules about a Service's cluster IPs and the families they are of.

use std::net::IpAddr;

use kiln_apimachinery::net::parse_ip_loosely;
use kiln_apimachinery::path::Path;
use kiln_apimachinery::{FieldError, meta};
use serde_json::Value;

use crate::registry::rules::{Errors, net, one_of};

const FAMILIES: &[&str] = &["IPv4", "IPv6"];
const POLICIES: &[&str] = &["PreferDualStack", "RequireDualStack", "SingleStack"];

fn strings<'a>(service: &'a Value, key: &str) -> Vec<&'a str> {
    meta::strings(meta::at(service, &["spec", key]))
}

/// The complaints; an ExternalName has none of these fields.
pub(crate) fn validate(service: &Value, old: Option<&Value>) -> Errors {
    let mut errors = Errors::new();
    if meta::text(service, &["spec", "type"]) == "ExternalName" {
        return errors;
    }
    let ips = strings(service, "clusterIPs");
    let all = meta::at(service, &["spec", "clusterIPs"]).cloned().unwrap_or_default();
    match (meta::text(service, &["spec", "clusterIP"]), ips.first()) {
        ("", None) => {}
        ("", Some(_)) => {
            errors.push(FieldError::invalid(
                "spec.clusterIPs",
                &all,
                "must be empty when `clusterIP` is not specified",
            ));
        }
        (_, None) => errors.push(FieldError::required("spec.clusterIPs", "")),
        (one, Some(first)) if one != *first => {
            errors.push(FieldError::invalid("spec.clusterIPs", &all, "first value must match `clusterIP`"));
        }
        _ => {}
    }
    let families = strings(service, "ipFamilies");
    for (i, family) in families.iter().enumerate() {
        let path = Path::new("spec.ipFamilies");
        one_of(&path.index(i), family, FAMILIES, &mut errors);
        if families[..i].contains(family) {
            errors.push(FieldError::duplicate(path.index(i), &(*family).into()));
        }
    }
    if let Some(policy) = meta::at(service, &["spec", "ipFamilyPolicy"]).and_then(Value::as_str) {
        one_of(&Path::new("spec.ipFamilyPolicy"), policy, POLICIES, &mut errors);
    }
    validate_ips(&ips, &families, &all, old, &mut errors);
    errors
}

fn validate_ips(ips: &[&str], families: &[&str], all: &Value, old: Option<&Value>, errors: &mut Errors) {
    let path = Path::new("spec.clusterIPs");
    let had = old.map(|o| strings(o, "clusterIPs")).unwrap_or_default();
    let before = errors.len();
    for (i, ip) in ips.iter().enumerate() {
        if i == 0 && *ip == "None" {
            if ips.len() > 1 {
                errors.push(FieldError::invalid(path, all, "'None' must be the first and only value"));
            }
            continue;
        }
        net::ip(&path.index(i), ip, &had, errors);
    }
    let is_bad = errors.len() > before;
    if ips.len() > 2 {
        errors.push(FieldError::invalid(path, all, "may only hold up to 2 values"));
    }
    // Complaints about families of what is no address would mislead.
    if is_bad {
        return;
    }
    let addresses: Vec<Option<IpAddr>> = ips.iter().map(|ip| parse_ip_loosely(ip)).collect();
    let v6 = addresses.iter().flatten().filter(|a| a.is_ipv6()).count();
    if ips.len() > 1 && (v6 == 0 || v6 == ips.len()) {
        errors.push(FieldError::invalid(path, all, "may specify no more than one IP for each IP family"));
    }
    for (i, (address, family)) in addresses.iter().zip(families).enumerate() {
        let Some(address) = address else { continue };
        let is = if address.is_ipv4() { "IPv4" } else { "IPv6" };
        if FAMILIES.contains(family) && is != *family {
            let why = format!("expected an {family} value as indicated by `ipFamilies[{i}]`");
            errors.push(FieldError::invalid(path.index(i), &ips[i].into(), &why));
        }
    }
}
