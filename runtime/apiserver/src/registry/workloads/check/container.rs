//! One container, of whatever kind.

use kiln_apimachinery::names;
use kiln_apimachinery::path::Path;
use serde_json::Value;

use super::resources::{Level, requirements};
use super::spec::Pod;
use super::{Report, env, mounts, security};
use crate::registry::workloads::view::{get, int, items, text};

const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];
const MESSAGE_POLICIES: &[&str] = &["File", "FallbackToLogsOnError"];
const RESTART_POLICIES: &[&str] = &["Always", "Never", "OnFailure"];
const MAX_RULES: usize = 20;
const MAX_CODES: usize = 255;

/// What all kinds of containers are held to.
pub(super) fn check(container: &Value, pod: &Pod<'_>, path: &Path<'_>, r: &mut Report) {
    match text(container, "name") {
        "" => r.required(&path.child("name"), ""),
        name => r.name(&path.child("name"), name, names::dns1123_label),
    }
    r.present(container, "image", path);
    r.one_of(&path.child("terminationMessagePolicy"), text(container, "terminationMessagePolicy"), MESSAGE_POLICIES);
    ports(items(container, "ports"), &path.child("ports"), r);
    env::check(container, path, r);
    mounts::check(container, &pod.volumes, path, r);
    r.one_of(&path.child("imagePullPolicy"), text(container, "imagePullPolicy"), PULL_POLICIES);
    if let Some(resources) = get(container, "resources") {
        requirements(resources, Level::Container, &pod.claims, &path.child("resources"), r);
    }
    resize_policies(container, pod, &path.child("resizePolicy"), r);
    security::of_container(container, pod.host_users, &path.child("securityContext"), r);
}

/// The rule of an image that only pods are held to, not templates.
pub(super) fn image(container: &Value, path: &Path<'_>, r: &mut Report) {
    let image = text(container, "image");
    if image.trim().len() != image.len() {
        r.invalid(&path.child("image"), image, "must not have leading or trailing whitespace");
    }
}

fn ports(ports: &[Value], all: &Path<'_>, r: &mut Report) {
    let mut seen: Vec<&str> = Vec::new();
    for (i, port) in ports.iter().enumerate() {
        let path = all.index(i);
        let name = text(port, "name");
        if !name.is_empty() {
            let broken = super::port_name(name);
            if broken.is_empty() && seen.contains(&name) {
                r.duplicate(&path.child("name"), name);
            }
            for why in broken {
                r.invalid(&path.child("name"), name, &why);
            }
            seen.push(name);
        }
        match int(port, "containerPort").unwrap_or(0) {
            0 => r.required(&path.child("containerPort"), ""),
            n => r.range(&path.child("containerPort"), n, 1, 65535),
        }
        if let Some(n) = int(port, "hostPort").filter(|n| *n != 0) {
            r.range(&path.child("hostPort"), n, 1, 65535);
        }
        r.one_of(&path.child("protocol"), text(port, "protocol"), PROTOCOLS);
    }
}

fn resize_policies(container: &Value, pod: &Pod<'_>, path: &Path<'_>, r: &mut Report) {
    let mut seen: Vec<&str> = Vec::new();
    for (i, policy) in items(container, "resizePolicy").iter().enumerate() {
        let (resource, restart) = (text(policy, "resourceName"), text(policy, "restartPolicy"));
        if seen.contains(&resource) {
            r.duplicate(&path.index(i), resource);
        }
        seen.push(resource);
        r.one_of(path, resource, &["cpu", "memory"]);
        r.one_of(path, restart, &["NotRequired", "RestartContainer"]);
        if pod.restart_policy == "Never" && restart != "NotRequired" {
            let why = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            r.invalid(path, restart, why);
        }
    }
}

/// When a container is started again, if it says so itself.
pub(super) fn restart_policy(container: &Value, path: &Path<'_>, r: &mut Report) {
    let rules = items(container, "restartPolicyRules");
    let at = path.child("restartPolicy");
    match get(container, "restartPolicy").and_then(Value::as_str) {
        None if rules.is_empty() => return,
        None => r.required(&at, "must specify restartPolicy when restart rules are used"),
        Some(policy) if !RESTART_POLICIES.contains(&policy) => r.unsupported(&at, policy, RESTART_POLICIES),
        Some(_) => {}
    }
    let all = path.child("restartPolicyRules");
    if rules.len() > MAX_RULES {
        r.too_many(&all, rules.len(), MAX_RULES);
    }
    for (i, rule) in rules.iter().enumerate() {
        let path = all.index(i);
        let action = text(rule, "action");
        if !matches!(action, "Restart" | "RestartAllContainers") {
            r.unsupported(&path.child("action"), action, &["Restart", "RestartAllContainers"]);
        }
        let at = path.child("exitCodes");
        let Some(codes) = get(rule, "exitCodes") else {
            r.required(&at, "must be specified");
            continue;
        };
        let operator = text(codes, "operator");
        if !matches!(operator, "In" | "NotIn") {
            r.unsupported(&at.child("operator"), operator, &["In", "NotIn"]);
        }
        let values = items(codes, "values").len();
        if values > MAX_CODES {
            r.too_many(&at.child("values"), values, MAX_CODES);
        }
    }
}
