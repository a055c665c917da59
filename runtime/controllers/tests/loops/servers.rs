//! Several servers of one datastore behind the Service `kubernetes`, with a clock that stands still.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::collections::BTreeSet;
use std::time::Duration;

use kiln_client::Clock;
use kiln_client::testing::FakeApi;
use kiln_controllers::kubernetes_service::{self, Config};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
const ENDPOINTS: &str = "/api/v1/namespaces/default/endpoints/kubernetes";

struct Server {
    config: Config,
    addresses: watch::Sender<BTreeSet<std::net::IpAddr>>,
    stop: CancellationToken,
    announces: JoinHandle<()>,
}

fn server(api: &FakeApi, name: &str, address: &str, port: u16) -> Server {
    let (addresses, receiver) = watch::channel(BTreeSet::from([address.parse().unwrap()]));
    let config = Config { addresses: receiver, advertise: None, service_ip: None, port, shared: true };
    let (stop, clock) = (CancellationToken::new(), Clock::from_tokio(jiff::Timestamp::UNIX_EPOCH));
    let announced = kubernetes_service::announce(api.client(), name.to_owned(), config.clone(), clock, stop.clone());
    Server { config, addresses, stop, announces: tokio::spawn(announced) }
}

/// The addresses of a slice.
fn slice(api: &FakeApi, name: &str) -> Vec<String> {
    let slice = api.object(&format!("{SLICES}/{name}")).unwrap_or_default();
    let endpoints = slice["endpoints"].as_array().into_iter().flatten();
    endpoints.map(|e| e["addresses"][0].as_str().unwrap().to_owned()).collect()
}

/// Longer than any reaction to a change.
async fn react() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn every_live_server_is_listed_and_one_that_ends_or_dies_is_not() {
    let api = FakeApi::new();
    let a = server(&api, "a", "192.0.2.1", 6443);
    tokio::spawn(kubernetes_service::run(api.client(), a.config.clone(), a.stop.clone()));
    react().await;
    assert_eq!(slice(&api, "kubernetes"), ["192.0.2.1"]);
    let b = server(&api, "b", "192.0.2.2", 6443);
    let c = server(&api, "c", "192.0.2.3", 6443);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(slice(&api, "kubernetes"), ["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
    let subsets = api.object(ENDPOINTS).unwrap()["subsets"].clone();
    assert_eq!((subsets.as_array().unwrap().len(), subsets[0]["addresses"].as_array().unwrap().len()), (1, 3));

    c.addresses.send_replace(BTreeSet::from(["192.0.2.4".parse().unwrap()]));
    react().await;
    assert_eq!(slice(&api, "kubernetes"), ["192.0.2.1", "192.0.2.2", "192.0.2.4"]);
    // One ends, one dies.
    b.stop.cancel();
    c.announces.abort();
    react().await;
    assert_eq!(slice(&api, "kubernetes"), ["192.0.2.1", "192.0.2.4"]);
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!(slice(&api, "kubernetes"), ["192.0.2.1"]);
    let lease = |name: &str| {
        api.object(&format!("/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/apiserver-{name}"))
    };
    assert_eq!(["a", "b", "c"].map(|name| lease(name).is_some()), [true, false, false]);
}

#[tokio::test(start_paused = true)]
async fn servers_of_another_family_or_port_have_slices_of_their_own() {
    let api = FakeApi::new();
    let a = server(&api, "a", "192.0.2.1", 6443);
    tokio::spawn(kubernetes_service::run(api.client(), a.config.clone(), a.stop.clone()));
    let b = server(&api, "b", "2001:db8::2", 6443);
    let _c = server(&api, "c", "192.0.2.3", 7443);
    react().await;
    let found = ["kubernetes", "kubernetes-ipv4-7443", "kubernetes-ipv6-6443"].map(|name| slice(&api, name));
    assert_eq!(found, [["192.0.2.1"], ["192.0.2.3"], ["2001:db8::2"]]);
    let ports: Vec<Value> = api.object(ENDPOINTS).unwrap()["subsets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["ports"][0]["port"].clone())
        .collect();
    assert_eq!(ports, [6443, 7443]);
    b.stop.cancel();
    react().await;
    assert_eq!(api.object(&format!("{SLICES}/kubernetes-ipv6-6443")), None);
}

#[tokio::test(start_paused = true)]
async fn a_server_by_itself_writes_nothing_while_nothing_changes() {
    let api = FakeApi::new();
    let (_addresses, receiver) = watch::channel(BTreeSet::from(["192.0.2.1".parse().unwrap()]));
    let config = Config { addresses: receiver, advertise: None, service_ip: None, port: 6443, shared: false };
    tokio::spawn(kubernetes_service::run(api.client(), config, CancellationToken::new()));
    react().await;
    assert_eq!(slice(&api, "kubernetes"), ["192.0.2.1"]);
    api.requests();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let requests = api.requests();
    assert!(requests.iter().all(|request| request.starts_with("GET ")), "{requests:?}");
}
