//! What may be done with resources. Every verb works on the stored form of objects (canonical JSON bytes) and asks the
//! resource's row and strategy for whatever is special about a kind.

mod create;
pub(crate) mod decode;
pub(crate) mod delete;
pub(crate) mod encode;
pub(crate) mod errors;
mod filter;
pub(crate) mod frames;
mod lines;
mod list;
pub(crate) mod managed;
pub(crate) mod paging;
mod patch;
mod pluck;
pub(crate) mod render;
mod restore;
pub(crate) mod store;
pub(crate) mod tree;
pub(crate) mod update;
mod watch;

use std::sync::{Arc, Mutex, PoisonError};

use ::http::request::Parts;
use ::http::{HeaderMap, Method, Response, StatusCode};
use bytes::Bytes;
use kiln_apimachinery::query::Query;
use kiln_apimachinery::{FieldError, Gvk, Status, meta};

use crate::admission::Plugin;
use crate::apiextensions::versions;
use crate::http::body::Body;
use crate::http::negotiate::{self, Accepted, Encoding};
use crate::http::respond;
use crate::registry::Resource;
use crate::registry::strategy::Writer;
use crate::request_info::RequestInfo;
use crate::reviews;
use crate::server::ApiServer;
use crate::subresources;
use crate::usage;
use crate::user::UserInfo;
use crate::warnings;
use crate::webhooks;

/// One request on a resource.
pub(crate) struct Cx<'a> {
    pub(crate) server: &'a ApiServer,
    pub(crate) user: &'a UserInfo,
    pub(crate) resource: Arc<Resource>,
    pub(crate) info: &'a RequestInfo,
    pub(crate) query: &'a Query,
    pub(crate) headers: &'a HeaderMap,
    /// The request as it came.
    pub(crate) parts: &'a Parts,
    pub(crate) body: Bytes,
    pub(crate) accepted: Accepted,
    /// True if nothing may be stored.
    pub(crate) dry_run: bool,
    warnings: Mutex<Vec<String>>,
}

impl<'a> Cx<'a> {
    /// Adds a `Warning` header to the response, unless it has the same already.
    pub(crate) fn warn(&self, text: String) {
        let mut said = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        if !said.contains(&text) {
            said.push(text);
        }
    }

    /// Whether a step of admission is taken.
    pub(crate) fn runs(&self, plugin: Plugin) -> bool {
        self.server.config().plugins.has(plugin)
    }

    /// The namespace of the objects; empty for cluster-scoped ones.
    pub(crate) fn namespace(&self) -> &str {
        if self.resource.namespaced { &self.info.namespace } else { "" }
    }

    fn writer(&self) -> Writer<'_> {
        Writer { user: self.user, now: self.server.now(), subresource: &self.info.subresource }
    }

    /// 422 about the object.
    fn invalid(&self, object: &serde_json::Value, errors: &[FieldError]) -> Status {
        Status::invalid(&self.resource.gvk(), meta::name(object), errors)
    }

    fn not_found(&self, name: &str) -> Status {
        Status::not_found(&self.resource.group_resource(), name)
    }
}

/// Serves a request on a known resource whose user was allowed to make it.
pub(crate) async fn serve(
    server: &ApiServer,
    user: &UserInfo,
    info: &RequestInfo,
    query: &Query,
    parts: &Parts,
    body: Bytes,
    accepted: Accepted,
) -> Result<Response<Body>, Status> {
    let headers = &parts.headers;
    let resource =
        server.registry().get(&info.group, &info.version, &info.resource).ok_or_else(Status::no_such_path)?;
    // Kinds that are not in the table of types have no protobuf.
    let accepted = match accepted.encoding {
        Encoding::Protobuf if resource.schema.is_none() => negotiate::accepted_but_protobuf(headers)?,
        _ => accepted,
    };
    // A slash in a name would be a step down in the store's keys.
    // What a proxy passes on may have any length.
    if (info.overlong && info.subresource != "proxy")
        || info.name.contains('/')
        || info.namespace.contains('/')
        || (!resource.namespaced && !info.namespace.is_empty() && resource.plural != "namespaces")
    {
        return Err(Status::no_such_path());
    }
    let cx = Cx {
        server,
        user,
        resource: resource.clone(),
        info,
        query,
        headers,
        parts,
        body,
        accepted,
        dry_run: dry_run(query, &info.verb)?,
        warnings: Mutex::default(),
    };
    warnings::of_kind(resource.as_ref()).into_iter().for_each(|text| cx.warn(text));
    if cx.info.verb == "create" && resource.custom.as_ref().is_some_and(|c| c.terminating) {
        let mut status = Status::method_not_allowed();
        status.message = "create not allowed while custom resource definition is terminating".into();
        return Err(status);
    }
    // What was warned of is told whatever comes of the request.
    let mut response = dispatch(&cx).await.unwrap_or_else(|status| respond::refusal(headers, &status));
    let warnings = cx.warnings.into_inner().unwrap_or_else(PoisonError::into_inner);
    respond::warn(&mut response, &warnings);
    Ok(response)
}

fn dry_run(query: &Query, verb: &str) -> Result<bool, Status> {
    let kind = match verb {
        "create" => "CreateOptions",
        "update" => "UpdateOptions",
        "patch" => "PatchOptions",
        // A delete's may stand in its body.
        _ => return Ok(false),
    };
    let asked: Vec<&str> = query.all("dryRun").filter(|v| !v.is_empty()).collect();
    if asked.iter().all(|v| *v == "All") {
        return Ok(!asked.is_empty());
    }
    let error = FieldError::not_supported("dryRun", &asked.into(), &["All"]);
    Err(Status::invalid(&Gvk::new("meta.k8s.io", "v1", kind), "", &[error]))
}

/// Each verb has its state in a box of its own: a request takes what its verb needs, and its stack stays short.
async fn dispatch(cx: &Cx<'_>) -> Result<Response<Body>, Status> {
    let (info, resource) = (cx.info, &cx.resource);
    let verb = info.verb.as_str();
    if let Some(review) = resource.review {
        return match (verb, info.named) {
            ("create", false) => Box::pin(reviews::answer(cx, review)).await,
            _ => Err(Status::method_not_allowed()),
        };
    }
    if !info.subresource.is_empty() {
        let sub = resource.has_subresource(&info.subresource).ok_or_else(Status::no_such_path)?;
        // What is behind a proxy may be asked what it takes: a method without a verb.
        let is_proxied = info.subresource == "proxy" && cx.parts.method == Method::OPTIONS;
        if !sub.verbs.contains(&verb) && !is_proxied {
            return Err(Status::method_not_allowed());
        }
    } else if !resource.verbs.contains(&verb) {
        return Err(Status::method_not_allowed());
    }
    if let ("", "serviceaccounts", "token") =
        (resource.group.as_str(), resource.plural.as_str(), info.subresource.as_str())
    {
        return Box::pin(subresources::token::serve(cx)).await;
    }
    if resource.group == usage::GROUP && resource.custom.is_none() {
        return Box::pin(usage::serve(cx)).await;
    }
    paging::catch_up(cx).await;
    let in_namespace = !resource.namespaced || !info.namespace.is_empty();
    let connects = matches!(info.subresource.as_str(), "attach" | "exec" | "portforward" | "proxy");
    if connects && resource.custom.is_none() {
        Box::pin(webhooks::connect(cx)).await?;
    }
    if in_namespace && let Some(answer) = subresources::workload(cx).await {
        return answer;
    }
    match verb {
        "list" => Box::pin(list::list(cx)).await,
        "watch" => Box::pin(watch::watch(cx)).await,
        // Objects are written and named in a namespace only.
        _ if !in_namespace => Err(Status::method_not_allowed()),
        "get" => get(cx).await,
        "create" if !info.named => Box::pin(create::create(cx)).await,
        "update" if info.named => Box::pin(update::put(cx)).await,
        "patch" if info.named => Box::pin(patch::patch(cx)).await,
        "delete" => Box::pin(delete::delete(cx)).await,
        "deletecollection" => Box::pin(delete::delete_collection(cx)).await,
        _ => Err(Status::method_not_allowed()),
    }
}

async fn get(cx: &Cx<'_>) -> Result<Response<Body>, Status> {
    let key = cx.resource.key(cx.namespace(), &cx.info.name);
    paging::not_in_future(cx)?;
    let record = cx.server.storage().get(&key).await.map_err(errors::storage)?;
    let record = record.ok_or_else(|| cx.not_found(&cx.info.name))?;
    let record = versions::shown(cx.server, &cx.resource, record).await?;
    render::object(cx, StatusCode::OK, &record.value)
}
