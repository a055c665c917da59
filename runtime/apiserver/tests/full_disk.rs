//! The disk is full, as clients see it. It takes a small file system, which one may mount in namespaces of one's own.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;

use std::path::Path;
use std::process::Command;

use common::{Api, MAPS, map, node};
use kiln_storage::sqlite;
use serde_json::{Value, json};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

/// Not a test of its own: what [`a_full_disk_is_told_and_costs_writes_only`] runs.
#[tokio::test]
async fn fill_the_disk_of_a_server() {
    let Ok(folder) = std::env::var("KILN_FULL_DISK_TEST") else { return };
    let folder = Path::new(&folder);
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=12m", "none"]).arg(folder).status().unwrap();
    assert!(mounted.success());
    let ballast = folder.join("ballast");
    std::fs::write(&ballast, vec![1; 4 << 20]).unwrap();
    let options = sqlite::Options { volatile: kiln_apiserver::volatile(), ..sqlite::Options::default() };
    let api = Api::on(sqlite::open(&folder.join("kiln.db"), options).unwrap(), |_| {}).await;
    api.post("/api/v1/nodes", json!({"metadata": {"name": "n"}})).await.good();
    let lease = json!({"metadata": {"name": "n"}, "spec": {"holderIdentity": "n", "leaseDurationSeconds": 40}});
    let mut lease = api.send(node("n"), "POST", LEASES, &[], lease).await.good();
    let mut watch = api.watch(&format!("{MAPS}?watch=1")).await;
    let big = |n: usize| json!({"metadata": {"name": format!("m{n}")}, "data": {"k": "x".repeat(40_000)}});
    let mut written = 0;
    let refusal = loop {
        let answer = api.post(MAPS, big(written)).await;
        if answer.code >= 300 {
            break answer;
        }
        written += 1;
    };
    assert!(written > 20, "{written}");
    let message = refusal.failed(507);
    assert!(message.contains("free some space"), "{message}");
    let status = refusal.json();
    let told = ["kind", "status", "reason"].map(|key| status[key].clone());
    assert_eq!(told, ["Status", "Failure", "InsufficientStorage"].map(Value::from));

    assert_eq!(api.get(&format!("{MAPS}/m0")).await.good()["data"]["k"].as_str().unwrap().len(), 40_000);
    assert_eq!(common::names(&api.get(MAPS).await.good()).len(), written);
    for n in 0..written {
        assert_eq!(watch.brief().await, format!("ADDED m{n}"));
    }
    for second in 10..60 {
        lease["spec"]["renewTime"] = format!("2026-01-02T03:04:{second}.000000Z").into();
        lease = api.send(node("n"), "PUT", &format!("{LEASES}/n"), &[], lease).await.good();
    }
    api.post(MAPS, big(written)).await.failed(507);

    std::fs::remove_file(&ballast).unwrap();
    api.post(MAPS, map("small")).await.good();
    api.post(MAPS, big(written)).await.good();
    assert_eq!(watch.brief().await, "ADDED small");
    println!("all of it was done");
}

#[test]
fn a_full_disk_is_told_and_costs_writes_only() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount"])
        .arg(std::env::current_exe().unwrap())
        .args(["fill_the_disk_of_a_server", "--exact", "--nocapture", "--test-threads=1"])
        .env("KILN_FULL_DISK_TEST", folder.path())
        .output()
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("all of it was done"), "{text}");
}
