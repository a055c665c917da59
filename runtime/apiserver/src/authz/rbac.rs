//! RBAC: the rules in roles, and who is bound to them. A copy of all four kinds is kept, and brought up to date by a watch
//! at each decision, so a grant holds from the moment its write was answered.

use std::collections::HashMap;
use std::sync::Arc;

use kiln_apimachinery::{Status, meta};
use kiln_storage::{Event, EventKind, ListOptions, Record, Watch};
use serde_json::Value;
use tokio::sync::Mutex;

use super::Attributes;
use crate::server::ApiServer;
use crate::user::UserInfo;
use crate::verbs::errors;

const PREFIX: &str = "/registry/rbac.authorization.k8s.io/";

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

impl Rule {
    /// Reads `rules` of a role.
    pub(crate) fn list(role: &Value) -> Vec<Self> {
        let all = |v: &Value, key: &str| meta::strings(v.get(key)).into_iter().map(Into::into).collect();
        let one = |v: &Value| Self {
            verbs: all(v, "verbs"),
            groups: all(v, "apiGroups"),
            resources: all(v, "resources"),
            names: all(v, "resourceNames"),
            urls: all(v, "nonResourceURLs"),
        };
        role.get("rules").and_then(Value::as_array).map(|a| a.iter().map(one).collect()).unwrap_or_default()
    }

    pub(crate) fn allows(&self, what: &Attributes) -> bool {
        if !has(&self.verbs, &what.verb) {
            return false;
        }
        if !what.is_resource {
            return self
                .urls
                .iter()
                .any(|u| u == "*" || *u == what.path || u.strip_suffix('*').is_some_and(|p| what.path.starts_with(p)));
        }
        let full = what.full_resource();
        let any_sub = format!("*/{}", what.subresource);
        has(&self.groups, &what.group)
            && self.resources.iter().any(|r| r == "*" || *r == full || (!what.subresource.is_empty() && *r == any_sub))
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
            let url = |w: &String| {
                self.urls.iter().any(|u| u == "*" || u == w || u.strip_suffix('*').is_some_and(|p| w.starts_with(p)))
            };
            return all(&self.verbs, &atom.verbs) && atom.urls.iter().all(url);
        }
        let resource = |w: &String| {
            let sub = w.split_once('/').map(|(_, s)| format!("*/{s}"));
            self.resources.iter().any(|r| r == "*" || r == w || Some(r) == sub.as_ref())
        };
        all(&self.verbs, &atom.verbs)
            && all(&self.groups, &atom.groups)
            && atom.resources.iter().all(resource)
            && (self.names.is_empty() || (!atom.names.is_empty() && atom.names.iter().all(|n| self.names.contains(n))))
    }

    /// The grants of `wanted` that `held` does not cover, in words.
    pub(crate) fn missing(held: &[Self], wanted: &[Self]) -> Vec<String> {
        let atoms = wanted.iter().flat_map(Self::atoms);
        atoms.filter(|a| !held.iter().any(|h| h.covers(a))).map(|a| a.to_string()).collect()
    }
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = [
            ("APIGroups", &self.groups),
            ("Resources", &self.resources),
            ("ResourceNames", &self.names),
            ("NonResourceURLs", &self.urls),
            ("Verbs", &self.verbs),
        ];
        let shown = parts
            .iter()
            .filter(|(_, v)| !v.is_empty())
            .map(|(name, v)| format!("{name}:[{}]", v.iter().map(|x| format!("{x:?}")).collect::<Vec<_>>().join(" ")));
        write!(f, "{{{}}}", shown.collect::<Vec<_>>().join(", "))
    }
}

#[derive(Clone, Debug)]
struct Subject {
    kind: String,
    name: String,
    namespace: String,
}

impl Subject {
    fn is(&self, user: &UserInfo, binding_namespace: &str) -> bool {
        match self.kind.as_str() {
            "User" => self.name == "*" || self.name == user.name,
            "Group" => user.in_group(&self.name),
            "ServiceAccount" => {
                let ns = if self.namespace.is_empty() { binding_namespace } else { &self.namespace };
                user.name.strip_prefix("system:serviceaccount:").and_then(|n| n.split_once(':'))
                    == Some((ns, &self.name))
            }
            _ => false,
        }
    }
}

#[derive(Clone, Debug)]
struct Binding {
    subjects: Vec<Subject>,
    role_kind: String,
    role: String,
}

/// All of RBAC at one revision.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    /// By namespace (empty for cluster roles) and name.
    roles: HashMap<(String, String), Arc<Vec<Rule>>>,
    /// By namespace (empty for cluster role bindings), then name.
    bindings: HashMap<String, HashMap<String, Binding>>,
}

impl Rules {
    /// True if any binding of the user's grants it.
    pub(crate) fn allows(&self, user: &UserInfo, what: &Attributes) -> bool {
        self.visit(user, &what.namespace).any(|rules| rules.iter().any(|r| r.allows(what)))
    }

    /// All rules the user has in a namespace, or in the cluster with an empty one.
    pub(crate) fn of(&self, user: &UserInfo, namespace: &str) -> Vec<Rule> {
        self.visit(user, namespace).flat_map(|rules| rules.iter().cloned()).collect()
    }

    /// The rules of a role.
    pub(crate) fn role(&self, kind: &str, namespace: &str, name: &str) -> Option<&Arc<Vec<Rule>>> {
        let namespace = if kind == "ClusterRole" { "" } else { namespace };
        self.roles.get(&(namespace.to_owned(), name.to_owned()))
    }

    fn visit<'a>(&'a self, user: &'a UserInfo, namespace: &'a str) -> impl Iterator<Item = &'a Arc<Vec<Rule>>> {
        let places = if namespace.is_empty() { vec![""] } else { vec!["", namespace] };
        places.into_iter().flat_map(move |place| {
            let bindings = self.bindings.get(place).into_iter().flat_map(HashMap::values);
            bindings
                .filter(move |b| b.subjects.iter().any(|s| s.is(user, place)))
                .filter_map(move |b| self.role(&b.role_kind, place, &b.role))
        })
    }

    fn put(&mut self, record: &Record) {
        let Some((resource, namespace, name)) = split(&record.key) else { return };
        let Ok(object) = serde_json::from_slice::<Value>(&record.value) else { return };
        if is_role(resource) {
            self.roles.insert((namespace.into(), name.into()), Arc::new(Rule::list(&object)));
        } else {
            self.bindings.entry(namespace.into()).or_default().insert(name.into(), binding(&object));
        }
    }

    fn remove(&mut self, key: &str) {
        let Some((resource, namespace, name)) = split(key) else { return };
        if is_role(resource) {
            self.roles.remove(&(namespace.to_owned(), name.to_owned()));
        } else if let Some(bindings) = self.bindings.get_mut(namespace) {
            bindings.remove(name);
        }
    }
}

fn is_role(resource: &str) -> bool {
    matches!(resource, "roles" | "clusterroles")
}

fn split(key: &str) -> Option<(&str, &str, &str)> {
    let (resource, rest) = key.strip_prefix(PREFIX)?.split_once('/')?;
    let (namespace, name) = if resource.starts_with("cluster") { ("", rest) } else { rest.split_once('/')? };
    Some((resource, namespace, name))
}

fn binding(object: &Value) -> Binding {
    let subject = |s: &Value| Subject {
        kind: meta::text(s, &["kind"]).into(),
        name: meta::text(s, &["name"]).into(),
        namespace: meta::text(s, &["namespace"]).into(),
    };
    let subjects = object.get("subjects").and_then(Value::as_array);
    Binding {
        subjects: subjects.map(|a| a.iter().map(subject).collect()).unwrap_or_default(),
        role_kind: meta::text(object, &["roleRef", "kind"]).into(),
        role: meta::text(object, &["roleRef", "name"]).into(),
    }
}

/// The copy and the watch that keeps it.
#[derive(Default)]
pub(crate) struct Rbac {
    state: Mutex<Option<(Arc<Rules>, Watch)>>,
}

impl Rbac {
    /// The rules as of now.
    pub(crate) async fn current(&self, server: &ApiServer) -> Result<Arc<Rules>, Status> {
        let mut state = self.state.lock().await;
        if let Some((rules, watch)) = state.as_mut() {
            let mut events = Vec::new();
            let alive = loop {
                match poll(watch).await {
                    Some(Some(event)) => events.push(event),
                    Some(None) => break false,
                    None => break true,
                }
            };
            if alive {
                if !events.is_empty() {
                    let changed = Arc::make_mut(rules);
                    for event in events {
                        match event.kind {
                            EventKind::Put { .. } => changed.put(&event.record),
                            EventKind::Delete => changed.remove(&event.record.key),
                        }
                    }
                }
                return Ok(rules.clone());
            }
        }
        // The first call, or the watch fell too far behind.
        let page = server.storage().list(PREFIX, ListOptions::default()).await.map_err(errors::storage)?;
        let mut rules = Rules::default();
        for record in &page.records {
            rules.put(record);
        }
        let rules = Arc::new(rules);
        let watch = server.storage().watch(PREFIX, page.revision).map_err(errors::storage)?;
        *state = Some((rules.clone(), watch));
        Ok(rules)
    }
}

/// What is there now: `None` if no event waits, `Some(None)` if the watch ended.
async fn poll(watch: &mut Watch) -> Option<Option<Event>> {
    use futures_util::FutureExt as _;
    // Unconstrained, since a spent task budget would look like "no event".
    tokio::task::unconstrained(watch.next()).now_or_never()
}
