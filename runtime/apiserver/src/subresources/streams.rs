//! What a pod's node answers: logs, commands, attachments, forwarded ports, and what the pod itself serves. Requests are
//! read and checked as far as the server can; the rest needs a way to the node.

use ::http::{Response, StatusCode, header};
use kiln_apimachinery::{FieldError, GroupResource, Gvk, Reason, Status, meta};
use serde_json::Value;

use crate::http::body::Body;
use crate::http::respond;
use crate::verbs::Cx;
use crate::verbs::update::may_create;

/// Lists of containers, in the order in which they are named.
const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

async fn pod(cx: &Cx<'_>, name: &str) -> Result<Value, Status> {
    let found = cx.server.store().read("", "pods", cx.namespace(), name).await?;
    let absent = || Status::not_found(&cx.resource.group_resource(), name);
    found.map(|p| p.object).ok_or_else(absent)
}

fn names<'a>(pod: &'a Value, list: &str) -> Vec<&'a str> {
    let found = meta::at(pod, &["spec", list]).and_then(Value::as_array);
    found.into_iter().flatten().map(|c| meta::text(c, &["name"])).collect()
}

/// The container that is meant: the one that is named, or the only one.
fn container<'a>(pod: &'a Value, asked: &'a str) -> Result<&'a str, Status> {
    let name = meta::name(pod);
    let all: Vec<&str> = LISTS.iter().flat_map(|list| names(pod, list)).collect();
    if !asked.is_empty() {
        if all.contains(&asked) {
            return Ok(asked);
        }
        return Err(Status::bad_request(format!("container {asked} is not valid for pod {name}")));
    }
    match names(pod, "containers").as_slice() {
        [one] => Ok(one),
        [] => Err(Status::bad_request(format!("a container name must be specified for pod {name}"))),
        _ => Err(Status::bad_request(format!(
            "a container name must be specified for pod {name}, choose one of: [{}]",
            all.join(" ")
        ))),
    }
}

/// There is a node of that name, and no way to it.
pub(super) async fn node(cx: &Cx<'_>, name: &str) -> Result<Status, Status> {
    if cx.server.store().read("", "nodes", "", name).await?.is_none() {
        return Err(Status::not_found(&GroupResource::new("", "nodes"), name));
    }
    let why = format!("there is no tunnel to node {name:?} to reach its pods through");
    Ok(Status::failure(Reason::ServiceUnavailable, why))
}

/// A whole number in the query.
fn number(cx: &Cx<'_>, key: &str) -> Result<Option<i64>, Status> {
    let Some(text) = cx.query.get(key) else { return Ok(None) };
    let unread = |_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"));
    text.parse().map(Some).map_err(unread)
}

/// `pods/log`.
pub(crate) async fn log(cx: &Cx<'_>) -> Result<Response<Body>, Status> {
    let (tail, bytes) = (number(cx, "tailLines")?, number(cx, "limitBytes")?);
    let (seconds, since) = (number(cx, "sinceSeconds")?, cx.query.get("sinceTime"));
    let mut problems = Vec::new();
    let mut below = |key: &str, n: Option<i64>, least: i64, why: &str| {
        if let Some(n) = n.filter(|n| *n < least) {
            problems.push(FieldError::invalid(key, &n.into(), why));
        }
    };
    below("tailLines", tail, 0, "must be greater than or equal to 0");
    below("limitBytes", bytes, 1, "must be greater than 0");
    if since.is_none() {
        below("sinceSeconds", seconds, 1, "must be greater than 0");
    }
    if since.is_some() && seconds.is_some() {
        let why = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        problems.push(FieldError::forbidden("", why));
    }
    if cx.query.get("stream").is_some() {
        problems.push(FieldError::forbidden("stream", "may not be specified"));
    }
    if !problems.is_empty() {
        return Err(Status::invalid(&Gvk::new("", "", "PodLogOptions"), &cx.info.name, &problems));
    }
    let pod = pod(cx, &cx.info.name).await?;
    container(&pod, cx.query.get("container").unwrap_or_default())?;
    match meta::text(&pod, &["spec", "nodeName"]) {
        // A pod that is nowhere has said nothing yet.
        "" => Ok(respond::bytes(StatusCode::OK, "text/plain", "")),
        name => Err(node(cx, name).await?),
    }
}

/// `pods/exec`, `pods/attach` and `pods/portforward`.
pub(crate) async fn stream(cx: &Cx<'_>) -> Result<Response<Body>, Status> {
    // Whoever may only read must not run anything, whatever the method of the request.
    may_create(cx).await?;
    let pod = pod(cx, &cx.info.name).await?;
    if cx.info.subresource != "portforward" {
        container(&pod, cx.query.get("container").unwrap_or_default())?;
    }
    let name = meta::text(&pod, &["spec", "nodeName"]);
    if name.is_empty() {
        return Err(Status::bad_request(format!("pod {} does not have a host assigned", cx.info.name)));
    }
    let unreachable = node(cx, name).await?;
    if !cx.headers.contains_key(header::UPGRADE) {
        return Err(Status::bad_request("Upgrade request required"));
    }
    Err(unreachable)
}

/// `pods/proxy`: the name may have a scheme before it and a port behind.
pub(crate) async fn proxy(cx: &Cx<'_>) -> Result<Response<Body>, Status> {
    let id = cx.info.name.as_str();
    let parts: Vec<&str> = id.split(':').collect();
    let name = match parts.as_slice() {
        [name] | [name, _] => *name,
        ["" | "http" | "https", name, _] => *name,
        _ => "",
    };
    if name.is_empty() {
        return Err(Status::bad_request(format!("invalid pod request {id:?}")));
    }
    let pod = pod(cx, name).await?;
    let address = meta::at(&pod, &["status", "podIPs"]).and_then(|l| l.get(0)).map_or("", |a| meta::text(a, &["ip"]));
    if !is_unicast(address) {
        return Err(Status::bad_request("address not allowed"));
    }
    Err(node(cx, meta::text(&pod, &["spec", "nodeName"])).await?)
}

/// True for an address of one host that is not this one.
fn is_unicast(address: &str) -> bool {
    match address.parse() {
        Ok(std::net::IpAddr::V4(v4)) => {
            !(v4.is_unspecified() || v4.is_loopback() || v4.is_multicast() || v4.is_link_local() || v4.is_broadcast())
        }
        Ok(std::net::IpAddr::V6(v6)) => {
            !(v6.is_unspecified() || v6.is_loopback() || v6.is_multicast() || v6.is_unicast_link_local())
        }
        Err(_) => false,
    }
}
