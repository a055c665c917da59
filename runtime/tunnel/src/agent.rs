//! The node's side of all its tunnels: one to the server that it joined, and one to each other server that there is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kiln_client::{Backoff, Client, Informer, ListParams};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::dial::{Identity, address, dial, url};
use crate::{BoxFuture, Node, serve};

/// The EndpointSlices that name all servers.
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
const OF_SERVERS: &str = "kubernetes.io/service-name=kubernetes";
/// The first and the longest wait between two attempts.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// A tunnel that lasted this long was none that failed at once.
const HELD: Duration = Duration::from_secs(10);

/// Keeps tunnels to all servers.
pub struct Agent {
    /// What asks for the servers' addresses.
    pub client: Client,
    /// Who the node is; it changes when certificates are renewed or the server moves.
    pub identity: watch::Receiver<Identity>,
    /// What is reached through the tunnels.
    pub node: Arc<dyn Node>,
}

/// The servers that tunnels are open to, by their ids.
type Reached = Arc<Mutex<BTreeSet<String>>>;

impl Agent {
    /// Keeps the tunnels until the shutdown.
    pub fn run(self, shutdown: CancellationToken) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = self.keep() => {}
            }
        })
    }

    async fn keep(mut self) {
        let params = ListParams { labels: OF_SERVERS.to_owned(), ..ListParams::default() };
        let slices = Informer::<Value>::new(self.client.clone(), SLICES, params);
        let (store, (changed, mut changes)) = (slices.store(), watch::channel(()));
        let mut tasks = JoinSet::new();
        tasks.spawn(slices.run(CancellationToken::new(), move |_| changed.send_replace(())));
        let reached = Reached::default();
        let mut open: BTreeMap<String, AbortHandle> = BTreeMap::new();
        loop {
            let joined = self.identity.borrow_and_update().server.clone();
            let slices = store.list();
            let wanted = servers(&joined, slices.iter().map(|slice| &**slice));
            open.retain(|server, task| {
                let keep = wanted.contains_key(server);
                if !keep {
                    task.abort();
                }
                keep
            });
            for (server, first) in wanted {
                open.entry(server.clone()).or_insert_with(|| {
                    let (identity, node) = (self.identity.clone(), Arc::clone(&self.node));
                    tasks.spawn(tunnel(server, first, identity, node, Arc::clone(&reached)))
                });
            }
            tokio::select! {
                changed = self.identity.changed() => if changed.is_err() {
                    // Whoever renews certificates is gone: those known are the last.
                    std::future::pending::<()>().await;
                },
                changed = changes.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// The servers to keep tunnels to, and whether each is the one that the node joined. A single server that the slices name is
/// that one, under whichever address it was joined.
fn servers<'a>(joined: &str, slices: impl Iterator<Item = &'a Value>) -> BTreeMap<String, bool> {
    let own = address(joined);
    let mut found = BTreeSet::new();
    for slice in slices {
        let port = slice["ports"][0]["port"].as_u64().and_then(|p| u16::try_from(p).ok());
        let Some(port) = port else { continue };
        let endpoints = slice["endpoints"].as_array().into_iter().flatten();
        found.extend(endpoints.filter_map(|e| Some((e["addresses"][0].as_str()?.to_owned(), port))));
    }
    let several = found.len() > 1;
    let others = found.into_iter().filter(|a| several && Some(a) != own.as_ref());
    let mut servers: BTreeMap<String, bool> = others.map(|(host, port)| (url(&host, port), false)).collect();
    servers.insert(joined.to_owned(), true);
    servers
}

/// Keeps the tunnel to one server, without end. The first one may be reached under a second address: that tunnel is given up.
async fn tunnel(
    server: String,
    first: bool,
    identity: watch::Receiver<Identity>,
    node: Arc<dyn Node>,
    reached: Reached,
) {
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    loop {
        let known = identity.borrow().clone();
        match dial(&server, &known).await {
            Ok(dialled) => {
                let since = Instant::now();
                let place = Place::take(&reached, &dialled.server_id);
                if place.is_none() && !first {
                    tracing::debug!(server, "there is a tunnel to this server already, under another address");
                    // Should the servers change, this ends and begins anew.
                    return;
                }
                tracing::info!(server, "the tunnel is open");
                match serve(dialled.connection, Arc::clone(&node)).await {
                    Ok(()) => tracing::info!(server, "the tunnel has ended"),
                    Err(error) => tracing::info!(server, %error, "the tunnel broke"),
                }
                if since.elapsed() >= HELD {
                    backoff.reset();
                }
            }
            Err(error) => tracing::debug!(server, %error, "no tunnel yet; will try again"),
        }
        tokio::time::sleep(backoff.next_wait()).await;
    }
}

/// A server's place among those that tunnels are open to.
struct Place {
    reached: Reached,
    id: String,
}

impl Place {
    /// `None` if the server has one already.
    fn take(reached: &Reached, id: &str) -> Option<Self> {
        let mut set = reached.lock().unwrap_or_else(PoisonError::into_inner);
        (id.is_empty() || set.insert(id.to_owned())).then(|| Self { reached: Arc::clone(reached), id: id.to_owned() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.reached.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent").field("identity", &self.identity).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_server_is_dialled_once() {
        let slice = |addresses: &[&str]| {
            let endpoints: Vec<Value> = addresses.iter().map(|a| json!({"addresses": [a]})).collect();
            json!({"endpoints": endpoints, "ports": [{"port": 6443}]})
        };
        let rows: [(&str, &[&str], &[&str]); 5] = [
            ("https://10.0.0.1:6443", &["10.0.0.1"], &["https://10.0.0.1:6443"]),
            // Behind NAT or a name, it is the one that the slice names.
            ("https://kube.example.org:443", &["10.0.0.1"], &["https://kube.example.org:443"]),
            ("https://10.0.0.1:6443", &["10.0.0.1", "10.0.0.2"], &["https://10.0.0.1:6443", "https://10.0.0.2:6443"]),
            ("https://[fd00::1]:6443", &["fd00::1", "fd00::2"], &["https://[fd00::1]:6443", "https://[fd00::2]:6443"]),
            ("https://10.0.0.1", &[], &["https://10.0.0.1"]),
        ];
        for (joined, named, expected) in rows {
            let slices = [slice(named)];
            let found: Vec<String> = servers(joined, slices.iter()).into_keys().collect();
            assert_eq!(found, expected, "{joined} {named:?}");
        }
    }
}
