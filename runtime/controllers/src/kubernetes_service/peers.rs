//! Which servers are there: those whose Leases were seen to change of late, by this server's own clock, so that clocks that
//! differ do no harm.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kiln_apimachinery::meta;
use kiln_client::{Client, ObjectRef, Store};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::announce::{ADDRESS, HOLDS, LEASES};
use crate::reconcile::Failure;

/// The Leases of all servers.
pub(super) struct Peers {
    client: Client,
    leases: Store,
    /// Each as it was last seen to change, and when.
    seen: Mutex<HashMap<ObjectRef, (String, Instant)>>,
}

impl Peers {
    pub(super) fn new(client: Client, leases: Store) -> Self {
        Self { client, leases, seen: Mutex::default() }
    }

    /// Where servers are reached that are there, and how long that holds if nothing changes. The Leases of others go.
    pub(super) async fn live(&self) -> Result<(BTreeSet<SocketAddr>, Option<Duration>), Failure> {
        self.leases.synced().await;
        let (mut addresses, mut next) = (BTreeSet::new(), None);
        let leases = self.leases.list();
        let left = self.left(&leases);
        for (lease, left) in leases.iter().zip(left) {
            if left.is_zero() {
                self.remove(lease).await?;
                continue;
            }
            next = Some(next.map_or(left, |n: Duration| n.min(left)));
            addresses.extend(meta::annotation(lease, ADDRESS).and_then(|a| a.parse::<SocketAddr>().ok()));
        }
        Ok((addresses, next))
    }

    /// How long each Lease holds.
    fn left(&self, leases: &[impl AsRef<Value>]) -> Vec<Duration> {
        let now = Instant::now();
        // No code panics while it holds the lock, so a poisoned lock still guards a whole map.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let keys: BTreeSet<ObjectRef> = leases.iter().map(|lease| ObjectRef::of(lease.as_ref())).collect();
        seen.retain(|key, _| keys.contains(key));
        let each = leases.iter().map(AsRef::as_ref).map(|lease| {
            let renewed = meta::text(lease, &["spec", "renewTime"]);
            let entry = seen.entry(ObjectRef::of(lease)).or_insert_with(|| (renewed.to_owned(), now));
            if entry.0 != renewed {
                *entry = (renewed.to_owned(), now);
            }
            let holds = lease["spec"]["leaseDurationSeconds"].as_u64().map_or(HOLDS, Duration::from_secs);
            holds.saturating_sub(now.duration_since(entry.1))
        });
        each.collect()
    }

    /// Removes a Lease that has run out, if it is still as it was seen.
    async fn remove(&self, lease: &Value) -> Result<(), Failure> {
        let seen = json!({"uid": meta::uid(lease), "resourceVersion": meta::resource_version(lease)});
        let path = format!("{LEASES}/{}", meta::name(lease));
        match self.client.delete(&path, &json!({"preconditions": seen})).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error.into()),
            _ => Ok(()),
        }
    }
}
