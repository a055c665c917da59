//! Events as `audit.k8s.io/v1` has them.

use ::http::HeaderMap;
use ::http::header::USER_AGENT;
use ::http::request::Parts;
use bytes::Bytes;
use jiff::Timestamp;
use kiln_apimachinery::{meta, time};
use serde_json::{Map, Value, json};

use super::policy::{Level, Scope, Stage};
use super::{Notes, Peer};
use crate::http::negotiate;
use crate::request_info::RequestInfo;
use crate::user::UserInfo;

/// Longest user agent that is written down.
const LONGEST_AGENT: usize = 1024;

/// What is the same in all events of a request.
pub(super) struct Draft(Map<String, Value>);

/// A user as events show it.
pub(crate) fn user_value(user: &UserInfo) -> Value {
    let mut out = Map::new();
    if !user.name.is_empty() {
        out.insert("username".into(), user.name.as_str().into());
    }
    if !user.uid.is_empty() {
        out.insert("uid".into(), user.uid.as_str().into());
    }
    if !user.groups.is_empty() {
        out.insert("groups".into(), json!(user.groups));
    }
    if !user.extra.is_empty() {
        out.insert("extra".into(), json!(user.extra));
    }
    out.into()
}

/// How a request ended, with what a `Status` in the answer says.
pub(super) fn outcome(code: u16, object: Option<&Value>) -> Value {
    let mut out = json!({"metadata": {}, "code": code});
    let status = object.filter(|o| meta::text(o, &["kind"]) == "Status" && meta::text(o, &["apiVersion"]) == "v1");
    for key in ["status", "message", "reason", "details"] {
        if let Some(value) = status.and_then(|s| s.get(key)) {
            out[key] = value.clone();
        }
    }
    out
}

impl Draft {
    pub(super) fn new(
        scope: &Scope,
        user: &UserInfo,
        info: &RequestInfo,
        parts: &Parts,
        id: &str,
        now: Timestamp,
    ) -> Self {
        let uri = parts.uri.path_and_query().map_or("", |p| p.as_str());
        let mut out = Map::new();
        out.insert("level".into(), scope.level.as_str().into());
        out.insert("auditID".into(), id.into());
        out.insert("requestURI".into(), uri.into());
        out.insert("verb".into(), info.verb.as_str().into());
        out.insert("user".into(), user_value(user));
        let addresses = addresses(&parts.headers, parts.extensions.get::<Peer>());
        if !addresses.is_empty() {
            out.insert("sourceIPs".into(), json!(addresses));
        }
        if let Some(agent) = parts.headers.get(USER_AGENT).map(|a| String::from_utf8_lossy(a.as_bytes())) {
            let mut agent = agent.into_owned();
            if agent.len() > LONGEST_AGENT {
                agent = agent.chars().take(LONGEST_AGENT).collect::<String>() + "...TRUNCATED";
            }
            out.insert("userAgent".into(), agent.into());
        }
        if info.is_resource {
            out.insert("objectRef".into(), reference(info));
        }
        out.insert("requestReceivedTimestamp".into(), time::rfc3339_micro(now).into());
        Self(out)
    }

    /// Adds what was sent, and what it says about the object.
    pub(super) fn request(&mut self, parts: &Parts, body: &Bytes, info: &RequestInfo, scope: &Scope) {
        let writes = matches!(info.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection");
        if !info.is_resource || !writes || body.is_empty() {
            return;
        }
        let read = match negotiate::read_body(&parts.headers, body) {
            Ok(decoded) => Some(decoded.value),
            // Patches have media types of their own.
            Err(_) => serde_json::from_slice(body).or_else(|_| serde_yaml_ng::from_slice(body)).ok(),
        };
        let Some(mut object) = read else { return };
        if matches!(info.verb.as_str(), "create" | "update")
            && let Some(reference) = self.0.get_mut("objectRef").and_then(Value::as_object_mut)
        {
            for (key, path) in
                [("namespace", "namespace"), ("name", "name"), ("uid", "uid"), ("resourceVersion", "resourceVersion")]
            {
                let value = meta::text(&object, &["metadata", path]);
                if !value.is_empty() {
                    reference.entry(key).or_insert_with(|| value.into());
                }
            }
        }
        if scope.level >= Level::Request {
            tidy(&mut object, scope);
            self.0.insert("requestObject".into(), object);
        }
    }

    /// Adds what was answered.
    pub(super) fn response(&mut self, mut object: Value, scope: &Scope) {
        tidy(&mut object, scope);
        self.0.insert("responseObject".into(), object);
    }

    /// The line of one event.
    pub(super) fn event(&self, stage: Stage, now: Timestamp, answer: Option<&Value>, notes: &Notes) -> String {
        let mut out = Map::new();
        out.insert("kind".into(), "Event".into());
        out.insert("apiVersion".into(), "audit.k8s.io/v1".into());
        out.insert("stage".into(), stage.as_str().into());
        for (key, value) in &self.0 {
            // What is answered is not known before.
            if key != "responseObject" || answer.is_some() {
                out.insert(key.clone(), value.clone());
            }
        }
        if let Some(user) = &notes.impersonated {
            out.insert("impersonatedUser".into(), user.clone());
        }
        if let Some(answer) = answer {
            out.insert("responseStatus".into(), answer.clone());
        }
        out.insert("stageTimestamp".into(), time::rfc3339_micro(now).into());
        if !notes.annotations.is_empty() {
            out.insert("annotations".into(), notes.annotations.clone().into());
        }
        Value::Object(out).to_string()
    }
}

/// Where the request came from: as proxies say, and as the connection says.
fn addresses(headers: &HeaderMap, peer: Option<&Peer>) -> Vec<String> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let mut out: Vec<String> = Vec::new();
    let forwarded = text("x-forwarded-for").split(',').map(str::trim);
    let said = forwarded.chain([text("x-real-ip").trim()]).filter(|a| a.parse::<std::net::IpAddr>().is_ok());
    for address in said.map(str::to_owned).chain(peer.map(|p| p.0.to_canonical().to_string())) {
        if out.last() != Some(&address) {
            out.push(address);
        }
    }
    out
}

fn reference(info: &RequestInfo) -> Value {
    let mut out = Map::new();
    for (key, value) in [
        ("resource", &info.resource),
        ("namespace", &info.namespace),
        ("name", &info.name),
        ("apiGroup", &info.group),
        ("apiVersion", &info.version),
        ("subresource", &info.subresource),
    ] {
        if !value.is_empty() {
            out.insert(key.into(), value.as_str().into());
        }
    }
    out.into()
}

/// Drops who manages which field, if the policy wants that.
fn tidy(object: &mut Value, scope: &Scope) {
    if !scope.omit_managed_fields {
        return;
    }
    let drop = |object: &mut Value| {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
    };
    drop(object);
    object.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten().for_each(drop);
}
