//! The server put together, and the ways into it. [`serving`] takes a request through priority, authorization and dispatch;
//! [`parts`] hands out what the server is made of.

mod parts;
mod serving;

use std::sync::{Arc, RwLock};
use std::time::Instant;

use ::http::{Request, Response};
use bytes::Bytes;
use kiln_apimachinery::Status;
use kiln_storage::{BoxFuture, Storage};
use rustls::ServerConfig;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::serving::Asked;
use crate::aggregation::{self, Aggregation};
use crate::audit::{self, Audit, AuditError};
use crate::authn::accounts::Accounts;
use crate::authn::jwt::signer::KeyError;
use crate::authn::oidc::{Oidc, OidcError};
use crate::authz::follow::Followed;
use crate::authz::node::NodeGraph;
use crate::authz::rbac::Rbac;
use crate::config::Config;
use crate::discovery::Documents;
use crate::flow::{self, Flow};
use crate::http::body::Body;
use crate::http::{respond, serve};
use crate::metrics::Metrics;
use crate::policies::Policies;
use crate::registry::Registry;
use crate::usage::Samples;
use crate::user::UserInfo;
use crate::verbs::frames::Frames;
use crate::webhooks::Hooks;
use crate::webhooks::client::Pool;
use crate::{apiextensions, authn, basics, bootstrap};

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
    pub fn build(config: Config, storage: Arc<dyn Storage>) -> BoxFuture<'static, Result<Self, BuildError>> {
        Box::pin(async move {
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
            flow::dangling::start(&server, background.clone()).await.map_err(BuildError::Bootstrap)?;
            apiextensions::live::start(&server, background.clone()).await.map_err(BuildError::Bootstrap)?;
            aggregation::publish(&server, background.clone()).await.map_err(BuildError::Bootstrap)?;
            aggregation::start(&server, background).await.map_err(BuildError::Bootstrap)?;
            Ok(server)
        })
    }

    /// Serves a request of a user that the caller vouches for, in this process and without sockets. What the user may is
    /// checked as ever.
    pub fn call(&self, user: UserInfo, request: Request<Bytes>) -> BoxFuture<'_, Response<Body>> {
        Box::pin(async move {
            let began = Instant::now();
            let (parts, body) = request.into_parts();
            let asked = Asked::new(&parts);
            let id = audit::id(&parts.headers);
            let recording = self.0.audit.as_ref().and_then(|a| a.begin(&user, &asked.info, &parts, &body, id.as_ref()));
            let mut response = match recording {
                None => self.act(&user, &asked, &parts, body).await,
                Some(recording) => {
                    // In a box: the usual way has no room for a second copy of what acts.
                    let response = Box::pin(recording.follow(self.act(&user, &asked, &parts, body))).await;
                    recording.answered(response).await
                }
            };
            audit::mark(&mut response, id);
            self.finish(&user.name, &asked, &parts, began, response)
        })
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
    /// certificates may change while serving: see [`kiln_pki::tls::server`].
    pub fn serve(
        &self,
        listener: TcpListener,
        tls: Arc<ServerConfig>,
        shutdown: CancellationToken,
    ) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            serve::run(self.clone(), listener, tls, shutdown, self.0.config.drain_timeout).await;
        })
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
}
