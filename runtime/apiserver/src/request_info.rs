//! What a URL and a method mean: a verb on a resource, or a path that is none.

use ::http::Method;
use kiln_apimachinery::FieldSelector;
use kiln_apimachinery::query::{Query, decode};

/// The meaning of a request, as authorization and dispatch see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestInfo {
    /// False for paths such as `/version`.
    pub(crate) is_resource: bool,
    /// The whole path.
    pub(crate) path: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; for other paths the method.
    pub(crate) verb: String,
    /// API group; empty for core.
    pub(crate) group: String,
    /// API version.
    pub(crate) version: String,
    /// Namespace, or empty.
    pub(crate) namespace: String,
    /// Plural.
    pub(crate) resource: String,
    /// Subresource, or empty.
    pub(crate) subresource: String,
    /// Object name, or empty. For a list or watch, the one that a field selector names.
    pub(crate) name: String,
    /// True if the name stands in the path.
    pub(crate) named: bool,
    /// True if the path has more parts than a resource can have.
    pub(crate) overlong: bool,
}

/// Subresources that are streams.
const STREAMS: [&str; 5] = ["attach", "exec", "log", "portforward", "proxy"];

/// Parts after a namespace that belong to the namespace object itself.
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

impl RequestInfo {
    /// True for what may go on for as long as the client likes.
    pub(crate) fn is_long_running(&self) -> bool {
        self.is_resource && (self.verb == "watch" || STREAMS.contains(&self.subresource.as_str()))
            || self.path == crate::ownership::PATH
    }

    /// Reads a method, a path and a query.
    pub(crate) fn new(method: &Method, path: &str, query: &Query) -> Self {
        let other = || Self { path: path.to_owned(), verb: method.as_str().to_lowercase(), ..Self::default() };
        let parts: Vec<String> = path.trim_matches('/').split('/').map(|p| decode(p).into_owned()).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return other(),
        };
        let mut verb = match *method {
            Method::POST => "create",
            Method::GET | Method::HEAD => "get",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "",
        };
        let mut rest = rest;
        let mut deprecated_watch = false;
        if let ["watch", after @ ..] = rest {
            (rest, deprecated_watch) = (after, true);
        }
        if rest.is_empty() {
            return other();
        }
        let mut info = Self {
            is_resource: true,
            path: path.to_owned(),
            group: group.into(),
            version: version.into(),
            ..Self::default()
        };
        if let ["namespaces", namespace, after @ ..] = rest {
            info.namespace = (*namespace).into();
            if after.first().is_some_and(|r| !NAMESPACE_SUBRESOURCES.contains(r)) {
                rest = after;
            }
        }
        let mut rest = rest.iter();
        let mut next = || rest.next().map(|p| (*p).to_owned()).unwrap_or_default();
        (info.resource, info.name, info.subresource) = (next(), next(), next());
        info.overlong = rest.next().is_some();
        info.named = !info.name.is_empty();
        if info.name.is_empty() && verb == "get" {
            verb = if query.flag("watch") { "watch" } else { "list" };
        }
        if deprecated_watch && matches!(verb, "get" | "list" | "watch") {
            verb = "watch";
        }
        if info.name.is_empty() && verb == "delete" {
            verb = "deletecollection";
        }
        if info.name.is_empty() && matches!(verb, "list" | "watch") {
            let selector = query.get("fieldSelector").and_then(|s| FieldSelector::parse(s).ok());
            if let Some(name) = selector.as_ref().and_then(|s| s.exact("metadata.name")) {
                info.name = name.to_owned();
            }
        }
        info.verb = verb.into();
        info
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: Method, url: &str) -> String {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let i = RequestInfo::new(&method, path, &Query::parse(query));
        if !i.is_resource {
            return format!("{} {}", i.verb, i.path);
        }
        format!(
            "{} g={} v={} ns={} r={} n={} s={}",
            i.verb, i.group, i.version, i.namespace, i.resource, i.name, i.subresource
        )
    }

    #[test]
    fn every_shape_of_url_is_understood() {
        let cases = [
            (Method::GET, "/api/v1/nodes", "list g= v=v1 ns= r=nodes n= s="),
            (Method::GET, "/api/v1/nodes?watch=true", "watch g= v=v1 ns= r=nodes n= s="),
            (Method::GET, "/api/v1/watch/nodes/a", "watch g= v=v1 ns= r=nodes n=a s="),
            (Method::GET, "/api/v1/watch/namespaces/d/pods", "watch g= v=v1 ns=d r=pods n= s="),
            (Method::PUT, "/api/v1/nodes/a/status", "update g= v=v1 ns= r=nodes n=a s=status"),
            (Method::GET, "/api/v1/namespaces/d", "get g= v=v1 ns=d r=namespaces n=d s="),
            (Method::PUT, "/api/v1/namespaces/d/finalize", "update g= v=v1 ns=d r=namespaces n=d s=finalize"),
            (Method::POST, "/apis/apps/v1/namespaces/d/deployments", "create g=apps v=v1 ns=d r=deployments n= s="),
            (Method::DELETE, "/api/v1/namespaces/d/pods", "deletecollection g= v=v1 ns=d r=pods n= s="),
            (Method::GET, "/api/v1/pods?fieldSelector=metadata.name%3Dx", "list g= v=v1 ns= r=pods n=x s="),
            (
                Method::GET,
                "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
                "get g=rbac.authorization.k8s.io v=v1 ns= r=clusterroles n=system:node s=",
            ),
            (Method::GET, "/api/v1", "get /api/v1"),
            (Method::GET, "/apis/apps", "get /apis/apps"),
            (Method::GET, "/healthz", "get /healthz"),
        ];
        for (method, url, expected) in cases {
            assert_eq!(read(method, url), expected, "{url}");
        }
    }
}
