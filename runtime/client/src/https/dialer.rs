//! Makes a connection: TCP, then TLS.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::error::ClientError;
use crate::transport::BoxFuture;

/// How long TCP and TLS may take together.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to one server, whatever URI is asked for.
#[derive(Clone)]
pub(super) struct Dialer {
    host: Arc<str>,
    port: u16,
    name: ServerName<'static>,
    tls: Arc<ClientConfig>,
}

impl Dialer {
    pub(super) fn new(
        host: &str,
        port: u16,
        tls_server_name: Option<&str>,
        tls: Arc<ClientConfig>,
    ) -> Result<Self, ClientError> {
        let name = tls_server_name.unwrap_or(host);
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| ClientError::Config(format!("{name:?} is no host name or address")))?;
        Ok(Self { host: host.into(), port, name, tls })
    }

    async fn dial(self) -> io::Result<TlsConnection> {
        let connect = async {
            let tcp = TcpStream::connect((&*self.host, self.port)).await?;
            tcp.set_nodelay(true)?;
            TlsConnector::from(self.tls).connect(self.name, tcp).await
        };
        let timed_out = |_| io::Error::new(io::ErrorKind::TimedOut, "no connection in time");
        let stream = tokio::time::timeout(TIMEOUT, connect).await.map_err(timed_out)??;
        Ok(TlsConnection(TokioIo::new(stream)))
    }
}

impl tower_service::Service<Uri> for Dialer {
    type Response = TlsConnection;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<TlsConnection>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.clone().dial())
    }
}

/// A connection that tells hyper which protocol was agreed on.
pub(super) struct TlsConnection(TokioIo<TlsStream<TcpStream>>);

impl Connection for TlsConnection {
    fn connected(&self) -> Connected {
        let (_, session) = self.0.inner().get_ref();
        if session.alpn_protocol() == Some(b"h2") { Connected::new().negotiated_h2() } else { Connected::new() }
    }
}

impl Read for TlsConnection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl Write for TlsConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }
}
