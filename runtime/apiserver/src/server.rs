//! The server put together: one request after another through authentication, authorization and dispatch.

use std::sync::Arc;
use std::time::Instant;

use ::http::{HeaderMap, Method, Request, Response, StatusCode};
use bytes::Bytes;
use jiff::Timestamp;
use kiln_apimachinery::Status;
use kiln_storage::Storage;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::authn::accounts::Accounts;
use crate::authn::jwt::signer::KeyError;
use crate::authz::rbac::Rbac;
use crate::authz::{self, Attributes};
use crate::config::Config;
use crate::discovery::Documents;
use crate::health::Metrics;
use crate::http::body::Body;
use crate::http::negotiate::Accepted;
use crate::http::{negotiate, respond, serve};
use crate::query::Query;
use crate::registry::Registry;
use crate::request_info::RequestInfo;
use crate::user::UserInfo;
use crate::verbs::store::Store;
use crate::{authn, basics, bootstrap, health, ownership, verbs};

/// The server can't start.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The objects that every cluster has could not be written; the text is the store's.
    #[error("the cluster's first objects can't be written: {0}")]
    Bootstrap(Status),
    /// A key for service account tokens is of no use.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// The API server; a clone is another handle of the same one.
#[derive(Clone)]
pub struct ApiServer(Arc<Inner>);

struct Inner {
    config: Config,
    storage: Arc<dyn Storage>,
    registry: Registry,
    rbac: Rbac,
    accounts: Accounts,
    documents: Documents,
    metrics: Metrics,
    watches_end: CancellationToken,
}

impl ApiServer {
    /// Makes a server over a store, and writes what a cluster has from its first start.
    pub async fn build(config: Config, storage: Arc<dyn Storage>) -> Result<Self, BuildError> {
        let registry = Registry::builtin();
        let documents = Documents::new(&registry, &config.version.git_version);
        let server = Self(Arc::new(Inner {
            accounts: Accounts::new(&config.service_accounts)?,
            config,
            storage,
            registry,
            rbac: Rbac::default(),
            documents,
            metrics: Metrics::default(),
            watches_end: CancellationToken::new(),
        }));
        bootstrap::run(&server).await.map_err(BuildError::Bootstrap)?;
        basics::run(&server).await.map_err(BuildError::Bootstrap)?;
        Ok(server)
    }

    /// Serves a request of a user that the caller vouches for, in this process and without sockets. What the user may is
    /// checked as ever.
    pub async fn call(&self, user: UserInfo, request: Request<Bytes>) -> Response<Body> {
        let began = Instant::now();
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let name = user.name.clone();
        let response = match authn::impersonation::effective(self, user, request.headers()).await {
            Ok(user) => self.dispatch(&user, request).await,
            Err(status) => Err(status),
        };
        let response = response.unwrap_or_else(|status| respond::status(&status));
        self.finish(&name, &method, &uri, began, response)
    }

    /// Serves a request as it comes from a connection: `peer` is the user that the client certificate named, if there was
    /// one; else the request's bearer token counts.
    pub async fn handle(&self, peer: Option<&UserInfo>, request: Request<Bytes>) -> Response<Body> {
        match authn::authenticate(self, peer, request.headers()).await {
            Ok(user) => self.call(user, request).await,
            Err(status) => {
                self.finish("", &request.method().clone(), request.uri(), Instant::now(), respond::status(&status))
            }
        }
    }

    /// Serves connections until `shutdown`, then ends watches and lets requests finish for the configured time. The
    /// certificates may change while serving: see [`crate::tls_config`].
    pub async fn serve(&self, listener: TcpListener, tls: Arc<ServerConfig>, shutdown: CancellationToken) {
        serve::run(self.clone(), listener, tls, shutdown, self.0.config.drain_timeout).await;
    }

    /// Ends all watches, as a shutdown does.
    pub fn end_watches(&self) {
        self.0.watches_end.cancel();
    }

    fn finish(
        &self,
        user: &str,
        method: &Method,
        uri: &::http::Uri,
        began: Instant,
        response: Response<Body>,
    ) -> Response<Body> {
        self.0.metrics.count(response.status());
        let (code, micros) = (response.status().as_u16(), began.elapsed().as_micros());
        tracing::debug!(user, %method, %uri, code, micros, "request");
        response
    }

    async fn dispatch(&self, user: &UserInfo, request: Request<Bytes>) -> Result<Response<Body>, Status> {
        let (parts, body) = request.into_parts();
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let info = RequestInfo::new(&parts.method, parts.uri.path(), &query);
        if info.path == "/cacerts" {
            // What a new node compares with the hash in its token; public by nature.
            return Ok(respond::bytes(StatusCode::OK, "application/x-pem-file", self.0.config.ca_pem.clone()));
        }
        if info.is_resource && info.verb.is_empty() {
            return Err(Status::method_not_allowed());
        }
        authz::require(self, user, &Attributes::from(&info)).await?;
        if info.is_resource {
            let accepted = negotiate::accepted(&parts.headers)?;
            return verbs::serve(self, user, &info, &query, &parts.headers, body, accepted).await;
        }
        if info.path == ownership::PATH && parts.method == Method::GET {
            return ownership::stream(self).await;
        }
        self.other(&parts.method, &info.path, &query, &parts.headers)
    }

    /// Paths that are no resources.
    fn other(&self, method: &Method, path: &str, query: &Query, headers: &HeaderMap) -> Result<Response<Body>, Status> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Err(Status::method_not_allowed());
        }
        match path.trim_end_matches('/') {
            "/version" => return Ok(respond::json(StatusCode::OK, &self.0.config.version.to_value())),
            "/metrics" => {
                let text = health::metrics(self);
                return Ok(respond::bytes(StatusCode::OK, "text/plain; version=0.0.4", text));
            }
            _ => {}
        }
        if let Some(response) = self.0.accounts.document(path.trim_end_matches('/')) {
            return Ok(response);
        }
        if let Some(response) = health::health(self, path, query) {
            return Ok(response);
        }
        // OpenAPI has media types of its own, which its documents match themselves.
        let accepted = match negotiate::accepted(headers) {
            Err(_) if path.starts_with("/openapi/") => Accepted::JSON,
            accepted => accepted?,
        };
        let found = self.0.documents.answer(&self.0.registry, path, headers, accepted);
        found.ok_or_else(Status::no_such_path)
    }

    pub(crate) fn storage(&self) -> &dyn Storage {
        self.0.storage.as_ref()
    }

    pub(crate) fn store(&self) -> Store<'_> {
        Store(self)
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.0.registry
    }

    pub(crate) fn rbac(&self) -> &Rbac {
        &self.0.rbac
    }

    pub(crate) fn accounts(&self) -> &Accounts {
        &self.0.accounts
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    pub(crate) fn watches_end(&self) -> CancellationToken {
        self.0.watches_end.clone()
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.0.config.clock)()
    }
}
