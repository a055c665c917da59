//! What a joined node needs to stay one: fresh certificates, and the server's address when that changes.

use std::collections::BTreeSet;
use std::time::Duration;

use kiln_client::{Backoff, Client};
use kiln_node_config::ServerAddress;
use kiln_pki::{Certificate, secret};
use serde_json::Value;
use tokio::time::Instant;

use crate::agent::check;
use crate::connection::as_node;
use crate::{JoinError, Joined, Progress, Settings, bootstrap, discovery};

/// How often certificates are looked at. The clock may be stepped at any time, so no longer sleep is planned.
const CHECK: Duration = Duration::from_secs(10 * 60);
/// How long after a failure, or before the node is registered, certificates are looked at again.
const RETRY: Duration = Duration::from_secs(5);
/// How long a server that can't be reached is given before it is searched for, and the least time between two searches.
const SEARCH_INTERVAL: Duration = Duration::from_secs(30);
/// How long a search listens.
const LISTEN: Duration = Duration::from_secs(10);

/// Renews certificates at two thirds of their life (the serving one also when the node's addresses change), and follows a
/// discovered server to a new address. Runs until it is dropped; failures are logged and tried again.
pub async fn maintain(mut joined: Joined, settings: &Settings, progress: &impl Progress) {
    let mut next_check = Instant::now();
    let mut next_search = Instant::now() + SEARCH_INTERVAL;
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(next_check) => {
                next_check = Instant::now() + jitter(CHECK);
                match renew(&mut joined, settings).await {
                    Ok(true) => progress.credentials(&joined.credentials),
                    Ok(false) => {}
                    Err(error) => {
                        tracing::warn!(%error, help = error.help(), "certificates are not renewed yet");
                        next_check = Instant::now() + jitter(RETRY);
                    }
                }
                if joined.credentials.serving.is_none() {
                    next_check = Instant::now() + jitter(RETRY);
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

/// A little less than `time`, so that nodes that started together drift apart.
fn jitter(time: Duration) -> Duration {
    Backoff::new(time, time).next_wait()
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
        let got = bootstrap::client_certificate(&joined.client, &settings.node_name, &identity).await?;
        joined.store.save_client(&got.pair)?;
        joined.credentials.client = got.pair;
        joined.connection.replace(as_node(&joined.credentials)?);
        tracing::info!("the client certificate was renewed");
        renewed = true;
    }
    // What the node registered is what the server lets it serve as; before that there is nothing to ask for.
    let Some(names) = registered_names(&joined.client, &settings.node_name).await? else {
        return Ok(renewed);
    };
    let fresh = joined.credentials.serving.as_ref().map(|s| &s.certificate);
    // The server leaves out what the node may not serve as, so what was asked for is compared, not what was given.
    if fresh.is_none_or(|c| c.renew_at() <= now) || joined.store.requested()? != names {
        let asked: Vec<String> = names.iter().cloned().collect();
        let pair = bootstrap::serving_certificate(&joined.client, &settings.node_name, &asked).await?;
        joined.store.save_serving(&pair)?;
        joined.store.save_requested(&names)?;
        joined.credentials.serving = Some(pair);
        tracing::info!("the serving certificate was renewed");
        renewed = true;
    }
    Ok(renewed)
}

/// The names and addresses that the node's object shows; `None` while there is no such object, or it shows none.
async fn registered_names(client: &Client, node: &str) -> Result<Option<BTreeSet<String>>, JoinError> {
    let found: Result<Option<Value>, _> = client.find(&format!("/api/v1/nodes/{node}")).await;
    let node = found.map_err(|e| JoinError::Api(e.to_string()))?;
    let addresses = node.iter().flat_map(|n| n["status"]["addresses"].as_array().into_iter().flatten());
    let names: BTreeSet<String> = addresses.filter_map(|a| Some(a["address"].as_str()?.to_owned())).collect();
    Ok((!names.is_empty()).then_some(names))
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::SystemTime;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use kiln_apimachinery::status::{Reason, Status};
    use kiln_client::testing::FakeApi;
    use kiln_client::{ListParams, WatchEvent};
    use kiln_pki::{Authority, Csr, LEAF_LIFETIME, NODES_GROUP, Signer};
    use serde_json::json;

    use super::*;
    use crate::connection::Connection;
    use crate::{Clock, Credentials, Pair, Store};

    const CSRS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

    /// The server's address, which no node may serve as.
    const SERVER: &str = "192.168.1.1";

    /// A clock that a test can set.
    #[derive(Clone)]
    struct Hand(Arc<Mutex<SystemTime>>);

    impl Clock for Hand {
        fn now(&self) -> SystemTime {
            *self.0.lock().unwrap()
        }
    }

    struct Scene {
        api: FakeApi,
        joined: Joined,
        settings: Settings,
        clock: Hand,
        _folder: tempfile::TempDir,
    }

    /// A joined node without a serving certificate, and an API that signs whatever the signers' rules let through.
    async fn scene() -> Scene {
        let start = SystemTime::now();
        let clock = Hand(Arc::new(Mutex::new(start)));
        let authority = Authority::create(start).unwrap();
        let issued = authority.issue_client("system:node:pi", Some(NODES_GROUP), start).unwrap();
        let credentials = Credentials {
            ca_pem: authority.certificate_pem().to_owned(),
            client: Pair::new(issued.certificate_pem, issued.key_pem).unwrap(),
            serving: None,
            // Nothing listens there: what these tests ask for goes to the fake.
            server: "https://127.0.0.1:1".to_owned(),
        };
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        store.save(&credentials).unwrap();
        let api = FakeApi::new();
        tokio::spawn(sign(api.clone(), authority, clock.clone()));
        let connection = Connection::new(as_node(&credentials).unwrap());
        let joined = Joined { client: api.client(), connection, credentials, store };
        let settings = Settings {
            server: ServerAddress::Discover,
            token: None,
            node_name: "pi".to_owned(),
            board_id: "board".to_owned(),
            folder: folder.path().to_owned(),
            clock: Box::new(clock.clone()),
        };
        Scene { api, joined, settings, clock, _folder: folder }
    }

    async fn sign(api: FakeApi, authority: Authority, clock: Hand) {
        let client = api.client();
        let mut watch =
            client.watch::<Value>(CSRS, &ListParams::default(), "0", Duration::from_secs(600)).await.unwrap();
        while let Ok(Some(event)) = watch.next().await {
            let WatchEvent::Added(object) = event else {
                continue;
            };
            let text = |at: &Value| at.as_str().unwrap().to_owned();
            let pem = String::from_utf8(STANDARD.decode(text(&object["spec"]["request"])).unwrap()).unwrap();
            let signer = Signer::from_name(&text(&object["spec"]["signerName"])).unwrap();
            let usages: Vec<String> = serde_json::from_value(object["spec"]["usages"].clone()).unwrap();
            let mut csr = Csr::from_pem(&pem).unwrap();
            csr.ip_addresses.retain(|address| address.to_string() != SERVER);
            let signed = authority.sign(&csr, signer, &usages, LEAF_LIFETIME, clock.now()).unwrap();
            api.edit(&format!("{CSRS}/{}", text(&object["metadata"]["name"])), |csr| {
                csr["status"]["certificate"] = STANDARD.encode(&signed).into();
            });
        }
    }

    fn register(api: &FakeApi, address: &str) {
        let addresses = json!([
            {"type": "InternalIP", "address": address},
            {"type": "Hostname", "address": "pi"},
        ]);
        api.put("/api/v1/nodes/pi", json!({"metadata": {"name": "pi"}, "status": {"addresses": addresses}}));
    }

    #[tokio::test]
    async fn the_client_certificate_is_renewed_at_two_thirds_of_its_life() {
        let mut scene = scene().await;
        assert!(!renew(&mut scene.joined, &scene.settings).await.unwrap(), "it is fresh");
        let old = scene.joined.credentials.client.certificate.clone();
        *scene.clock.0.lock().unwrap() = old.renew_at();
        assert!(renew(&mut scene.joined, &scene.settings).await.unwrap());
        let on_disk = scene.joined.store.load("pi", None).unwrap().unwrap().client;
        assert!(on_disk.certificate.not_after > old.not_after);
        assert_eq!(on_disk.certificate_pem, scene.joined.credentials.client.certificate_pem);
        assert_ne!(on_disk.certificate.public_key_der, old.public_key_der, "the key is new too");
        assert!(!renew(&mut scene.joined, &scene.settings).await.unwrap());
    }

    #[tokio::test]
    async fn the_serving_certificate_follows_the_addresses_that_the_node_registered() {
        let mut scene = scene().await;
        assert!(!renew(&mut scene.joined, &scene.settings).await.unwrap(), "there is no node yet");
        for address in ["192.168.1.7", "192.168.1.8"] {
            register(&scene.api, address);
            assert!(renew(&mut scene.joined, &scene.settings).await.unwrap());
            let serving = scene.joined.store.load("pi", None).unwrap().unwrap().serving.unwrap().certificate;
            assert_eq!(serving.ip_addresses, [address.parse::<std::net::IpAddr>().unwrap()]);
            assert_eq!(serving.dns_names, ["pi"]);
            assert!(!renew(&mut scene.joined, &scene.settings).await.unwrap());
        }
    }

    #[tokio::test]
    async fn a_certificate_without_the_servers_address_is_not_asked_for_again_and_again() {
        let mut scene = scene().await;
        register(&scene.api, SERVER);
        assert!(renew(&mut scene.joined, &scene.settings).await.unwrap());
        let serving = scene.joined.credentials.serving.as_ref().unwrap();
        assert!(serving.certificate.ip_addresses.is_empty(), "it was left out");
        assert!(!renew(&mut scene.joined, &scene.settings).await.unwrap());
        // Nor after a restart.
        scene.joined.credentials = scene.joined.store.load("pi", None).unwrap().unwrap();
        assert!(!renew(&mut scene.joined, &scene.settings).await.unwrap());
        register(&scene.api, "192.168.1.8");
        assert!(renew(&mut scene.joined, &scene.settings).await.unwrap());
    }

    #[tokio::test]
    async fn a_refused_renewal_leaves_the_old_certificate_in_use() {
        let mut scene = scene().await;
        let old = scene.joined.credentials.client.certificate.clone();
        *scene.clock.0.lock().unwrap() = old.renew_at();
        let refusal = Status::failure(Reason::Forbidden, "not today");
        scene.api.refuse_next("POST", refusal);
        let error = renew(&mut scene.joined, &scene.settings).await.unwrap_err();
        assert!(matches!(error, JoinError::Forbidden(_)), "{error}");
        assert_eq!(scene.joined.store.load("pi", None).unwrap().unwrap().client.certificate, old);
        assert!(renew(&mut scene.joined, &scene.settings).await.unwrap(), "the next attempt works");
    }
}
