//! One port of a Service.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::{Endpoint, Protocol};

/// Where requests for a Service's port can go.
#[derive(Debug)]
pub(crate) struct Backend {
    namespace: Box<str>,
    service: Box<str>,
    endpoints: RwLock<Endpoints>,
    next: AtomicUsize,
    /// Answers by the first digit of their status.
    answers: [AtomicU64; 5],
}

#[derive(Debug)]
struct Endpoints {
    protocol: Protocol,
    all: Vec<Arc<Endpoint>>,
}

impl Backend {
    /// A backend that has no endpoints yet.
    pub(crate) fn new(namespace: &str, service: &str, protocol: Protocol) -> Self {
        Self {
            namespace: namespace.into(),
            service: service.into(),
            endpoints: RwLock::new(Endpoints { protocol, all: Vec::new() }),
            next: AtomicUsize::new(0),
            answers: Default::default(),
        }
    }

    /// The Service's namespace.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The Service's name.
    pub(crate) fn service(&self) -> &str {
        &self.service
    }

    /// Gives it these endpoints. Those that it has already keep their connections.
    pub(crate) fn set(&self, protocol: Protocol, mut addresses: Vec<SocketAddr>) {
        addresses.sort_unstable();
        addresses.dedup();
        let mut endpoints = self.endpoints.write().unwrap_or_else(PoisonError::into_inner);
        let known = if endpoints.protocol == protocol { std::mem::take(&mut endpoints.all) } else { Vec::new() };
        let all = addresses.into_iter().map(|address| match known.binary_search_by_key(&address, |e| e.address()) {
            Ok(at) => known[at].clone(),
            Err(_) => Arc::new(Endpoint::new(address, protocol)),
        });
        *endpoints = Endpoints { protocol, all: all.collect() };
    }

    /// The endpoint whose turn it is, that is none of these. One that could not be connected to of late has its turn only
    /// if there is no other.
    pub(crate) fn pick(&self, tried: &[SocketAddr]) -> Option<Arc<Endpoint>> {
        let endpoints = self.endpoints.read().unwrap_or_else(PoisonError::into_inner);
        let all = &endpoints.all;
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let mut second = None;
        for offset in 0..all.len() {
            let endpoint = &all[turn.wrapping_add(offset) % all.len()];
            if !tried.is_empty() && tried.contains(&endpoint.address()) {
                continue;
            }
            if !endpoint.is_down() {
                return Some(endpoint.clone());
            }
            second = second.or(Some(endpoint));
        }
        second.cloned()
    }

    /// The endpoint with this mark, unless it could not be connected to of late.
    pub(crate) fn marked(&self, mark: &str) -> Option<Arc<Endpoint>> {
        let endpoints = self.endpoints.read().unwrap_or_else(PoisonError::into_inner);
        endpoints.all.iter().find(|endpoint| endpoint.has_mark(mark) && !endpoint.is_down()).cloned()
    }

    /// Counts an answer.
    pub(crate) fn count(&self, status: http::StatusCode) {
        if let Some(count) = self.answers.get(usize::from(status.as_u16() / 100).wrapping_sub(1)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Answers so far, by the first digit of their status.
    pub(crate) fn answers(&self) -> impl Iterator<Item = (usize, u64)> {
        self.answers.iter().enumerate().map(|(at, count)| (at + 1, count.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        ([10, 0, 0, 1], port).into()
    }

    #[test]
    fn endpoints_have_their_turns_and_those_that_stay_are_kept() {
        let backend = Backend::new("ns", "a", Protocol::Http);
        assert!(backend.pick(&[]).is_none());
        backend.set(Protocol::Http, [3, 1, 2, 1].map(address).to_vec());
        let mut picked: Vec<_> = (0..30).map(|_| backend.pick(&[]).unwrap().address()).collect();
        picked.sort_unstable();
        assert!([1, 2, 3].iter().all(|port| picked.iter().filter(|a| a.port() == *port).count() == 10));

        let kept = backend.marked(&backend.pick(&[address(1), address(3)]).unwrap().mark()).unwrap();
        assert_eq!(kept.address(), address(2));
        backend.set(Protocol::Http, [2, 4].map(address).to_vec());
        assert!(Arc::ptr_eq(&kept, &backend.pick(&[address(4)]).unwrap()));
        backend.set(Protocol::H2c, vec![address(2)]);
        assert!(!Arc::ptr_eq(&kept, &backend.pick(&[]).unwrap()), "another protocol is another connection");
        assert!(backend.pick(&[address(2)]).is_none());
    }

    #[test]
    fn an_endpoint_that_fails_waits_until_there_is_no_other() {
        let backend = Backend::new("ns", "a", Protocol::Http);
        backend.set(Protocol::Http, [1, 2].map(address).to_vec());
        backend.pick(&[address(2)]).unwrap().failed();
        assert!((0..4).all(|_| backend.pick(&[]).unwrap().address() == address(2)));
        backend.pick(&[address(1)]).unwrap().failed();
        assert!(backend.pick(&[]).is_some(), "better than none");
    }
}
