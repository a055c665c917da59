//! The store on etcd, for clusters with several servers.
//!
//! Writes are transactions of etcd on a key's revision, so whichever server is asked, one of several that race wins. Each
//! server keeps a copy of everything in RAM, fed by one watch, and serves reads and watches from it. A read first asks
//! etcd for its revision (one small request for all reads that wait) and then waits until the copy is there, so it sees
//! every write that was answered before by any server; a write is answered once the own copy shows it.
//!
//! Nothing is volatile here: a node's lease must be seen by all servers, so it goes to etcd, whose disks are made for
//! it. Keys with a lifetime get a lease of etcd's, which deletes them. etcd's history is compacted to where the copy's
//! begins.
//!
//! Keys lie in etcd below a prefix. Values carry a trailer ([`value`]), since the revision that belongs into their
//! bytes is known only after the write.

mod endpoint;
mod feed;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod grpc;
mod handle;
mod lease;
mod load;
mod proto;
mod value;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

pub use endpoint::{Endpoint, TlsFiles};

use self::endpoint::Dialer;
use self::feed::{Feed, Progress};
use self::grpc::Client;
use self::handle::EtcdStorage;
use self::lease::Leases;
use self::load::{Strange, head, load};
use self::proto::{StatusRequest, StatusResponse};
use crate::engine::{Engine, Retention, State};
use crate::types::{BoxFuture, Clock, Storage, StorageError, Volatile};

/// How often etcd's history is compacted.
const COMPACT: Duration = Duration::from_secs(300);

/// How to open a store.
#[derive(Debug, Clone)]
pub struct Options {
    /// Members of etcd; another is taken when one fails.
    pub endpoints: Vec<Endpoint>,
    /// Files for endpoints with https.
    pub tls: TlsFiles,
    /// What all keys begin with in etcd, before the store's own slash.
    pub prefix: String,
    /// Keys that go by themselves, if they have a lifetime.
    pub volatile: Vec<Volatile>,
    /// How much history is kept, in RAM and in etcd.
    pub retention: Retention,
    /// How long a request to etcd may take, fail-over included.
    pub patience: Duration,
    /// The time.
    pub clock: Clock,
}

impl Options {
    /// The defaults for these endpoints.
    pub fn new(endpoints: Vec<Endpoint>) -> Self {
        Self {
            endpoints,
            tls: TlsFiles::default(),
            prefix: "/kiln".to_owned(),
            volatile: Vec::new(),
            retention: Retention::default(),
            patience: Duration::from_secs(10),
            clock: Clock::default(),
        }
    }
}

/// Where keys lie in etcd.
#[derive(Clone)]
struct Keys {
    prefix: String,
}

/// Opens the store: reads all that etcd holds of it, and follows it from then on.
///
/// # Errors
/// [`StorageError::Unavailable`] when no member can be reached, [`StorageError::Etcd`] when the files for TLS or etcd's
/// version will not do, [`StorageError::Corrupt`] when a value is none of a store's.
pub fn open(options: Options) -> BoxFuture<'static, Result<Arc<dyn Storage>, StorageError>> {
    Box::pin(async move {
        let Options { endpoints, tls, prefix, volatile, retention, patience, clock } = options;
        let keys = Keys { prefix };
        let dialer = Dialer::new(endpoints, &tls)?;
        let client = Arc::new(Client::new(dialer.clone(), patience));
        let StatusResponse { version } = client.read("Maintenance/Status", &StatusRequest {}).await?;
        check(&version)?;
        let keep = retention.keep;
        let strange = Strange::default();
        let (records, revision) = load(&client, &keys, keep, &strange).await?;
        let engine = Engine::copy(State::new(records, revision), retention, clock.clone());
        let progress = Arc::new(Progress::new(engine.clone()));
        let closed = CancellationToken::new();
        let feed = Feed {
            engine: engine.clone(),
            progress: progress.clone(),
            client: client.clone(),
            dialer,
            keys: keys.clone(),
            keep,
            strange: strange.clone(),
            closed: closed.clone(),
        };
        tokio::spawn(feed.run());
        let (questions, asked) = mpsc::unbounded_channel();
        tokio::spawn(handle::answer(client.clone(), keys.clone(), asked));
        tokio::spawn(keep_compact(client.clone(), engine.clone(), closed.clone()));
        let leases = Leases::new(&volatile, clock);
        let writes = AtomicU64::new(0);
        let store = EtcdStorage { engine, progress, client, keys, leases, questions, writes, closed };
        store.progress.reach(head(&store.client, &store.keys).await?).await?;
        strange.first().map_or(Ok(Arc::new(store) as Arc<dyn Storage>), Err)
    })
}

/// Earlier versions tell a watch that it is further than it is (etcd's issues 15220 and 17507), and reads would miss writes.
fn check(version: &str) -> Result<(), StorageError> {
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<u32>().ok());
    let mut parts = version.split(['.', '-', '+']);
    let found = (number(parts.next()), number(parts.next()), number(parts.next()));
    let good = match found {
        (Some(3), Some(4), Some(patch)) => patch >= 31,
        (Some(3), Some(5), Some(patch)) => patch >= 13,
        (Some(major), Some(minor), _) => (major, minor) > (3, 5),
        _ => false,
    };
    if good {
        return Ok(());
    }
    Err(StorageError::Etcd(format!("etcd is of version {version}; at least 3.5.13 or 3.4.31 is needed")))
}

/// Compacts etcd's history now and then, until the store is closed.
async fn keep_compact(client: Arc<Client>, engine: Arc<Engine>, closed: CancellationToken) {
    let mut ticks = tokio::time::interval(COMPACT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut done = 1;
    loop {
        tokio::select! {
            () = closed.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let oldest = engine.compacted();
        if oldest <= done {
            continue;
        }
        match handle::compact(&client, oldest).await {
            Ok(()) => done = oldest,
            Err(error) => tracing::warn!(%error, "etcd's history can't be compacted; it goes on growing"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn versions_that_lie_to_watches_are_refused() {
        for good in ["3.5.13", "3.5.16", "3.4.31", "3.6.0", "3.7.0-alpha.0", "4.0.0"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["3.5.12", "3.4.23", "3.3.27", "2.3.8", "", "x"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
