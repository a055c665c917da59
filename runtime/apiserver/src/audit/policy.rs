//! What is to be audited: `audit.k8s.io/v1` Policy, read from YAML or JSON.

use serde::Deserialize;

use crate::request_info::RequestInfo;
use crate::user::UserInfo;

/// How much of a request is written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(crate) enum Level {
    /// Nothing.
    #[default]
    None,
    /// Who, what, when and the outcome.
    Metadata,
    /// And what was sent.
    Request,
    /// And what was answered.
    RequestResponse,
}

impl Level {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Level::None => "None",
            Level::Metadata => "Metadata",
            Level::Request => "Request",
            Level::RequestResponse => "RequestResponse",
        }
    }
}

/// The moments of a request at which something is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum Stage {
    RequestReceived,
    ResponseStarted,
    ResponseComplete,
    Panic,
}

impl Stage {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Stage::RequestReceived => "RequestReceived",
            Stage::ResponseStarted => "ResponseStarted",
            Stage::ResponseComplete => "ResponseComplete",
            Stage::Panic => "Panic",
        }
    }
}

/// A policy is no policy.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It is no YAML, or of another shape.
    #[error("the audit policy can't be read: {0}")]
    Unreadable(#[from] serde_yaml_ng::Error),
    /// It is of another kind or version.
    #[error("the audit policy is a {kind} in {api_version}; it must be a Policy in audit.k8s.io/v1")]
    Foreign {
        /// Kind found.
        kind: String,
        /// Version found.
        api_version: String,
    },
    /// It breaks a rule.
    #[error("the audit policy breaks a rule: {0}")]
    Broken(String),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct GroupResources {
    group: String,
    resources: Vec<String>,
    resource_names: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<GroupResources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: Option<bool>,
}

/// A policy; its first rule that fits a request counts.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Policy {
    api_version: String,
    kind: String,
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

/// What to write down about one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    pub(crate) level: Level,
    pub(crate) omit_stages: Vec<Stage>,
    pub(crate) omit_managed_fields: bool,
}

impl Policy {
    /// Reads a policy.
    pub(crate) fn parse(text: &str) -> Result<Self, PolicyError> {
        let policy: Self = serde_yaml_ng::from_str(text)?;
        if policy.kind != "Policy" || policy.api_version != "audit.k8s.io/v1" {
            return Err(PolicyError::Foreign { kind: policy.kind, api_version: policy.api_version });
        }
        if policy.rules.is_empty() {
            return Err(PolicyError::Broken("it has no rules".into()));
        }
        for (i, rule) in policy.rules.iter().enumerate() {
            let about_paths = !rule.non_resource_urls.is_empty();
            if about_paths && !(rule.resources.is_empty() && rule.namespaces.is_empty()) {
                let why = format!(
                    "rules[{i}].nonResourceURLs: rules cannot apply to both regular resources and non-resource URLs"
                );
                return Err(PolicyError::Broken(why));
            }
            for path in &rule.non_resource_urls {
                let star = path.find('*').is_some_and(|at| at + 1 != path.len());
                if path != "*" && (!path.starts_with('/') || star) {
                    let why = format!(
                        "rules[{i}].nonResourceURLs: {path:?} must begin with '/', and '*' must be its last character"
                    );
                    return Err(PolicyError::Broken(why));
                }
            }
        }
        Ok(policy)
    }

    /// What to write down about a request.
    pub(crate) fn scope(&self, user: &UserInfo, info: &RequestInfo) -> Scope {
        let Some(rule) = self.rules.iter().find(|r| r.fits(user, info)) else {
            return Scope { level: Level::None, omit_stages: Vec::new(), omit_managed_fields: false };
        };
        Scope {
            level: rule.level,
            omit_stages: rule.omit_stages.iter().chain(&self.omit_stages).copied().collect(),
            omit_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields),
        }
    }
}

fn has(list: &[String], word: &str) -> bool {
    list.iter().any(|x| x == word)
}

impl Rule {
    fn fits(&self, user: &UserInfo, info: &RequestInfo) -> bool {
        (self.users.is_empty() || has(&self.users, &user.name))
            && (self.user_groups.is_empty() || user.groups.iter().any(|g| has(&self.user_groups, g)))
            && (self.verbs.is_empty() || has(&self.verbs, &info.verb))
            && match () {
                () if !self.namespaces.is_empty() || !self.resources.is_empty() => self.fits_resource(info),
                () if !self.non_resource_urls.is_empty() => {
                    let means = |spec: &String| {
                        spec == "*"
                            || *spec == info.path
                            || spec.strip_suffix('*').is_some_and(|p| info.path.starts_with(p))
                    };
                    !info.is_resource && self.non_resource_urls.iter().any(means)
                }
                () => true,
            }
    }

    fn fits_resource(&self, info: &RequestInfo) -> bool {
        if !info.is_resource || !(self.namespaces.is_empty() || has(&self.namespaces, &info.namespace)) {
            return false;
        }
        self.resources.is_empty() || self.resources.iter().any(|r| r.group == info.group && r.fits(info))
    }
}

impl GroupResources {
    fn fits(&self, info: &RequestInfo) -> bool {
        if self.resources.is_empty() {
            return true;
        }
        if !self.resource_names.is_empty() && !has(&self.resource_names, &info.name) {
            return false;
        }
        let (resource, sub) = (info.resource.as_str(), info.subresource.as_str());
        self.resources.iter().any(|spec| match spec.split_once('/') {
            _ if spec == "*" => true,
            None => spec == resource && sub.is_empty(),
            Some(("*", s)) => !sub.is_empty() && s == sub,
            Some((r, "*")) => r == resource,
            Some((r, s)) => r == resource && s == sub,
        })
    }
}

#[cfg(test)]
mod tests {
    use ::http::Method;
    use kiln_apimachinery::query::Query;

    use super::*;

    const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  users: ["system:kube-proxy"]
  verbs: [watch]
- level: Metadata
  resources:
  - {group: "", resources: [secrets, "pods/*"]}
- level: Request
  namespaces: [default]
  omitManagedFields: true
- level: None
  nonResourceURLs: ["/healthz*"]
- level: RequestResponse
  userGroups: [g]
  omitStages: [Panic]
"#;

    #[test]
    fn the_first_rule_that_fits_counts() {
        let policy = Policy::parse(POLICY).unwrap();
        let scope = |user: &UserInfo, url: &str| {
            let (path, query) = url.split_once('?').unwrap_or((url, ""));
            policy.scope(user, &RequestInfo::new(&Method::GET, path, &Query::parse(query)))
        };
        let (proxy, bob) = (UserInfo::new("system:kube-proxy", &["g"]), UserInfo::new("bob", &["g"]));
        assert_eq!(scope(&proxy, "/api/v1/services?watch=1").level, Level::None);
        assert_eq!(scope(&proxy, "/api/v1/services").level, Level::RequestResponse);
        assert_eq!(scope(&bob, "/api/v1/namespaces/x/secrets/a").level, Level::Metadata);
        assert_eq!(scope(&bob, "/api/v1/namespaces/x/pods/a/log").level, Level::Metadata);
        assert!(scope(&bob, "/api/v1/namespaces/default/configmaps").omit_managed_fields);
        assert_eq!(scope(&bob, "/healthz/etcd").level, Level::None);
        assert_eq!(scope(&bob, "/version").omit_stages, [Stage::Panic, Stage::RequestReceived]);
        assert_eq!(scope(&UserInfo::new("eve", &[]), "/version").level, Level::None);
    }

    #[test]
    fn what_is_no_policy_is_told_why() {
        let error = |text: &str| Policy::parse(text).unwrap_err().to_string();
        assert!(error("apiVersion: v1\nkind: Pod\nrules: []").contains("is a Pod in v1"));
        assert!(error("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: []").contains("no rules"));
        assert!(error("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: All}]").contains("unknown variant"));
        let both =
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None, nonResourceURLs: [/a], namespaces: [b]}]";
        assert!(error(both).contains("both regular resources and non-resource URLs"));
    }
}
