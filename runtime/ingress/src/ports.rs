//! Ports that are served: the two of Ingresses, and those of Gateways' listeners for as long as they are wanted.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::listen::{self, Room};
use crate::proxy::Proxy;
use crate::{IngressError, Listening};

/// How long until a port that was taken is tried again.
const AGAIN: Duration = Duration::from_secs(60);

/// A port to serve.
#[derive(Clone)]
pub(crate) struct Port {
    pub(crate) address: Option<IpAddr>,
    pub(crate) port: u16,
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) room: Room,
    pub(crate) tell: Arc<dyn Fn(Listening) + Send + Sync>,
    /// Whether it is there for Gateways only.
    pub(crate) is_of_gateway: bool,
}

impl Port {
    /// Serves it until the shutdown; tries again and again if it is taken.
    pub(crate) async fn serve(self, shutdown: CancellationToken) {
        let listener = loop {
            let bound = listen::bind(self.address, self.port).await;
            let bound = bound.and_then(|listener| match listener.local_addr() {
                Ok(address) => Ok((listener, address)),
                Err(source) => Err(IngressError::Listen { port: self.port, source }),
            });
            match bound {
                Ok((listener, address)) => {
                    self.opened(address);
                    break listener;
                }
                Err(error) => (self.tell)(Listening::Failed(error)),
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(AGAIN) => {}
            }
        };
        listen::serve(listener, self.tls, self.proxy, self.room, self.is_of_gateway, shutdown).await;
    }

    fn opened(&self, address: SocketAddr) {
        if self.is_of_gateway {
            tracing::info!("Gateways are served on port {}", address.port());
        } else {
            (self.tell)(if self.tls.is_some() { Listening::Https(address) } else { Listening::Http(address) });
        }
    }
}

/// The ports of Gateways' listeners.
pub(crate) struct Ports {
    /// What all of them are like.
    pub(crate) like: Port,
    pub(crate) acceptor: TlsAcceptor,
    /// Those that are served anyway.
    pub(crate) own: [u16; 2],
    /// Those that are wanted, and which are for TLS.
    pub(crate) wanted: watch::Receiver<BTreeMap<u16, bool>>,
}

impl Ports {
    /// Serves those that are wanted until the shutdown.
    pub(crate) async fn serve(mut self, shutdown: CancellationToken) {
        let (mut open, tasks) = (HashMap::<u16, (bool, DropGuard)>::new(), TaskTracker::new());
        loop {
            let wanted = self.wanted.borrow_and_update().clone();
            open.retain(|port, (is_tls, _)| wanted.get(port) == Some(is_tls));
            for (&port, &is_tls) in wanted.iter().filter(|(port, _)| !self.own.contains(port)) {
                open.entry(port).or_insert_with(|| {
                    let end = shutdown.child_token();
                    let tls = is_tls.then(|| self.acceptor.clone());
                    let port = Port { port, tls, is_of_gateway: true, ..self.like.clone() };
                    tasks.spawn(port.serve(end.clone()));
                    (is_tls, end.drop_guard())
                });
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                Ok(()) = self.wanted.changed() => {}
            }
        }
        tasks.close();
        tasks.wait().await;
    }
}
