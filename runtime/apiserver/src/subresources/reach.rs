//! `services/proxy` and `nodes/proxy`: what stands behind a Service or a node.

use ::http::Response;
use kiln_apimachinery::status::Reason;
use kiln_apimachinery::{GroupResource, Status, meta, random};
use serde_json::Value;

use super::proxy::{self, Backend, Scheme};
use super::streams;
use crate::dialer::Target;
use crate::http::body::Body;
use crate::registry::cells::items;
use crate::verbs::Cx;

/// Where a kubelet listens whose Node does not say.
const KUBELET_PORT: i64 = 10250;

/// `host:port`, with an IPv6 address in brackets.
pub(super) fn authority(address: &str, port: &str) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

/// The port that a URL of the scheme means if it names none.
pub(super) fn default_port(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Http => "80",
        Scheme::Https => "443",
    }
}

/// Passes the request on to what is behind `proxy` in its path.
pub(super) async fn pass(
    cx: &Cx<'_>,
    node: &str,
    target: Target<'_>,
    scheme: Scheme,
) -> Result<Response<Body>, Status> {
    // /api/v1/nodes/NAME/proxy, or with namespaces/NAME in it.
    let segments = if cx.resource.namespaced { 7 } else { 5 };
    let (public, path) = proxy::rest(cx.parts.uri.path(), segments);
    let path = if path.is_empty() { "/" } else { path };
    let query = cx.parts.uri.query().map(|q| format!("?{q}")).unwrap_or_default();
    let backend = Backend { node, target, scheme, uri: format!("{path}{query}") };
    proxy::any(cx, &backend, public).await
}

fn unavailable(why: String) -> Status {
    Status::failure(Reason::ServiceUnavailable, why)
}

/// `nodes/proxy`: the kubelet, or another port of the node.
pub(super) async fn node(cx: &Cx<'_>) -> Result<Response<Body>, Status> {
    let id = cx.info.name.as_str();
    let split = proxy::split(id).ok_or_else(|| Status::bad_request(format!("invalid node request {id:?}")))?;
    let (scheme, name, port) = split;
    let found = cx.server.store().read("", "nodes", "", name).await?;
    let absent = || Status::not_found(&GroupResource::new("", "nodes"), name);
    let node = found.ok_or_else(absent)?.object;
    let kubelet = meta::at(&node, &["status", "daemonEndpoints", "kubeletEndpoint", "Port"]).and_then(Value::as_i64);
    let kubelet = kubelet.filter(|p| *p > 0);
    if port.is_empty() || port == kubelet.unwrap_or(KUBELET_PORT).to_string() {
        return pass(cx, name, Target::Kubelet, Scheme::Http).await;
    }
    let addresses = items(&node, &["status", "addresses"]);
    let internal = addresses.iter().find(|a| meta::text(a, &["type"]) == "InternalIP");
    let address = internal.map_or("", |a| meta::text(a, &["address"]));
    if !streams::is_unicast(address) {
        return Err(Status::bad_request("address not allowed"));
    }
    pass(cx, name, Target::Address(&authority(address, port)), scheme).await
}

/// `services/proxy`: to one of the endpoints of the port that is named.
pub(super) async fn service(cx: &Cx<'_>) -> Result<Response<Body>, Status> {
    let id = cx.info.name.as_str();
    let split = proxy::split(id).ok_or_else(|| Status::bad_request(format!("invalid service request {id:?}")))?;
    let (scheme, name, port) = split;
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
    // Any endpoint will do, and not always the same.
    let seed = u64::from_be_bytes(random::bytes().map_err(Status::internal)?);
    for subset in from(subsets, seed) {
        let Some(port) = items(subset, &["ports"]).iter().find(|p| meta::text(p, &["name"]) == port) else { continue };
        let port = port.get("port").and_then(Value::as_i64).unwrap_or_default().to_string();
        for address in from(items(subset, &["addresses"]), seed) {
            let Some(node) = node_of(cx, address).await? else { continue };
            let address = authority(meta::text(address, &["ip"]), &port);
            return pass(cx, &node, Target::Address(&address), scheme).await;
        }
    }
    Err(unavailable(format!("no endpoints available for service {id:?}")))
}

/// All of a list, from some place on and around its end.
fn from(list: &[Value], seed: u64) -> impl Iterator<Item = &Value> {
    let at = if list.is_empty() { 0 } else { usize::try_from(seed % list.len() as u64).unwrap_or(0) };
    list[at..].iter().chain(&list[..at])
}

/// The node of an endpoint, if that is a pod of the namespace which has the address: whoever may write endpoints must not
/// reach anything else by them.
async fn node_of(cx: &Cx<'_>, endpoint: &Value) -> Result<Option<String>, Status> {
    let target = |key| meta::text(endpoint, &["targetRef", key]);
    if target("name").is_empty() || target("namespace") != cx.namespace() {
        return Ok(None);
    }
    let Some(pod) = cx.server.store().read("", "pods", cx.namespace(), target("name")).await? else { return Ok(None) };
    let ip = meta::text(endpoint, &["ip"]);
    let is_pod = items(&pod.object, &["status", "podIPs"]).iter().any(|a| meta::text(a, &["ip"]) == ip);
    Ok(is_pod.then(|| meta::text(&pod.object, &["spec", "nodeName"]).to_owned()))
}
