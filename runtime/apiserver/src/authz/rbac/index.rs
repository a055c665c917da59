//! All roles and bindings at one revision, found by who is bound.

use std::collections::HashMap;
use std::sync::Arc;

use kiln_apimachinery::meta;
use kiln_storage::Record;
use serde_json::Value;

use super::rule::Rule;
use crate::authn::accounts;
use crate::authz::Attributes;
use crate::user::UserInfo;

pub(super) const PREFIX: &str = "/registry/rbac.authorization.k8s.io/";

#[derive(Clone, Debug)]
struct Subject {
    kind: String,
    name: String,
    namespace: String,
}

#[derive(Clone, Debug)]
struct Binding {
    name: String,
    subjects: Vec<Subject>,
    role_kind: String,
    role: String,
}

impl Binding {
    fn read(name: &str, object: &Value) -> Self {
        let subject = |s: &Value| Subject {
            kind: meta::text(s, &["kind"]).into(),
            name: meta::text(s, &["name"]).into(),
            namespace: meta::text(s, &["namespace"]).into(),
        };
        let subjects = object.get("subjects").and_then(Value::as_array);
        Self {
            name: name.into(),
            subjects: subjects.map(|a| a.iter().map(subject).collect()).unwrap_or_default(),
            role_kind: meta::text(object, &["roleRef", "kind"]).into(),
            role: meta::text(object, &["roleRef", "name"]).into(),
        }
    }
}

/// One of a binding's subjects.
#[derive(Clone, Debug)]
struct Grant {
    binding: Arc<Binding>,
    subject: usize,
}

/// The bindings of a namespace, or of the cluster.
#[derive(Clone, Debug, Default)]
struct Place {
    bindings: HashMap<String, Arc<Binding>>,
    users: HashMap<String, Vec<Grant>>,
    groups: HashMap<String, Vec<Grant>>,
}

impl Place {
    fn put(&mut self, namespace: &str, binding: Binding) {
        self.remove(namespace, &binding.name);
        let binding = Arc::new(binding);
        for (subject, s) in binding.subjects.iter().enumerate() {
            let Some((map, key)) = self.slot(namespace, s) else { continue };
            map.entry(key).or_default().push(Grant { binding: binding.clone(), subject });
        }
        self.bindings.insert(binding.name.clone(), binding);
    }

    fn remove(&mut self, namespace: &str, name: &str) {
        let Some(binding) = self.bindings.remove(name) else { return };
        for s in &binding.subjects {
            let Some((map, key)) = self.slot(namespace, s) else { continue };
            let Some(grants) = map.get_mut(&key) else { continue };
            grants.retain(|g| g.binding.name != name);
            if grants.is_empty() {
                map.remove(&key);
            }
        }
    }

    /// Where a subject's grants are, and under which name.
    fn slot(&mut self, namespace: &str, s: &Subject) -> Option<(&mut HashMap<String, Vec<Grant>>, String)> {
        match s.kind.as_str() {
            "User" => Some((&mut self.users, s.name.clone())),
            "Group" => Some((&mut self.groups, s.name.clone())),
            "ServiceAccount" => {
                let home = if s.namespace.is_empty() { namespace } else { &s.namespace };
                // In the cluster's own bindings an account without a namespace is nobody.
                (!home.is_empty()).then(|| (&mut self.users, format!("{}{home}:{}", accounts::USER_PREFIX, s.name)))
            }
            _ => None,
        }
    }

    fn grants<'a>(&'a self, user: &'a UserInfo) -> impl Iterator<Item = &'a Grant> {
        let by_group = user.groups.iter().filter_map(|g| self.groups.get(g)).flatten();
        self.users.get(&user.name).into_iter().flatten().chain(by_group)
    }
}

/// All of RBAC at one revision.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    /// By namespace (empty for cluster roles), then name.
    roles: HashMap<String, HashMap<String, Arc<Vec<Rule>>>>,
    /// By namespace, empty for the cluster.
    places: HashMap<String, Place>,
}

impl Rules {
    /// Why the user may, if they may.
    pub(crate) fn allows(&self, user: &UserInfo, what: &Attributes) -> Option<String> {
        self.visit(user, &what.namespace)
            .find(|(_, _, rules)| rules.iter().any(|r| r.allows(what)))
            .map(|(place, grant, _)| reason(place, grant))
    }

    /// What was not found while looking for the user's rules, in words; empty if nothing.
    pub(crate) fn unresolved(&self, user: &UserInfo, namespace: &str) -> String {
        let mut missing: Vec<String> = Vec::new();
        for place in places(namespace) {
            for grant in self.places.get(place).into_iter().flat_map(|p| p.grants(user)) {
                let binding = &grant.binding;
                if self.role(&binding.role_kind, place, &binding.role).is_none() {
                    let text = format!(
                        "{}.rbac.authorization.k8s.io {:?} not found",
                        binding.role_kind.to_lowercase(),
                        binding.role
                    );
                    if !missing.contains(&text) {
                        missing.push(text);
                    }
                }
            }
        }
        if missing.len() > 1 { format!("[{}]", missing.join(", ")) } else { missing.concat() }
    }

    /// All rules the user has in a namespace, or in the cluster with an empty one.
    pub(crate) fn of(&self, user: &UserInfo, namespace: &str) -> Vec<Rule> {
        self.visit(user, namespace).flat_map(|(_, _, rules)| rules.iter().cloned()).collect()
    }

    /// The rules of a role.
    pub(crate) fn role(&self, kind: &str, namespace: &str, name: &str) -> Option<&Arc<Vec<Rule>>> {
        let namespace = if kind == "ClusterRole" { "" } else { namespace };
        self.roles.get(namespace)?.get(name)
    }

    fn visit<'a>(
        &'a self,
        user: &'a UserInfo,
        namespace: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a Grant, &'a Arc<Vec<Rule>>)> {
        places(namespace).flat_map(move |place| {
            let grants = self.places.get(place).into_iter().flat_map(|p| p.grants(user));
            grants.filter_map(move |g| Some((place, g, self.role(&g.binding.role_kind, place, &g.binding.role)?)))
        })
    }

    pub(super) fn put(&mut self, record: &Record) {
        let Some((resource, namespace, name)) = split(&record.key) else { return };
        let Ok(object) = serde_json::from_slice::<Value>(&record.value) else { return };
        if is_role(resource) {
            self.roles.entry(namespace.into()).or_default().insert(name.into(), Arc::new(Rule::list(&object)));
        } else {
            self.places.entry(namespace.into()).or_default().put(namespace, Binding::read(name, &object));
        }
    }

    pub(super) fn remove(&mut self, key: &str) {
        let Some((resource, namespace, name)) = split(key) else { return };
        if is_role(resource) {
            if let Some(roles) = self.roles.get_mut(namespace) {
                roles.remove(name);
            }
        } else if let Some(place) = self.places.get_mut(namespace) {
            place.remove(namespace, name);
        }
    }
}

/// Where grants count that are asked for in a namespace.
fn places(namespace: &str) -> impl Iterator<Item = &str> {
    std::iter::once("").chain(Some(namespace).filter(|n| !n.is_empty()))
}

/// The words of an audit record about a grant.
fn reason(place: &str, grant: &Grant) -> String {
    let Grant { binding, subject } = grant;
    let s = &binding.subjects[*subject];
    let who = match s.kind.as_str() {
        "ServiceAccount" => {
            let home = if s.namespace.is_empty() { place } else { &s.namespace };
            format!("{}/{home}", s.name)
        }
        _ => s.name.clone(),
    };
    let (kind, name) = match place {
        "" => ("ClusterRoleBinding", binding.name.clone()),
        _ => ("RoleBinding", format!("{}/{place}", binding.name)),
    };
    format!("RBAC: allowed by {kind} {name:?} of {} {:?} to {} {who:?}", binding.role_kind, binding.role, s.kind)
}

fn is_role(resource: &str) -> bool {
    matches!(resource, "roles" | "clusterroles")
}

fn split(key: &str) -> Option<(&str, &str, &str)> {
    let (resource, rest) = key.strip_prefix(PREFIX)?.split_once('/')?;
    let (namespace, name) = if resource.starts_with("cluster") { ("", rest) } else { rest.split_once('/')? };
    Some((resource, namespace, name))
}
