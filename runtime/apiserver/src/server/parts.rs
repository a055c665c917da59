//! What the server is made of, for those that serve requests.

use std::sync::{Arc, PoisonError, Weak};

use jiff::Timestamp;
use kiln_storage::Storage;
use tokio_util::sync::CancellationToken;

use super::{ApiServer, Inner};
use crate::aggregation::Aggregation;
use crate::authn::accounts::Accounts;
use crate::authn::oidc::Oidc;
use crate::authz::follow::Followed;
use crate::authz::node::NodeGraph;
use crate::authz::rbac::Rbac;
use crate::config::Config;
use crate::dialer::Dialer;
use crate::discovery::Documents;
use crate::metrics::Metrics;
use crate::policies::Policies;
use crate::registry::Registry;
use crate::usage::Samples;
use crate::verbs::frames::Frames;
use crate::verbs::store::Store;
use crate::webhooks::Hooks;
use crate::webhooks::client::Pool;

impl ApiServer {
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
