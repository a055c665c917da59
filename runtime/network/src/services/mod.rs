//! The service proxy, in kube-proxy's place: leads what is sent to a Service to one of its endpoints, by nf_tables.
//!
//! `mirrors of Services, EndpointSlices, Nodes -> render -> what differs -> one transaction -> kernel`. Each Service has chains of
//! its own that choose an endpoint at random, and elements in maps from addresses and ports to those chains, so that a packet is
//! led by a few look-ups however many Services there are, and a change touches one Service's objects only. What the kernel holds is
//! not removed when the proxy ends: connections and Services go on without it, and the next start replaces the tables in one
//! transaction.

mod conntrack;
mod health;
mod layout;
mod model;
mod render;
mod state;
#[cfg(test)]
mod tests;
mod topology;
mod worker;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kiln_client::{Backoff, BoxFuture, Change, Clock, Informers, ObjectRef};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::health::Health;
pub(crate) use self::layout::TABLE;
use self::model::IpFamily;
use self::worker::{Done, Work, Worker};
use crate::Cidr;
use crate::nft::{Batch, NftError, Socket, present};

/// The index of slices by the Services that they are of.
pub(crate) const SLICES: &str = "slices of a service";
/// How often it is seen to that nobody else removed the tables.
const LOOK: Duration = Duration::from_secs(60);
/// Where kube-proxy answers for its health.
pub const HEALTH_PORT: u16 = 10256;
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// What the proxy is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// The node that this is.
    pub node: String,
    /// Addresses of pods, besides those that the Nodes say.
    pub pod_networks: Vec<Cidr>,
    /// Addresses of Services. What is sent to one of them that no Service has is dropped.
    pub service_networks: Vec<Cidr>,
    /// Whether what pods send to outside the cluster gets the node's address.
    pub masquerade: bool,
    /// Where the proxy answers for its health; nowhere if it is none.
    pub health: Option<SocketAddr>,
}

/// Changes that wait for the proxy.
#[derive(Default)]
struct Pending {
    work: Mutex<Work>,
    changed: Notify,
}

impl Pending {
    fn add(&self, add: impl FnOnce(&mut Work)) {
        add(&mut self.work.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }

    fn take(&self) -> Work {
        std::mem::take(&mut self.work.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Adds the proxy to the mirrors; what is returned runs it until the shutdown. `told` is told of each transaction: how many
/// messages it had.
pub fn build(
    informers: &mut Informers,
    config: Config,
    clock: Clock,
    shutdown: CancellationToken,
    mut told: Box<dyn FnMut(usize) + Send>,
) -> BoxFuture<'static, ()> {
    let pending = Arc::new(Pending::default());
    let health = Health::new(clock, shutdown.clone());
    subscribe(informers, &pending, &health);
    let mirrors =
        (informers.of::<Service>().store(), informers.of::<EndpointSlice>().store(), informers.of::<Node>().store());
    Box::pin(async move {
        let address = config.health;
        let proxy = async {
            tokio::join!(mirrors.0.synced(), mirrors.1.synced(), mirrors.2.synced());
            present().await;
            let mut backoff = Backoff::new(RETRY.0, RETRY.1);
            let worker = loop {
                pending.take();
                match Worker::new(config.clone(), mirrors.clone(), health.clone()) {
                    Ok(worker) => break worker,
                    Err(error) => tracing::error!(%error, "Services are not reachable from this node; will try again"),
                }
                tokio::time::sleep(backoff.next_wait()).await;
            };
            run(worker, &pending, &health, &mut told).await;
        };
        let answers = async {
            match address {
                Some(address) => health.serve(address).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = async { tokio::join!(proxy, answers); } => {}
        }
    })
}

/// Removes what a proxy of an earlier run left in the kernel. Blocks for as long as the kernel needs.
///
/// # Errors
/// If the kernel cannot be asked, or not by this process.
pub fn remove() -> Result<(), NftError> {
    let mut socket = Socket::open()?;
    for family in IpFamily::BOTH {
        let table = layout::table(family);
        if socket.has_table(&table)? {
            let mut batch = Batch::new();
            batch.remove_table(&table);
            socket.apply(&batch)?;
        }
    }
    Ok(())
}

fn subscribe(informers: &mut Informers, pending: &Arc<Pending>, health: &Arc<Health>) {
    let services = informers.of::<Service>();
    services.subscribe({
        let (pending, health) = (pending.clone(), health.clone());
        move |change| {
            if let Some(key) = change.key() {
                health.queued();
                pending.add(|work| _ = work.services.insert(key.clone()));
            }
        }
    });
    let slices = informers.of::<EndpointSlice>();
    slices
        .index(SLICES, |slice| model::service_of(slice).map(|(ns, name)| format!("{ns}/{name}")).into_iter().collect());
    slices.subscribe({
        let (pending, health) = (pending.clone(), health.clone());
        move |change| {
            let services = services_of(change);
            if !services.is_empty() {
                health.queued();
                pending.add(|work| work.services.extend(services));
            }
        }
    });
    informers.of::<Node>().subscribe({
        let pending = pending.clone();
        move |change| {
            if is_news(change) {
                pending.add(|work| work.nodes = true);
            }
        }
    });
}

/// The Services that a slice was and is of.
fn services_of(change: &Change<EndpointSlice>) -> HashSet<ObjectRef> {
    let slices = match change {
        Change::Applied { object, previous, .. } => [Some(object), previous.as_ref()],
        Change::Deleted { object, .. } => [Some(object), None],
        Change::Synced => [None, None],
    };
    let found = slices.into_iter().flatten().filter_map(|slice| model::service_of(slice));
    found.map(|(namespace, name)| ObjectRef::namespaced(namespace, name)).collect()
}

/// Whether anything of a Node changed that the proxy reads.
fn is_news(change: &Change<Node>) -> bool {
    match change {
        Change::Applied { object, previous: Some(previous), .. } => {
            let addresses = |node: &Node| node.status.as_ref().and_then(|status| status.addresses.clone());
            object.spec != previous.spec
                || object.metadata.labels != previous.metadata.labels
                || object.metadata.deletion_timestamp != previous.metadata.deletion_timestamp
                || addresses(object) != addresses(previous)
        }
        Change::Applied { .. } | Change::Deleted { .. } => true,
        Change::Synced => false,
    }
}

/// Why the loop goes round.
enum Wake {
    Changed,
    /// Something is due: what was left, or another try.
    Due,
    /// To look after the tables.
    Look,
}

/// Works until the future is dropped.
async fn run(mut worker: Worker, pending: &Pending, health: &Health, told: &mut impl FnMut(usize)) {
    let mut work = Work { all: true, ..Work::default() };
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    loop {
        let done;
        (worker, done) = match at_work(worker, work).await {
            Some(back) => back,
            None => return,
        };
        let due = match done {
            Ok(done) => {
                backoff.reset();
                health.updated();
                if done.changes > 0 {
                    told(done.changes);
                }
                work = Work::default();
                done.again.map(Instant::from_std)
            }
            Err(error) => {
                tracing::error!(%error, "the Services could not be programmed; will make all anew");
                work = Work { all: true, ..Work::default() };
                Some(Instant::now() + backoff.next_wait())
            }
        };
        loop {
            match next(pending, due, work.all).await {
                Wake::Look => {
                    let intact;
                    (worker, intact) = match look(worker).await {
                        Some(back) => back,
                        None => return,
                    };
                    if !intact {
                        tracing::warn!("somebody removed the tables of the service proxy; they are made anew");
                        work.all = true;
                        break;
                    }
                }
                Wake::Due => break,
                Wake::Changed => {
                    let all = work.all;
                    work = pending.take();
                    work.all |= all;
                    break;
                }
            }
        }
    }
}

async fn next(pending: &Pending, due: Option<Instant>, failed: bool) -> Wake {
    let due = async {
        match due {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    };
    let changed = async {
        if failed {
            // What is new is seen at the next try.
            std::future::pending().await
        } else {
            pending.changed.notified().await
        }
    };
    tokio::select! {
        () = changed => Wake::Changed,
        () = due => Wake::Due,
        () = tokio::time::sleep(LOOK) => Wake::Look,
    }
}

/// Works on a thread that may block. `None` if it panicked, or if all ends.
async fn at_work(mut worker: Worker, work: Work) -> Option<(Worker, Result<Done, NftError>)> {
    let working = tokio::task::spawn_blocking(move || {
        let done = worker.work(work);
        (worker, done)
    });
    working.await.inspect_err(|error| tracing::error!(%error, "the service proxy ended")).ok()
}

async fn look(mut worker: Worker) -> Option<(Worker, bool)> {
    let looking = tokio::task::spawn_blocking(move || {
        let intact = worker.is_intact();
        (worker, intact)
    });
    looking.await.ok()
}
