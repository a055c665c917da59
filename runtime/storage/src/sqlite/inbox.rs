//! The writer's requests, waited for no longer than until something is due.

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Instant;

use tokio::sync::mpsc;

use super::writer::Request;
use crate::types::Clock;

/// Why a wait is over.
pub(super) enum Wakeup {
    Request(Request),
    /// The time has come.
    Due,
    /// The last handle of the store is gone.
    Closed,
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits on this thread for a request, or until `due`.
pub(super) fn next(requests: &mut mpsc::Receiver<Request>, due: Instant, clock: &Clock) -> Wakeup {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match requests.poll_recv(&mut context) {
            Poll::Ready(Some(request)) => return Wakeup::Request(request),
            Poll::Ready(None) => return Wakeup::Closed,
            Poll::Pending => {}
        }
        match due.saturating_duration_since(clock.now()) {
            left if left.is_zero() => return Wakeup::Due,
            left => std::thread::park_timeout(left),
        }
    }
}
