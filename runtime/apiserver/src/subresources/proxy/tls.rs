//! TLS to pods and Services, whose certificates nobody can know: as the reference does, any is taken. Who wants to be sure
//! of the peer forwards a port and checks for himself.

use std::sync::{Arc, LazyLock};

use kiln_pki::tls::any_certificate;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, Error};
use tokio_rustls::TlsConnector;

use crate::dialer::Stream;

static CONFIG: LazyLock<Result<Arc<ClientConfig>, Error>> =
    LazyLock::new(|| Ok(Arc::new(any_certificate(Arc::new(ring::default_provider()))?.with_no_client_auth())));

/// Speaks TLS on a stream to `host:port`.
pub(super) async fn unverified(stream: Stream, address: &str) -> Result<Stream, String> {
    let config = CONFIG.as_ref().map_err(ToString::to_string)?.clone();
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host).map_err(|e| e.to_string())?;
    let tls = TlsConnector::from(config).connect(name, stream).await.map_err(|e| e.to_string())?;
    Ok(Box::new(tls))
}
