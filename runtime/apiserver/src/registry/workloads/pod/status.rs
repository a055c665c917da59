//! What nodes and the scheduler may say of a pod.

use kiln_apimachinery::path::Path;
use kiln_apimachinery::{FieldError, names};
use serde_json::Value;

use super::update;
use crate::registry::workloads::check::{IMMUTABLE, Report};
use crate::registry::workloads::view::{get, int, items, text};

const STATUSES: [(&str, &str); 3] = [
    ("containerStatuses", "containers"),
    ("initContainerStatuses", "initContainers"),
    ("ephemeralContainerStatuses", "ephemeralContainers"),
];
const MAX_ID: i64 = i32::MAX as i64;
const MAX_MESSAGE: usize = 1024;

/// The rules for a write of the status.
pub(super) fn validate(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut r = Report::default();
    update::annotations(new, old, &mut r);
    let none = Value::Null;
    let spec = old.get("spec").unwrap_or(&none);
    let (new, old) = (new.get("status").unwrap_or(&none), old.get("status").unwrap_or(&none));
    let path = Path::new("status");
    conditions(new, &path.child("conditions"), &mut r);
    nominated(new, old, spec, &path.child("nominatedNodeName"), &mut r);
    if let Some(n) = int(new, "observedGeneration").filter(|n| *n < 0) {
        r.invalid(&path.child("observedGeneration"), n, "must be a non-negative integer");
    }
    if text(new, "qosClass") != text(old, "qosClass") {
        r.invalid(&path.child("qosClass"), text(new, "qosClass"), IMMUTABLE);
    }
    for (statuses, containers) in STATUSES {
        let at = path.child(statuses);
        transitions(items(new, statuses), items(old, statuses), spec, containers, &at, &mut r);
        users(items(new, statuses), spec, &at, &mut r);
        devices(items(new, statuses), spec, containers, &at, &mut r);
    }
    claims(new, spec, &path.child("resourceClaimStatuses"), &mut r);
    addresses(new, old, &path, &mut r);
    r.0
}

fn conditions(status: &Value, all: &Path<'_>, r: &mut Report) {
    for (i, condition) in items(status, "conditions").iter().enumerate() {
        if let Some(n) = int(condition, "observedGeneration").filter(|n| *n < 0) {
            r.invalid(&all.index(i).child("observedGeneration"), n, "must be a non-negative integer");
        }
        let kind = text(condition, "type");
        if !matches!(kind, "PodScheduled" | "Ready" | "Initialized") {
            r.name(&all.index(i).child("Type"), kind, names::qualified_name);
        }
    }
}

fn nominated(new: &Value, old: &Value, spec: &Value, path: &Path<'_>, r: &mut Report) {
    let name = text(new, "nominatedNodeName");
    if name.is_empty() || name == text(old, "nominatedNodeName") {
        return;
    }
    r.name(path, name, names::dns1123_subdomain);
    if !text(spec, "nodeName").is_empty() {
        r.forbidden(path, "may not be set on pods that are already bound to a node");
    }
}

fn terminated(status: &Value) -> Option<&Value> {
    get(status, "state").and_then(|s| get(s, "terminated"))
}

/// A container that ended runs again only if its policy lets it.
fn transitions(new: &[Value], old: &[Value], spec: &Value, list: &str, all: &Path<'_>, r: &mut Report) {
    let rules = |c: &Value| items(c, "restartPolicyRules").iter().any(|r| text(r, "action") == "RestartAllContainers");
    let everyone = items(spec, "containers").iter().chain(items(spec, "initContainers")).any(rules);
    if everyone && list != "ephemeralContainers" {
        return;
    }
    for (i, before) in old.iter().enumerate() {
        let Some(ended) = terminated(before) else { continue };
        let name = text(before, "name");
        let again = new.iter().any(|s| text(s, "name") == name && terminated(s).is_none());
        let container = items(spec, list).iter().find(|c| text(c, "name") == name);
        let code = int(ended, "exitCode").unwrap_or(0);
        let may = list != "ephemeralContainers" && container.is_some_and(|c| restarts(c, spec, code));
        if again && !may {
            r.forbidden(&all.index(i).child("state"), "may not be transitioned to non-terminated state");
        }
    }
}

/// True if a container that ended with this code is started again.
fn restarts(container: &Value, spec: &Value, code: i64) -> bool {
    let by = |policy: &str| match policy {
        "Never" => Some(false),
        "OnFailure" => Some(code != 0),
        "Always" => Some(true),
        _ => None,
    };
    let own = text(container, "restartPolicy");
    let matches = |rule: &&Value| {
        let codes = get(rule, "exitCodes");
        let listed = codes.is_some_and(|c| items(c, "values").iter().any(|v| v.as_i64() == Some(code)));
        match codes.map(|c| text(c, "operator")) {
            Some("In") => listed,
            Some("NotIn") => !listed,
            _ => false,
        }
    };
    if !own.is_empty() {
        let rule = items(container, "restartPolicyRules").iter().find(matches);
        if rule.is_some_and(|rule| matches!(text(rule, "action"), "Restart" | "RestartAllContainers")) {
            return true;
        }
        if let Some(answer) = by(own) {
            return answer;
        }
    }
    by(text(spec, "restartPolicy")).unwrap_or(true)
}

fn users(statuses: &[Value], spec: &Value, all: &Path<'_>, r: &mut Report) {
    let windows = spec.get("os").is_some_and(|os| text(os, "name") == "windows");
    for (i, status) in statuses.iter().enumerate() {
        let Some(user) = get(status, "user").and_then(|u| get(u, "linux")) else { continue };
        let at = all.index(i);
        let at = at.child("user.linux");
        if windows {
            r.forbidden(&at, "cannot be set for a windows pod");
            continue;
        }
        for key in ["uid", "gid"] {
            r.range(&at.child(key), int(user, key).unwrap_or(0), 0, MAX_ID);
        }
        for (j, group) in items(user, "supplementalGroups").iter().enumerate() {
            r.range(&at.child("supplementalGroups").index(j), group.as_i64().unwrap_or(-1), 0, MAX_ID);
        }
    }
}

/// The health of devices that a container was given.
fn devices(statuses: &[Value], spec: &Value, list: &str, all: &Path<'_>, r: &mut Report) {
    for (i, status) in statuses.iter().enumerate() {
        let allocated = items(status, "allocatedResourcesStatus");
        let at = all.index(i);
        let at = at.child("allocatedResourcesStatus");
        if list == "ephemeralContainers" {
            if !allocated.is_empty() {
                r.forbidden(&at, "must not be specified in container status");
            }
            continue;
        }
        let container = items(spec, list).iter().find(|c| text(c, "name") == text(status, "name"));
        for (j, resource) in allocated.iter().enumerate() {
            let at = at.index(j);
            let name = text(resource, "name");
            if let Some(why) = container.and_then(|c| unknown_resource(c, name)) {
                r.invalid(&at.child("name"), name, why);
            }
            let mut seen: Vec<&str> = Vec::new();
            for (k, device) in items(resource, "resources").iter().enumerate() {
                let all = at.child("resources");
                let at = all.index(k);
                let (health, id) = (text(device, "health"), text(device, "resourceID"));
                if !matches!(health, "Healthy" | "Unhealthy" | "Unknown") {
                    r.unsupported(&at.child("health"), health, &["Healthy", "Unhealthy", "Unknown"]);
                }
                match get(device, "message").and_then(Value::as_str) {
                    Some("") => r.required(&at.child("message"), "must be non-empty if specified"),
                    Some(m) if m.len() > MAX_MESSAGE => r.too_long(&at.child("message"), MAX_MESSAGE),
                    _ => {}
                }
                if seen.contains(&id) {
                    r.duplicate(&at.child("resourceID"), id);
                }
                seen.push(id);
            }
        }
    }
}

fn unknown_resource(container: &Value, name: &str) -> Option<&'static str> {
    let resources = get(container, "resources").unwrap_or(&Value::Null);
    if !name.starts_with("claim:") {
        let requested = get(resources, "requests").is_some_and(|q| get(q, name).is_some());
        return (!requested).then_some("must match one of the container's resource requests");
    }
    let known = items(resources, "claims").iter().any(|c| match text(c, "request") {
        "" => format!("claim:{}", text(c, "name")) == name,
        request => format!("claim:{}/{request}", text(c, "name")) == name,
    });
    (!known).then_some(
        "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or \
         'claim:<claimName>' if request is empty",
    )
}

fn claims(status: &Value, spec: &Value, all: &Path<'_>, r: &mut Report) {
    let mut seen: Vec<&str> = Vec::new();
    for (i, claim) in items(status, "resourceClaimStatuses").iter().enumerate() {
        let (at, name) = (all.index(i), text(claim, "name"));
        if !items(spec, "resourceClaims").iter().any(|c| text(c, "name") == name) {
            let why = "must match the name of an entry in `spec.resourceClaims`";
            r.invalid(&at.child("name"), name, why);
        }
        if seen.contains(&name) {
            r.duplicate(&at.child("name"), name);
        }
        seen.push(name);
        if let Some(made) = get(claim, "resourceClaimName").and_then(Value::as_str) {
            r.name(&at.child("resourceClaimName"), made, names::dns1123_subdomain);
        }
    }
}

fn addresses(new: &Value, old: &Value, path: &Path<'_>, r: &mut Report) {
    const WHY: &str = "may specify no more than one IP for each IP family";
    for key in ["podIPs", "hostIPs"] {
        let all = path.child(key);
        let list = items(new, key);
        let before: Vec<&str> = items(old, key).iter().map(|a| text(a, "ip")).collect();
        if key == "hostIPs" && !list.is_empty() && text(new, "hostIP") != text(&list[0], "ip") {
            r.invalid(&all.index(0).child("ip"), text(&list[0], "ip"), "must be equal to `hostIP`");
        }
        for (i, address) in list.iter().enumerate() {
            r.ip(&all.index(i), text(address, "ip"), &before);
        }
        let six = list.iter().filter(|a| text(a, "ip").contains(':')).count();
        if list.len() > 1 && (list.len() > 2 || six != 1) {
            r.invalid(&all, list.to_vec(), WHY);
        }
    }
}
