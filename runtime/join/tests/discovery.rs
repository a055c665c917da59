//! Adverts over real multicast, in a network namespace of its own so that nothing is heard outside.

#![allow(clippy::unwrap_used, reason = "a helper that unwraps fails the test with the place")]

use std::process::Command;
use std::time::Duration;

use kiln_join::JoinError;
use kiln_join::discovery::{Advert, find};

const INSIDE: &str = "KILN_TEST_INSIDE_NAMESPACE";

/// Runs the named test again inside a new namespace that has two ends of a cable; says whether this is that run.
fn inside_a_namespace(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let script = "ip link set lo up && ip link add left type veth peer name right \
        && ip addr add 10.99.0.1/24 dev left && ip addr add 10.99.0.2/24 dev right \
        && ip link set left up && ip link set right up && exec \"$0\" --exact \"$1\" --nocapture";
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .arg(test)
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "the test failed inside its namespace");
    false
}

#[test]
fn a_server_is_found_by_its_ca_and_others_are_counted() {
    if !inside_a_namespace("a_server_is_found_by_its_ca_and_others_are_counted") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mine, other) = ("aa".repeat(32), "bb".repeat(32));
    let _advert = Advert::start("pi-server", &mine, 6443).unwrap();
    let found = runtime.block_on(find(&mine, Duration::from_secs(20))).unwrap();
    assert_eq!(found.name, "pi-server");
    assert_eq!(found.endpoints[0].port, 6443);
    assert!(found.endpoints[0].host.starts_with("10.99.0."), "{:?}", found.endpoints);

    let error = runtime.block_on(find(&other, Duration::from_secs(5))).unwrap_err();
    assert!(matches!(error, JoinError::NoServer { other_clusters: 1, .. }), "{error}");
}
