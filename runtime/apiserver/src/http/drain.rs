//! How connections end when the server does: a peer is told to go, what it asked for is finished, and one that does not say
//! goodbye is not waited for.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Frame, SizeHint};
use hyper_util::server::graceful::GracefulConnection;
use tokio::sync::watch;

use super::body::BoxError;

/// How long a connection with nothing under way may take to part once its peer was told.
const FAREWELL: Duration = Duration::from_millis(250);

/// A connection's requests that are under way, counted.
#[derive(Clone, Default)]
pub(super) struct InFlight(Arc<watch::Sender<usize>>);

/// A request under way, from its first header to the last byte of its answer.
pub(super) struct Underway(Arc<watch::Sender<usize>>);

impl InFlight {
    pub(super) fn begin(&self) -> Underway {
        self.0.send_modify(|n| *n += 1);
        Underway(self.0.clone())
    }

    /// Returns once nothing has been under way for as long as a goodbye may take.
    async fn idle(&self) {
        let mut count = self.0.subscribe();
        // The sender lives as long as this, so no wait can fail.
        while count.wait_for(|n| *n == 0).await.is_ok() {
            let begun = tokio::time::timeout(FAREWELL, count.wait_for(|n| *n > 0)).await;
            if begun.is_err() {
                return;
            }
        }
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.0.send_modify(|n| *n -= 1);
    }
}

/// A connection that can be told to end in order.
pub(super) trait Leaving: Future<Output = Result<(), BoxError>> + Send {
    /// Tells the peer to go.
    fn leave(self: Pin<&mut Self>);
}

impl<C: GracefulConnection<Error = BoxError> + Send> Leaving for C {
    fn leave(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Serves a connection to its end. Once `stop` is over, its peer is told to go; one that has nothing under way then has
/// [`FAREWELL`] to do so, and if it does not, there is no answer here.
pub(super) async fn serve(
    mut connection: Pin<Box<dyn Leaving>>,
    requests: &InFlight,
    stop: impl Future<Output = ()>,
) -> Option<Result<(), BoxError>> {
    tokio::select! {
        // An answer that is there is sent before the goodbye.
        biased;
        ended = &mut connection => return Some(ended),
        () = stop => connection.as_mut().leave(),
    }
    tokio::select! {
        ended = &mut connection => Some(ended),
        () = requests.idle() => None,
    }
}

/// An answer's body, which is under way until it is dropped.
pub(super) struct Counted<B> {
    pub(super) body: B,
    #[allow(dead_code, reason = "it counts as long as it is there")]
    pub(super) request: Underway,
}

impl<B: Body + Unpin> Body for Counted<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::time::Instant;

    use super::*;

    /// A peer that does not go, or has gone.
    struct Fake {
        told: Arc<AtomicBool>,
        gone: bool,
    }

    impl Future for Fake {
        type Output = Result<(), BoxError>;

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
            if self.gone { Poll::Ready(Ok(())) } else { Poll::Pending }
        }
    }

    impl Leaving for Fake {
        fn leave(self: Pin<&mut Self>) {
            self.told.store(true, Ordering::Relaxed);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_under_way_is_waited_for_and_a_peer_that_does_not_part_is_not() {
        let (requests, told, start) = (InFlight::default(), Arc::new(AtomicBool::new(false)), Instant::now());
        let (first, second) = (requests.begin(), requests.begin());
        let minute = Duration::from_secs(60);
        let end = async {
            tokio::time::sleep(minute).await;
            drop(first);
            drop(second);
            // Before the goodbye is over, one more begins.
            tokio::time::sleep(FAREWELL / 2).await;
            let last = requests.begin();
            tokio::time::sleep(minute).await;
            drop(last);
        };
        let fake = Box::pin(Fake { told: told.clone(), gone: false });
        let (served, ()) = tokio::join!(serve(fake, &requests, async {}), end);
        assert!(served.is_none() && told.load(Ordering::Relaxed));
        assert_eq!(start.elapsed(), 2 * minute + FAREWELL / 2 + FAREWELL);
    }

    #[tokio::test]
    async fn a_connection_that_has_ended_is_not_told() {
        let told = Arc::new(AtomicBool::new(false));
        let fake = Box::pin(Fake { told: told.clone(), gone: true });
        assert!(serve(fake, &InFlight::default(), async {}).await.is_some());
        assert!(!told.load(Ordering::Relaxed));
    }
}
