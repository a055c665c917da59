//! Who asks for what: the rules of a flow schema.

use kiln_apimachinery::meta;
use serde_json::Value;

use crate::request_info::RequestInfo;
use crate::user::UserInfo;

const ANY: &str = "*";

#[derive(Clone, Debug)]
enum Subject {
    User(String),
    Group(String),
    ServiceAccount { namespace: String, name: String },
}

impl Subject {
    fn read(object: &Value) -> Option<Self> {
        let text = |path: &[&str]| meta::text(object, path).to_owned();
        match meta::text(object, &["kind"]) {
            "User" => Some(Self::User(text(&["user", "name"]))),
            "Group" => Some(Self::Group(text(&["group", "name"]))),
            "ServiceAccount" => Some(Self::ServiceAccount {
                namespace: text(&["serviceAccount", "namespace"]),
                name: text(&["serviceAccount", "name"]),
            }),
            _ => None,
        }
    }

    fn is(&self, user: &UserInfo) -> bool {
        match self {
            Self::User(name) => name == ANY || *name == user.name,
            Self::Group(name) => name == ANY || user.in_group(name),
            Self::ServiceAccount { namespace, name } => {
                let account = user.name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
                account.is_some_and(|(ns, n)| ns == namespace && (name == ANY || n == name))
            }
        }
    }
}

#[derive(Clone, Debug)]
struct ResourceRule {
    verbs: Vec<String>,
    groups: Vec<String>,
    resources: Vec<String>,
    cluster: bool,
    namespaces: Vec<String>,
}

#[derive(Clone, Debug)]
struct PathRule {
    verbs: Vec<String>,
    paths: Vec<String>,
}

/// One rule: some subjects, and what they ask for.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    subjects: Vec<Subject>,
    resources: Vec<ResourceRule>,
    paths: Vec<PathRule>,
}

fn has(list: &[String], text: &str) -> bool {
    list.iter().any(|l| l == ANY || l == text)
}

impl ResourceRule {
    fn matches(&self, info: &RequestInfo) -> bool {
        let resource = |r: &String| match r.split_once('/') {
            _ if r == ANY => true,
            Some((resource, subresource)) => resource == info.resource && subresource == info.subresource,
            None => *r == info.resource && info.subresource.is_empty(),
        };
        has(&self.verbs, &info.verb)
            && has(&self.groups, &info.group)
            && self.resources.iter().any(resource)
            && if info.namespace.is_empty() { self.cluster } else { has(&self.namespaces, &info.namespace) }
    }
}

impl PathRule {
    fn matches(&self, info: &RequestInfo) -> bool {
        let path = |p: &String| match p.strip_suffix(ANY) {
            Some(prefix) => info.path.starts_with(prefix),
            None => *p == info.path,
        };
        has(&self.verbs, &info.verb) && self.paths.iter().any(path)
    }
}

impl Rule {
    pub(super) fn read(object: &Value) -> Self {
        let list = |key: &str| object[key].as_array().map_or(&[][..], Vec::as_slice);
        let texts = |o: &Value, key: &str| meta::strings(o.get(key)).into_iter().map(str::to_owned).collect();
        let resource = |o: &Value| ResourceRule {
            verbs: texts(o, "verbs"),
            groups: texts(o, "apiGroups"),
            resources: texts(o, "resources"),
            cluster: o["clusterScope"] == true,
            namespaces: texts(o, "namespaces"),
        };
        let path = |o: &Value| PathRule { verbs: texts(o, "verbs"), paths: texts(o, "nonResourceURLs") };
        Self {
            subjects: list("subjects").iter().filter_map(Subject::read).collect(),
            resources: list("resourceRules").iter().map(resource).collect(),
            paths: list("nonResourceRules").iter().map(path).collect(),
        }
    }

    /// Whatever a group asks for.
    pub(super) fn group(name: &str) -> Self {
        let any = || vec![ANY.to_owned()];
        Self {
            subjects: vec![Subject::Group(name.to_owned())],
            resources: vec![ResourceRule {
                verbs: any(),
                groups: any(),
                resources: any(),
                cluster: true,
                namespaces: any(),
            }],
            paths: vec![PathRule { verbs: any(), paths: any() }],
        }
    }

    /// Everything.
    pub(super) fn everything() -> Self {
        Self::group(ANY)
    }

    pub(super) fn matches(&self, user: &UserInfo, info: &RequestInfo) -> bool {
        self.subjects.iter().any(|s| s.is(user))
            && if info.is_resource {
                self.resources.iter().any(|r| r.matches(info))
            } else {
                self.paths.iter().any(|p| p.matches(info))
            }
    }
}

#[cfg(test)]
mod tests {
    use ::http::Method;
    use kiln_apimachinery::query::Query;
    use serde_json::json;

    use super::*;

    fn asks(rule: &Value, user: &UserInfo, path: &str) -> bool {
        Rule::read(rule).matches(user, &RequestInfo::new(&Method::GET, path, &Query::default()))
    }

    #[test]
    fn a_rule_is_about_its_subjects_and_what_they_ask_for() {
        let rule = json!({
            "subjects": [
                {"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": "*"}},
                {"kind": "Group", "group": {"name": "dev"}},
            ],
            "resourceRules": [
                {"verbs": ["get"], "apiGroups": [""], "resources": ["nodes", "pods/log"], "clusterScope": true,
                    "namespaces": ["a"]},
            ],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["/healthz", "/open/*"]}],
        });
        let dev = UserInfo::new("x", &["dev"]);
        let good = ["/api/v1/nodes/n", "/api/v1/namespaces/a/pods/p/log", "/healthz", "/open/v2"];
        let bad = ["/api/v1/nodes", "/api/v1/namespaces/b/pods/p/log", "/api/v1/namespaces/a/pods/p", "/healthz/x"];
        assert!(good.iter().all(|path| asks(&rule, &dev, path)));
        assert!(bad.iter().all(|path| !asks(&rule, &dev, path)));
        let account = |name: &str| UserInfo::new(name, &[]);
        assert!(asks(&rule, &account("system:serviceaccount:kube-system:x"), good[0]));
        assert!(!asks(&rule, &account("system:serviceaccount:default:x"), good[0]));
    }
}
