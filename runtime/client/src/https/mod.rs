//! Requests over HTTPS to a server whose CA is known.
//!
//! Connections are made when they are needed, kept, shared (HTTP/2) or pooled (HTTP/1.1), and probed, so that a server
//! that vanished without a word is noticed within half a minute.

mod dialer;
mod tls;

use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{HeaderMap, HeaderValue, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::client::WantsClientCert;
use rustls::{ClientConfig, ConfigBuilder};

use self::dialer::Dialer;
use crate::error::{ClientError, chain};
use crate::transport::{Body, BoxFuture, Transport};

/// How often a connection is probed.
const PROBE: Duration = Duration::from_secs(10);
/// How long a probe may go unanswered.
const PROBE_TIMEOUT: Duration = Duration::from_secs(15);
/// The largest frame that a server may send, in bytes: long lists take a quarter of the system calls.
const FRAME: u32 = 64 * 1024;
/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(90);

/// Who the client is.
#[derive(Clone, Default)]
pub enum Auth {
    /// Nobody.
    #[default]
    Anonymous,
    /// The subject of a certificate.
    Certificate {
        /// The certificate and those between it and the CA, PEM.
        certificate_pem: String,
        /// Its private key, PEM.
        key_pem: String,
    },
    /// The holder of a token.
    Bearer(String),
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Certificate { .. } => "Certificate(..)",
            Self::Bearer(_) => "Bearer(..)",
        })
    }
}

/// Which certificates of servers are believed.
#[derive(Clone)]
pub struct Trust(pub ConfigBuilder<ClientConfig, WantsClientCert>);

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Trust(..)")
    }
}

/// Where to send requests and as whom.
#[derive(Debug, Clone, Default)]
pub struct HttpsConfig {
    /// `https://host:port`.
    pub server: String,
    /// `server` is `http://host:port`, and all goes in the clear: a program on the same machine.
    pub plain: bool,
    /// The only CA certificates that are believed, PEM.
    pub ca_pem: String,
    /// What is believed in place of `ca_pem`, for the few who believe other than some CAs.
    pub trust: Option<Trust>,
    /// Who the client is.
    pub auth: Auth,
    /// The name that the server's certificate must hold, if not that of `server`.
    pub tls_server_name: Option<String>,
    /// Sent with every request.
    pub headers: HeaderMap,
}

/// The transport. Cloning it shares the connections.
#[derive(Clone)]
pub struct Https {
    client: legacy::Client<Dialer, Full<Bytes>>,
    scheme: Scheme,
    authority: Authority,
    headers: HeaderMap,
}

impl Https {
    /// Prepares the transport; nothing is sent yet. Fails with [`ClientError::Config`] if the address, a certificate or
    /// a key cannot be used.
    pub fn new(config: HttpsConfig) -> Result<Self, ClientError> {
        let HttpsConfig { server, plain, ca_pem, trust, auth, tls_server_name, mut headers } = config;
        let address: Uri =
            server.parse().map_err(|error| ClientError::Config(format!("server {server:?}: {error}")))?;
        let scheme = if plain { Scheme::HTTP } else { Scheme::HTTPS };
        let authority = match (address.scheme(), address.authority()) {
            (Some(given), Some(authority)) if *given == scheme => authority.clone(),
            _ => return Err(ClientError::Config(format!("server {server:?} is not of the form {scheme}://host:port"))),
        };
        if let Auth::Bearer(token) = &auth {
            let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| {
                ClientError::Config("the bearer token has characters that no header can hold".to_owned())
            })?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        if !headers.contains_key(header::USER_AGENT) {
            headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("kiln/", env!("CARGO_PKG_VERSION"))));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let tls = if plain { None } else { Some(tls::config(trust, &ca_pem, &auth)?) };
        let port = authority.port_u16().unwrap_or(if plain { 80 } else { 443 });
        let dialer = Dialer::new(&host, port, tls_server_name.as_deref(), tls)?;
        let client = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .http2_keep_alive_interval(PROBE)
            .http2_keep_alive_timeout(PROBE_TIMEOUT)
            .http2_keep_alive_while_idle(true)
            .http2_adaptive_window(true)
            .http2_max_frame_size(FRAME)
            .build(dialer);
        Ok(Self { client, scheme, authority, headers })
    }
}

impl Transport for Https {
    fn send(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Body>, ClientError>> {
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let uri =
            Uri::builder().scheme(self.scheme.clone()).authority(self.authority.clone()).path_and_query(path).build();
        for (name, value) in &self.headers {
            parts.headers.entry(name).or_insert_with(|| value.clone());
        }
        Box::pin(async move {
            let name = format!("{} {}", parts.method, parts.uri);
            parts.uri = uri.map_err(|error| ClientError::Request { request: name, why: error.to_string() })?;
            let answer = self.client.request(http::Request::from_parts(parts, Full::new(body))).await;
            let answer = answer.map_err(|error| ClientError::Connect {
                server: format!("{}://{}", self.scheme, self.authority),
                why: chain(&error),
            })?;
            Ok(answer.map(|body| body.map_err(Into::into).boxed()))
        })
    }
}

impl std::fmt::Debug for Https {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Https").field("server", &self.authority.as_str()).finish_non_exhaustive()
    }
}
