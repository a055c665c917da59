//! The way of a request of a known user.

use std::borrow::Cow;
use std::time::Instant;

use ::http::request::Parts;
use ::http::{HeaderMap, Method, Response, StatusCode};
use bytes::Bytes;
use kiln_apimachinery::Status;
use kiln_apimachinery::query::Query;

use super::ApiServer;
use crate::aggregation::{self, Remote};
use crate::authz::{self, Attributes};
use crate::discovery::openapi;
use crate::http::body::Body;
use crate::http::{negotiate, pretty, respond};
use crate::metrics::Answered;
use crate::registry::Registry;
use crate::request_info::RequestInfo;
use crate::user::UserInfo;
use crate::{audit, authn, dialer, flow, health, metrics, ownership, verbs};

/// What a request asks for.
pub(super) struct Asked {
    pub(super) info: RequestInfo,
    query: Query,
}

impl Asked {
    pub(super) fn new(parts: &Parts) -> Self {
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let info = RequestInfo::new(&parts.method, parts.uri.path(), &query);
        Self { info, query }
    }

    /// The request as it is counted. There is no end to the resources that clients may make up.
    fn counted(&self, registry: &Registry) -> Cow<'_, RequestInfo> {
        let info = &self.info;
        let known = registry
            .get(&info.group, &info.version, &info.resource)
            .is_some_and(|row| info.subresource.is_empty() || row.has_subresource(&info.subresource).is_some());
        match info.is_resource && !known {
            false => Cow::Borrowed(info),
            true => Cow::Owned(RequestInfo { verb: info.verb.clone(), ..RequestInfo::default() }),
        }
    }
}

impl ApiServer {
    /// Serves a request as the user whom it acts as.
    pub(super) async fn act(&self, user: &UserInfo, asked: &Asked, parts: &Parts, body: Bytes) -> Response<Body> {
        let wanted = || Attributes::of(&asked.info, &asked.query);
        match authn::impersonation::effective(self, user, &parts.headers, wanted).await {
            Ok(None) => Box::pin(self.admit(user, asked, parts, body)).await,
            Ok(Some(found)) => {
                audit::impersonated(&found.user, &found.constraint);
                Box::pin(self.admit(&found.user, asked, parts, body)).await
            }
            Err(status) => respond::refusal(&parts.headers, &status),
        }
    }

    pub(super) fn finish(
        &self,
        user: &str,
        asked: &Asked,
        parts: &Parts,
        began: Instant,
        mut response: Response<Body>,
    ) -> Response<Body> {
        let took = began.elapsed();
        self.0.metrics.answered(&Answered {
            info: &asked.counted(&self.0.registry),
            apply: negotiate::media_type(&parts.headers).starts_with("application/apply-patch"),
            dry_run: asked.query.get("dryRun").is_some(),
            code: response.status().as_u16(),
            took,
            size: hyper::body::Body::size_hint(response.body()).exact(),
        });
        respond::mark(&mut response, &parts.headers);
        let (code, micros) = (response.status().as_u16(), took.as_micros());
        tracing::debug!(user, method = %parts.method, uri = %parts.uri, code, micros, "request");
        response
    }

    /// Lets a request of a known user through when its priority allows, and ends it in time.
    async fn admit(&self, user: &UserInfo, asked: &Asked, parts: &Parts, body: Bytes) -> Response<Body> {
        let Asked { info, query } = asked;
        let (streams, watches) = (info.is_long_running(), info.verb == "watch");
        let ticket = match self.0.flow.admit(self, user, info).await {
            // A stream would keep its seat; a watch has it until it has begun.
            Ok(ticket) => Some(ticket).filter(|_| !streams || watches),
            Err(refused) => return refused,
        };
        // In a box, since each way of waiting for it would have room for it of its own: three in the state of each request.
        let served = Box::pin(self.dispatch(user, asked, parts, body));
        let result = if streams {
            served.await
        } else {
            let _in_flight = self.0.metrics.in_flight(!matches!(info.verb.as_str(), "get" | "list" | "head"));
            match flow::time_limit(self.0.config.request_timeout, query.get("timeout")) {
                Ok(limit) => tokio::time::timeout(limit, served).await.unwrap_or_else(|_| {
                    let status = Status::timeout("request did not complete within the allotted timeout");
                    self.0.metrics.terminated(info, status.code);
                    Err(status)
                }),
                Err(status) => Err(status),
            }
        };
        let mut response = result.unwrap_or_else(|status| respond::refusal(&parts.headers, &status));
        if let Some(ticket) = ticket {
            ticket.mark(&mut response);
        }
        if pretty::wanted(parts.uri.path(), query.get("pretty"), &parts.headers) {
            response = pretty::indented(response).await;
        }
        response
    }

    async fn dispatch(
        &self,
        user: &UserInfo,
        asked: &Asked,
        parts: &Parts,
        body: Bytes,
    ) -> Result<Response<Body>, Status> {
        let Asked { info, query } = asked;
        if info.path == "/cacerts" {
            // What a new node compares with the hash in its token; public by nature.
            return Ok(respond::bytes(StatusCode::OK, "application/x-pem-file", self.0.config.ca_pem.clone()));
        }
        if info.path == dialer::PATH {
            return dialer::accept(self, user, &parts.headers, parts.extensions.get());
        }
        if info.path == dialer::STREAM_PATH {
            return dialer::lend(self, user, query, &parts.headers, parts.extensions.get()).await;
        }
        authz::authorize(self, user, &Attributes::of(info, query)).await?;
        if let Some(remote) = self.remote(parts) {
            let long = info.is_long_running();
            return Box::pin(aggregation::serve(self, user, &remote, parts, &body, long)).await;
        }
        if info.is_resource {
            let accepted = negotiate::accepted(&parts.headers)?;
            return verbs::serve(self, user, info, query, parts, body, accepted).await;
        }
        if info.path == ownership::PATH && parts.method == Method::GET {
            return ownership::stream(self).await;
        }
        match info.path.trim_end_matches('/') {
            "/metrics" if parts.method == Method::GET => {
                Ok(respond::bytes(StatusCode::OK, metrics::MEDIA_TYPE, metrics::text(self).await))
            }
            "/metrics/slis" if parts.method == Method::GET => {
                Ok(respond::bytes(StatusCode::OK, metrics::MEDIA_TYPE, metrics::slis(self)))
            }
            path if path.starts_with("/openapi/") && matches!(parts.method, Method::GET | Method::HEAD) => {
                openapi::answer(self, path, query, &parts.headers).await
            }
            path => self.other(&parts.method, path, query, &parts.headers),
        }
    }

    /// Paths that are no resources.
    fn other(&self, method: &Method, path: &str, query: &Query, headers: &HeaderMap) -> Result<Response<Body>, Status> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Err(Status::method_not_allowed());
        }
        if path == "/version" {
            return Ok(respond::json(StatusCode::OK, &self.0.config.version.to_value()));
        }
        if let Some(response) = self.0.accounts.document(path) {
            return Ok(response);
        }
        if let Some(response) = health::health(self, path, query) {
            return Ok(response);
        }
        let accepted = negotiate::accepted(headers)?;
        let found = self.documents().answer(self, path, headers, accepted);
        found.ok_or_else(Status::no_such_path)
    }

    /// Who answers a request, if that is another server: as it was when the request's headers came, for its body is read or
    /// not by that.
    fn remote(&self, parts: &Parts) -> Option<Remote> {
        let known = parts.extensions.get::<Remote>().cloned();
        known.or_else(|| self.0.aggregation.route(parts.uri.path()))
    }
}
