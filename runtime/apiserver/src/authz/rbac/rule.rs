//! One rule of a role: what it allows, and whether it covers another.

use std::collections::{BTreeMap, BTreeSet};

use kiln_apimachinery::meta;
use serde_json::Value;

use crate::authn::go_list;
use crate::authz::Attributes;

/// One rule of a role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) verbs: Vec<String>,
    pub(crate) groups: Vec<String>,
    pub(crate) resources: Vec<String>,
    pub(crate) names: Vec<String>,
    pub(crate) urls: Vec<String>,
}

fn has(list: &[String], word: &str) -> bool {
    list.iter().any(|x| x == word || x == "*")
}

/// True if a path of a rule, which may end in `*`, means `path`.
fn url_matches(rule: &str, path: &str) -> bool {
    rule == path || rule.strip_suffix('*').is_some_and(|p| path.starts_with(p.trim_end_matches('*')))
}

/// True if a resource of a rule means this one: `*`, `pods`, `pods/log` or `*/log`.
fn resource_matches(rule: &str, resource: &str, subresource: &str) -> bool {
    if rule == "*" {
        return true;
    }
    match rule.split_once('/') {
        None => subresource.is_empty() && rule == resource,
        Some((_, sub)) if subresource.is_empty() || sub != subresource => false,
        Some((parent, _)) => parent == "*" || parent == resource,
    }
}

impl Rule {
    /// Reads one rule.
    pub(crate) fn read(rule: &Value) -> Self {
        let all = |key: &str| meta::strings(rule.get(key)).into_iter().map(Into::into).collect();
        Self {
            verbs: all("verbs"),
            groups: all("apiGroups"),
            resources: all("resources"),
            names: all("resourceNames"),
            urls: all("nonResourceURLs"),
        }
    }

    /// Reads `rules` of a role.
    pub(crate) fn list(role: &Value) -> Vec<Self> {
        let rules = role.get("rules").and_then(Value::as_array);
        rules.map(|a| a.iter().map(Self::read).collect()).unwrap_or_default()
    }

    pub(crate) fn allows(&self, what: &Attributes) -> bool {
        if !has(&self.verbs, &what.verb) {
            return false;
        }
        if !what.is_resource {
            return self.urls.iter().any(|u| url_matches(u, &what.path));
        }
        has(&self.groups, &what.group)
            && self.resources.iter().any(|r| resource_matches(r, &what.resource, &what.subresource))
            && (self.names.is_empty() || self.names.contains(&what.name))
    }

    /// The single grants this rule is made of, each with one verb, group, resource and name (or one URL).
    fn atoms(&self) -> Vec<Self> {
        let one = |x: &String| vec![x.clone()];
        let mut out = Vec::new();
        for verb in &self.verbs {
            out.extend(self.urls.iter().map(|u| Self { verbs: one(verb), urls: one(u), ..Self::default() }));
            for group in &self.groups {
                for resource in &self.resources {
                    let atom =
                        Self { verbs: one(verb), groups: one(group), resources: one(resource), ..Self::default() };
                    if self.names.is_empty() {
                        out.push(atom.clone());
                    }
                    out.extend(self.names.iter().map(|n| Self { names: one(n), ..atom.clone() }));
                }
            }
        }
        out
    }

    /// True if this rule grants all of `atom`.
    fn covers(&self, atom: &Self) -> bool {
        let all = |have: &[String], want: &[String]| want.iter().all(|w| has(have, w));
        if !atom.urls.is_empty() {
            return all(&self.verbs, &atom.verbs)
                && atom.urls.iter().all(|w| self.urls.iter().any(|u| url_matches(u, w)));
        }
        let resource = |w: &String| {
            let (parent, sub) = w.split_once('/').unwrap_or((w, ""));
            self.resources.iter().any(|r| r == w || resource_matches(r, parent, sub))
        };
        all(&self.verbs, &atom.verbs)
            && all(&self.groups, &atom.groups)
            && atom.resources.iter().all(resource)
            && (self.names.is_empty() || (!atom.names.is_empty() && atom.names.iter().all(|n| self.names.contains(n))))
    }

    /// The grants of `wanted` that `held` does not cover, in words and sorted; those that differ in the verb only are one.
    pub(crate) fn missing(held: &[Self], wanted: &[Self]) -> Vec<String> {
        let atoms = wanted.iter().flat_map(Self::atoms).filter(|a| !held.iter().any(|h| h.covers(a)));
        let mut compact: BTreeMap<_, Self> = BTreeMap::new();
        for atom in atoms {
            let key = (atom.groups.clone(), atom.resources.clone(), atom.names.clone(), atom.urls.clone());
            match compact.get_mut(&key) {
                Some(rule) if !rule.verbs.contains(&atom.verbs[0]) => rule.verbs.extend(atom.verbs),
                Some(_) => {}
                None => {
                    compact.insert(key, atom);
                }
            }
        }
        compact.into_values().map(|r| r.to_string()).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = [
            ("APIGroups", &self.groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.urls),
            ("ResourceNames", &self.names),
            ("Verbs", &self.verbs),
        ];
        let shown = parts.iter().filter(|(_, v)| !v.is_empty()).map(|(name, v)| format!("{name}:{}", go_list(v)));
        write!(f, "{{{}}}", shown.collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rule(verbs: &str, groups: &str, resources: &str) -> Rule {
        let list = |t: &str| t.split(',').map(Into::into).collect();
        Rule { verbs: list(verbs), groups: list(groups), resources: list(resources), ..Rule::default() }
    }

    #[test]
    fn stars_mean_all_and_a_resource_is_not_its_subresources() {
        let allows = |rule: &Rule, resource: &str, sub: &str| {
            rule.allows(&Attributes { subresource: sub.into(), ..Attributes::resource("get", "", resource, "", "") })
        };
        assert!(allows(&rule("*", "*", "*"), "pods", "log"));
        assert!(allows(&rule("get", "", "*/log"), "pods", "log") && !allows(&rule("get", "", "*/log"), "pods", ""));
        assert!(!allows(&rule("get", "", "pods"), "pods", "log") && !allows(&rule("get", "", "pods/log"), "pods", ""));
        assert!(!allows(&rule("list", "", "pods"), "pods", ""));
        let urls = Rule::read(&json!({"verbs": ["get"], "nonResourceURLs": ["/healthz/*", "/x"]}));
        let path = |p: &str| Attributes { verb: "get".into(), path: p.into(), ..Attributes::default() };
        assert!(urls.allows(&path("/healthz/etcd")) && urls.allows(&path("/x")) && !urls.allows(&path("/x/y")));
    }

    #[test]
    fn what_is_missing_is_told_once_for_all_verbs() {
        let held = [rule("get,list", "", "pods"), rule("*", "apps", "*")];
        assert!(
            Rule::missing(&held, &[rule("get", "", "pods"), rule("delete", "apps", "deployments/scale")]).is_empty()
        );
        assert_eq!(
            Rule::missing(&held, &[rule("get,watch,delete", "", "pods"), rule("get", "", "*")]),
            [
                r#"{APIGroups:[""], Resources:["*"], Verbs:["get"]}"#,
                r#"{APIGroups:[""], Resources:["pods"], Verbs:["watch" "delete"]}"#,
            ]
        );
    }
}
