//! HTTP and HTTPS from outside the cluster to its Services, as Ingress objects tell.
//!
//! On every node, in the node's own process, two ports are served. In come Ingress, IngressClass, Service and EndpointSlice objects by
//! mirrors that other parts of the node may share, and the Secrets that Ingresses name, each by a watch of its own; out go
//! requests to pods, by the addresses in EndpointSlices. Nothing of a Service's virtual address is used, so that the ingress
//! knows which endpoint fails and can try another.
//!
//! ```text
//! Ingress, IngressClass  -> compile -> routes::Table ---.
//! Gateway, HTTPRoute     -> compile ----^
//! Service, EndpointSlice -> compile -> upstream::Backend | -> proxy -> upstream -> pod
//! Secret                 -> compile -> tls::Certificates-|
//!                            `-------> Challenges -------|
//! client -> listen -> (tls) -> hyper -------------------'
//! ```
//!
//! **Who it is.** It runs as the node. The API's node authorizer lets nodes read Ingresses and their classes, and of Secrets those that
//! an Ingress of ours names for TLS, besides those of the node's pods: a node that is broken into gives away the certificates that it
//! serves anyway, and no other Secret, where an account with a role over Secrets would give away all.
//!
//! HTTPRoutes of the Gateway API are served where its definitions are installed: [`kiln_gateway`] says which are attached to what. Their
//! Gateways are reached at all nodes, so that of several Gateways the listeners for one port and hostname are one. A port that is not
//! one of Ingresses is opened for as long as a Gateway listens there.
//!
//! Ingresses may ask for certificates of an ACME server. One controller of the cluster gets them into the Secrets that they name; here is
//! answered what the server asks at the names meanwhile, out of the same Secrets.
//!
//! Prefix matches by elements, and so does ImplementationSpecific. A Service of type ExternalName has no endpoints here unless the administrator
//! says so: what it names may be anything that nodes reach. Trailers of HTTP/1.1 are left out.
//!
#![doc = include_str!("conformance.md")]

mod access_log;
mod annotations;
mod challenges;
mod compile;
mod io;
mod listen;
mod metrics;
mod ports;
mod proxy;
mod routes;
mod tls;
mod upstream;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use kiln_apimachinery::net::Cidr;
use kiln_client::{BoxFuture, Informers};
use tokio_util::sync::CancellationToken;

use compile::Compiler;
use listen::Room;
use ports::{Port, Ports};
use proxy::Proxy;
use tls::Certificates;
use upstream::Connector;

/// The controller's name in IngressClasses.
pub const CONTROLLER: &str = "kiln.dev/ingress";
/// What the ingress of a node needs to know.
#[derive(Clone)]
pub struct Config {
    /// The node's name.
    pub node: String,
    /// Address to listen on; none: all.
    pub address: Option<IpAddr>,
    /// Port for HTTP; 0: any that is free.
    pub http_port: u16,
    /// Port for HTTPS; 0: any that is free.
    pub https_port: u16,
    /// The most connections of clients at a time; more are closed at once.
    pub connections: usize,
    /// Proxies in front, whose `X-Forwarded-...` headers are believed.
    pub trusted: Vec<Cidr>,
    /// Whether each request is logged.
    pub access_log: bool,
    /// Whether Services of the type ExternalName are served.
    pub external_names: ExternalNames,
    /// Where figures are served for Prometheus, at `/metrics`.
    pub metrics: Option<SocketAddr>,
    /// Is told of each port.
    pub tell: Arc<dyn Fn(Listening) + Send + Sync>,
}

/// Whether Services of the type ExternalName are served. Whoever may write Services and Ingresses would publish what the nodes reach,
/// so it takes a word of the administrator's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExternalNames {
    /// They have no endpoints.
    #[default]
    No,
    /// Those that lead to other machines.
    Elsewhere,
    /// All, also those that lead to the node itself.
    Anywhere,
}

/// What becomes of a port.
#[derive(Debug)]
pub enum Listening {
    /// It is served.
    Http(SocketAddr),
    /// It is served, with TLS.
    Https(SocketAddr),
    /// It can't be; it is tried again later.
    Failed(IngressError),
}

/// Why there is no ingress, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum IngressError {
    /// A port can't be listened on: another program has it, or it takes root. Another can be chosen.
    #[error(
        "can't listen on port {port}: {source}; choose another with --ingress-http-port or --ingress-https-port, or --disable ingress"
    )]
    Listen {
        /// Which.
        port: u16,
        /// Why.
        source: std::io::Error,
    },
    /// The default certificate or TLS itself could not be set up.
    #[error("TLS: {0}")]
    Tls(String),
}

/// Adds the ingress to the mirrors; what is returned runs it until the shutdown, while the mirrors run.
///
/// # Errors
/// When TLS can't be set up.
pub fn build(
    informers: &mut Informers,
    config: Config,
    shutdown: CancellationToken,
) -> Result<BoxFuture<'static, ()>, IngressError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let failed = |error: &dyn std::fmt::Display| IngressError::Tls(error.to_string());
    let certificates = Arc::new(Certificates::new(&provider).map_err(|error| failed(&error))?);
    let acceptor = tls::acceptor(provider.clone(), certificates.clone()).map_err(|error| failed(&error))?;
    let connector = Connector::new(&provider).map_err(|error| failed(&error))?;
    let Config { external_names, node, address, http_port, https_port, .. } = config;
    let Config { connections, trusted, access_log, metrics, tell, .. } = config;
    let proxy = Arc::new(Proxy::new(connector, trusted, https_port, access_log));
    let compiler = Compiler::new(informers, node, proxy.clone(), certificates, provider, external_names);
    let backends = compiler.backends();
    let (room, wanted) = (Room::new(connections), compiler.ports());
    Ok(Box::pin(async move {
        let port = |port, tls| Port {
            address,
            port,
            tls,
            proxy: proxy.clone(),
            room: room.clone(),
            tell: tell.clone(),
            is_of_gateway: false,
        };
        let (http, https) = (port(http_port, None), port(https_port, Some(acceptor.clone())));
        let others = Ports { like: port(0, None), acceptor, own: [http_port, https_port], wanted };
        let figures = async {
            if let Some(address) = metrics {
                listen::figures(address, proxy.clone(), backends, shutdown.clone()).await;
            }
        };
        // Requests are served when the rules are known: a restart answers none with 404 that has a rule.
        let ports = async {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = compiler.compiled() => {}
            }
            let others = others.serve(shutdown.clone());
            tokio::join!(http.serve(shutdown.clone()), https.serve(shutdown.clone()), others);
        };
        tokio::join!(compiler.run(shutdown.clone()), ports, figures);
    }))
}
