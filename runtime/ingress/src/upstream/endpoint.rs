//! One address of a Service's port, and the connections to it that wait for a request.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{Protocol, h2};
use crate::io::Io;

/// Connections that wait, at most.
const MOST_IDLE: usize = 128;
/// How long one waits. Node's servers close theirs after five seconds, and others later.
const IDLE: Duration = Duration::from_secs(4);
/// How long an endpoint that could not be connected to is passed over.
const DOWN: Duration = Duration::from_secs(5);

/// What times are counted from.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// An endpoint.
#[derive(Debug)]
pub(crate) struct Endpoint {
    address: SocketAddr,
    protocol: Protocol,
    idle: Mutex<Idle>,
    /// When it may have its turn again, in milliseconds; 0 if it may.
    down_until: AtomicU64,
    /// Its one connection, if it speaks HTTP/2.
    pub(super) shared: tokio::sync::Mutex<Option<h2::Shared>>,
}

#[derive(Debug, Default)]
struct Idle {
    /// The longest waiting first.
    streams: Vec<(Instant, Io)>,
    /// Whether something waits to close what waits too long.
    swept: bool,
}

fn milliseconds() -> u64 {
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl Endpoint {
    /// One without connections.
    pub(crate) fn new(address: SocketAddr, protocol: Protocol) -> Self {
        LazyLock::force(&START);
        Self {
            address,
            protocol,
            idle: Mutex::default(),
            down_until: AtomicU64::new(0),
            shared: tokio::sync::Mutex::new(None),
        }
    }

    /// Where it is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it speaks.
    pub(crate) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// It could not be connected to.
    pub(crate) fn failed(&self) {
        let until = milliseconds() + u64::try_from(DOWN.as_millis()).unwrap_or(0);
        self.down_until.store(until.max(1), Ordering::Relaxed);
    }

    /// It could.
    pub(crate) fn connected(&self) {
        self.down_until.store(0, Ordering::Relaxed);
    }

    /// Whether it could not be connected to of late.
    pub(crate) fn is_down(&self) -> bool {
        let until = self.down_until.load(Ordering::Relaxed);
        until != 0 && milliseconds() < until
    }

    fn hash(&self) -> u64 {
        // FNV-1a: the same on all nodes, and it need not withstand anyone.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut add = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        match self.address {
            SocketAddr::V4(address) => address.ip().octets().into_iter().for_each(&mut add),
            SocketAddr::V6(address) => address.ip().octets().into_iter().for_each(&mut add),
        }
        self.address.port().to_be_bytes().into_iter().for_each(&mut add);
        hash
    }

    /// What a cookie calls it.
    pub(crate) fn mark(&self) -> String {
        format!("{:016x}", self.hash())
    }

    /// Whether a cookie means it.
    pub(crate) fn has_mark(&self, mark: &str) -> bool {
        mark.len() == 16 && u64::from_str_radix(mark, 16) == Ok(self.hash())
    }

    /// A connection that waits, if there is one that still stands.
    pub(crate) fn take(&self) -> Option<Io> {
        loop {
            let (since, mut stream) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).streams.pop()?;
            if since.elapsed() < IDLE && stream.is_quiet() {
                return Some(stream);
            }
        }
    }

    /// Has a connection wait for the next request.
    pub(crate) fn put(self: &Arc<Self>, stream: Io) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.streams.len() >= MOST_IDLE {
            return;
        }
        idle.streams.push((Instant::now(), stream));
        if !std::mem::replace(&mut idle.swept, true) {
            drop(idle);
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Closes connections that have waited too long; answers when to look again, if any are left.
    fn close_old(&self) -> Option<Instant> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let old = idle.streams.partition_point(|(since, _)| since.elapsed() >= IDLE);
        idle.streams.drain(..old);
        let oldest = idle.streams.first().map(|(since, _)| *since + IDLE);
        idle.swept = oldest.is_some();
        if oldest.is_none() {
            idle.streams.shrink_to_fit();
        }
        oldest
    }
}

/// Closes an endpoint's connections as they have waited too long, until there is none.
async fn sweep(endpoint: std::sync::Weak<Endpoint>) {
    let mut next = Instant::now() + IDLE;
    loop {
        tokio::time::sleep_until(next).await;
        let Some(endpoint) = endpoint.upgrade() else { return };
        let Some(later) = endpoint.close_old() else { return };
        // A little later, so that connections that were put away together go together.
        next = later + Duration::from_millis(200);
    }
}
