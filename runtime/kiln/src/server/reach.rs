//! The API server's way to the nodes: tunnels, and the same process for the server's own. A node that has its tunnel to another
//! server of the cluster, or is another server's own, is reached through that one.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use kiln_apiserver::{BoxFuture, DialError, Dialer, Stream, Target};
use kiln_pki::Authority;
use kiln_tunnel::{Connection, Hub, Identity, borrow};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Who the servers are to each other.
const USER: &str = "system:apiserver";
const GROUP: &str = "system:masters";

/// Dials nodes through a [`Hub`], else through other servers.
pub(super) struct Nodes {
    hub: Hub,
    id: String,
    peers: Peers,
}

/// The cluster's other servers.
#[derive(Clone)]
pub(super) struct Peers {
    /// Where they are.
    pub(super) addresses: watch::Receiver<BTreeSet<SocketAddr>>,
    /// Signs what this server shows them.
    pub(super) authority: Arc<Authority>,
}

impl Peers {
    /// Asks all at once, and takes the first that has a way.
    async fn dial(&self, node: &str, target: &kiln_tunnel::Target) -> Result<Connection, kiln_tunnel::DialError> {
        let mut last = kiln_tunnel::DialError::NoTunnel(node.to_owned());
        let addresses = self.addresses.borrow().clone();
        if addresses.is_empty() {
            return Err(last);
        }
        let issued = match self.authority.issue_client(USER, Some(GROUP), SystemTime::now()) {
            Ok(issued) => issued,
            Err(error) => {
                tracing::warn!(%error, "other servers can't be asked");
                return Err(last);
            }
        };
        let mut asked = JoinSet::new();
        for address in addresses {
            let identity = Identity {
                server: format!("https://{address}"),
                ca_pem: self.authority.certificate_pem().to_owned(),
                certificate_pem: issued.certificate_pem.clone(),
                key_pem: issued.key_pem.clone(),
            };
            let (node, target) = (node.to_owned(), target.clone());
            asked.spawn(async move { borrow(&identity, &node, &target).await });
        }
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok(Ok(connection)) => return Ok(connection),
                // It was reached: no other server will do better.
                Ok(Err(error @ kiln_tunnel::DialError::Refused(_))) => return Err(error),
                Ok(Err(error)) => last = error,
                Err(error) => tracing::error!(%error, "asking another server"),
            }
        }
        Err(last)
    }
}

impl Nodes {
    /// `id` tells this server from the cluster's others.
    pub(super) fn new(hub: Hub, id: String, peers: Peers) -> Self {
        Self { hub, id, peers }
    }
}

/// As the API server is told of it.
fn answer(dialled: Result<Connection, kiln_tunnel::DialError>) -> Result<Stream, DialError> {
    match dialled {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error @ kiln_tunnel::DialError::Refused(_)) => Err(DialError::Refused(error.to_string())),
        Err(error) => Err(DialError::Unreachable(error.to_string())),
    }
}

fn target(target: Target<'_>) -> kiln_tunnel::Target {
    match target {
        Target::Kubelet => kiln_tunnel::Target::Kubelet,
        Target::Address(address) => kiln_tunnel::Target::Address(address.to_owned()),
    }
}

impl Dialer for Nodes {
    fn dial<'a>(&'a self, node: &'a str, to: Target<'a>) -> BoxFuture<'a, Result<Stream, DialError>> {
        Box::pin(async move {
            let to = target(to);
            answer(match self.hub.dial(node, &to).await {
                // A tunnel that has just broken may have come up elsewhere.
                Err(kiln_tunnel::DialError::NoTunnel(_) | kiln_tunnel::DialError::Broken { .. }) => {
                    self.peers.dial(node, &to).await
                }
                dialled => dialled,
            })
        })
    }

    fn dial_here<'a>(&'a self, node: &'a str, to: Target<'a>) -> BoxFuture<'a, Result<Stream, DialError>> {
        Box::pin(async move { answer(self.hub.dial(node, &target(to)).await) })
    }

    fn accept(&self, node: String, connection: Stream) -> BoxFuture<'static, ()> {
        let hub = self.hub.clone();
        Box::pin(async move {
            if let Err(error) = hub.serve(&node, Box::new(connection)).await {
                tracing::info!(node, %error, "the node's tunnel broke");
            }
        })
    }

    fn id(&self) -> &str {
        &self.id
    }
}
