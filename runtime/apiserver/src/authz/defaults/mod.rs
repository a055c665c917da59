//! The roles and bindings that every cluster has: `policy.txt` read as objects.

use kiln_apimachinery::meta;
use serde_json::{Map, Value, json};

const POLICY: &str = include_str!("policy.txt");
const GROUP: &str = "rbac.authorization.k8s.io";

/// A default object: the plural of its kind, and the object.
pub(crate) type Default = (&'static str, Value);

/// All of them. The rules of roles that gather others' are filled in.
pub(crate) fn all() -> Vec<Default> {
    let mut out: Vec<Default> = Vec::new();
    for line in POLICY.lines().filter(|l| !l.trim_start().starts_with('#') && !l.is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if line.starts_with(' ') {
            let rules = out.last_mut().and_then(|(_, role)| role["rules"].as_array_mut());
            if let Some(rules) = rules {
                rules.push(rule(&words));
            }
            continue;
        }
        out.push(match words.as_slice() {
            ["clusterrole", name, options @ ..] => ("clusterroles", cluster_role(name, options)),
            ["role", namespace, name] => ("roles", json!({"metadata": metadata(namespace, name), "rules": []})),
            ["clusterrolebinding", name, role, subjects @ ..] => {
                ("clusterrolebindings", binding("", name, "ClusterRole", role, subjects))
            }
            ["rolebinding", namespace, name, role, subjects @ ..] => {
                let (kind, role) = role.split_once('=').unwrap_or(("Role", role));
                ("rolebindings", binding(namespace, name, kind, role, subjects))
            }
            // The tests see to it that there is no other line.
            _ => continue,
        });
    }
    aggregate(&mut out);
    out
}

fn list(words: &str) -> Vec<&str> {
    words.split(',').map(|w| if w == "\"\"" { "" } else { w }).collect()
}

fn rule(words: &[&str]) -> Value {
    match words {
        [verbs, "url", urls] => json!({"nonResourceURLs": list(urls), "verbs": list(verbs)}),
        [verbs, groups, resources, names @ ..] => {
            let mut rule = json!({"apiGroups": list(groups), "resources": list(resources), "verbs": list(verbs)});
            if let Some(names) = names.first().and_then(|n| n.strip_prefix("names=")) {
                rule["resourceNames"] = json!(list(names));
            }
            rule
        }
        _ => Value::Null,
    }
}

fn metadata(namespace: &str, name: &str) -> Value {
    let mut metadata = json!({
        "name": name,
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
    });
    if !namespace.is_empty() {
        metadata["namespace"] = namespace.into();
    }
    metadata
}

fn label(target: &str) -> String {
    format!("{GROUP}/aggregate-to-{target}")
}

fn cluster_role(name: &str, options: &[&str]) -> Value {
    let mut role = json!({"metadata": metadata("", name), "rules": []});
    for option in options {
        match option.split_once('=') {
            Some(("from", source)) => {
                let labels = Map::from_iter([(label(source), "true".into())]);
                role["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": labels}]});
            }
            Some(("to", targets)) => {
                for target in targets.split(',') {
                    role["metadata"]["labels"][label(target)] = "true".into();
                }
            }
            _ => {}
        }
    }
    role
}

fn binding(namespace: &str, name: &str, kind: &str, role: &str, subjects: &[&str]) -> Value {
    let subject = |text: &&str| {
        let (kind, name) = text.split_once('=').unwrap_or(("User", text));
        match name.split_once('/').filter(|_| kind == "ServiceAccount") {
            Some((namespace, name)) => json!({"kind": kind, "name": name, "namespace": namespace}),
            None => json!({"apiGroup": GROUP, "kind": kind, "name": name}),
        }
    };
    json!({
        "metadata": metadata(namespace, name),
        "roleRef": {"apiGroup": GROUP, "kind": kind, "name": role},
        "subjects": subjects.iter().map(subject).collect::<Vec<_>>(),
    })
}

/// Gives the roles that gather others' rules what the default ones have for them, in the order of the roles' names, so
/// that they are of use before the controller that keeps them runs.
fn aggregate(all: &mut [Default]) {
    // What is gathered may itself be gathered: a role as deep as the longest chain, which admin <- edit <- view is.
    for _ in 0..3 {
        let roles: Vec<Value> = all.iter().map(|(_, object)| object.clone()).collect();
        for (_, role) in all.iter_mut() {
            let Some(wanted) = role.pointer("/aggregationRule/clusterRoleSelectors/0/matchLabels") else { continue };
            let Some(wanted) = wanted.as_object().and_then(|m| m.keys().next()).cloned() else { continue };
            let own = meta::name(role).to_owned();
            let mut sources: Vec<&Value> = roles
                .iter()
                .filter(|r| meta::labels(r).contains_key(wanted.as_str()) && meta::name(r) != own)
                .collect();
            sources.sort_by_key(|r| meta::name(r));
            let mut rules: Vec<Value> = Vec::new();
            for rule in sources.iter().filter_map(|r| r["rules"].as_array()).flatten() {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
            role["rules"] = rules.into();
        }
    }
}

#[cfg(test)]
mod tests {
    use kiln_apimachinery::names;

    use super::*;

    #[test]
    fn every_line_of_the_policy_is_read() {
        let objects = all();
        let lines = POLICY.lines().filter(|l| !l.trim_start().starts_with('#') && !l.is_empty());
        assert_eq!(lines.clone().filter(|l| !l.starts_with(' ')).count(), objects.len());
        let plain = objects.iter().filter(|(_, o)| o.get("aggregationRule").is_none());
        let rules: usize = plain.filter_map(|(_, o)| o["rules"].as_array()).map(Vec::len).sum();
        assert_eq!(lines.filter(|l| l.starts_with(' ')).count(), rules);
        for (_, object) in &objects {
            assert!(names::path_segment(meta::name(object)).is_empty(), "{object}");
            assert!(object["rules"].as_array().is_none_or(|r| r.iter().all(|r| r["verbs"][0].is_string())), "{object}");
        }
    }

    #[test]
    fn admin_may_what_edit_and_view_may() {
        let objects = all();
        let rules = |name: &str| {
            let found = objects.iter().find(|(p, o)| *p == "clusterroles" && meta::name(o) == name);
            found.unwrap().1["rules"].as_array().unwrap().clone()
        };
        for name in ["view", "edit", "system:aggregate-to-admin"] {
            assert!(!rules(name).is_empty() && rules(name).iter().all(|r| rules("admin").contains(r)), "{name}");
        }
        assert!(rules("view").iter().all(|r| rules("edit").contains(r)));
    }
}
