//! The node's port: TLS with optional client certificates, HTTP/1.1 and HTTP/2.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use kiln_pki::tls::{self, ServerError};
use rustls::RootCertStore;
use rustls::server::ResolvesServerCert;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::Server;
use super::access::{User, Who};

/// A client must have finished the TLS handshake, or sent its headers, within this time.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Pause after the process ran out of sockets.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Server {
    /// Serves the node's port until the shutdown, with certificates out of `certificates`, which may change at any time.
    ///
    /// # Errors
    /// [`ServerError`], before anything is served.
    pub async fn listen(
        &self,
        listener: TcpListener,
        client_ca: RootCertStore,
        certificates: Arc<dyn ResolvesServerCert>,
        shutdown: CancellationToken,
    ) -> Result<(), ServerError> {
        let acceptor = TlsAcceptor::from(tls::server(client_ca, certificates)?);
        let mut connections = JoinSet::new();
        loop {
            let tcp = tokio::select! {
                () = shutdown.cancelled() => break,
                Some(_) = connections.join_next() => continue,
                accepted = listener.accept() => match accepted {
                    Ok((tcp, _)) => tcp,
                    Err(error) => {
                        tracing::debug!(%error, "accept");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                },
            };
            connections.spawn(connection(self.clone(), acceptor.clone(), tcp));
        }
        connections.shutdown().await;
        Ok(())
    }
}

async fn connection(server: Server, acceptor: TlsAcceptor, tcp: TcpStream) {
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%error, "nodelay");
    }
    let tls = match tokio::time::timeout(HANDSHAKE, acceptor.accept(tcp)).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake"),
        Err(_) => return tracing::debug!("TLS handshake took too long"),
    };
    let shown = tls.get_ref().1.peer_certificates().and_then(|c| c.first()).and_then(|c| user(c));
    let who = Arc::new(Who::Peer(shown));
    let service = service_fn(move |request| {
        let (server, who) = (server.clone(), who.clone());
        async move { Ok::<_, Infallible>(server.answer(request, &who).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HANDSHAKE);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(100);
    if let Err(error) = builder.serve_connection_with_upgrades(TokioIo::new(tls), service).await {
        tracing::debug!(%error, "a connection of the port");
    }
}

/// The user that a client certificate names: the common name, in the groups of its organizations.
fn user(der: &[u8]) -> Option<User> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let mut groups: Vec<String> =
        subject.iter_organization().filter_map(|o| o.as_str().ok().map(str::to_owned)).collect();
    groups.push("system:authenticated".into());
    Some(User { name, uid: String::new(), groups, extra: Value::Null })
}
