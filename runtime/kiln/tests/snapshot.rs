//! Snapshots of a server's data, by the verbs that a person uses.

#![allow(clippy::unwrap_used, reason = "a helper that unwraps fails the test with the place")]

mod support;

use std::path::Path;
use std::process::Output;

use kiln_client::Client;
use kiln_storage::sqlite;
use kiln_storage::testing::Etcd;
use serde_json::{Value, json};
use support::{Server, kiln};

const PATH: &str = "/api/v1/namespaces/default/configmaps";
const ALONE: &[&str] = &["--https-listen-port", "0", "--disable-agent"];

async fn put(client: &Client, name: &str) {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    client.create::<Value>(PATH, &object).await.unwrap();
}

async fn names(client: &Client) -> Vec<String> {
    let listed = client.list::<Value>(PATH, &kiln_client::ListParams::default()).await.unwrap();
    let name = |object: &Value| object["metadata"]["name"].as_str().unwrap().to_owned();
    // What controllers put into every namespace is not what is looked for.
    listed.items.iter().map(name).filter(|name| name.starts_with("test-")).collect()
}

fn snapshot(data: &Path, words: &[&str]) -> Output {
    kiln().arg("snapshot").args(words).arg("--data-dir").arg(data).output().unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

fn done(output: &Output) -> Value {
    assert!(output.status.success(), "{}", told(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn a_snapshot_of_a_running_server_is_listed_and_restored_when_it_is_stopped() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start_with(data.path(), ALONE);
    let client = server.admin();
    put(&client, "test-before").await;
    let saved = done(&snapshot(data.path(), &["save", "--name", "first", "-o", "json"]));
    put(&client, "test-after").await;
    let revision = client.get::<Value>(&format!("{PATH}/test-after")).await.unwrap();
    let revision = revision["metadata"]["resourceVersion"].as_str().unwrap().to_owned();

    let listed = done(&snapshot(data.path(), &["list", "-o", "json"]));
    assert_eq!(listed, json!([saved]));
    assert!(saved["keys"].as_u64() > Some(10) && saved["size"].as_u64() > Some(4096), "{saved}");
    assert!(told(&snapshot(data.path(), &["list"])).contains("first"), "a table for people");
    let again = snapshot(data.path(), &["save", "--name", "first"]);
    assert_eq!(again.status.code(), Some(3), "{}", told(&again));
    let running = snapshot(data.path(), &["restore", "first"]);
    assert_eq!(running.status.code(), Some(6), "{}", told(&running));
    assert!(told(&running).contains("stop the server first"), "{}", told(&running));
    server.process.terminate();

    let second = done(&snapshot(data.path(), &["save", "--name", "second", "-o", "json"]));
    assert!(second["revision"].as_i64() > saved["revision"].as_i64(), "a stopped server's data are saved too");
    let restored = done(&snapshot(data.path(), &["restore", "first", "-o", "json"]));
    assert_eq!(restored["keys"], saved["keys"]);
    assert!(Path::new(restored["kept"].as_str().unwrap()).exists());

    let server = Server::start_with(data.path(), ALONE);
    let client = server.admin();
    assert_eq!(names(&client).await, ["test-before"]);
    let params = kiln_client::ListParams::default();
    // Who watched the state that is gone is told to list anew.
    let mut watch = client.watch::<Value>(PATH, &params, &revision, support::PATIENCE).await.unwrap();
    let error = watch.next().await.unwrap_err().to_string();
    assert!(error.contains("too old resource version"), "{error}");
    put(&client, "test-new").await;
    server.process.terminate();

    done(&snapshot(data.path(), &["restore", "second", "-o", "json"]));
    let server = Server::start_with(data.path(), ALONE);
    assert_eq!(names(&server.admin()).await, ["test-after", "test-before"]);
    assert!(snapshot(data.path(), &["delete", "first", "second"]).status.success());
    assert_eq!(done(&snapshot(data.path(), &["list", "-o", "json"])), json!([]));
}

#[tokio::test]
async fn a_snapshot_that_was_changed_and_one_that_is_not_there_are_refused() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start_with(data.path(), ALONE);
    assert!(snapshot(data.path(), &["save", "--name", "one"]).status.success());
    server.process.terminate();
    let file = data.path().join("server/snapshots/one.db");
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.len() - 100;
    bytes[at] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    for (words, part) in [
        (&["restore", "one"][..], "checksum differs; nothing was changed"),
        (&["restore", "two"], "no snapshot two"),
        (&["delete", "two"], "no snapshot two"),
    ] {
        let output = snapshot(data.path(), words);
        assert_eq!(output.status.code(), Some(3), "{}", told(&output));
        assert!(told(&output).contains(part), "{}", told(&output));
    }
    let output = snapshot(data.path(), &["save", "--name", "../out"]);
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
}

#[tokio::test]
async fn a_damaged_row_stops_the_start_until_a_repair_is_asked_for() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start_with(data.path(), ALONE);
    put(&server.admin(), "test-sound").await;
    let object =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "test-hurt"}, "data": {"a": "needle"}});
    server.admin().create::<Value>(PATH, &object).await.unwrap();
    server.process.terminate();
    let file = data.path().join("server/kiln.db");
    // Opened and closed once, so that all is in the database itself and nothing in its log.
    drop(sqlite::open(&file, sqlite::Options::default()).unwrap());
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.windows(6).rposition(|window| window == b"needle").unwrap();
    bytes[at] = b'N';
    std::fs::write(&file, bytes).unwrap();

    let mut command = kiln();
    command.args(["server", "--bind-address", "127.0.0.1", "--disable", "mdns", "--data-dir"]).arg(data.path());
    let refused = command.args(ALONE).output().unwrap();
    assert_eq!(refused.status.code(), Some(6), "{}", told(&refused));
    for part in ["configmaps/default/test-hurt", "checksum", "--datastore-repair", "kiln snapshot restore"] {
        assert!(told(&refused).contains(part), "{}", told(&refused));
    }
    let server = Server::start_with(data.path(), &[ALONE, &["--datastore-repair"]].concat());
    assert!(server.process.said().contains("damaged: it is gone"), "{}", server.process.said());
    assert_eq!(names(&server.admin()).await, ["test-sound"]);
}

#[tokio::test]
async fn a_server_on_etcd_leaves_snapshots_to_etcd() {
    let etcd = Etcd::start();
    let data = tempfile::tempdir().unwrap();
    let flags = ["--datastore-endpoint", etcd.url(), "--token", "the cluster's secret"];
    let server = Server::start_with(data.path(), &[ALONE, &flags].concat());
    for words in [&["save"][..], &["restore", "x"]] {
        let output = snapshot(data.path(), words);
        assert_eq!(output.status.code(), Some(3), "{}", told(&output));
        assert!(told(&output).contains("etcdctl snapshot save"), "{}", told(&output));
    }
    server.process.terminate();
    let output = kiln()
        .args(["server", "--bind-address", "127.0.0.1", "--disable", "mdns", "--data-dir"])
        .arg(data.path())
        .args(ALONE)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
    assert!(told(&output).contains("--datastore-endpoint"), "{}", told(&output));
}
