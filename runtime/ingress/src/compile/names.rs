//! Addresses of the names that Services of the type ExternalName stand for, looked up by the node's own resolver.
//!
//! Nothing tells when a name leads elsewhere, so each is asked after now and then for as long as a rule needs it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};

use crate::ExternalNames;

/// How long an answer is taken for true.
const HOLDS: Duration = Duration::from_secs(30);
/// How long until a name that led nowhere is asked after again.
const AGAIN: Duration = Duration::from_secs(5);

/// The names that are wanted.
pub(super) struct Names {
    allowed: ExternalNames,
    changed: Arc<dyn Fn() + Send + Sync>,
    all: Mutex<BTreeMap<String, Name>>,
}

/// A name that is asked after for as long as this is kept.
struct Name {
    addresses: Arc<Mutex<Vec<IpAddr>>>,
    _stop: DropGuard,
}

impl Names {
    /// None yet. `changed` is told when a name leads elsewhere.
    pub(super) fn new(allowed: ExternalNames, changed: impl Fn() + Send + Sync + 'static) -> Self {
        Self { allowed, changed: Arc::new(changed), all: Mutex::default() }
    }

    /// Whether such Services are served at all.
    pub(super) fn are_allowed(&self) -> bool {
        self.allowed != ExternalNames::No
    }

    /// Where a name leads, as far as is known; from now on it is asked after.
    pub(super) fn get(&self, name: &str) -> Vec<IpAddr> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let name = all.entry(name.to_owned()).or_insert_with_key(|name| self.follow(name));
        name.addresses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks after no others than these from now on.
    pub(super) fn retain(&self, wanted: &BTreeSet<String>) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, _| wanted.contains(name));
    }

    fn follow(&self, name: &str) -> Name {
        let (stop, addresses) = (CancellationToken::new(), Arc::new(Mutex::new(Vec::new())));
        let (changed, known, name) = (self.changed.clone(), addresses.clone(), name.to_owned());
        let anywhere = self.allowed == ExternalNames::Anywhere;
        let asking = async move {
            loop {
                let wait = match tokio::net::lookup_host((name.as_str(), 0)).await {
                    Ok(found) => {
                        let mut found: Vec<IpAddr> =
                            found.map(|address| address.ip()).filter(|ip| anywhere || is_elsewhere(ip)).collect();
                        found.sort_unstable();
                        found.dedup();
                        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
                        let is_same = *known == found;
                        *known = found;
                        drop(known);
                        if !is_same {
                            changed();
                        }
                        HOLDS
                    }
                    Err(error) => {
                        // What was known may still be right.
                        tracing::debug!(%error, name, "the name of a Service leads nowhere");
                        AGAIN
                    }
                };
                tokio::time::sleep(wait).await;
            }
        };
        let end = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = end.cancelled() => {}
                () = asking => {}
            }
        });
        Name { addresses, _stop: stop.drop_guard() }
    }
}

/// Whether an address may be another machine's: what only this node reaches is nobody's to publish.
fn is_elsewhere(address: &IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !address.is_loopback() && !address.is_unspecified() && !address.is_multicast() && !is_link_local
}
