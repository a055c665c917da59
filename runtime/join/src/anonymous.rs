//! What is asked of a server before any secret is shown: its CA, and the time.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use kiln_pki::{ca_hash, certificate_der};
use rustls::ClientConfig;
use tokio_rustls::TlsConnector;

use crate::{Endpoint, JoinError, tls};

/// Where a Kiln server shows its CA to anybody.
const CA_PATH: &str = "/cacerts";
/// No answer that is asked for here is larger.
const LARGEST_ANSWER: usize = 64 * 1024;
/// How long an answer may take once connected.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Fetches the server's CA over a connection that trusts nothing, and compares it with the hash from the token. Returns the PEM
/// of that one certificate.
///
/// # Errors
/// [`JoinError::CaHash`] where it is another CA; else why there was no usable answer.
pub async fn fetch_ca(endpoint: &Endpoint, expected_hash: &str) -> Result<String, JoinError> {
    let response = get(endpoint, tls::untrusting(), CA_PATH).await?;
    let answer = |why: &str| JoinError::Answer { server: endpoint.to_string(), why: why.to_owned() };
    if response.status() != http::StatusCode::OK {
        return Err(answer(&format!("it answers {CA_PATH} with {}", response.status())));
    }
    let pem = std::str::from_utf8(response.body()).map_err(|_| answer("its CA is no PEM text"))?;
    let der = certificate_der(pem).map_err(|_| answer("its CA is no PEM text"))?;
    let found = ca_hash(&der);
    if found != expected_hash {
        return Err(JoinError::CaHash { server: endpoint.to_string(), expected: expected_hash.to_owned(), found });
    }
    Ok(pem.to_owned())
}

/// What time it is at the server. Its certificate must be of this CA and for this endpoint, but may seem expired or not yet
/// valid: the local clock is what is in question.
///
/// # Errors
/// [`JoinError::Tls`] where the server isn't the CA's; else why there was no usable answer.
pub async fn server_time(endpoint: &Endpoint, ca_pem: &str) -> Result<SystemTime, JoinError> {
    let response = get(endpoint, tls::pinned_at_any_time(ca_pem)?, CA_PATH).await?;
    let date = response.headers().get(http::header::DATE).and_then(|d| d.to_str().ok());
    let time = date.and_then(|d| jiff::fmt::rfc2822::parse(d).ok()).map(|z| SystemTime::from(z.timestamp()));
    time.ok_or_else(|| JoinError::Answer {
        server: endpoint.to_string(),
        why: "it answers without a usable Date header".to_owned(),
    })
}

async fn get(endpoint: &Endpoint, tls: ClientConfig, path: &str) -> Result<http::Response<Bytes>, JoinError> {
    let server = endpoint.to_string();
    let name = endpoint.server_name()?;
    let stream = endpoint.connect().await?;
    let failed = |why: String| JoinError::Answer { server: server.clone(), why };
    let exchange = async {
        let stream = TlsConnector::from(Arc::new(tls))
            .connect(name, stream)
            .await
            .map_err(|e| JoinError::Tls { server: server.clone(), why: e.to_string() })?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| failed(e.to_string()))?;
        let request = http::Request::get(path)
            .header(http::header::HOST, endpoint.authority())
            .header(http::header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(|e| failed(e.to_string()))?;
        let answer = async {
            let (parts, body) = sender.send_request(request).await.map_err(|e| failed(e.to_string()))?.into_parts();
            let body = Limited::new(body, LARGEST_ANSWER).collect().await.map_err(|e| failed(e.to_string()))?;
            Ok(http::Response::from_parts(parts, body.to_bytes()))
        };
        // The connection is driven beside the request and ends with it.
        tokio::pin!(connection);
        tokio::pin!(answer);
        tokio::select! {
            answer = &mut answer => answer,
            _ = &mut connection => answer.await,
        }
    };
    match tokio::time::timeout(ANSWER_TIMEOUT, exchange).await {
        Ok(answer) => answer,
        Err(_) => Err(JoinError::Answer {
            server: endpoint.to_string(),
            why: format!("it gave no answer within {} s", ANSWER_TIMEOUT.as_secs()),
        }),
    }
}
