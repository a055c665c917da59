//! How the node is reached: by the API server, through its tunnel or in the same process, and by others at the kubelet's port.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use kiln_client::Client;
use kiln_kubelet::server::{PORT, Server};
use kiln_pki::certificates_der;
use kiln_tunnel::{Agent, Hub, Identity};
use rustls::RootCertStore;
use rustls::server::ResolvesServerCert;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The API server's way to the node.
pub(crate) enum Way {
    /// They are one process.
    Here(Hub),
    /// By tunnels that the node dials as this.
    Tunnels(watch::Receiver<Identity>),
}

/// All ways to the node.
pub(crate) struct Reach {
    /// The API's URL, as it is reported.
    pub(crate) server: String,
    pub(crate) way: Way,
    /// The cluster's CA, PEM, by which clients of the port are known.
    pub(crate) ca_pem: String,
    /// What the port shows.
    pub(crate) certificates: Arc<dyn ResolvesServerCert>,
}

impl Reach {
    /// Makes the kubelet's service reachable until the shutdown. `client` is the node, which has these addresses.
    pub(crate) async fn serve(
        self,
        server: Server,
        client: Client,
        node: &str,
        mut addresses: watch::Receiver<Vec<IpAddr>>,
        shutdown: CancellationToken,
    ) {
        let Self { way, ca_pem, certificates, .. } = self;
        let service = Arc::new(server.clone());
        let tunnels = async {
            match way {
                Way::Here(hub) => {
                    hub.attach(node, service);
                    shutdown.cancelled().await;
                }
                Way::Tunnels(identity) => loop {
                    let agent = Agent { client: client.clone(), identity: identity.clone(), node: service.clone() };
                    tokio::select! {
                        () = agent.run(shutdown.clone()) => return,
                        // Connections from an address that is gone are dead, which nobody would tell them.
                        Ok(()) = addresses.changed() => tracing::info!("the node has another address; its tunnels are dialled anew"),
                    }
                },
            }
        };
        tokio::join!(tunnels, port(&server, &ca_pem, certificates, shutdown.clone()));
    }
}

/// Serves the port. A node can do without: then nobody but the API server reaches it.
async fn port(server: &Server, ca_pem: &str, certificates: Arc<dyn ResolvesServerCert>, shutdown: CancellationToken) {
    let mut roots = RootCertStore::empty();
    let added = certificates_der(ca_pem).map(|chain| roots.add_parsable_certificates(chain));
    if let Err(error) = added {
        return tracing::warn!(%error, "the kubelet's port is not served, since the CA can't be read");
    }
    let listener = match listen().await {
        Ok(listener) => listener,
        Err(error) => return tracing::warn!(%error, "the kubelet's port {PORT} is not served"),
    };
    if let Err(error) = server.listen(listener, roots, certificates, shutdown).await {
        tracing::warn!(%error, "the kubelet's port {PORT} is not served");
    }
}

async fn listen() -> std::io::Result<TcpListener> {
    let on = |address: IpAddr| TcpListener::bind(SocketAddr::new(address, PORT));
    match on(Ipv6Addr::UNSPECIFIED.into()).await {
        // A kernel without IPv6.
        Err(e) if e.raw_os_error() == Some(nix::libc::EAFNOSUPPORT) => on(Ipv4Addr::UNSPECIFIED.into()).await,
        other => other,
    }
}
