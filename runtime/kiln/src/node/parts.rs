//! What a node runs beside the kubelet: its ways to other nodes, Services, DNS and the like. They read the API through mirrors
//! that they share, so that a collection is watched and held once.

use kiln_client::{Client, Informers};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The parts, before they run.
pub(crate) struct Parts {
    /// The mirrors; a part subscribes to them when it is made.
    pub(crate) informers: Informers,
    running: JoinSet<()>,
    pub(crate) shutdown: CancellationToken,
}

impl Parts {
    /// None yet. `client` is the node.
    pub(crate) fn new(client: Client, shutdown: CancellationToken) -> Self {
        Self { informers: Informers::new(client), running: JoinSet::new(), shutdown }
    }

    /// Adds a part; it ends at the shutdown by itself.
    pub(crate) fn add(&mut self, part: impl Future<Output = ()> + Send + 'static) {
        self.running.spawn(part);
    }

    /// Runs the mirrors, and waits for all parts to end.
    pub(crate) async fn run(mut self) {
        self.informers.run(self.shutdown.clone()).await;
        while let Some(ended) = self.running.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a part of the node ended by a panic");
            }
        }
    }
}
