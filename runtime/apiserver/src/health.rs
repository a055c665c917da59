//! `/healthz`, `/livez`, `/readyz`: whether the server lives and can serve.

use ::http::{HeaderValue, Response, StatusCode, header};
use kiln_apimachinery::query::Query;

use crate::http::body::Body;
use crate::http::respond;
use crate::server::ApiServer;

const KINDS: [&str; 3] = ["healthz", "livez", "readyz"];

/// A check by name; the error is the reason, which only the server's log is told.
type Check = (&'static str, Result<(), &'static str>);

/// What is done by the time that a server answers at all, since [`ApiServer::build`] ends with it or fails: upstream's names
/// for what this server's start does.
const STARTED: [&str; 24] = [
    // `build` itself: admission, and the views and followers that other servers call informers.
    "poststarthook/start-apiserver-admission-initializer",
    "poststarthook/generic-apiserver-start-informers",
    // `flow::dangling`, the gate that requests go through, and the schemas and levels of `basics`.
    "poststarthook/priority-and-fairness-config-consumer",
    "poststarthook/priority-and-fairness-filter",
    // The store was read from and written to: without it no start gets this far.
    "poststarthook/storage-readiness",
    // `apiextensions::live`: definitions are read, followed, and served.
    "poststarthook/start-apiextensions-informers",
    "poststarthook/start-apiextensions-controllers",
    "poststarthook/crd-informer-synced",
    // `allocate`: every Service holds what it was given.
    "poststarthook/start-service-ip-repair-controllers",
    // `bootstrap` and `basics`: roles, namespaces, the Service of the API, classes, schemas and levels.
    "poststarthook/rbac/bootstrap-roles",
    "poststarthook/start-system-namespaces-controller",
    "poststarthook/bootstrap-controller",
    "poststarthook/scheduling/bootstrap-system-priority-classes",
    "poststarthook/priority-and-fairness-config-producer",
    // `aggregation::publish`: whom aggregated servers trust.
    "poststarthook/start-cluster-authentication-info-controller",
    // `aggregation::start`: APIServices are read and followed, with a keeper for each remote one, which tells whether it is
    // available and what discovery and OpenAPI say of it; those of this server were registered by `basics`.
    "poststarthook/start-kube-aggregator-informers",
    "poststarthook/apiservice-registration-controller",
    "poststarthook/apiservice-discovery-controller",
    "poststarthook/apiservice-status-local-available-controller",
    "poststarthook/apiservice-status-remote-available-controller",
    "poststarthook/kube-apiserver-autoregistration",
    "autoregister-completion",
    "poststarthook/apiservice-openapi-controller",
    "poststarthook/apiservice-openapiv3-controller",
];

/// The checks of a kind, under upstream's names: probes and scripts ask for single ones.
fn checks(server: &ApiServer, kind: &str) -> Vec<Check> {
    let store = if server.storage().current_revision() > 0 { Ok(()) } else { Err("the store is empty") };
    let mut all = vec![("ping", Ok(())), ("log", Ok(())), ("etcd", store)];
    if kind == "readyz" {
        all.extend([("etcd-readiness", store), ("informer-sync", Ok(()))]);
    }
    all.extend(STARTED.map(|hook| (hook, Ok(()))));
    if kind == "readyz" {
        all.push(("shutdown", if server.is_stopping() { Err("process is shutting down") } else { Ok(()) }));
    }
    all
}

/// Every check of every kind: kind, name, whether it passes.
pub(crate) fn all_checks(server: &ApiServer) -> Vec<(&'static str, &'static str, bool)> {
    let of = |kind: &'static str| checks(server, kind).into_iter().map(move |(name, done)| (kind, name, done.is_ok()));
    KINDS.into_iter().flat_map(of).collect()
}

/// Answers one of the three paths, or one check of them (`/livez/ping`).
pub(crate) fn health(server: &ApiServer, path: &str, query: &Query) -> Option<Response<Body>> {
    let path = path.trim_matches('/');
    let (kind, one) = path.split_once('/').map_or((path, None), |(kind, one)| (kind, Some(one)));
    let kind = *KINDS.iter().find(|k| **k == kind)?;
    let all = checks(server, kind);
    let (code, text) = match one {
        Some(one) => match all.iter().find(|(name, _)| *name == one)?.1 {
            Ok(()) => (StatusCode::OK, "ok".to_owned()),
            Err(why) => (StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {why}\n")),
        },
        None => report(kind, &all, &query.all("exclude").collect::<Vec<_>>(), query.has("verbose")),
    };
    let mut response = respond::text(code, text);
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Some(response)
}

fn report(kind: &str, all: &[Check], excluded: &[&str], verbose: bool) -> (StatusCode, String) {
    let mut text = String::new();
    let mut failed = false;
    for (name, result) in all {
        let line = match result {
            _ if excluded.contains(name) => format!("[+]{name} excluded: ok\n"),
            Ok(()) => format!("[+]{name} ok\n"),
            Err(why) => {
                failed = true;
                tracing::info!("{kind} check {name} failed: {why}");
                format!("[-]{name} failed: reason withheld\n")
            }
        };
        text.push_str(&line);
    }
    let unknown = excluded.iter().filter(|e| !all.iter().any(|(name, _)| name == *e));
    let unknown: Vec<String> = unknown.map(|e| format!("{e:?}")).collect();
    if !unknown.is_empty() {
        let warning = "warn: some health checks cannot be excluded: no matches for";
        text.push_str(&format!("{warning} {}\n", unknown.join(",")));
    }
    match (failed, verbose) {
        (true, _) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{text}{kind} check failed\n")),
        (false, true) => (StatusCode::OK, format!("{text}{kind} check passed\n")),
        (false, false) => (StatusCode::OK, "ok".to_owned()),
    }
}
