//! NetworkPolicies (networking.k8s.io/v1) in nf_tables: which pods of this node may be reached by whom, and whom they may reach.
//!
//! `mirrors of NetworkPolicies, Pods, Namespaces -> model -> chains and sets -> what differs -> kernel`. A pod that a policy selects
//! has a chain for each direction that its policies speak of; the chains look into sets of the addresses of the pods that rules
//! name, so that a pod which comes or goes elsewhere changes an element. Pods and Namespaces are watched only while there is a
//! policy. A policy holds for connections from before it too, where the API leaves it open.

mod chains;
mod kernel;
mod labels;
mod model;
mod rules;
mod views;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kiln_client::{
    Backoff, BoxFuture, Change, Client, Informer, Informers, ListParams, Object, ObjectRef, Store, collection,
};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::kernel::Kernel;
pub(crate) use self::kernel::NAME as TABLE;
use self::model::Model;
use self::rules::Policy;
use self::views::{FIELDS, NamespaceView, PodView};
use crate::Cidr;
use crate::nft::{NftError, present};

const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// How often it is seen to that nobody else removed the tables.
const LOOK: Duration = Duration::from_secs(60);

/// What changed since the last look.
#[derive(Default)]
struct Changes {
    policies: bool,
    pods: HashSet<ObjectRef>,
    namespaces: HashSet<String>,
}

#[derive(Default)]
struct News {
    changes: Mutex<Changes>,
    notify: Notify,
}

impl News {
    fn note(&self, note: impl FnOnce(&mut Changes)) {
        note(&mut self.changes.lock().unwrap_or_else(PoisonError::into_inner));
        self.notify.notify_one();
    }

    fn take(&self) -> Changes {
        std::mem::take(&mut self.changes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Makes what keeps this node's part of all policies in the kernel: it reads policies from the shared mirror, and what it answers is to
/// run beside the mirrors. `told` hears of each time that the kernel was changed, with how many changes that took.
pub fn build(
    informers: &mut Informers,
    node: String,
    shutdown: CancellationToken,
    told: Box<dyn Fn(usize) + Send>,
) -> BoxFuture<'static, ()> {
    let (client, news) = (informers.client(), Arc::new(News::default()));
    let informer = informers.of::<NetworkPolicy>();
    let policies = informer.store();
    informer.subscribe({
        let news = Arc::clone(&news);
        move |_| news.note(|changes| changes.policies = true)
    });
    let informer = informers.of::<Node>();
    let nodes = informer.store();
    informer.subscribe({
        let (news, own) = (Arc::clone(&news), node.clone());
        move |change| {
            if let Change::Applied { key, object, previous } = change
                && key.name == own
                && previous.as_ref().is_none_or(|previous| ranges(previous) != ranges(object))
            {
                news.notify.notify_one();
            }
        }
    });
    Box::pin(async move {
        let keeper = Keeper { client, node, policies, nodes, news, shutdown: shutdown.clone(), mirrors: None, told };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = keeper.run() => {}
        }
    })
}

/// The ranges that a node's pods get their addresses from.
fn ranges(node: &Node) -> Vec<Cidr> {
    let ranges = node.spec.as_ref().and_then(|spec| spec.pod_cidrs.as_deref()).unwrap_or_default();
    ranges.iter().filter_map(|range| range.parse().ok()).collect()
}

struct Keeper<T> {
    client: Client,
    node: String,
    policies: Store<NetworkPolicy>,
    nodes: Store<Node>,
    news: Arc<News>,
    shutdown: CancellationToken,
    mirrors: Option<Mirrors>,
    told: T,
}

/// The mirrors that there are while there is a policy.
struct Mirrors {
    pods: Store<PodView>,
    namespaces: Store<NamespaceView>,
    _end: DropGuard,
}

impl<T: Fn(usize)> Keeper<T> {
    async fn run(mut self) {
        self.policies.synced().await;
        self.nodes.synced().await;
        present().await;
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            let Err(error) = self.keep(&mut backoff).await;
            tracing::error!(%error, "network policies are not in force as they should be; will try again");
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }

    /// Begins with nothing known, and keeps the kernel as it should be until that fails.
    async fn keep(&mut self, backoff: &mut Backoff) -> Result<std::convert::Infallible, NftError> {
        let (mut kernel, mut model) = (Kernel::open()?, Model::new(self.node.clone()));
        self.mirrors = None;
        let mut changes = Changes { policies: true, ..Changes::default() };
        let mut next_look = Instant::now() + LOOK;
        loop {
            if self.policies.is_empty() {
                // What was known of pods and namespaces goes with their mirrors.
                self.mirrors = None;
                model = Model::new(self.node.clone());
            } else {
                if self.mirrors.is_none() {
                    let mirrors = self.mirror();
                    mirrors.pods.synced().await;
                    mirrors.namespaces.synced().await;
                    changes.pods.extend(mirrors.pods.list().iter().map(|pod| pod.key()));
                    changes.namespaces.extend(mirrors.namespaces.list().iter().map(|namespace| namespace.key().name));
                    changes.policies = true;
                    self.mirrors = Some(mirrors);
                }
                self.take_in(&mut model, &changes);
            }
            let done = kernel.apply(&mut model)?;
            backoff.reset();
            (self.told)(done);
            tokio::select! {
                () = self.news.notify.notified() => {}
                () = tokio::time::sleep_until(next_look) => {
                    next_look = Instant::now() + LOOK;
                    if !kernel.check()? {
                        tracing::warn!("somebody removed the table of network policies; it is made anew");
                    }
                }
            }
            changes = self.news.take();
        }
    }

    /// Brings what changed into the model. Namespaces come before pods, and all before the policies that speak of them.
    fn take_in(&self, model: &mut Model, changes: &Changes) {
        let Some(mirrors) = &self.mirrors else { return };
        if let Some(node) = self.nodes.get(&ObjectRef::cluster(self.node.as_str())) {
            model.set_ranges(ranges(&node));
        }
        for name in &changes.namespaces {
            let namespace = mirrors.namespaces.get(&ObjectRef::cluster(name.as_str()));
            model.set_namespace(name, namespace.as_ref().map(|namespace| &namespace.labels));
        }
        for key in &changes.pods {
            model.set_pod(key, mirrors.pods.get(key));
        }
        if changes.policies {
            let policies: BTreeMap<ObjectRef, Policy> =
                self.policies.list().iter().map(|policy| (policy.key(), Policy::of(policy))).collect();
            model.set_policies(policies);
        }
    }

    fn mirror(&self) -> Mirrors {
        let stop = self.shutdown.child_token();
        let params = ListParams { fields: FIELDS.to_owned(), ..ListParams::default() };
        let pods = Informer::<PodView>::new(self.client.clone(), collection::<PodView>(), params);
        let path = collection::<NamespaceView>();
        let namespaces = Informer::<NamespaceView>::new(self.client.clone(), path, ListParams::default());
        let mirrors = Mirrors { pods: pods.store(), namespaces: namespaces.store(), _end: stop.clone().drop_guard() };
        let news = Arc::clone(&self.news);
        tokio::spawn(pods.run(stop.clone(), move |change: &Change<PodView>| {
            if let Some(key) = change.key() {
                news.note(|changes| _ = changes.pods.insert(key.clone()));
            }
        }));
        let news = Arc::clone(&self.news);
        tokio::spawn(namespaces.run(stop, move |change: &Change<NamespaceView>| {
            if let Some(key) = change.key() {
                news.note(|changes| _ = changes.namespaces.insert(key.name.clone()));
            }
        }));
        mirrors
    }
}
