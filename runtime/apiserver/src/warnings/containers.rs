//! Containers: amounts, variables that hide others, ports that are two things.

use std::collections::BTreeMap;

use kiln_apimachinery::meta;
use serde_json::Value;

use super::{fractional, has, items};

const BYTES: [&str; 2] = ["memory", "ephemeral-storage"];

/// The containers of a pod's specification, each with its path.
fn all<'a>(path: &'a str, spec: &'a Value) -> impl Iterator<Item = (String, &'a Value)> {
    let lists = ["initContainers", "containers", "ephemeralContainers"].into_iter();
    lists.flat_map(move |list| {
        let containers = items(spec, &[list]).iter().enumerate();
        containers.map(move |(i, container)| (format!("{path}spec.{list}[{i}]"), container))
    })
}

pub(super) fn check(path: &str, pod: &Value, spec: &Value, out: &mut Vec<String>) {
    for (at, container) in all(path, spec) {
        profiles(path, pod, container, out);
        let resources = container.get("resources").unwrap_or(&Value::Null);
        for name in BYTES {
            for list in ["limits", "requests"] {
                fractional(&format!("{at}.resources.{list}"), resources.get(list), &[name], out);
            }
        }
        variables(&at, container, out);
    }
    ports(path, spec, out);
    port_names(path, spec, out);
}

/// Annotations that had a meaning before there were fields.
fn profiles(path: &str, pod: &Value, container: &Value, out: &mut Vec<String>) {
    let name = meta::text(container, &["name"]);
    let said = |key: &str| meta::at(container, &["securityContext", key]).is_some_and(|p| !p.is_null());
    let seccomp = format!("container.seccomp.security.alpha.kubernetes.io/{name}");
    if !said("seccompProfile") && meta::annotation(pod, &seccomp).is_some() {
        out.push(format!(
            "{path}metadata.annotations[{seccomp}]: non-functional in v1.27+; use the \"seccompProfile\" field instead"
        ));
    }
    // Those of pods become fields, which is told when that is done.
    if path.is_empty() || said("appArmorProfile") {
        return;
    }
    let key = format!("{}{name}", super::pod::APP_ARMOR);
    let Some(note) = meta::annotation(pod, &key) else { return };
    let whole = meta::at(pod, &["spec", "securityContext", "appArmorProfile"]).filter(|p| !p.is_null());
    if whole.is_none() || whole != super::pod::app_armor_profile(note).as_ref() {
        out.push(super::pod::use_the_field(path, &key));
    }
}

/// Variables that stand twice, unless the later one extends the earlier one.
fn variables(path: &str, container: &Value, out: &mut Vec<String>) {
    let mut known = Vec::new();
    for (i, variable) in items(container, &["env"]).iter().enumerate() {
        let name = meta::text(variable, &["name"]);
        if !known.contains(&name) {
            known.push(name);
            continue;
        }
        let (value, reference) = (meta::text(variable, &["value"]), format!("$({name})"));
        if has(variable, "valueFrom") || value == reference || !value.contains(&reference) {
            out.push(format!(
                "{path}.env[{i}]: hides previous definition of {name:?}, which may be dropped when using apply"
            ));
        }
    }
}

fn number(port: &Value, key: &str) -> i64 {
    port.get(key).and_then(Value::as_i64).unwrap_or(0)
}

/// Ports of the whole pod that are the same or may be.
fn ports(path: &str, spec: &Value, out: &mut Vec<String>) {
    let mut known: BTreeMap<(i64, &str), Vec<(String, &Value)>> = BTreeMap::new();
    for (container, value) in all(path, spec) {
        for (i, port) in items(value, &["ports"]).iter().enumerate() {
            let at = format!("{container}.ports[{i}]");
            let (ip, host) = (meta::text(port, &["hostIP"]), number(port, "hostPort"));
            let protocol = meta::text(port, &["protocol"]);
            if !ip.is_empty() && host == 0 {
                let (name, own) = (meta::text(port, &["name"]), number(port, "containerPort"));
                out.push(format!(
                    "{at}: hostIP set without hostPort: {{Name:{name} HostPort:0 ContainerPort:{own} Protocol:{protocol} \
                     HostIP:{ip}}}"
                ));
            }
            let others = known.entry((number(port, "containerPort"), protocol)).or_default();
            for (other, earlier) in others.iter() {
                let (other_ip, other_host) = (meta::text(earlier, &["hostIP"]), number(earlier, "hostPort"));
                let what = if ip == other_ip && host == other_host {
                    "duplicate"
                } else if host == 0 || other_host == 0 {
                    "overlapping"
                } else if host == other_host && ip.is_empty() != other_ip.is_empty() {
                    "dangerously ambiguous"
                } else {
                    continue;
                };
                out.push(format!("{at}: {what} port definition with {other}"));
            }
            others.push((at, port));
        }
    }
}

fn port_names(path: &str, spec: &Value, out: &mut Vec<String>) {
    let mut known: BTreeMap<&str, String> = BTreeMap::new();
    for (container, value) in all(path, spec) {
        for (i, port) in items(value, &["ports"]).iter().enumerate() {
            let (at, name) = (format!("{container}.ports[{i}]"), meta::text(port, &["name"]));
            match known.get(name) {
                _ if name.is_empty() => {}
                Some(other) => out.push(format!(
                    "{at}: duplicate port name {name:?} with {other}, services and probes that select ports by name will use \
                     {other}"
                )),
                None => {
                    known.insert(name, at);
                }
            }
        }
    }
}
