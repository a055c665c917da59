//! One address of a server.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use kiln_node_config::ServerUrl;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;

use crate::JoinError;

/// How long one address may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A host (name or address) with a port, and for a link-local IPv6 address the interface it is on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Name or address, without brackets and zone.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Interface index of a link-local address; else 0.
    pub scope: u32,
}

impl Endpoint {
    /// The endpoint of an address.
    pub fn of(address: SocketAddr) -> Self {
        let scope = match address {
            SocketAddr::V6(v6) => v6.scope_id(),
            SocketAddr::V4(_) => 0,
        };
        Endpoint { host: address.ip().to_string(), port: address.port(), scope }
    }

    /// Connects to the first of the host's addresses that answers.
    ///
    /// # Errors
    /// [`JoinError::Connect`] with the last address's error.
    pub async fn connect(&self) -> Result<TcpStream, JoinError> {
        let fail = |source| JoinError::Connect { server: self.to_string(), source };
        let attempt = async {
            match self.host.parse::<Ipv6Addr>() {
                Ok(address) if self.scope != 0 => {
                    TcpStream::connect(SocketAddrV6::new(address, self.port, 0, self.scope)).await
                }
                _ => TcpStream::connect((self.host.as_str(), self.port)).await,
            }
        };
        let stream = match tokio::time::timeout(CONNECT_TIMEOUT, attempt).await {
            Ok(stream) => stream.map_err(fail)?,
            Err(_) => return Err(fail(std::io::ErrorKind::TimedOut.into())),
        };
        stream.set_nodelay(true).map_err(fail)?;
        Ok(stream)
    }

    /// `host:port` with an IPv6 address in brackets, as a `Host` header has it.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The host of a URL that [`Endpoint`] wrote, without its zone, if it has one: certificates know nothing of zones.
    pub(crate) fn without_zone(url: &str) -> Option<&str> {
        Some(url.strip_prefix("https://[")?.split_once('%')?.0)
    }

    /// The name that the server's certificate must hold.
    ///
    /// # Errors
    /// [`JoinError::Tls`] where the host can't be a name in a certificate.
    pub fn server_name(&self) -> Result<ServerName<'static>, JoinError> {
        ServerName::try_from(self.host.clone())
            .map_err(|e| JoinError::Tls { server: self.to_string(), why: e.to_string() })
    }
}

impl From<&ServerUrl> for Endpoint {
    fn from(url: &ServerUrl) -> Self {
        Endpoint { host: url.host.clone(), port: url.port, scope: 0 }
    }
}

impl fmt::Display for Endpoint {
    /// As URL; a zone is written as the resolver takes it, `[fe80::1%2]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scope {
            0 => write!(f, "https://{}", self.authority()),
            scope => write!(f, "https://[{}%{scope}]:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_written_as_urls() {
        for (address, url) in [
            ("10.0.2.2:6443", "https://10.0.2.2:6443"),
            ("[fd00::1]:6443", "https://[fd00::1]:6443"),
            ("[fe80::1%2]:6443", "https://[fe80::1%2]:6443"),
        ] {
            let endpoint = Endpoint::of(address.parse().unwrap());
            assert_eq!(endpoint.to_string(), url);
            endpoint.server_name().unwrap();
            assert_eq!(Endpoint::without_zone(url).is_some(), endpoint.scope != 0);
        }
    }
}
