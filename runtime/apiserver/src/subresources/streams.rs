//! What a pod's node answers: logs, commands, attachments, forwarded ports, and what the pod itself serves. Requests are
//! read and checked as far as the server can; the rest needs a way to the node.

use ::http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use kiln_apimachinery::{FieldError, GroupResource, Gvk, Reason, Status, meta};
use serde_json::Value;

use super::proxy::{self, Backend, Scheme};
use super::reach;
use crate::dialer::Target;
use crate::http::body::Body;
use crate::http::respond;
use crate::http::stream::Messages;
use crate::registry::cells::items;
use crate::verbs::Cx;
use crate::verbs::update::may_create;

/// The most of a refusal that is read.
const MAX_REFUSAL: usize = 2000;

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

/// A whole number in the query.
fn number(cx: &Cx<'_>, key: &str) -> Result<Option<i64>, Status> {
    let Some(text) = cx.query.get(key) else { return Ok(None) };
    let unread = |_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"));
    text.parse().map(Some).map_err(unread)
}

/// Says that a pod's node is gone, rather than that no way leads to it.
async fn node_is_there(cx: &Cx<'_>, name: &str) -> Result<(), Status> {
    let found = cx.server.store().read("", "nodes", "", name).await?;
    found.map(|_| ()).ok_or_else(|| Status::not_found(&GroupResource::new("", "nodes"), name))
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
    let container = container(&pod, cx.query.get("container").unwrap_or_default())?;
    let name = meta::text(&pod, &["spec", "nodeName"]);
    if name.is_empty() {
        // A pod that is nowhere has said nothing yet.
        return Ok(respond::bytes(StatusCode::OK, "text/plain", ""));
    }
    node_is_there(cx, name).await?;
    let mut wanted = Uri::new(&["containerLogs", cx.namespace(), &cx.info.name, container]);
    for key in ["follow", "previous", "timestamps"] {
        wanted.flag(key, cx.query.flag(key));
    }
    for key in ["sinceSeconds", "sinceTime", "tailLines", "limitBytes"] {
        wanted.pair(key, cx.query.get(key));
    }
    let answer = proxy::ask_kubelet(cx, name, wanted.0).await?;
    if answer.status() != StatusCode::OK {
        return Err(refused(cx, answer).await);
    }
    let mut response = answer.map(|body| body.map_err(Into::into).boxed());
    response.headers_mut().clear();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response.extensions_mut().insert(Messages);
    Ok(response)
}

/// What the kubelet said in place of a log.
async fn refused(cx: &Cx<'_>, answer: Response<hyper::body::Incoming>) -> Status {
    let code = answer.status();
    let text = match Limited::new(answer.into_body(), MAX_REFUSAL).collect().await {
        Ok(text) => String::from_utf8_lossy(&text.to_bytes()).into_owned(),
        Err(error) => return Status::internal(error),
    };
    match code {
        StatusCode::BAD_REQUEST => Status::bad_request(text),
        StatusCode::NOT_FOUND => {
            let message = format!("the server could not find the requested resource ( pods/log {})", cx.info.name);
            Status::failure(Reason::NotFound, message)
        }
        _ => Status::internal(text),
    }
}

/// A path and query for the kubelet.
struct Uri(String);

impl Uri {
    fn new(segments: &[&str]) -> Self {
        Self(segments.iter().flat_map(|s| ["/".to_owned(), encode(s)]).collect())
    }

    fn pair(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            let between = if self.0.contains('?') { '&' } else { '?' };
            self.0.push_str(&format!("{between}{key}={}", encode(value)));
        }
    }

    fn flag(&mut self, key: &str, set: bool) {
        self.pair(key, set.then_some("true"));
    }
}

/// Percent-encodes all that is not safe everywhere in a URL.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// `pods/exec`, `pods/attach` and `pods/portforward`.
pub(crate) async fn stream(cx: &Cx<'_>) -> Result<Response<Body>, Status> {
    // Whoever may only read must not run anything, whatever the method of the request.
    may_create(cx).await?;
    let pod = pod(cx, &cx.info.name).await?;
    let kind = cx.info.subresource.as_str();
    let mut wanted = if kind == "portforward" {
        let mut uri = Uri::new(&["portForward", cx.namespace(), &cx.info.name]);
        // One parameter may hold several.
        let ports: Vec<&str> = cx.query.all("ports").collect();
        uri.pair("port", (!ports.is_empty()).then(|| ports.join(",")).as_deref());
        uri
    } else {
        let container = container(&pod, cx.query.get("container").unwrap_or_default())?;
        Uri::new(&[kind, cx.namespace(), &cx.info.name, container])
    };
    let name = meta::text(&pod, &["spec", "nodeName"]);
    if name.is_empty() {
        return Err(Status::bad_request(format!("pod {} does not have a host assigned", cx.info.name)));
    }
    node_is_there(cx, name).await?;
    if kind != "portforward" {
        for (key, to) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")] {
            wanted.pair(to, cx.query.flag(key).then_some("1"));
        }
        if kind == "exec" {
            cx.query.all("command").for_each(|word| wanted.pair("command", Some(word)));
        }
    }
    let backend = Backend { node: name, target: Target::Kubelet, scheme: Scheme::Http, uri: wanted.0 };
    proxy::upgraded(cx, &backend).await
}

/// `pods/proxy`: the name may have a scheme before it and a port behind.
pub(crate) async fn proxy(cx: &Cx<'_>) -> Result<Response<Body>, Status> {
    let id = cx.info.name.as_str();
    let Some((scheme, name, port)) = proxy::split(id) else {
        return Err(Status::bad_request(format!("invalid pod request {id:?}")));
    };
    let pod = pod(cx, name).await?;
    let address = meta::at(&pod, &["status", "podIPs"]).and_then(|l| l.get(0)).map_or("", |a| meta::text(a, &["ip"]));
    if !is_unicast(address) {
        return Err(Status::bad_request("address not allowed"));
    }
    let first = items(&pod, &["spec", "containers"]).iter().flat_map(|c| items(c, &["ports"])).next();
    let first = first.and_then(|p| p.get("containerPort")).and_then(Value::as_i64).map(|p| p.to_string());
    let port = if port.is_empty() { first.as_deref() } else { Some(port) };
    let address = reach::authority(address, port.unwrap_or(reach::default_port(scheme)));
    reach::pass(cx, meta::text(&pod, &["spec", "nodeName"]), Target::Address(&address), scheme).await
}

/// True for an address of one host that is not this one.
pub(super) fn is_unicast(address: &str) -> bool {
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
