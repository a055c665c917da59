//! Where the other servers are, for a server that needs them: what their Leases say.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use kiln_apimachinery::meta;
use kiln_client::{BoxFuture, Client, Informer, ListParams};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::announce::{ADDRESS, LABEL, LEASES, lease_name};

/// Tells the addresses of all servers but the one that is announced as `own`, until the shutdown. One that died is told until
/// its Lease has run out.
pub fn others<'a>(
    client: Client,
    own: &'a str,
    addresses: watch::Sender<BTreeSet<SocketAddr>>,
    shutdown: CancellationToken,
) -> BoxFuture<'a, ()> {
    Box::pin(async move {
        let params = ListParams { labels: format!("{}={}", LABEL.0, LABEL.1), ..ListParams::default() };
        let leases = Informer::<Value>::new(client, LEASES, params);
        let (store, own) = (leases.store(), lease_name(own));
        let tell = |_: &_| {
            let leases = store.list();
            let others = leases.iter().filter(|lease| meta::name(lease) != own);
            let found = others.filter_map(|lease| meta::annotation(lease, ADDRESS)?.parse().ok()).collect();
            addresses.send_if_modified(|known| {
                let is_news = *known != found;
                *known = found;
                is_news
            });
        };
        leases.run(shutdown, tell).await;
    })
}
