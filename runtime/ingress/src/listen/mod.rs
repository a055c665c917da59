//! Ports, and the connections that come to them.

mod activity;
mod connection;
mod figures;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::IngressError;
use crate::proxy::{Client, Proxy};
use connection::Connection;
pub(crate) use figures::figures;

/// How long the acceptor rests when the machine is out of files or memory.
const REST: Duration = Duration::from_millis(100);
/// How long requests under way may take when the ingress ends.
const GRACE: Duration = Duration::from_secs(10);
/// `EAFNOSUPPORT`: a kernel without IPv6.
const NO_FAMILY: i32 = 97;

/// Listens on a port: of an address, or of all, IPv6 and IPv4.
///
/// # Errors
/// If it is taken, or not ours to take.
pub(crate) async fn bind(address: Option<IpAddr>, port: u16) -> Result<TcpListener, IngressError> {
    let on = |address: IpAddr| TcpListener::bind(SocketAddr::new(address, port));
    let listener = match on(address.unwrap_or(Ipv6Addr::UNSPECIFIED.into())).await {
        Err(error) if address.is_none() && error.raw_os_error() == Some(NO_FAMILY) => {
            on(Ipv4Addr::UNSPECIFIED.into()).await
        }
        other => other,
    };
    listener.map_err(|source| IngressError::Listen { port, source })
}

/// How many connections there may be at a time, over all ports.
#[derive(Debug, Clone)]
pub(crate) struct Room(Arc<Semaphore>);

impl Room {
    pub(crate) fn new(connections: usize) -> Self {
        Self(Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS))))
    }
}

/// Serves a port until the shutdown, and then what is under way for a little longer.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    proxy: Arc<Proxy>,
    room: Room,
    is_of_gateway: bool,
    shutdown: CancellationToken,
) {
    let connections = TaskTracker::new();
    loop {
        let (stream, peer) = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    rest(&error).await;
                    continue;
                }
            },
        };
        let Ok(permit) = room.0.clone().try_acquire_owned() else {
            proxy.metrics.turned_away();
            continue;
        };
        let Some(client) = client(&stream, peer, tls.is_some()) else { continue };
        let client = Client { is_of_gateway, ..client };
        let (tls, shutdown) = (tls.clone(), shutdown.clone());
        let metered = Metered::new(proxy.clone());
        connections.spawn(async move {
            let connection = Connection { proxy: metered.0.clone(), client, shutdown };
            connection.serve(stream, tls).await;
            drop((metered, permit));
        });
    }
    drop(listener);
    connections.close();
    // What does not end in time is let go with the runtime.
    _ = tokio::time::timeout(GRACE, connections.wait()).await;
}

/// Counts a connection while it is there.
struct Metered(Arc<Proxy>);

impl Metered {
    fn new(proxy: Arc<Proxy>) -> Self {
        proxy.metrics.opened();
        Self(proxy)
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        self.0.metrics.closed();
    }
}

/// A connection that went away before it was taken is nothing to rest for.
async fn rest(error: &io::Error) {
    if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        return;
    }
    tracing::warn!(%error, "can't take a connection");
    tokio::time::sleep(REST).await;
}

fn client(stream: &TcpStream, peer: SocketAddr, is_tls: bool) -> Option<Client> {
    let local = stream.local_addr().ok()?;
    // Small answers shall not wait for the client's acknowledgements.
    stream.set_nodelay(true).ok()?;
    Some(Client::new(peer.ip().to_canonical(), local.port(), is_tls))
}
