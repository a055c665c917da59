//! Parts of objects whose requests are no reads or writes of the object: each file answers one of them.

mod binding;
mod eviction;
pub(crate) mod proxy;
mod reach;
mod scale;
mod streams;
pub(crate) mod token;

use ::http::{Response, StatusCode};
use jiff::Timestamp;
use kiln_apimachinery::{Status, meta, time};
use serde_json::{Value, json};

use crate::http::body::Body;
use crate::http::respond;
use crate::verbs::Cx;

pub(crate) use proxy::ask_kubelet;

/// Answers a request on a part of a workload that is more than a field; `None` leaves it to the verbs.
pub(crate) async fn workload(cx: &Cx<'_>) -> Option<Result<Response<Body>, Status>> {
    let (group, plural) = (cx.resource.group.as_str(), cx.resource.plural.as_str());
    let answer = match (group, plural, cx.info.subresource.as_str()) {
        ("", "bindings", "") | ("", "pods", "binding") => Box::pin(binding::serve(cx)).await,
        ("", "pods", "eviction") => Box::pin(eviction::serve(cx)).await,
        ("", "pods", "log") => Box::pin(streams::log(cx)).await,
        ("", "pods", "exec" | "attach" | "portforward") => Box::pin(streams::stream(cx)).await,
        ("", "pods", "proxy") => Box::pin(streams::proxy(cx)).await,
        ("", "services", "proxy") => Box::pin(reach::service(cx)).await,
        ("", "nodes", "proxy") => Box::pin(reach::node(cx)).await,
        ("", "replicationcontrollers", "scale") | ("apps", _, "scale") => Box::pin(scale::serve(cx)).await,
        (_, _, "scale") if cx.resource.custom.is_some() => Box::pin(scale::serve(cx)).await,
        _ => return None,
    };
    Some(answer)
}

/// Whether what is behind a path gets requests' bodies as they come in: what is uploaded through a proxy may be long.
pub(crate) fn passes_on(path: &str) -> bool {
    let mut segments = path.trim_matches('/').split('/').skip(2);
    let mut resource = segments.next();
    if resource == Some("namespaces") {
        resource = segments.nth(1);
    }
    let is_proxied = matches!(resource, Some("nodes" | "pods" | "services"));
    path.starts_with("/api/v1/") && is_proxied && segments.nth(1) == Some("proxy")
}

/// A `Status` that says no more than that it is done.
fn success(code: StatusCode) -> Response<Body> {
    respond::json(code, &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}))
}

/// Sets a condition in an object's status. Its time of transition stays if its word does.
pub(crate) fn condition(object: &mut Value, mut new: Value, now: Timestamp) {
    let list = meta::child(object, "status").entry("conditions").or_insert_with(|| json!([]));
    let Some(list) = list.as_array_mut() else { return };
    let found = list.iter_mut().find(|c| c.get("type") == new.get("type"));
    let since = found.as_ref().filter(|c| c.get("status") == new.get("status"));
    new["lastTransitionTime"] = match since.and_then(|c| c.get("lastTransitionTime")) {
        Some(time) => time.clone(),
        None => time::rfc3339(now).into(),
    };
    match found {
        Some(old) => *old = new,
        None => list.push(new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bodies_for_a_proxy_are_passed_on_unread() {
        for path in [
            "/api/v1/nodes/n/proxy",
            "/api/v1/nodes/n/proxy/a/b",
            "/api/v1/namespaces/d/pods/p:80/proxy/",
            "/api/v1/namespaces/d/services/https:s:web/proxy/upload",
        ] {
            assert!(passes_on(path), "{path}");
        }
        for path in [
            "/api/v1/nodes/proxy",
            "/api/v1/nodes/n/status",
            "/api/v1/namespaces/proxy/pods/p/status",
            "/api/v1/namespaces/d/pods/proxy",
            "/api/v1/namespaces/d/configmaps/c/proxy",
            "/apis/apps/v1/namespaces/d/pods/p/proxy",
            "/",
        ] {
            assert!(!passes_on(path), "{path}");
        }
    }
}
