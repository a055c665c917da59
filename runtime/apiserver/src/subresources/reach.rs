//! `services/proxy` and `nodes/proxy`: what stands behind a Service or a node, as far as the server can tell.

use ::http::Response;
use kiln_apimachinery::status::Reason;
use kiln_apimachinery::{GroupResource, Status, meta};
use serde_json::Value;

use super::streams;
use crate::http::body::Body;
use crate::registry::cells::items;
use crate::verbs::Cx;

/// The name in `name`, `name:port` or `scheme:name:port`, and the port; `None` for anything else.
fn split(id: &str) -> Option<(&str, &str)> {
    let parts: Vec<&str> = id.split(':').collect();
    let (name, port) = match parts.as_slice() {
        [name] => (*name, ""),
        [name, port] | ["" | "http" | "https", name, port] => (*name, *port),
        _ => return None,
    };
    (!name.is_empty()).then_some((name, port))
}

fn unavailable(why: String) -> Status {
    Status::failure(Reason::ServiceUnavailable, why)
}

/// `nodes/proxy`.
pub(super) async fn node(cx: &Cx<'_>) -> Result<Response<Body>, Status> {
    let id = cx.info.name.as_str();
    let (name, _) = split(id).ok_or_else(|| Status::bad_request(format!("invalid node request {id:?}")))?;
    Err(streams::node(cx, name).await?)
}

/// `services/proxy`: to one of the endpoints of the port that is named.
pub(super) async fn service(cx: &Cx<'_>) -> Result<Response<Body>, Status> {
    let id = cx.info.name.as_str();
    let (name, port) = split(id).ok_or_else(|| Status::bad_request(format!("invalid service request {id:?}")))?;
    let store = cx.server.store();
    let mut port = port.to_owned();
    if let Ok(number) = port.parse::<i64>() {
        let found = store.read("", "services", cx.namespace(), name).await?;
        let service = found.ok_or_else(|| Status::not_found(&GroupResource::new("", "services"), name))?.object;
        let with = |p: &&Value| p.get("port").and_then(Value::as_i64) == Some(number);
        let Some(named) = items(&service, &["spec", "ports"]).iter().find(with) else {
            return Err(unavailable(format!("no service port {number} found for service {name:?}")));
        };
        port = meta::text(named, &["name"]).to_owned();
    }
    let found = store.read("", "endpoints", cx.namespace(), name).await?;
    let endpoints = found.ok_or_else(|| Status::not_found(&GroupResource::new("", "endpoints"), name))?.object;
    let subsets = items(&endpoints, &["subsets"]);
    if subsets.is_empty() {
        return Err(unavailable(format!("no endpoints available for service {name:?}")));
    }
    let serves = |s: &&Value| items(s, &["ports"]).iter().any(|p| meta::text(p, &["name"]) == port);
    let target = subsets.iter().filter(serves).flat_map(|s| items(s, &["addresses"])).next();
    let Some(target) = target else {
        return Err(unavailable(format!("no endpoints available for service {id:?}")));
    };
    let on = meta::text(target, &["nodeName"]);
    if on.is_empty() {
        return Err(unavailable(format!("no endpoints available for service {id:?}")));
    }
    Err(streams::node(cx, on).await?)
}
