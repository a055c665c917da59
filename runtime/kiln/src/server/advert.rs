//! The server's advert on the network, kept in step with its addresses.

use std::time::Duration;

use kiln_join::AddressWatch;
use kiln_join::discovery::Advert;
use tokio_util::sync::CancellationToken;

use crate::node;

/// Addresses come and go in bursts; the advert is made anew when one is over.
const SETTLE: Duration = Duration::from_millis(500);

/// Advertises until the shutdown. A failure is logged and not fatal: agents can be given the server's address.
pub(super) async fn run(name: String, ca_hash: String, port: u16, shutdown: CancellationToken) {
    let mut watch = AddressWatch::start();
    let mut advertised = None;
    let mut current = None;
    loop {
        match node::addresses() {
            Ok(addresses) if advertised.as_ref() != Some(&addresses) => {
                // The old one says goodbye first.
                drop(current.take());
                let advert = Advert::start(&name, &ca_hash, port);
                current = advert.inspect_err(|error| tracing::warn!(%error, "the server is not advertised")).ok();
                advertised = Some(addresses);
            }
            Ok(_) => {}
            Err(error) => tracing::warn!("{error:#}"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = watch.changed() => tokio::time::sleep(SETTLE).await,
        }
    }
}
