//! What a joined node needs to stay one: fresh certificates, and the server's address when that changes.

use std::time::Duration;

use kiln_node_config::ServerAddress;
use kiln_pki::{Certificate, secret};
use tokio::time::Instant;

use crate::agent::check;
use crate::backoff::jitter;
use crate::connection::as_node;
use crate::{JoinError, Joined, Progress, Settings, bootstrap, discovery};

/// How often certificates are looked at. The clock may be stepped at any time, so no longer sleep is planned.
const CHECK: Duration = Duration::from_secs(10 * 60);
/// How long a server that can't be reached is given before it is searched for, and the least time between two searches.
const SEARCH_INTERVAL: Duration = Duration::from_secs(30);
/// How long a search listens.
const LISTEN: Duration = Duration::from_secs(10);

/// Renews certificates at two thirds of their life (the serving one also when the node's addresses change), and follows a
/// discovered server to a new address. Runs until it is dropped; failures are logged and tried again.
pub async fn maintain(mut joined: Joined, settings: &Settings, progress: &impl Progress) {
    let mut next_check = Instant::now() + jitter(CHECK);
    let mut next_search = Instant::now() + SEARCH_INTERVAL;
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(next_check) => {
                next_check = Instant::now() + jitter(CHECK);
                match renew(&mut joined, settings).await {
                    Ok(true) => progress.credentials(&joined.credentials),
                    Ok(false) => {}
                    Err(error) => tracing::warn!(%error, help = error.help(), "renewing certificates failed"),
                }
            }
            () = trouble(&joined, next_search), if settings.server == ServerAddress::Discover => {
                next_search = Instant::now() + SEARCH_INTERVAL;
                match follow(&mut joined).await {
                    Ok(true) => progress.credentials(&joined.credentials),
                    Ok(false) => {}
                    Err(error) => tracing::warn!(%error, "searching for the server failed"),
                }
            }
        }
    }
}

/// Ends when the server can't be reached, at or after `earliest`.
async fn trouble(joined: &Joined, earliest: Instant) {
    tokio::time::sleep_until(earliest).await;
    joined.connection.trouble.notified().await;
}

/// Renews what is due; says whether anything was.
pub(crate) async fn renew(joined: &mut Joined, settings: &Settings) -> Result<bool, JoinError> {
    let now = settings.clock.now();
    let mut renewed = false;
    if joined.credentials.client.certificate.renew_at() <= now {
        let hash = kiln_pki::ca_hash(&Certificate::from_pem(&joined.credentials.ca_pem)?.der);
        let identity = secret::node_identity(&settings.board_id, &hash);
        let got =
            bootstrap::client_certificate(&joined.client, &settings.node_name, &identity).await?;
        joined.store.save_client(&got.pair)?;
        joined.credentials.client = got.pair;
        joined.connection.replace(as_node(&joined.credentials)?);
        tracing::info!("the client certificate was renewed");
        renewed = true;
    }
    let names = (settings.serving_names)();
    let fresh = joined.credentials.serving.as_ref().map(|s| &s.certificate);
    if !fresh.is_some_and(|c| now < c.renew_at() && serves(c, &names)) {
        let pair =
            bootstrap::serving_certificate(&joined.client, &settings.node_name, &names).await?;
        joined.store.save_serving(&pair)?;
        joined.credentials.serving = Some(pair);
        tracing::info!("the serving certificate was renewed");
        renewed = true;
    }
    Ok(renewed)
}

/// Whether a certificate is for exactly these names and addresses.
fn serves(certificate: &Certificate, names: &[String]) -> bool {
    let mut have: Vec<String> = certificate
        .ip_addresses
        .iter()
        .map(ToString::to_string)
        .collect();
    have.extend(certificate.dns_names.iter().cloned());
    let mut want = names.to_vec();
    have.sort();
    have.dedup();
    want.sort();
    want.dedup();
    have == want
}

/// Looks for the server on the network; says whether it was found at another address, which is then used.
async fn follow(joined: &mut Joined) -> Result<bool, JoinError> {
    let ca_pem = joined.credentials.ca_pem.clone();
    let hash = kiln_pki::ca_hash(&Certificate::from_pem(&ca_pem)?.der);
    let found = discovery::find(&hash, LISTEN).await?;
    for endpoint in &found.endpoints {
        if check(endpoint, &hash, Some(&ca_pem)).await.is_err() {
            continue;
        }
        let url = endpoint.to_string();
        if url == joined.credentials.server {
            return Ok(false);
        }
        joined.store.save_server(&url)?;
        joined.credentials.server = url;
        joined.connection.replace(as_node(&joined.credentials)?);
        tracing::info!(server = joined.credentials.server, "the server has moved");
        return Ok(true);
    }
    Ok(false)
}
