//! Keys that go by themselves: etcd's leases, shared by the keys of a while, so that there are not as many as keys.

use std::time::{Duration, Instant};

use kiln_grpc::CallError;
use tokio::sync::Mutex;

use super::grpc::Client;
use super::proto::{LeaseGrantRequest, LeaseGrantResponse};
use crate::types::{Clock, Volatile};

/// How long a lease takes on keys at the most: they live that much longer than they should.
const SHARED_FOR: Duration = Duration::from_secs(60);
/// How many keys it takes on: etcd deletes a lease's keys all at once.
const SHARED_BY: usize = 1_000;

struct Lease {
    id: i64,
    closes: Instant,
    keys: usize,
}

/// The leases of one prefix.
struct Prefix {
    prefix: String,
    lifetime: Duration,
    current: Mutex<Option<Lease>>,
}

/// The leases of all prefixes whose keys have a lifetime.
pub(super) struct Leases {
    prefixes: Vec<Prefix>,
    clock: Clock,
}

impl Leases {
    pub(super) fn new(volatile: &[Volatile], clock: Clock) -> Self {
        let prefix =
            |v: &Volatile| Some(Prefix { prefix: v.prefix.clone(), lifetime: v.lifetime?, current: Mutex::new(None) });
        Self { prefixes: volatile.iter().filter_map(prefix).collect(), clock }
    }

    /// The lease for a write of this key; 0 is none.
    pub(super) async fn of(&self, client: &Client, key: &str) -> Result<i64, CallError> {
        let Some(prefix) = self.find(key) else { return Ok(0) };
        let mut current = prefix.current.lock().await;
        let now = self.clock.now();
        if let Some(lease) = current.as_mut().filter(|lease| now < lease.closes && lease.keys < SHARED_BY) {
            lease.keys += 1;
            return Ok(lease.id);
        }
        let shared_for = SHARED_FOR.min(prefix.lifetime / 20);
        let ttl = (prefix.lifetime + shared_for).as_secs_f64().ceil() as i64;
        let LeaseGrantResponse { id } = client.read("Lease/LeaseGrant", &LeaseGrantRequest { ttl }).await?;
        *current = Some(Lease { id, closes: now + shared_for, keys: 1 });
        Ok(id)
    }

    /// Forgets a lease that etcd does not know any more.
    pub(super) async fn forget(&self, key: &str, id: i64) {
        let Some(prefix) = self.find(key) else { return };
        let mut current = prefix.current.lock().await;
        if current.as_ref().is_some_and(|lease| lease.id == id) {
            *current = None;
        }
    }

    fn find(&self, key: &str) -> Option<&Prefix> {
        self.prefixes.iter().find(|prefix| key.starts_with(prefix.prefix.as_str()))
    }
}
