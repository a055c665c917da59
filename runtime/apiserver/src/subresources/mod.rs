//! Parts of objects whose requests are no reads or writes of the object: each file answers one of them.

mod binding;
mod eviction;
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

/// Answers a request on a part of a workload that is more than a field; `None` leaves it to the verbs.
pub(crate) async fn workload(cx: &Cx<'_>) -> Option<Result<Response<Body>, Status>> {
    let (group, plural) = (cx.resource.group.as_str(), cx.resource.plural.as_str());
    let answer = match (group, plural, cx.info.subresource.as_str()) {
        ("", "bindings", "") | ("", "pods", "binding") => binding::serve(cx).await,
        ("", "pods", "eviction") => eviction::serve(cx).await,
        ("", "pods", "log") => streams::log(cx).await,
        ("", "pods", "exec" | "attach" | "portforward") => streams::stream(cx).await,
        ("", "pods", "proxy") => streams::proxy(cx).await,
        ("", "services", "proxy") => reach::service(cx).await,
        ("", "nodes", "proxy") => reach::node(cx).await,
        ("", "replicationcontrollers", "scale") | ("apps", _, "scale") => scale::serve(cx).await,
        _ => return None,
    };
    Some(answer)
}

/// A `Status` that says no more than that it is done.
fn success(code: StatusCode) -> Response<Body> {
    respond::json(code, &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}))
}

/// Sets a condition in an object's status. Its time of transition stays if its word does.
fn condition(object: &mut Value, mut new: Value, now: Timestamp) {
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
