//! Makes a connection: TCP, then TLS unless it is to be without.

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
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::error::ClientError;
use crate::transport::BoxFuture;

/// How long TCP and TLS may take together.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to one server, whatever URI is asked for.
#[derive(Clone)]
pub(super) struct Dialer {
    host: Arc<str>,
    port: u16,
    /// The name that the server is to have, and how that is seen.
    tls: Option<(ServerName<'static>, Arc<ClientConfig>)>,
}

impl Dialer {
    pub(super) fn new(
        host: &str,
        port: u16,
        tls_server_name: Option<&str>,
        tls: Option<Arc<ClientConfig>>,
    ) -> Result<Self, ClientError> {
        let name = tls_server_name.unwrap_or(host);
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| ClientError::Config(format!("{name:?} is no host name or address")))?;
        Ok(Self { host: host.into(), port, tls: tls.map(|tls| (name, tls)) })
    }

    async fn dial(self) -> io::Result<Link> {
        let connect = async {
            let tcp = TcpStream::connect((&*self.host, self.port)).await?;
            tcp.set_nodelay(true)?;
            let Some((name, tls)) = self.tls else { return Ok((Box::new(tcp) as Box<dyn Stream>, false)) };
            let tls = TlsConnector::from(tls).connect(name, tcp).await?;
            let speaks_h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
            Ok::<_, io::Error>((Box::new(tls) as Box<dyn Stream>, speaks_h2))
        };
        let timed_out = |_| io::Error::new(io::ErrorKind::TimedOut, "no connection in time");
        let (stream, speaks_h2) = tokio::time::timeout(TIMEOUT, connect).await.map_err(timed_out)??;
        Ok(Link { stream: TokioIo::new(stream), speaks_h2 })
    }
}

impl tower_service::Service<Uri> for Dialer {
    type Response = Link;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Link>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.clone().dial())
    }
}

/// A connection that tells hyper which protocol was agreed on.
pub(super) struct Link {
    stream: TokioIo<Box<dyn Stream>>,
    speaks_h2: bool,
}

/// TCP, with TLS or without.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Connection for Link {
    fn connected(&self) -> Connected {
        if self.speaks_h2 { Connected::new().negotiated_h2() } else { Connected::new() }
    }
}

impl Read for Link {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl Write for Link {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}
