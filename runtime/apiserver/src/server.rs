//! The server put together: one request after another through authentication, authorization and dispatch.

use std::borrow::Cow;
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Instant;

use ::http::request::Parts;
use ::http::{HeaderMap, Method, Request, Response, StatusCode};
use bytes::Bytes;
use jiff::Timestamp;
use kiln_apimachinery::Status;
use kiln_storage::Storage;
use rustls::ServerConfig;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::aggregation::{self, Aggregation, Remote};
use crate::audit::{self, Audit, AuditError};
use crate::authn::accounts::Accounts;
use crate::authn::jwt::signer::KeyError;
use crate::authn::oidc::{Oidc, OidcError};
use crate::authz::follow::Followed;
use crate::authz::node::NodeGraph;
use crate::authz::rbac::Rbac;
use crate::authz::{self, Attributes};
use crate::config::Config;
use crate::dialer::{self, Dialer};
use crate::discovery::{Documents, openapi};
use crate::flow::Flow;
use crate::http::body::Body;
use crate::http::{negotiate, pretty, respond, serve};
use crate::metrics::{Answered, Metrics};
use crate::policies::Policies;
use crate::query::Query;
use crate::registry::Registry;
use crate::request_info::RequestInfo;
use crate::usage::Samples;
use crate::user::UserInfo;
use crate::verbs::frames::Frames;
use crate::verbs::store::Store;
use crate::webhooks::Hooks;
use crate::webhooks::client::Pool;
use crate::{apiextensions, authn, basics, bootstrap, flow, health, metrics, ownership, verbs};

/// The server can't start.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The objects that every cluster has could not be written; the text is the store's.
    #[error("the cluster's first objects can't be written: {0}")]
    Bootstrap(Status),
    /// A key for service account tokens is of no use.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Auditing can't be set up.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The OIDC issuer's settings are of no use.
    #[error(transparent)]
    Oidc(#[from] OidcError),
}

/// The API server; a clone is another handle of the same one.
#[derive(Clone)]
pub struct ApiServer(Arc<Inner>);

/// What a request asks for.
struct Asked {
    info: RequestInfo,
    query: Query,
}

impl Asked {
    fn new(parts: &Parts) -> Self {
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

pub(crate) struct Inner {
    config: Config,
    storage: Arc<dyn Storage>,
    registry: Registry,
    rbac: Rbac,
    nodes: NodeGraph,
    accounts: Accounts,
    audit: Option<Audit>,
    oidc: Option<Oidc>,
    documents: RwLock<Arc<Documents>>,
    aggregation: Aggregation,
    pool: Pool,
    hooks: Followed<Hooks>,
    policies: Followed<Policies>,
    metrics: Metrics,
    flow: Flow,
    frames: Frames,
    samples: Samples,
    stopping: CancellationToken,
    watches_end: CancellationToken,
    /// Ends what runs in the background, with the last handle.
    _background: DropGuard,
}

impl ApiServer {
    /// Makes a server over a store, and writes what a cluster has from its first start.
    pub async fn build(config: Config, storage: Arc<dyn Storage>) -> Result<Self, BuildError> {
        let registry = Registry::builtin();
        let documents = Documents::new(&registry, &Aggregation::default(), &config.version.git_version);
        let background = CancellationToken::new();
        let server = Self(Arc::new(Inner {
            accounts: Accounts::new(&config.service_accounts)?,
            oidc: config.oidc.clone().map(Oidc::new).transpose()?,
            audit: config.audit.clone().map(|a| Audit::new(a, config.clock.clone())).transpose()?,
            config,
            storage,
            registry,
            rbac: Rbac::default(),
            nodes: NodeGraph::default(),
            documents: RwLock::new(Arc::new(documents)),
            aggregation: Aggregation::default(),
            pool: Pool::default(),
            hooks: Followed::default(),
            policies: Followed::default(),
            metrics: Metrics::default(),
            flow: Flow::default(),
            frames: Frames::default(),
            samples: Samples::default(),
            stopping: CancellationToken::new(),
            watches_end: CancellationToken::new(),
            _background: background.clone().drop_guard(),
        }));
        bootstrap::run(&server).await.map_err(BuildError::Bootstrap)?;
        basics::run(&server).await.map_err(BuildError::Bootstrap)?;
        apiextensions::live::start(&server, background.clone()).await.map_err(BuildError::Bootstrap)?;
        aggregation::publish(&server, background.clone()).await.map_err(BuildError::Bootstrap)?;
        aggregation::start(&server, background).await.map_err(BuildError::Bootstrap)?;
        Ok(server)
    }

    /// Serves a request of a user that the caller vouches for, in this process and without sockets. What the user may is
    /// checked as ever.
    pub async fn call(&self, user: UserInfo, request: Request<Bytes>) -> Response<Body> {
        let began = Instant::now();
        let (parts, body) = request.into_parts();
        let asked = Asked::new(&parts);
        let id = audit::id(&parts.headers);
        let recording = self.0.audit.as_ref().and_then(|a| a.begin(&user, &asked.info, &parts, &body, id.as_ref()));
        let mut response = match recording {
            None => self.act(&user, &asked, &parts, body).await,
            Some(recording) => {
                let response = recording.follow(self.act(&user, &asked, &parts, body)).await;
                recording.answered(response).await
            }
        };
        audit::mark(&mut response, id);
        self.finish(&user.name, &asked, &parts, began, response)
    }

    /// Serves a request as the user whom it acts as.
    async fn act(&self, user: &UserInfo, asked: &Asked, parts: &Parts, body: Bytes) -> Response<Body> {
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

    /// Serves a request as it comes from a connection: `peer` is the user that the client certificate named, if there was
    /// one; else the request's bearer token counts.
    pub async fn handle(&self, peer: Option<&UserInfo>, request: Request<Bytes>) -> Response<Body> {
        match authn::authenticate(self, peer, request.headers()).await {
            Ok(user) => self.call(user, request).await,
            Err(status) => {
                let (parts, _) = request.into_parts();
                let (asked, id) = (Asked::new(&parts), audit::id(&parts.headers));
                if let Some(audit) = &self.0.audit {
                    audit.refused(&asked.info, &parts, id.as_ref(), &status);
                }
                let mut response = respond::refusal(&parts.headers, &status);
                audit::mark(&mut response, id);
                self.finish("", &asked, &parts, Instant::now(), response)
            }
        }
    }

    /// Serves connections until `shutdown`, then ends watches and lets requests finish for the configured time. The
    /// certificates may change while serving: see [`crate::tls_config`].
    pub async fn serve(&self, listener: TcpListener, tls: Arc<ServerConfig>, shutdown: CancellationToken) {
        serve::run(self.clone(), listener, tls, shutdown, self.0.config.drain_timeout).await;
    }

    /// Puts what is missing into a Secret of type `kubernetes.io/service-account-token` whose account is there: for the
    /// controller that looks after them, which has no key to sign with.
    pub async fn fill_token_secret(&self, namespace: &str, secret: &mut Value) -> Result<(), Status> {
        authn::accounts::legacy::fill(self, namespace, secret).await
    }

    /// Ends all watches, as a shutdown does.
    pub fn end_watches(&self) {
        self.0.watches_end.cancel();
    }

    fn finish(
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
        let served = self.dispatch(user, asked, parts, body);
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
        if info.is_resource && info.verb.is_empty() && self.remote(parts).is_none() {
            return Err(Status::method_not_allowed());
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

    pub(crate) fn storage(&self) -> &dyn Storage {
        self.0.storage.as_ref()
    }

    pub(crate) fn store(&self) -> Store<'_> {
        Store(self)
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// What is told of everything that is served, as it is now.
    pub(crate) fn documents(&self) -> Arc<Documents> {
        let generation = (self.0.registry.generation(), self.0.aggregation.generation());
        let known = self.0.documents.read().unwrap_or_else(PoisonError::into_inner).clone();
        if known.generation() == generation {
            return known;
        }
        let mut slot = self.0.documents.write().unwrap_or_else(PoisonError::into_inner);
        if slot.generation() != generation {
            let version = &self.0.config.version.git_version;
            *slot = Arc::new(Documents::new(&self.0.registry, &self.0.aggregation, version));
        }
        slot.clone()
    }

    /// APIs that other servers answer for.
    pub(crate) fn aggregation(&self) -> &Aggregation {
        &self.0.aggregation
    }

    /// Who answers a request, if that is another server: as it was when the request's headers came, for its body is read or
    /// not by that.
    fn remote(&self, parts: &Parts) -> Option<Remote> {
        let known = parts.extensions.get::<Remote>().cloned();
        known.or_else(|| self.0.aggregation.route(parts.uri.path()))
    }

    /// Connections to webhooks.
    pub(crate) fn pool(&self) -> &Pool {
        &self.0.pool
    }

    /// Webhooks that have a say in requests.
    pub(crate) fn hooks(&self) -> &Followed<Hooks> {
        &self.0.hooks
    }

    /// Policies that have a say in requests.
    pub(crate) fn policies(&self) -> &Followed<Policies> {
        &self.0.policies
    }

    /// A handle that does not keep the server.
    pub(crate) fn downgrade(&self) -> Weak<Inner> {
        Arc::downgrade(&self.0)
    }

    /// The server of a handle.
    pub(crate) fn of(inner: Arc<Inner>) -> Self {
        Self(inner)
    }

    pub(crate) fn rbac(&self) -> &Rbac {
        &self.0.rbac
    }

    pub(crate) fn nodes(&self) -> &NodeGraph {
        &self.0.nodes
    }

    pub(crate) fn accounts(&self) -> &Accounts {
        &self.0.accounts
    }

    pub(crate) fn oidc(&self) -> Option<&Oidc> {
        self.0.oidc.as_ref()
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    /// The way to the nodes.
    pub(crate) fn dialer(&self) -> &Arc<dyn Dialer> {
        &self.0.config.dialer
    }

    /// What nodes used when they were asked last.
    pub(crate) fn samples(&self) -> &Samples {
        &self.0.samples
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    pub(crate) fn frames(&self) -> &Frames {
        &self.0.frames
    }

    /// Makes the server not ready any more, while it goes on serving.
    pub(crate) fn begin_stop(&self) {
        self.0.stopping.cancel();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.0.stopping.is_cancelled()
    }

    pub(crate) fn watches_end(&self) -> CancellationToken {
        self.0.watches_end.clone()
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.0.config.clock)()
    }
}
