//! Names and addresses of a pod, and how it finds others'.

use kiln_apimachinery::names;
use kiln_apimachinery::path::Path;
use serde_json::Value;

use super::Report;
use super::words;
use crate::registry::workloads::view::{get, int, is, items, text};

const DNS_POLICIES: &[&str] = &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_BYTES: usize = 2048;

pub(super) fn check(spec: &Value, is_pod: bool, path: &Path<'_>, r: &mut Report) {
    host_network(spec, is_pod, path, r);
    r.one_of(&path.child("dnsPolicy"), text(spec, "dnsPolicy"), DNS_POLICIES);
    dns(spec, &path.child("dnsConfig"), r);
    hostname_override(spec, path, r);
    for key in ["hostname", "subdomain"] {
        let name = text(spec, key);
        if !name.is_empty() {
            r.name(&path.child(key), name, names::dns1123_label);
        }
    }
    let aliases = path.child("hostAliases");
    for (i, alias) in items(spec, "hostAliases").iter().enumerate() {
        let path = aliases.index(i);
        r.ip(&path.child("ip"), text(alias, "ip"), &[]);
        for (j, name) in items(alias, "hostnames").iter().enumerate() {
            r.name(&path.child("hostnames").index(j), name.as_str().unwrap_or_default(), names::dns1123_subdomain);
        }
    }
}

fn host_network(spec: &Value, is_pod: bool, path: &Path<'_>, r: &mut Report) {
    if !is(spec, "hostNetwork") {
        return;
    }
    let containers = path.child("containers");
    for (i, container) in items(spec, "containers").iter().enumerate() {
        let path = containers.index(i);
        for (j, port) in items(container, "ports").iter().enumerate() {
            let (host, own) = (int(port, "hostPort").unwrap_or(0), int(port, "containerPort").unwrap_or(0));
            if (is_pod || host != 0) && host != own {
                let path = path.child("ports");
                let why = "must match `containerPort` when `hostNetwork` is true";
                r.invalid(&path.index(j).child("hostPort"), host, why);
            }
        }
    }
}

fn dns(spec: &Value, path: &Path<'_>, r: &mut Report) {
    let config = get(spec, "dnsConfig");
    let nameservers = config.map_or(&[][..], |c| items(c, "nameservers"));
    if text(spec, "dnsPolicy") == "None" {
        if config.is_none() {
            return r.required(path, "must provide `dnsConfig` when `dnsPolicy` is None");
        }
        if nameservers.is_empty() {
            let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            return r.required(&path.child("nameservers"), why);
        }
    }
    let Some(config) = config else { return };
    if nameservers.len() > MAX_NAMESERVERS {
        let why = format!("must not have more than {MAX_NAMESERVERS} nameservers");
        r.invalid(&path.child("nameservers"), nameservers.to_vec(), &why);
    }
    for (i, server) in nameservers.iter().enumerate() {
        r.ip(&path.child("nameservers").index(i), server.as_str().unwrap_or_default(), &[]);
    }
    let searches = items(config, "searches");
    if searches.len() > MAX_SEARCHES {
        let why = format!("must not have more than {MAX_SEARCHES} search paths");
        r.invalid(&path.child("searches"), searches.to_vec(), &why);
    }
    let texts: Vec<&str> = searches.iter().filter_map(Value::as_str).collect();
    if texts.join(" ").len() > MAX_SEARCH_BYTES {
        let why =
            format!("must not have more than {MAX_SEARCH_BYTES} characters (including spaces) in the search list");
        r.invalid(&path.child("searches"), searches.to_vec(), &why);
    }
    for (i, search) in texts.into_iter().enumerate().filter(|(_, s)| *s != ".") {
        let search = search.strip_suffix('.').unwrap_or(search);
        r.name(&path.child("searches").index(i), search, words::search_domain);
    }
    for (i, option) in items(config, "options").iter().enumerate() {
        if text(option, "name").is_empty() {
            r.required(&path.child("options").index(i), "must not be empty");
        }
    }
}

fn hostname_override(spec: &Value, path: &Path<'_>, r: &mut Report) {
    let Some(name) = get(spec, "hostnameOverride").and_then(Value::as_str) else { return };
    let path = path.child("hostnameOverride");
    if is(spec, "setHostnameAsFQDN") {
        r.forbidden(&path, "may not be specified when setHostnameAsFQDN is true");
    }
    if is(spec, "hostNetwork") {
        r.forbidden(&path, "may not be specified when hostNetwork is true");
    }
    if name.len() > 64 {
        r.too_long(&path, 64);
    }
    r.name(&path, name, names::dns1123_subdomain);
}
