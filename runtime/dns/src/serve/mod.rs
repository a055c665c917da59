//! The sockets: over UDP one for each processor that shares the work, over TCP one listener with a bound on connections, on their
//! age and on how slow a client may be.

mod tcp;
mod udp;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::sys::socket::sockopt::{RcvBuf, ReuseAddr, ReusePort};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::resolver::Resolver;

/// UDP sockets of one address at most.
const SOCKETS: usize = 4;
/// Octets of questions that may wait in a socket: bursts of a node's pods.
const BUFFER: usize = 1 << 20;
/// Clients that wait for others' answers at a time.
const WAITING: usize = 1024;
const BACKLOG: i32 = 64;

/// Sockets that are bound and not served yet.
#[derive(Debug)]
pub(crate) struct Sockets {
    udp: Vec<tokio::net::UdpSocket>,
    tcp: Vec<tokio::net::TcpListener>,
}

impl Sockets {
    /// Binds the sockets of all addresses. With port 0 all have the same free one, for tests.
    ///
    /// # Errors
    /// The first one that can't be bound, with its address.
    pub(crate) fn bind(addresses: &[IpAddr], port: u16) -> Result<Self, (SocketAddr, io::Error)> {
        let count = std::thread::available_parallelism().map_or(1, usize::from).min(SOCKETS);
        let mut sockets = Self { udp: Vec::new(), tcp: Vec::new() };
        let mut port = port;
        for address in addresses {
            for _ in 0..count {
                let wanted = SocketAddr::new(*address, port);
                let socket = udp(wanted).map_err(|error| (wanted, error))?;
                port = socket.local_addr().map_or(port, |address| address.port());
                sockets.udp.push(socket);
            }
            let wanted = SocketAddr::new(*address, port);
            sockets.tcp.push(tcp(wanted).map_err(|error| (wanted, error))?);
        }
        Ok(sockets)
    }

    /// Where the first address is served.
    #[cfg(test)]
    pub(crate) fn address(&self) -> SocketAddr {
        self.udp[0].local_addr().unwrap()
    }

    /// Serves until it is told to stop.
    pub(crate) async fn serve(self, resolver: Arc<Resolver>, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        let waiting = Arc::new(Semaphore::new(WAITING));
        for socket in self.udp {
            tasks.spawn(udp::serve(Arc::new(socket), Arc::clone(&resolver), Arc::clone(&waiting)));
        }
        let clients = tcp::Clients::default();
        for listener in self.tcp {
            tasks.spawn(tcp::serve(listener, Arc::clone(&resolver), clients.clone()));
        }
        let ended = async {
            while let Some(ended) = tasks.join_next().await {
                if let Err(error) = ended {
                    tracing::error!(%error, "a socket of DNS is no longer served");
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = ended => {}
        }
    }
}

fn open(address: SocketAddr, kind: SockType) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    Ok(socket(family, kind, flags, None)?)
}

fn udp(address: SocketAddr) -> io::Result<tokio::net::UdpSocket> {
    let socket = open(address, SockType::Datagram)?;
    setsockopt(&socket, ReusePort, &true)?;
    // As much as the system allows.
    setsockopt(&socket, RcvBuf, &BUFFER)?;
    bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrStorage::from(address))?;
    tokio::net::UdpSocket::from_std(UdpSocket::from(socket))
}

fn tcp(address: SocketAddr) -> io::Result<tokio::net::TcpListener> {
    let socket = open(address, SockType::Stream)?;
    setsockopt(&socket, ReuseAddr, &true)?;
    bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrStorage::from(address))?;
    listen(&socket.as_fd(), Backlog::new(BACKLOG)?)?;
    tokio::net::TcpListener::from_std(TcpListener::from(socket))
}
