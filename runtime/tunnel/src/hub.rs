//! The API server's end of all tunnels.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;

use crate::serve::{CONNECTION_WINDOW, PROBE, SEND_BUFFER, STREAM_WINDOW, reason};
use crate::{BoxFuture, Connection, Node, Target};

/// How long a node may take to open a stream.
const OPEN: Duration = Duration::from_secs(15);
/// What lies between the two ends in this process, in bytes.
const PIPE: usize = 64 << 10;
/// The most of a refusal that is read.
const REFUSAL: usize = 4096;

/// Why a node's stream is not there.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The node has no tunnel to this server: it is off, still joining, or cut off.
    #[error("there is no tunnel to node {0:?}")]
    NoTunnel(String),
    /// The node could not reach the target; the text is the node's.
    #[error("{0}")]
    Refused(String),
    /// The tunnel broke while the stream was opened.
    #[error("the tunnel to node {node:?} broke: {why}")]
    Broken {
        /// The node.
        node: String,
        /// What happened.
        why: String,
    },
    /// The node did not answer in time.
    #[error("node {0:?} did not answer through its tunnel in time")]
    Timeout(String),
}

/// The tunnels of all nodes to this server. A clone is another handle of the same.
#[derive(Clone, Default)]
pub struct Hub(Arc<Mutex<Tunnels>>);

#[derive(Default)]
struct Tunnels {
    nodes: HashMap<String, Way>,
    /// Counts the tunnels that there were, so that an old one's end does not remove its successor.
    made: u64,
}

#[derive(Clone)]
enum Way {
    /// The server's own node.
    Here(Arc<dyn Node>),
    Tunnel(u64, SendRequest<Empty<Bytes>>),
}

impl Hub {
    /// No tunnels yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn tunnels(&self) -> MutexGuard<'_, Tunnels> {
        // The map is whole between any two statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a node of this process reachable.
    pub fn attach(&self, name: &str, node: Arc<dyn Node>) {
        self.tunnels().nodes.insert(name.to_owned(), Way::Here(node));
    }

    /// Whether there is a way to a node.
    pub fn reaches(&self, node: &str) -> bool {
        self.tunnels().nodes.contains_key(node)
    }

    /// Uses an upgraded connection of a node as its tunnel until it ends. A newer tunnel of a node replaces an older one,
    /// whose streams go on as long as it does.
    ///
    /// # Errors
    /// Why the tunnel broke; an end in order is none.
    pub fn serve<'a>(&'a self, node: &'a str, connection: Connection) -> BoxFuture<'a, Result<(), hyper::Error>> {
        Box::pin(async move {
            let (sender, driver) = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .keep_alive_interval(PROBE.0)
                .keep_alive_timeout(PROBE.1)
                .keep_alive_while_idle(true)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_send_buf_size(SEND_BUFFER)
                .handshake(TokioIo::new(connection))
                .await?;
            let number = {
                let mut tunnels = self.tunnels();
                tunnels.made += 1;
                let number = tunnels.made;
                tunnels.nodes.insert(node.to_owned(), Way::Tunnel(number, sender));
                number
            };
            // However this ends, also by being dropped.
            let _own = Own { hub: self, node, number };
            tracing::info!(node, "the node's tunnel is open");
            let ended = driver.await;
            tracing::info!(node, "the node's tunnel has ended");
            ended
        })
    }

    /// Opens a stream to something on a node.
    ///
    /// # Errors
    /// [`DialError`].
    pub fn dial<'a>(&'a self, node: &'a str, target: &'a Target) -> BoxFuture<'a, Result<Connection, DialError>> {
        Box::pin(async move {
            let way = self.tunnels().nodes.get(node).cloned();
            let opening = async {
                match (way, target) {
                    (None, _) => Err(DialError::NoTunnel(node.to_owned())),
                    (Some(Way::Here(node)), Target::Kubelet) => {
                        let (near, far) = tokio::io::duplex(PIPE);
                        tokio::spawn(node.serve(Box::new(far)));
                        Ok(Box::new(near) as Connection)
                    }
                    (Some(Way::Here(_)), Target::Address(address)) => {
                        let refused =
                            |why: std::io::Error| DialError::Refused(format!("dial tcp {address}: {}", reason(&why)));
                        let tcp = TcpStream::connect(address).await.map_err(refused)?;
                        tcp.set_nodelay(true).map_err(refused)?;
                        Ok(Box::new(tcp) as Connection)
                    }
                    (Some(Way::Tunnel(_, sender)), _) => open(node, sender, target).await,
                }
            };
            tokio::time::timeout(OPEN, opening).await.unwrap_or_else(|_| Err(DialError::Timeout(node.to_owned())))
        })
    }
}

async fn open(node: &str, mut sender: SendRequest<Empty<Bytes>>, target: &Target) -> Result<Connection, DialError> {
    let broken = |why: String| DialError::Broken { node: node.to_owned(), why };
    let mut request = Request::new(Empty::new());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = target
        .authority()
        .parse()
        .map_err(|_| DialError::Refused(format!("{:?} is no address", target.authority())))?;
    sender.ready().await.map_err(|e| broken(e.to_string()))?;
    let response = sender.send_request(request).await.map_err(|e| broken(e.to_string()))?;
    if response.status() == StatusCode::OK {
        let upgraded = hyper::upgrade::on(response).await.map_err(|e| broken(e.to_string()))?;
        return Ok(Box::new(TokioIo::new(upgraded)));
    }
    let text = Limited::new(response.into_body(), REFUSAL).collect().await;
    let text = text.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    Err(DialError::Refused(String::from_utf8_lossy(&text).into_owned()))
}

/// A tunnel's place among the others, given up with it.
struct Own<'a> {
    hub: &'a Hub,
    node: &'a str,
    number: u64,
}

impl Drop for Own<'_> {
    fn drop(&mut self) {
        let mut tunnels = self.hub.tunnels();
        if matches!(tunnels.nodes.get(self.node), Some(Way::Tunnel(number, _)) if *number == self.number) {
            tunnels.nodes.remove(self.node);
        }
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("nodes", &self.tunnels().nodes.len()).finish_non_exhaustive()
    }
}
