//! What other parts may know of the network: whether it is usable, addresses, time servers.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One interface's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LinkStatus {
    /// No cable, or the other side is off.
    NoCarrier,
    /// Asking for an address.
    Asking,
    /// Has an address, such as `192.168.1.7/24`.
    Configured(String),
    /// The kernel refused something.
    Failed(String),
}

#[derive(Debug, Default)]
struct Inner {
    links: BTreeMap<String, LinkStatus>,
    time_servers: Vec<Ipv4Addr>,
}

/// Shared by the network thread (which writes) and everybody else.
pub(crate) struct NetworkStatus {
    inner: Mutex<Inner>,
    changed: Condvar,
    tell: Box<dyn Fn() + Send + Sync>,
}

impl NetworkStatus {
    /// `tell` is called after each change, on the network thread.
    pub(crate) fn new(tell: Box<dyn Fn() + Send + Sync>) -> Self {
        Self { inner: Mutex::default(), changed: Condvar::new(), tell }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces what is known; tells others only if it is new.
    pub(crate) fn set(&self, links: BTreeMap<String, LinkStatus>, time_servers: Vec<Ipv4Addr>) {
        let mut inner = self.lock();
        if inner.links == links && inner.time_servers == time_servers {
            return;
        }
        *inner = Inner { links, time_servers };
        drop(inner);
        self.changed.notify_all();
        (self.tell)();
    }

    /// Waits until an interface has an address, at most this long; tells whether one has.
    pub(crate) fn wait_configured(&self, limit: Option<Duration>) -> bool {
        let waiting = |inner: &mut Inner| !inner.links.values().any(|l| matches!(l, LinkStatus::Configured(_)));
        let inner = self.lock();
        match limit {
            Some(limit) => {
                let (mut inner, _) =
                    self.changed.wait_timeout_while(inner, limit, waiting).unwrap_or_else(PoisonError::into_inner);
                !waiting(&mut inner)
            }
            None => {
                let _inner = self.changed.wait_while(inner, waiting).unwrap_or_else(PoisonError::into_inner);
                true
            }
        }
    }

    /// Time servers that DHCP named.
    pub(crate) fn time_servers(&self) -> Vec<String> {
        self.lock().time_servers.iter().map(ToString::to_string).collect()
    }

    /// A line per interface for people.
    pub(crate) fn lines(&self) -> Vec<String> {
        let inner = self.lock();
        inner
            .links
            .iter()
            .map(|(name, link)| match link {
                LinkStatus::NoCarrier => format!("{name}: no cable, or the other end is off"),
                LinkStatus::Asking => format!("{name}: no DHCP server has answered yet"),
                LinkStatus::Configured(address) => format!("{name}: {address}"),
                LinkStatus::Failed(why) => format!("{name}: {why}"),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn only_news_is_told_and_the_first_address_ends_the_wait() {
        let told = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&told);
        let status = NetworkStatus::new(Box::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        }));
        assert!(!status.wait_configured(Some(Duration::ZERO)));
        let links = BTreeMap::from([
            ("eth0".to_owned(), LinkStatus::Configured("10.0.0.1/24".into())),
            ("eth1".to_owned(), LinkStatus::NoCarrier),
        ]);
        status.set(links.clone(), vec![]);
        status.set(links, vec![]);
        assert_eq!(told.load(Ordering::Relaxed), 1);
        assert!(status.wait_configured(None));
        assert_eq!(status.lines()[1], "eth1: no cable, or the other end is off");
    }
}
