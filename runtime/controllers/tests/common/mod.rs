//! What the controllers' tests share: a fake API, and time that passes when nothing else happens.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]
#![allow(dead_code, reason = "each test uses a part")]

use std::time::Duration;

use kiln_client::testing::FakeApi;
use kiln_client::{Clock, Informers, ListParams};
use kiln_controllers::Context;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

/// The time that all tests begin at.
pub(crate) const START: &str = "2026-03-01T12:00:00Z";

pub(crate) struct World {
    pub(crate) api: FakeApi,
    pub(crate) clock: Clock,
    pub(crate) shutdown: CancellationToken,
    _end: DropGuard,
}

impl World {
    pub(crate) fn new() -> Self {
        let shutdown = CancellationToken::new();
        let clock = Clock::from_tokio(START.parse().unwrap());
        Self { api: FakeApi::new(), clock, _end: shutdown.clone().drop_guard(), shutdown }
    }

    /// Runs a controller.
    pub(crate) fn run<F: Future<Output = ()> + Send + 'static>(
        &self,
        build: impl FnOnce(&mut Informers, &Context) -> F + Send + 'static,
    ) {
        let (client, clock, shutdown) = (self.api.client(), self.clock.clone(), self.shutdown.clone());
        tokio::spawn(kiln_controllers::alone(client, clock, shutdown, build));
    }

    /// The object at a path; null if there is none.
    pub(crate) fn object(&self, path: &str) -> Value {
        self.api.object(path).unwrap_or_default()
    }

    /// Reasons and messages of the events about objects of a kind, in the order of their reasons and messages.
    pub(crate) async fn events(&self, kind: &str) -> Vec<(String, String)> {
        let all = ListParams::default();
        let events = self.api.client().list::<Value>("/api/v1/namespaces/default/events", &all).await.unwrap().items;
        let text = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
        let about = events.iter().filter(|event| event["involvedObject"]["kind"] == kind);
        let mut told: Vec<_> = about.map(|event| (text(event, "reason"), text(event, "message"))).collect();
        told.sort();
        told
    }

    /// Lets the (paused) time pass until something holds; answers how long that took.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&FakeApi) -> bool) -> Duration {
        let start = Instant::now();
        while !holds(&self.api) {
            assert!(start.elapsed() < Duration::from_secs(3 * 24 * 3600), "it never came to this: {what}");
            // Finely at first, since things happen fast or late.
            let step = if start.elapsed() < Duration::from_secs(60) { 50 } else { 1_000 };
            tokio::time::sleep(Duration::from_millis(step)).await;
        }
        start.elapsed()
    }
}

/// Lets the paused time pass.
pub(crate) async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}
