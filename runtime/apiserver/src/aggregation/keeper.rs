//! One remote API while its APIService names it: looked at when its Service or endpoints change, and now and then, since a
//! network that breaks makes no event. What was found is written into the condition, what the server tells is kept.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt as _;
use kiln_apimachinery::metrics::Labels;
use kiln_storage::{Event, Watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::availability::{self, Verdict};
use super::link::Link;
use super::told;
use crate::backends::SLICES;
use crate::server::{ApiServer, Inner};

/// How often one that is available is looked at.
const RESYNC: Duration = Duration::from_secs(30);
/// How long to wait after a first failure; doubled with each, up to [`RESYNC`].
const FIRST: Duration = Duration::from_millis(100);
/// How often the server is asked what it has.
const REFRESH: Duration = Duration::from_secs(60);

/// Looks after one remote API until `stop`.
pub(super) async fn run(server: Weak<Inner>, name: String, link: Arc<Link>, stop: CancellationToken) {
    let work = async {
        let (mut changes, mut wait, mut asked, mut was) = (Changes::default(), FIRST, None, None);
        loop {
            let Some(server) = server.upgrade().map(ApiServer::of) else { return };
            // Watched before it is looked at, so that nothing in between is missed.
            changes.begin(&server, &link);
            let verdict = availability::check(&server, &link).await;
            let written = availability::write(&server, &name, &verdict).await;
            match &written {
                Ok(true) if !verdict.is_available() => {
                    let labels = |l: &mut Labels| {
                        l.add("name", &name).add("reason", verdict.reason);
                    };
                    server.aggregation().turned.with(labels).add(1);
                }
                Err(status) => tracing::debug!(name, error = status.message, "a condition can't be written"),
                Ok(_) => {}
            }
            let again = asked.is_none_or(|at: Instant| at.elapsed() >= REFRESH);
            if again || was.as_ref().map(Verdict::is_available) != Some(verdict.is_available()) {
                let told = told::ask(&server, &link).await;
                asked = told.fresh.then(Instant::now);
                if told != *link.told() {
                    link.tell(told);
                    server.aggregation().told_anew();
                }
            }
            drop(server);
            let settled = verdict.is_available() && written.is_ok() && asked.is_some();
            wait = if settled { RESYNC } else { wait.min(RESYNC) };
            let changed = tokio::select! {
                () = changes.next(&link) => true,
                () = tokio::time::sleep(wait) => false,
            };
            if changed {
                link.moved();
            }
            wait = if settled || changed { FIRST } else { wait * 2 };
            was = Some(verdict);
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}

/// Changes to a Service and its endpoints.
#[derive(Default)]
struct Changes(Vec<Watch>);

impl Changes {
    /// Forgets what has happened so far; watches that have ended are begun anew.
    fn begin(&mut self, server: &ApiServer, link: &Link) {
        let mut ended = self.0.is_empty();
        for watch in &mut self.0 {
            while let Some(event) = tokio::task::unconstrained(watch.next()).now_or_never() {
                if event.is_none() {
                    ended = true;
                    break;
                }
            }
        }
        if ended {
            let revision = server.storage().current_revision();
            let prefixes = [service(link), format!("{SLICES}{}/", link.place.namespace)];
            let watch = |prefix: &String| server.storage().watch(prefix, revision).ok();
            self.0 = prefixes.iter().filter_map(watch).collect();
        }
    }

    /// Waits for a change to the Service or its endpoints, or for the end of a watch.
    async fn next(&mut self, link: &Link) {
        let own = format!("\"kubernetes.io/service-name\":\"{}\"", link.place.service);
        let is_meant = |event: &Event| {
            let record = &event.record;
            !record.key.starts_with(SLICES) || memchr::memmem::find(&record.value, own.as_bytes()).is_some()
        };
        let waits = self.0.iter_mut().map(|watch| {
            let is_meant = &is_meant;
            Box::pin(async move { while watch.next().await.is_some_and(|event| !is_meant(&event)) {} })
        });
        let waits: Vec<_> = waits.collect();
        if waits.is_empty() {
            return std::future::pending().await;
        }
        futures_util::future::select_all(waits).await;
    }
}

/// The key of the Service.
fn service(link: &Link) -> String {
    format!("/registry/core/services/{}/{}", link.place.namespace, link.place.service)
}
