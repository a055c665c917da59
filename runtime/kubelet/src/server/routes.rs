//! What each path is answered by.

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use kiln_apimachinery::head::without_body;
use kiln_apimachinery::query::{Query, decode};
use kiln_client::{Body, full_body};

use super::access::Who;
use super::answer::{Refusal, text};
use super::{Server, files, logs, pods, streams};
use crate::stats;

/// What a request asks for, taken apart.
pub(super) struct Asked {
    pub(super) path: Vec<String>,
    query: Query,
}

impl Asked {
    pub(super) fn new(uri: &http::Uri) -> Self {
        let path = uri.path().trim_matches('/').split('/').map(|part| decode(part).into_owned()).collect();
        Self { path, query: Query::parse(uri.query().unwrap_or_default()) }
    }

    /// The first value of a parameter, if it is not empty.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.query.get(key)
    }

    /// All values of a parameter.
    pub(super) fn all(&self, key: &str) -> Vec<String> {
        self.query.all(key).map(str::to_owned).collect()
    }

    /// As Kubernetes reads a boolean parameter.
    pub(super) fn flag(&self, key: &str) -> bool {
        self.query.flag(key)
    }
}

impl Server {
    /// Answers a request of someone.
    pub(super) async fn answer(&self, request: Request<Incoming>, who: &Who) -> Response<Body> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let answered = match self.0.access.check(who, &request).await {
            Ok(()) => self.route(request).await,
            Err(refusal) => Err(refusal),
        };
        let response = answered.unwrap_or_else(Refusal::response);
        tracing::debug!(%method, path, code = response.status().as_u16(), "request");
        if method == Method::HEAD { without_body(response, full_body("")) } else { response }
    }

    async fn route(&self, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let asked = Asked::new(request.uri());
        let parts: Vec<&str> = asked.path.iter().map(String::as_str).collect();
        let is_get = matches!(*request.method(), Method::GET | Method::HEAD);
        let upgradable = matches!(*request.method(), Method::GET | Method::POST);
        let metrics = |body: String| Ok(text(StatusCode::OK, stats::MEDIA_TYPE, body));
        match parts.as_slice() {
            ["healthz"] | ["healthz", "ping" | "log" | "syncloop"] if is_get => {
                Ok(text(StatusCode::OK, "text/plain; charset=utf-8", "ok"))
            }
            ["logs", path @ ..] if is_get => {
                files::serve(files::LOGS.as_ref(), path, request.uri().path().ends_with('/')).await
            }
            ["pods"] if is_get => Ok(pods::bound(self)),
            ["runningpods"] if is_get => Ok(pods::running(self)),
            ["containerLogs", namespace, pod, container] if is_get => {
                logs::serve(self, namespace, pod, container, &asked).await
            }
            ["exec", namespace, pod, rest @ ..] if upgradable => {
                let (uid, container) = container(rest)?;
                streams::exec(self, streams::Of { namespace, pod, uid, container }, &asked, request).await
            }
            ["attach", namespace, pod, rest @ ..] if upgradable => {
                let (uid, container) = container(rest)?;
                streams::attach(self, streams::Of { namespace, pod, uid, container }, &asked, request).await
            }
            ["portForward", namespace, pod, rest @ ..] if upgradable && rest.len() < 2 => {
                let uid = rest.first().copied().unwrap_or_default();
                let of = streams::Of { namespace, pod, uid, container: "" };
                streams::port_forward(self, of, &asked, request).await
            }
            ["run", namespace, pod, rest @ ..] if *request.method() == Method::POST => {
                let (uid, container) = container(rest)?;
                streams::run(self, streams::Of { namespace, pod, uid, container }, &asked).await
            }
            ["stats", "summary"] if upgradable => {
                let only = asked.flag("only_cpu_and_memory");
                let (server, host) = (&self.0, &self.0.host);
                let (pods, volumes, name) = (host.pods(), host.volumes(), &server.node_name);
                let summary = stats::summary(&server.runtime, &server.disks, &pods, volumes, name, only).await?;
                Ok(super::answer::json(&summary))
            }
            ["metrics"] if is_get => {
                let server = &self.0;
                let (pods, volumes) = (server.host.pods(), server.host.volumes());
                metrics(stats::own(&pods, &server.disks, volumes, &server.node_name, &server.metrics).await)
            }
            ["metrics", "resource"] if is_get => metrics(stats::resource(&self.0.runtime, &self.0.host.pods()).await),
            ["metrics", "cadvisor"] if is_get => {
                metrics(stats::cadvisor(&self.0.disks, self.0.host.pods(), self.0.facts.clone()).await)
            }
            ["metrics", "probes"] if is_get => metrics(stats::probes(&self.0.host.probes())),
            _ => Err(Refusal::not_found("404 page not found\n")),
        }
    }
}

/// Container, or uid and container.
fn container<'a>(rest: &[&'a str]) -> Result<(&'a str, &'a str), Refusal> {
    match rest {
        [container] => Ok(("", container)),
        [uid, container] => Ok((uid, container)),
        _ => Err(Refusal::not_found("404 page not found\n")),
    }
}
