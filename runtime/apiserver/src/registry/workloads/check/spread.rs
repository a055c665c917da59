//! How pods spread over nodes, and which taints they bear.

use kiln_apimachinery::names;
use kiln_apimachinery::path::Path;
use serde_json::Value;

use super::{NOT_POSITIVE, Report, affinity};
use crate::registry::workloads::view::{get, int, text};

const ACTIONS: &[&str] = &["DoNotSchedule", "ScheduleAnyway"];
const POLICIES: &[&str] = &["Honor", "Ignore"];
const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

pub(super) fn check(constraints: &[Value], path: &Path<'_>, r: &mut Report) {
    for (i, constraint) in constraints.iter().enumerate() {
        let path = path.index(i);
        let skew = int(constraint, "maxSkew").unwrap_or(0);
        if skew <= 0 {
            r.invalid(&path.child("maxSkew"), skew, NOT_POSITIVE);
        }
        let (key, action) = (text(constraint, "topologyKey"), text(constraint, "whenUnsatisfiable"));
        if key.is_empty() {
            r.required(&path.child("topologyKey"), "can not be empty");
        }
        if !ACTIONS.contains(&action) {
            r.unsupported(&path.child("whenUnsatisfiable"), action, ACTIONS);
        }
        let same = |c: &Value| text(c, "topologyKey") == key && text(c, "whenUnsatisfiable") == action;
        if constraints[i + 1..].iter().any(same) {
            r.duplicate(&path.child("{topologyKey, whenUnsatisfiable}"), format!("{{{key}, {action}}}"));
        }
        if let Some(domains) = int(constraint, "minDomains") {
            let path = path.child("minDomains");
            if domains <= 0 {
                r.invalid(&path, domains, NOT_POSITIVE);
            }
            if action != "DoNotSchedule" {
                let why = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
                r.invalid(&path, domains, &why);
            }
        }
        for key in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            if let Some(policy) = get(constraint, key).and_then(Value::as_str)
                && !POLICIES.contains(&policy)
            {
                r.unsupported(&path.child(key), policy, POLICIES);
            }
        }
        affinity::label_keys(constraint, &path, r);
        r.selector(constraint.get("labelSelector"), &path.child("labelSelector"));
    }
}

/// The taints that a pod bears.
pub(in crate::registry::workloads) fn tolerations(tolerations: &[Value], path: &Path<'_>, r: &mut Report) {
    for (i, toleration) in tolerations.iter().enumerate() {
        let path = path.index(i);
        let of = |key| text(toleration, key);
        let (key, operator, value, effect) = (of("key"), of("operator"), of("value"), of("effect"));
        if !key.is_empty() {
            r.name(&path.child("key"), key, names::qualified_name);
        } else if operator != "Exists" {
            let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            r.invalid(&path.child("operator"), operator, why);
        }
        if get(toleration, "tolerationSeconds").is_some() && effect != "NoExecute" {
            r.invalid(&path.child("effect"), effect, "effect must be 'NoExecute' when `tolerationSeconds` is set");
        }
        let at = path.child("operator");
        match operator {
            "" | "Equal" => {
                let broken = names::label_value(value);
                if !broken.is_empty() {
                    r.invalid(&at, value, &broken.join(";"));
                }
            }
            "Exists" if !value.is_empty() => {
                r.invalid(&at, value, "value must be empty when `operator` is 'Exists'");
            }
            "Exists" => {}
            "Lt" | "Gt" => r.unsupported(&at, operator, &["Equal", "Exists", "Lt", "Gt"]),
            _ => r.unsupported(&at, operator, &["Equal", "Exists"]),
        }
        if !effect.is_empty() && !EFFECTS.contains(&effect) {
            r.unsupported(&path.child("effect"), effect, EFFECTS);
        }
    }
}
