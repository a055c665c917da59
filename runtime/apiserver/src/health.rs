//! `/healthz`, `/livez`, `/readyz`: whether the server lives and can serve; and `/metrics`.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use ::http::{Response, StatusCode};

use crate::http::body::Body;
use crate::http::respond;
use crate::query::Query;
use crate::server::ApiServer;

/// What is counted.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Requests by the hundreds of their code: 1xx at 0.
    requests: [AtomicU64; 5],
}

impl Metrics {
    pub(crate) fn count(&self, code: StatusCode) {
        let class = usize::from(code.as_u16() / 100).clamp(1, 5) - 1;
        self.requests[class].fetch_add(1, Ordering::Relaxed);
    }
}

/// A check by name; the error is the reason.
fn checks(server: &ApiServer, path: &str) -> Vec<(&'static str, Result<(), &'static str>)> {
    let mut all = vec![("ping", Ok(())), ("log", Ok(()))];
    let stopping = server.watches_end().is_cancelled();
    if path == "/readyz" {
        all.push(("shutdown", if stopping { Err("process is shutting down") } else { Ok(()) }));
    }
    let storage = if server.storage().current_revision() > 0 { Ok(()) } else { Err("the store is empty") };
    all.push(("storage", storage));
    all
}

/// Answers one of the three paths, or one check of them (`/livez/ping`).
pub(crate) fn health(server: &ApiServer, path: &str, query: &Query) -> Option<Response<Body>> {
    let (base, one) = match path.trim_end_matches('/').split('/').collect::<Vec<_>>().as_slice() {
        ["", base] => (format!("/{base}"), None),
        ["", base, check] => (format!("/{base}"), Some((*check).to_owned())),
        _ => return None,
    };
    if !["/healthz", "/livez", "/readyz"].contains(&base.as_str()) {
        return None;
    }
    let mut all = checks(server, &base);
    if let Some(one) = one {
        all.retain(|(name, _)| *name == one);
        if all.is_empty() {
            return None;
        }
    }
    let excluded: Vec<&str> = query.all("exclude").collect();
    let failed = all.iter().any(|(name, result)| result.is_err() && !excluded.contains(name));
    if !failed && !query.flag("verbose") {
        return Some(respond::text(StatusCode::OK, "ok"));
    }
    let mut text = String::new();
    for (name, result) in &all {
        let line = match result {
            _ if excluded.contains(name) => format!("[+]{name} excluded: ok"),
            Ok(()) => format!("[+]{name} ok"),
            Err(why) => format!("[-]{name} failed: {why}"),
        };
        text.push_str(&line);
        text.push('\n');
    }
    let word = base.trim_start_matches('/');
    text.push_str(&format!("{word} check {}\n", if failed { "failed" } else { "passed" }));
    let code = if failed { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
    Some(respond::text(code, text))
}

/// The text of `/metrics`.
pub(crate) fn metrics(server: &ApiServer) -> String {
    let mut out = String::from("# TYPE apiserver_request_total counter\n");
    for (i, count) in server.metrics().requests.iter().enumerate() {
        // Writing to a String can't fail.
        let _infallible =
            writeln!(out, "apiserver_request_total{{code=\"{}xx\"}} {}", i + 1, count.load(Ordering::Relaxed));
    }
    let counters = server.storage().counters();
    for (name, value) in [
        ("kiln_storage_bytes_written_total", counters.bytes_written),
        ("kiln_storage_commits_total", counters.commits),
        ("kiln_storage_writes_total", counters.writes),
    ] {
        let _infallible = writeln!(out, "# TYPE {name} counter\n{name} {value}");
    }
    let _infallible = writeln!(
        out,
        "# TYPE kiln_storage_revision gauge\nkiln_storage_revision {}",
        server.storage().current_revision()
    );
    out
}
