//! Ways from the API server to the nodes, dialled by the nodes: a node behind NAT is reached like any other.
//!
//! An agent opens a TLS connection to each server with its node's certificate, upgrades it ([`PROTOCOL`] at [`PATH`]), and
//! then is the HTTP/2 *server* on it ([`serve()`]); the API server is the client ([`Hub`]). Each stream of HTTP/2 is a
//! CONNECT: a byte stream to the node's own HTTPS service ([`Target::Kubelet`]) or to an address that the node can reach
//! ([`Target::Address`]). Multiplexing, flow control and keep-alives are HTTP/2's own, so one slow or broken stream does not
//! touch the others, and an idle tunnel costs two pings in half a minute. A server that a node has no tunnel to asks those that it
//! has one to ([`borrow()`]). What runs inside the streams is none of this
//! crate's business.

mod agent;
mod dial;
mod hub;
mod io;
mod peer;
mod serve;

use std::future::Future;
use std::pin::Pin;

pub use agent::Agent;
pub use dial::Identity;
pub use hub::{DialError, Hub};
pub use io::{Connection, Io};
pub use peer::borrow;
pub use serve::serve;

/// Where a server takes tunnels.
pub const PATH: &str = "/kiln/v1/tunnel";
/// What the connection is upgraded to.
pub const PROTOCOL: &str = "kiln-tunnel";

/// Where a server lends others its ways to nodes.
pub const STREAM_PATH: &str = "/kiln/v1/stream";
/// What such a request is upgraded to.
pub const STREAM: &str = "kiln-stream";

/// The header of a server's answer that tells it from its peers.
pub const SERVER_ID: &str = "x-kiln-server-id";

/// A future that is allocated, so that traits with it can be trait objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What is dialled on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The node's own service: that of the kubelet's port, without TLS.
    Kubelet,
    /// `host:port`, as the node sees it.
    Address(String),
}

/// What the tunnel calls the node's own service; no host has this name, since it has no dot and is not looked up.
const KUBELET: &str = "kubelet:10250";

impl Target {
    /// As the authority of a CONNECT.
    fn authority(&self) -> &str {
        match self {
            Self::Kubelet => KUBELET,
            Self::Address(address) => address,
        }
    }
}

/// The service of a node, in whichever process it runs.
pub trait Node: Send + Sync {
    /// Serves HTTP/1.1 on a connection that the API server opened and vouches for, until it ends.
    fn serve(&self, connection: Connection) -> BoxFuture<'static, ()>;
}
