//! When a job has failed, and when it has succeeded.

use kiln_apimachinery::names;
use kiln_apimachinery::path::Path;
use serde_json::Value;

use super::indexes;
use crate::registry::workloads::check::Report;
use crate::registry::workloads::view::{get, int, items, text};

const ACTIONS: &[&str] = &["Count", "FailIndex", "FailJob", "Ignore"];
const OPERATORS: &[&str] = &["In", "NotIn"];
const STATUSES: &[&str] = &["False", "True", "Unknown"];
const MAX_RULES: usize = 20;
const MAX_CODES: usize = 255;
const MAX_INDEXES: usize = 64 * 1024;

/// `valid values: ["a" "b"]`
fn valid(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|w| format!("{w:?}")).collect();
    format!("valid values: [{}]", quoted.join(" "))
}

fn word(found: &str, words: &[&str], path: &Path<'_>, r: &mut Report) {
    if found.is_empty() {
        r.required(path, &valid(words));
    } else if !words.contains(&found) {
        r.unsupported(path, found, words);
    }
}

pub(super) fn failure(spec: &Value, path: &Path<'_>, r: &mut Report) {
    let Some(policy) = get(spec, "podFailurePolicy") else { return };
    let path = path.child("podFailurePolicy");
    let all = path.child("rules");
    let rules = items(policy, "rules");
    if rules.len() > MAX_RULES {
        r.too_many(&all, rules.len(), MAX_RULES);
    }
    let none = Value::Null;
    let pod = spec.get("template").and_then(|t| t.get("spec")).unwrap_or(&none);
    let containers = items(pod, "containers").iter().chain(items(pod, "initContainers"));
    let names: Vec<&str> = containers.map(|c| text(c, "name")).collect();
    for (i, rule) in rules.iter().enumerate() {
        let path = all.index(i);
        let action = text(rule, "action");
        if action == "FailIndex" {
            if get(spec, "backoffLimitPerIndex").is_none() {
                r.invalid(&path.child("action"), action, "requires the backoffLimitPerIndex to be set");
            }
        } else {
            word(action, ACTIONS, &path.child("action"), r);
        }
        let (codes, conditions) = (get(rule, "onExitCodes"), items(rule, "onPodConditions"));
        if let Some(codes) = codes {
            exit_codes(codes, &names, &path.child("onExitCodes"), r);
        }
        pod_conditions(conditions, &path.child("onPodConditions"), r);
        match (codes.is_some(), conditions.is_empty()) {
            (true, false) => r.broken(&path, "specifying both OnExitCodes and OnPodConditions is not supported"),
            (false, true) => r.broken(&path, "specifying one of OnExitCodes and OnPodConditions is required"),
            _ => {}
        }
    }
}

fn pod_conditions(conditions: &[Value], all: &Path<'_>, r: &mut Report) {
    if conditions.len() > MAX_RULES {
        r.too_many(all, conditions.len(), MAX_RULES);
    }
    for (i, pattern) in conditions.iter().enumerate() {
        let path = all.index(i);
        r.name(&path.child("type"), text(pattern, "type"), names::qualified_name);
        word(text(pattern, "status"), STATUSES, &path.child("status"), r);
    }
}

fn exit_codes(codes: &Value, containers: &[&str], path: &Path<'_>, r: &mut Report) {
    let operator = text(codes, "operator");
    word(operator, OPERATORS, &path.child("operator"), r);
    if let Some(name) = get(codes, "containerName").and_then(Value::as_str)
        && !containers.contains(&name)
    {
        let why = "must be one of the container or initContainer names in the pod template";
        r.invalid(&path.child("containerName"), name, why);
    }
    let all = path.child("values");
    let values: Vec<i64> = items(codes, "values").iter().filter_map(Value::as_i64).collect();
    if values.is_empty() {
        r.invalid(&all, Value::Array(Vec::new()), "at least one value is required");
    } else if values.len() > MAX_CODES {
        r.too_many(&all, values.len(), MAX_CODES);
    }
    for (i, value) in values.iter().enumerate() {
        if operator == "In" && *value == 0 {
            r.invalid(&all.index(i), 0, "must not be 0 for the In operator");
        }
        if values[..i].contains(value) {
            r.duplicate(&all.index(i), *value);
        }
    }
    if !values.is_sorted() {
        r.invalid(&all, values, "must be ordered");
    }
}

pub(super) fn success(spec: &Value, path: &Path<'_>, r: &mut Report) {
    let Some(policy) = get(spec, "successPolicy") else { return };
    let path = path.child("successPolicy");
    if text(spec, "completionMode") != "Indexed" {
        return r.invalid(&path, policy.clone(), "requires indexed completion mode");
    }
    let all = path.child("rules");
    let rules = items(policy, "rules");
    if rules.is_empty() {
        r.required(&all, "at least one rules must be specified when the successPolicy is specified");
    }
    if rules.len() > MAX_RULES {
        r.too_many(&all, rules.len(), MAX_RULES);
    }
    let completions = int(spec, "completions").unwrap_or(0);
    for (i, rule) in rules.iter().enumerate() {
        let path = all.index(i);
        let (count, listed) = (int(rule, "succeededCount"), get(rule, "succeededIndexes").and_then(Value::as_str));
        if count.is_none() && listed.is_none() {
            r.required(&path, "at least one of succeededCount or succeededIndexes must be specified");
        }
        let mut total = 0;
        if let Some(listed) = listed {
            let path = path.child("succeededIndexes");
            if listed.len() > MAX_INDEXES {
                r.too_long(&path, MAX_INDEXES);
            }
            match indexes::count(listed, completions) {
                Ok(n) => total = n,
                Err(why) => r.invalid(&path, listed, &format!("error parsing succeededIndexes: {why}")),
            }
        }
        if let Some(count) = count {
            r.nonnegative(rule, "succeededCount", &path);
            let path = path.child("succeededCount");
            if count > completions {
                let why = format!("must be less than or equal to {completions} (the number of specified completions)");
                r.invalid(&path, count, &why);
            }
            if listed.is_some() && count > total {
                let why = format!(
                    "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
                );
                r.invalid(&path, count, &why);
            }
        }
    }
}
