//! Which of several servers runs the controllers: the one that holds a Lease, as Kubernetes' own do it.
//!
//! The holder renews the Lease; another takes it over once it has seen it unchanged for as long as the Lease says, by its own
//! clock, so that clocks that differ do no harm. An orderly end gives it up at once.

use std::time::Duration;

use kiln_client::{Client, ClientError, Clock};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
const NAME: &str = "kube-controller-manager";
/// How long a Lease holds: with [`LOOK`] twice, another takes over within 15 s.
const HOLDS: Duration = Duration::from_secs(12);
/// How long its holder tries to renew it before it lets go, and how often it does.
const RENEW_WITHIN: Duration = Duration::from_secs(9);
const RENEW: Duration = Duration::from_secs(2);
/// How often the others look at it.
const LOOK: Duration = Duration::from_secs(1);

/// One server's part in it.
pub(super) struct Candidate {
    client: Client,
    identity: String,
    clock: Clock,
    /// The Lease as it was last seen to change, and when.
    seen: Option<(Value, Instant)>,
}

impl Candidate {
    /// `identity` is another for each server.
    pub(super) fn new(client: Client, identity: String, clock: Clock) -> Self {
        Candidate { client, identity, clock, seen: None }
    }

    /// Runs `work` whenever this server holds the Lease, until the shutdown; what it is given is cancelled when the Lease is
    /// lost.
    pub(super) async fn run<F: Future<Output = ()>>(
        mut self,
        work: impl Fn(CancellationToken) -> F,
        shutdown: CancellationToken,
    ) {
        loop {
            let acquired = tokio::select! {
                () = shutdown.cancelled() => return,
                acquired = self.acquire() => acquired,
            };
            tracing::info!("this server runs the controllers");
            let stop = shutdown.child_token();
            let working = work(stop.clone());
            tokio::pin!(working);
            tokio::select! {
                () = &mut working => {}
                () = self.hold(acquired) => {
                    tracing::warn!("another server runs the controllers from now on");
                    stop.cancel();
                    working.await;
                }
            }
            if shutdown.is_cancelled() {
                return self.release().await;
            }
        }
    }

    /// Answers when the Lease was asked for that it has got.
    async fn acquire(&mut self) -> Instant {
        loop {
            let asked = Instant::now();
            match self.take().await {
                Ok(true) => return asked,
                Ok(false) => {}
                Err(error) => tracing::debug!(%error, "the controllers' lease"),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Renews until that fails for too long, or another has it. The time counts from the asking: what is written later is seen
    /// later by the others, and they wait the longer.
    async fn hold(&mut self, acquired: Instant) {
        let mut renewed = acquired;
        loop {
            let ends = renewed + RENEW_WITHIN;
            tokio::time::sleep_until(ends.min(Instant::now() + RENEW)).await;
            let asked = Instant::now();
            match tokio::time::timeout_at(ends, self.take()).await {
                Ok(Ok(true)) => renewed = asked,
                Ok(Ok(false)) => return,
                Ok(Err(error)) => tracing::warn!(%error, "the controllers' lease is not renewed"),
                Err(_) => return tracing::warn!("the controllers' lease is not renewed in time"),
            }
        }
    }

    /// Takes or renews the Lease; `false` if another has it.
    async fn take(&mut self) -> Result<bool, ClientError> {
        let path = format!("{LEASES}/{NAME}");
        let now = self.clock.now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
        let Some(mut lease) = self.client.find::<Value>(&path).await? else {
            let lease = json!({
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": { "name": NAME, "namespace": "kube-system" },
                "spec": {
                    "holderIdentity": self.identity,
                    "leaseDurationSeconds": HOLDS.as_secs(),
                    "acquireTime": now,
                    "renewTime": now,
                    "leaseTransitions": 0,
                },
            });
            return match self.client.create::<Value>(LEASES, &lease).await {
                Ok(_) => Ok(true),
                Err(error) if error.is_already_exists() => Ok(false),
                Err(error) => Err(error),
            };
        };
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned();
        let mine = holder == self.identity;
        if !mine && !holder.is_empty() && self.is_fresh(&lease) {
            return Ok(false);
        }
        lease["spec"]["renewTime"] = json!(now);
        if !mine {
            let transitions = lease["spec"]["leaseTransitions"].as_i64().unwrap_or(0);
            lease["spec"]["holderIdentity"] = json!(self.identity);
            lease["spec"]["acquireTime"] = json!(now);
            lease["spec"]["leaseTransitions"] = json!(transitions + 1);
        }
        match self.client.update::<Value>(&path, &lease).await {
            Ok(_) => Ok(true),
            // Another was faster; whether it is ours is seen at the next look.
            Err(error) if error.is_conflict() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether another's Lease has changed of late.
    fn is_fresh(&mut self, lease: &Value) -> bool {
        let (spec, now) = (&lease["spec"], Instant::now());
        match &self.seen {
            Some((known, since)) if known == spec => now.duration_since(*since) < HOLDS,
            _ => {
                self.seen = Some((spec.clone(), now));
                true
            }
        }
    }

    async fn release(&self) {
        let path = format!("{LEASES}/{NAME}");
        let released = async {
            let mut lease: Value = self.client.get(&path).await?;
            if lease["spec"]["holderIdentity"] == self.identity {
                lease["spec"]["holderIdentity"] = Value::Null;
                lease["spec"]["leaseDurationSeconds"] = json!(1);
                self.client.update::<Value>(&path, &lease).await?;
            }
            Ok::<_, ClientError>(())
        };
        match tokio::time::timeout(LOOK, released).await {
            Ok(Ok(())) => {}
            // The others wait until it is over.
            Ok(Err(error)) => tracing::debug!(%error, "the controllers' lease is not given up"),
            Err(_) => tracing::debug!("the controllers' lease is not given up in time"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use bytes::Bytes;
    use kiln_client::testing::FakeApi;
    use kiln_client::{Body, BoxFuture, Transport};
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_leads_and_the_next_takes_over_when_it_ends_or_falls_silent() {
        let api = FakeApi::new();
        let clock = Clock::from_tokio(jiff::Timestamp::UNIX_EPOCH);
        let (leads, mut led) = mpsc::unbounded_channel();
        let start = |name: &'static str| {
            let shutdown = CancellationToken::new();
            let (leads, stop) = (leads.clone(), shutdown.clone());
            let candidate = Candidate::new(api.client(), name.to_owned(), clock.clone());
            let running = Arc::new(tokio::spawn(async move {
                let work = |stop: CancellationToken| {
                    leads.send(name).unwrap();
                    async move { stop.cancelled().await }
                };
                candidate.run(work, stop).await;
            }));
            (running, shutdown)
        };
        let began = Instant::now();
        let (_a, a_ends) = start("a");
        assert_eq!(led.recv().await, Some("a"));
        let (b, _b_ends) = start("b");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(led.is_empty(), "two lead at once");
        a_ends.cancel();
        assert_eq!(led.recv().await, Some("b"));
        assert!(began.elapsed() < Duration::from_secs(66), "an orderly end gives the lease up");

        let (_c, _c_ends) = start("c");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(led.is_empty());
        let killed = Instant::now();
        b.abort();
        assert_eq!(led.recv().await, Some("c"));
        let waited = killed.elapsed();
        assert!(waited >= Duration::from_secs(10) && waited <= Duration::from_secs(15), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_jumps_neither_ends_a_lead_nor_makes_a_second_one() {
        for hours in [1, -1] {
            let api = FakeApi::new();
            let jumped = Arc::<AtomicBool>::default();
            let (time, has_jumped) = (Clock::from_tokio(jiff::Timestamp::UNIX_EPOCH), Arc::clone(&jumped));
            let by =
                move || jiff::SignedDuration::from_hours(if has_jumped.load(Ordering::Relaxed) { hours } else { 0 });
            let clock = Clock::new(move || time.now() + by());
            let (leads, mut led) = mpsc::unbounded_channel();
            let running = ["a", "b"].map(|name| {
                let (candidate, leads) = (Candidate::new(api.client(), name.to_owned(), clock.clone()), leads.clone());
                let work = move |stop: CancellationToken| {
                    leads.send(name).unwrap();
                    async move { stop.cancelled().await }
                };
                tokio::spawn(candidate.run(work, CancellationToken::new()))
            });
            let first = led.recv().await.unwrap();
            tokio::time::sleep(Duration::from_secs(30)).await;
            jumped.store(true, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert!(led.is_empty(), "{hours}: another leads, or the same anew");
            let silent = Instant::now();
            running[usize::from(first == "b")].abort();
            led.recv().await.unwrap();
            assert!(silent.elapsed() <= Duration::from_secs(15), "{hours}");
            running.iter().for_each(tokio::task::JoinHandle::abort);
        }
    }

    /// An API that stops answering when it is told to.
    struct Stalling {
        api: FakeApi,
        stalls: Arc<AtomicBool>,
    }

    impl Transport for Stalling {
        fn send(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Body>, ClientError>> {
            if self.stalls.load(Ordering::Relaxed) {
                return Box::pin(std::future::pending());
            }
            self.api.send(request)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_whose_requests_are_not_answered_ends_before_another_begins() {
        for late in 0..8 {
            let api = FakeApi::new();
            let clock = Clock::from_tokio(jiff::Timestamp::UNIX_EPOCH);
            let stalls = Arc::<AtomicBool>::default();
            let (tell, mut told) = mpsc::unbounded_channel();
            let start = |name: &'static str, client: Client| {
                let (candidate, tell) = (Candidate::new(client, name.to_owned(), clock.clone()), tell.clone());
                tokio::spawn(async move {
                    let work = |stop: CancellationToken| {
                        tell.send((name, true)).unwrap();
                        let tell = tell.clone();
                        async move {
                            stop.cancelled().await;
                            tell.send((name, false)).unwrap();
                        }
                    };
                    candidate.run(work, CancellationToken::new()).await;
                })
            };
            let stalling = Stalling { api: api.clone(), stalls: Arc::clone(&stalls) };
            let a = start("a", Client::new(stalling));
            assert_eq!(told.recv().await, Some(("a", true)));
            let b = start("b", api.client());
            tokio::time::sleep(Duration::from_millis(30_000 + 300 * late)).await;
            let stalled = Instant::now();
            stalls.store(true, Ordering::Relaxed);
            assert_eq!(told.recv().await, Some(("a", false)));
            assert_eq!(told.recv().await, Some(("b", true)));
            assert!(stalled.elapsed() <= Duration::from_secs(15), "{:?}", stalled.elapsed());
            a.abort();
            b.abort();
        }
    }
}
