//! Gives each Node networks for its pods: a /24 of the cluster's IPv4 range, and a /64 of its IPv6 range where it has one.
//!
//! A Node keeps what it has, also where the cluster has got another family since.

mod pool;

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::Node;
use kiln_client::{Change, Client, Informers, Object, ObjectRef, PatchKind, Store, WorkQueue};
use serde_json::{Value, json};

use self::pool::Pool;
use crate::node_events;
use crate::reconcile::{Failure, Next, work};
use crate::{Cidr, Context, Recorder};

const NODES: &str = "/api/v1/nodes";

/// Makes the controller. Of each of the cluster's ranges, the first family first, each Node gets a part.
pub fn build(
    informers: &mut Informers,
    context: &Context,
    clusters: Vec<Cidr>,
) -> impl Future<Output = ()> + Send + use<> {
    let Context { client, events, shutdown, .. } = context.clone();
    let (queue, informer) = (WorkQueue::default(), informers.of::<Node>());
    let nodes = informer.store();
    let pools = Mutex::new(clusters.into_iter().map(Pool::new).collect());
    let controller = Arc::new(Controller { client, nodes, pools, recorder: events.recorder("cidrAllocator") });
    informer.subscribe({
        let (queue, controller) = (queue.clone(), controller.clone());
        move |change| match change {
            Change::Applied { key, object, .. } => {
                controller.note(&key.name, object);
                queue.add(key.clone());
            }
            Change::Deleted { key, .. } => {
                controller.pools().iter_mut().for_each(|pool| pool.release(&key.name));
                // Its network may be what another node waits for.
                let waiting = controller.nodes.list().into_iter().filter(|node| networks(node).is_empty());
                waiting.for_each(|node| queue.add(node.key()));
            }
            Change::Synced => {}
        }
    });
    async move { work("node-ipam", &queue, &shutdown, |key| controller.reconcile(key)).await }
}

struct Controller {
    client: Client,
    nodes: Store<Node>,
    pools: Mutex<Vec<Pool>>,
    recorder: Recorder,
}

impl Controller {
    fn pools(&self) -> std::sync::MutexGuard<'_, Vec<Pool>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the networks that a Node has out of the pools.
    fn note(&self, name: &str, node: &Node) {
        for network in networks(node) {
            self.pools().iter_mut().for_each(|pool| pool.take(name, network));
        }
    }

    async fn reconcile(&self, key: ObjectRef) -> Result<Next, Failure> {
        // What all nodes have is known before anything is given away.
        self.nodes.synced().await;
        let Some(node) = self.nodes.get(&key).filter(|node| networks(node).is_empty()) else {
            return Ok(Next::Settled);
        };
        let given: Option<Vec<Cidr>> = self.pools().iter_mut().map(|pool| pool.allocate(&key.name)).collect();
        let given = given.ok_or_else(|| {
            node_events::status(&self.recorder, &node, "CIDRNotAvailable");
            Failure::Waiting("no pod network is left for the node; choose a larger cluster-cidr".to_owned())
        })?;
        let given: Vec<String> = given.iter().map(Cidr::to_string).collect();
        let patch = json!({
            "metadata": {"resourceVersion": node.resource_version()},
            "spec": {"podCIDR": given.first(), "podCIDRs": given},
        });
        match self.client.patch::<Value>(&format!("{NODES}/{}", key.name), PatchKind::Merge, &patch).await {
            Err(error) if !error.is_not_found() => {
                if !error.is_conflict() {
                    node_events::status(&self.recorder, &node, "CIDRAssignmentFailed");
                }
                Err(error.into())
            }
            _ => Ok(Next::Settled),
        }
    }
}

fn networks(node: &Node) -> Vec<Cidr> {
    let Some(spec) = node.spec.as_ref() else { return Vec::new() };
    let all = spec.pod_cidrs.as_deref().unwrap_or_default();
    let one = spec.pod_cidr.iter().filter(|_| all.is_empty());
    all.iter().chain(one).filter_map(|network| network.parse().ok()).collect()
}
