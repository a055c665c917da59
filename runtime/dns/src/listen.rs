//! Where the service listens: at the addresses of its Service, for as long as that is this service's and not another's.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use kiln_client::{Backoff, Informers, ObjectRef, Store};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::addon::{NAME, NAMESPACE, PORT, addresses_of};
use crate::address;
use crate::resolver::Resolver;
use crate::serve::Sockets;

/// How soon it is tried again where the addresses can't be had.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Follows the Service.
pub(crate) struct Listener {
    services: Store<Service>,
    changed: watch::Receiver<()>,
}

impl Listener {
    pub(crate) fn new(informers: &mut Informers) -> Self {
        let (sender, changed) = watch::channel(());
        let mirror = informers.of::<Service>();
        mirror.subscribe(move |change| {
            if change.key().is_none_or(|key| key.name == NAME && key.namespace == NAMESPACE) {
                sender.send_replace(());
            }
        });
        Self { services: mirror.store(), changed }
    }

    /// The addresses to serve now.
    fn wanted(&self) -> Vec<IpAddr> {
        let service = self.services.get(&ObjectRef::namespaced(NAMESPACE, NAME));
        service.map(|service| addresses_of(&service)).unwrap_or_default()
    }

    /// Serves until the shutdown, and takes the addresses off the node: while nobody serves, a client that gets no answer asks again,
    /// and one that is refused gives up.
    pub(crate) async fn run(mut self, resolver: Arc<Resolver>, shutdown: CancellationToken) {
        let mut had = address::left();
        let work = async {
            self.services.synced().await;
            let mut backoff = Backoff::new(RETRY.0, RETRY.1);
            loop {
                self.changed.mark_unchanged();
                let wanted = self.wanted();
                give_back(&mut had, &wanted);
                match take(&wanted) {
                    Ok(sockets) => {
                        backoff.reset();
                        had.extend(&wanted);
                        resolver.set_own(&wanted);
                        if !wanted.is_empty() {
                            tracing::info!(addresses = ?wanted, "serving the cluster's DNS");
                        }
                        let stop = CancellationToken::new();
                        let until = async {
                            self.until_other_than(&wanted).await;
                            stop.cancel();
                        };
                        tokio::join!(sockets.serve(Arc::clone(&resolver), stop.clone()), until);
                    }
                    Err(why) => {
                        tracing::error!("{why}; this node's pods have no DNS until it is mended");
                        tokio::select! {
                            () = tokio::time::sleep(backoff.next_wait()) => {}
                            () = self.until_other_than(&wanted) => {}
                        }
                    }
                }
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = work => {}
        }
        give_back(&mut had, &[]);
    }

    async fn until_other_than(&mut self, addresses: &[IpAddr]) {
        // The sender lives as long as the mirrors, which end at the shutdown; then there is nothing to wait for.
        while self.changed.changed().await.is_ok() {
            if self.wanted() != addresses {
                return;
            }
        }
        std::future::pending().await
    }
}

/// Takes addresses off the node that are no longer wanted: another service may have them.
fn give_back(had: &mut BTreeSet<IpAddr>, wanted: &[IpAddr]) {
    had.retain(|address| {
        if wanted.contains(address) {
            return true;
        }
        match address::remove(*address) {
            Ok(()) => false,
            Err(error) => {
                tracing::warn!(%address, %error, "cannot take this address of DNS off the node");
                true
            }
        }
    });
}

/// Puts addresses on the node and binds them.
fn take(addresses: &[IpAddr]) -> Result<Sockets, String> {
    for ip in addresses {
        address::add(*ip).map_err(|error| match error.kind() {
            ErrorKind::PermissionDenied => format!("cannot put {ip} on this node: that takes root"),
            _ => format!("cannot put {ip} on this node: {error}"),
        })?;
    }
    Sockets::bind(addresses, PORT).map_err(|(address, error)| match error.kind() {
        ErrorKind::AddrInUse => format!(
            "cannot serve DNS at {address}: another program has port {PORT} of all addresses; let it listen at its own (as \
             `bind-interfaces` of dnsmasq does)"
        ),
        _ => format!("cannot serve DNS at {address}: {error}"),
    })
}
