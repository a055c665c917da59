//! Certificate requests of nodes, of strangers, and of nodes that want more than theirs.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use crate::common;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{World, pass};
use kiln_controllers::csr::{self, Config, Reserved};
use kiln_pki::{Authority, Certificate, PrivateKey, Signer};
use serde_json::{Value, json};
use tokio::sync::watch;

const PATH: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests/r";

fn start() -> World {
    start_on(watch::channel(addresses("10.0.0.1")).1)
}

fn addresses(text: &str) -> BTreeSet<IpAddr> {
    [text.parse().unwrap()].into()
}

/// The same, of an API server that has these addresses.
fn start_on(addresses: watch::Receiver<BTreeSet<IpAddr>>) -> World {
    let world = World::new();
    let authority = Arc::new(Authority::create(SystemTime::from(world.clock.now())).unwrap());
    let reserved = Reserved {
        names: ["kubernetes".to_owned(), "kubernetes.default".to_owned()].into(),
        addresses,
        server_node: "server".to_owned(),
    };
    let config = Config { authority, reserved, clock: world.clock.clone() };
    tokio::spawn(csr::run(world.api.client(), config, world.shutdown.clone()));
    world
}

/// A request by `user` in `groups` for a certificate of node `node`.
fn request(signer: Signer, user: &str, groups: &[&str], node: &str, sans: &[&str]) -> Value {
    let sans: Vec<String> = sans.iter().map(|san| (*san).to_owned()).collect();
    let key = PrivateKey::generate().unwrap();
    let pem = key.request(&format!("system:node:{node}"), Some("system:nodes"), &sans).unwrap();
    json!({
        "metadata": {"creationTimestamp": common::START},
        "spec": {
            "request": STANDARD.encode(pem),
            "signerName": signer.name(),
            "username": user,
            "groups": groups,
            "usages": signer.usages(),
        },
    })
}

fn serving(node: &str, sans: &[&str]) -> Value {
    request(Signer::KubeletServing, &format!("system:node:{node}"), &["system:nodes"], node, sans)
}

fn condition(request: &Value) -> &str {
    request["status"]["conditions"][0]["type"].as_str().unwrap_or_default()
}

/// Puts the request and waits for its first condition.
async fn decided(world: &World, request: Value) -> Value {
    world.api.put(PATH, request);
    world.until("decided", |api| api.object(PATH).is_some_and(|request| !condition(&request).is_empty())).await;
    world.object(PATH)["status"]["conditions"][0].clone()
}

async fn certificate(world: &World) -> Certificate {
    let signed = |request: Value| request["status"]["certificate"].as_str().map(str::to_owned);
    world.until("signed", |api| api.object(PATH).and_then(signed).is_some()).await;
    let pem = STANDARD.decode(signed(world.object(PATH)).unwrap()).unwrap();
    Certificate::from_pem(&String::from_utf8(pem).unwrap()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_bootstrapper_gets_a_client_certificate_for_the_node_it_names() {
    let world = start();
    let bootstrap = ["system:bootstrappers", "system:authenticated"];
    let approved =
        decided(&world, request(Signer::KubeletClient, "system:bootstrap:abcdef", &bootstrap, "a", &[])).await;
    assert_eq!((&approved["type"], &approved["reason"]), (&json!("Approved"), &json!("AutoApproved")));
    let certificate = certificate(&world).await;
    assert_eq!(certificate.common_name, "system:node:a");
    assert_eq!(certificate.organizations, ["system:nodes"]);
    assert!(!certificate.is_ca);
}

#[tokio::test(start_paused = true)]
async fn a_node_renews_its_own_certificate_and_no_other() {
    let world = start();
    let renewal = |node: &str| request(Signer::KubeletClient, "system:node:a", &["system:nodes"], node, &[]);
    assert_eq!(decided(&world, renewal("a")).await["type"], "Approved");
    world.api.put(PATH, renewal("b"));
    pass(3600).await;
    assert_eq!(condition(&world.object(PATH)), "", "another node's renewal was decided");
}

#[tokio::test(start_paused = true)]
async fn what_a_person_asks_for_is_left_to_a_person_and_signed_once_approved() {
    let world = start();
    let mut asked = request(Signer::KubeletClient, "alice", &["developers"], "a", &[]);
    asked["spec"]["expirationSeconds"] = json!(3600);
    world.api.put(PATH, asked);
    pass(600).await;
    assert_eq!(condition(&world.object(PATH)), "");
    world.api.edit(PATH, |request| request["status"] = json!({"conditions": [{"type": "Approved", "status": "True"}]}));
    let certificate = certificate(&world).await;
    let now = SystemTime::from(world.clock.now());
    assert!(certificate.not_after <= now + Duration::from_secs(3600));
}

#[tokio::test(start_paused = true)]
async fn a_node_gets_a_serving_certificate_for_its_name_and_address() {
    let world = start();
    let approved = decided(&world, serving("a", &["a", "10.0.0.2"])).await;
    assert_eq!(approved["type"], "Approved", "{approved}");
    let certificate = certificate(&world).await;
    assert_eq!(certificate.dns_names, ["a"]);
    assert_eq!(certificate.ip_addresses, ["10.0.0.2".parse::<IpAddr>().unwrap()]);
}

#[tokio::test(start_paused = true)]
async fn a_node_can_serve_under_no_other_name() {
    let world = start();
    for name in ["b", "kubernetes", "www.example.org", "a.example.org"] {
        let denied = decided(&world, serving("a", &[name])).await;
        assert_eq!(denied["type"], "Denied", "{name}");
        let message = denied["message"].as_str().unwrap();
        assert!(message.contains(&format!("may not serve as {name}")), "{message}");
        pass(5).await;
        assert!(world.object(PATH)["status"]["certificate"].is_null());
        world.api.remove(PATH);
    }
    // A node that is called like the API would be taken for it.
    assert_eq!(decided(&world, serving("kubernetes", &["kubernetes"])).await["type"], "Denied");
}

#[tokio::test(start_paused = true)]
async fn the_api_servers_address_is_in_no_other_nodes_certificate() {
    let world = start();
    world.api.put(PATH, serving("a", &["a", "10.0.0.1", "127.0.0.1", "10.0.0.2"]));
    let signed = certificate(&world).await;
    assert_eq!(signed.ip_addresses, ["10.0.0.2".parse::<IpAddr>().unwrap()]);
    world.api.put(PATH, serving("server", &["server", "10.0.0.1"]));
    let signed = certificate(&world).await;
    assert_eq!(signed.ip_addresses, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
    world.api.put(PATH, serving("a", &["10.0.0.1"]));
    let failed = |request: &Value| request["status"]["conditions"][1]["type"] == "Failed";
    world.until("failed", |api| api.object(PATH).is_some_and(|request| failed(&request))).await;
}

#[tokio::test(start_paused = true)]
async fn an_address_that_the_api_server_gets_later_is_left_out_too_and_its_old_one_is_free() {
    let (server, known) = watch::channel(addresses("10.0.0.1"));
    let world = start_on(known);
    server.send_replace(addresses("10.0.0.2"));
    world.api.put(PATH, serving("a", &["a", "10.0.0.1", "10.0.0.2"]));
    assert_eq!(certificate(&world).await.ip_addresses, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
}

#[tokio::test(start_paused = true)]
async fn a_request_with_usages_beyond_its_signers_is_denied_with_the_reason() {
    let world = start();
    let mut greedy = request(Signer::KubeletClient, "x", &["system:bootstrappers"], "a", &[]);
    greedy["spec"]["usages"] = json!(["client auth", "server auth"]);
    let denied = decided(&world, greedy).await;
    assert_eq!(denied["type"], "Denied");
    assert!(denied["message"].as_str().unwrap().contains("server auth"), "{denied}");
    let garbage = json!({"metadata": {"creationTimestamp": common::START}, "spec": {"request": "eHg=", "groups": ["system:bootstrappers"],
        "signerName": Signer::KubeletClient.name(), "username": "x"}});
    assert_eq!(decided(&world, garbage).await["type"], "Denied");
}

#[tokio::test(start_paused = true)]
async fn old_requests_are_removed() {
    let world = start();
    decided(&world, serving("a", &["a"])).await;
    let after = world.until("removed", |api| api.object(PATH).is_none()).await;
    assert!((3500.0..3700.0).contains(&after.as_secs_f64()), "after {after:?}");
    let mut pending = request(Signer::KubeletClient, "alice", &[], "a", &[]);
    pending["metadata"]["creationTimestamp"] = json!(world.clock.now().to_string());
    world.api.put(PATH, pending);
    let after = world.until("removed", |api| api.object(PATH).is_none()).await;
    assert!((86_000.0..86_600.0).contains(&after.as_secs_f64()), "after {after:?}");
}
