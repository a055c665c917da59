//! Gives each Node a network for its pods: a /24 of the cluster's.

mod pool;

use std::sync::{Mutex, PoisonError};

use kiln_apimachinery::meta;
use kiln_client::{Change, Client, Informer, ListParams, ObjectRef, PatchKind, Store, WorkQueue};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use self::pool::Pool;
use crate::Ipv4Cidr;
use crate::reconcile::{Failure, Next, work};

const NODES: &str = "/api/v1/nodes";

/// Runs the controller until the shutdown.
pub async fn run(client: Client, cluster: Ipv4Cidr, shutdown: CancellationToken) {
    let informer = Informer::new(client.clone(), NODES, ListParams::default());
    let (queue, nodes) = (WorkQueue::default(), informer.store());
    let controller = Controller { client, nodes: nodes.clone(), pool: Mutex::new(Pool::new(cluster)) };
    tokio::join!(
        informer.run(shutdown.clone(), |change| {
            match change {
                Change::Applied { key, object, .. } => {
                    controller.note(&key.name, object);
                    queue.add(key.clone());
                }
                Change::Deleted { key, .. } => {
                    controller.pool().release(&key.name);
                    // Its network may be what another node waits for.
                    let waiting = nodes.list().into_iter().filter(|node| network(node).is_none());
                    waiting.for_each(|node| queue.add(ObjectRef::of(&node)));
                }
                Change::Synced => {}
            }
        }),
        work("node-ipam", &queue, &shutdown, |key| controller.reconcile(key)),
    );
}

struct Controller {
    client: Client,
    nodes: Store,
    pool: Mutex<Pool>,
}

impl Controller {
    fn pool(&self) -> std::sync::MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a network that a Node has out of the pool.
    fn note(&self, name: &str, node: &Value) {
        if let Some(network) = network(node) {
            self.pool().take(name, network);
        }
    }

    async fn reconcile(&self, key: ObjectRef) -> Result<Next, Failure> {
        // What all nodes have is known before anything is given away.
        self.nodes.synced().await;
        let Some(node) = self.nodes.get(&key).filter(|node| network(node).is_none()) else { return Ok(Next::Settled) };
        let network = self.pool().allocate(&key.name).ok_or_else(|| {
            Failure::Waiting("no pod network is left for the node; choose a larger cluster-cidr".to_owned())
        })?;
        let network = network.to_string();
        let patch = json!({
            "metadata": {"resourceVersion": meta::resource_version(&node)},
            "spec": {"podCIDR": network, "podCIDRs": [network]},
        });
        match self.client.patch::<Value>(&format!("{NODES}/{}", key.name), PatchKind::Merge, &patch).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(Next::Settled),
        }
    }
}

fn network(node: &Value) -> Option<Ipv4Cidr> {
    meta::text(node, &["spec", "podCIDR"]).parse().ok()
}
