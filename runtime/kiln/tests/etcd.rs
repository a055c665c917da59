//! Servers that share an etcd.

#![allow(clippy::unwrap_used, reason = "a helper that unwraps fails the test with the place")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::SystemTime;

use kiln_client::{Client, ListParams, WatchEvent};
use kiln_pki::Authority;
use kiln_storage::testing::{Etcd, ServerTls};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::{Process, Server, board, kiln, ready};

const PATH: &str = "/api/v1/namespaces/default/configmaps";

fn start(etcd: &Etcd, dir: &Path, name: &str, more: &[&str]) -> Server {
    let mut command = kiln();
    command.args(["server", "--bind-address", "127.0.0.1", "--disable", "mdns", "--disable-agent"]);
    if !more.contains(&"--advertise-address") {
        command.args(["--advertise-address", "127.0.0.1"]);
    }
    command.args(["--https-listen-port", "0", "--datastore-endpoint", etcd.url(), "--node-name", name, "--data-dir"]);
    command.arg(dir).args(more).env("KILN_BOARD_ID", board('a')).env("KILN_TOKEN", "abcdef.0123456789abcdef");
    let mut process = Process::start(&mut command);
    let line = process.wait_for("serving url=");
    Server::of(process, &line, dir)
}

fn object(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"n": "0"}})
}

async fn bump(client: &Client) {
    let path = format!("{PATH}/counter");
    loop {
        let mut object: Value = client.get(&path).await.unwrap();
        let n: u32 = object["data"]["n"].as_str().unwrap().parse().unwrap();
        object["data"]["n"] = json!((n + 1).to_string());
        match client.update::<Value>(&path, &object).await {
            Ok(_) => return,
            Err(error) if error.is_conflict() => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_on_one_etcd_serve_one_cluster() {
    let etcd = Etcd::start();
    let (dir_a, dir_b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut a = start(&etcd, dir_a.path(), "server-a", &[]);
    a.process.wait_for("this server runs the controllers");
    let mut b = start(&etcd, dir_b.path(), "server-b", &[]);
    let read = |dir: &Path, name: &str| std::fs::read_to_string(dir.join("server").join(name)).unwrap();
    for name in ["ca.crt", "ca.key", "service-account.key"] {
        assert_eq!(read(dir_a.path(), name), read(dir_b.path(), name), "{name}");
    }
    // Either server's credentials are good at the other, and what one answered the other shows.
    let (at_a, at_b) = (a.admin(), b.admin());
    at_a.create::<Value>(PATH, &object("counter")).await.unwrap();
    let seen: Value = at_b.get(&format!("{PATH}/counter")).await.unwrap();
    let params = ListParams { fields: "metadata.name=counter".to_owned(), ..ListParams::default() };
    let version = seen["metadata"]["resourceVersion"].as_str().unwrap();
    let mut watch = at_b.watch::<Value>(PATH, &params, version, support::PATIENCE).await.unwrap();
    let tasks: Vec<_> = [&at_a, &at_b, &at_a, &at_b]
        .map(|client| {
            let client = client.clone();
            tokio::spawn(async move {
                for _ in 0..10 {
                    bump(&client).await;
                }
            })
        })
        .into_iter()
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    for n in 1..=40 {
        let event = watch.next().await.unwrap().unwrap();
        let WatchEvent::Modified(object) = event else { panic!("{event:?}") };
        assert_eq!(object["data"]["n"], json!(n.to_string()));
    }

    // The servers' token is one for agents as well. One that was made at the other joins here, and is seen there.
    assert!(String::from_utf8(a.cli(&["token", "list"]).stdout).unwrap().contains("abcdef"));
    let agent_dir = tempfile::tempdir().unwrap();
    let token = b.token(&["--description", "made at b"]);
    let mut agent = a.agent(agent_dir.path(), "pi-1", &board('b'), Some(&token));
    agent.wait_for("joined node=\"pi-1\"");
    b.node("pi-1", ready).await;
    // Its tunnel is to the one that it joined: the other reaches it through that one.
    a.process.wait_for("the node's tunnel is open node=\"pi-1\"");
    for client in [&at_a, &at_b] {
        let pods: Value = client.get("/api/v1/nodes/pi-1/proxy/pods").await.unwrap();
        assert_eq!(pods["kind"], "PodList");
    }
    let error = at_b.get::<Value>("/api/v1/nodes/pi-1:1/proxy/").await.unwrap_err().to_string();
    assert!(error.contains("connection refused") || error.contains("address not allowed"), "{error}");

    // When the one that runs the controllers ends, the other does.
    a.process.terminate();
    b.process.wait_for("this server runs the controllers");
    bump(&at_b).await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "later"}});
    at_b.create::<Value>("/api/v1/namespaces", &namespace).await.unwrap();
    let accounts = "/api/v1/namespaces/later/serviceaccounts";
    let listed = at_b.list::<Value>(accounts, &ListParams::default()).await.unwrap();
    if listed.items.is_empty() {
        let params = ListParams::default();
        let version = listed.resource_version;
        let mut watch = at_b.watch::<Value>(accounts, &params, &version, support::PATIENCE).await.unwrap();
        assert!(matches!(watch.next().await.unwrap(), Some(WatchEvent::Added(_))));
    }

    // And the first finds everything when it comes back.
    let a = start(&etcd, dir_a.path(), "server-a", &[]);
    let counter: Value = a.admin().get(&format!("{PATH}/counter")).await.unwrap();
    assert_eq!(counter["data"]["n"], "41");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_controllers_of_a_silent_server_are_taken_over_within_15_s_and_it_lets_go() {
    let etcd = Etcd::start();
    let (dir_a, dir_b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut a = start(&etcd, dir_a.path(), "server-a", &[]);
    a.process.wait_for("this server runs the controllers");
    let mut b = start(&etcd, dir_b.path(), "server-b", &[]);
    let at_b = b.admin();
    let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-controller-manager";
    let seen = async || at_b.get::<Value>(lease).await;
    let holder = seen().await.unwrap()["spec"]["holderIdentity"].clone();
    assert!(holder.as_str().unwrap().starts_with("server-a_"), "{holder}");
    let silent = std::time::Instant::now();
    a.process.signal(Signal::SIGSTOP);
    b.process.wait_for("this server runs the controllers");
    // Beside the 15 s, what a busy machine takes to notice.
    assert!(silent.elapsed() < std::time::Duration::from_secs(17), "{:?}", silent.elapsed());
    let lease = seen().await.unwrap();
    assert!(lease["spec"]["holderIdentity"].as_str().unwrap().starts_with("server-b_"), "{lease}");
    assert_eq!(lease["spec"]["leaseTransitions"], 1);
    a.process.signal(Signal::SIGCONT);
    a.process.wait_for("another server runs the controllers from now on");
    let still = seen().await.unwrap();
    assert_eq!(still["spec"]["holderIdentity"], lease["spec"]["holderIdentity"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_on_etcd_that_is_killed_loses_nothing_that_it_acknowledged() {
    let etcd = Etcd::start();
    let dir = tempfile::tempdir().unwrap();
    let server = start(&etcd, dir.path(), "server", &[]);
    let client = server.admin();
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let client = client.clone();
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                for number in 0.. {
                    let name = format!("w{writer}-{number}");
                    if client.create::<Value>(PATH, &object(&name)).await.is_err() {
                        break;
                    }
                    acknowledged.push(name);
                }
                acknowledged
            })
        })
        .collect();
    let params = ListParams::default();
    let mut watch = client.watch::<Value>(PATH, &params, "1", support::PATIENCE).await.unwrap();
    for _ in 0..100 {
        watch.next().await.unwrap().unwrap();
    }
    server.process.kill();
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    let server = start(&etcd, dir.path(), "server", &[]);
    let listed = server.admin().list::<Value>(PATH, &params).await.unwrap();
    let there: BTreeSet<&str> = listed.items.iter().filter_map(|o| o["metadata"]["name"].as_str()).collect();
    let lost: Vec<&String> = acknowledged.iter().filter(|name| !there.contains(name.as_str())).collect();
    assert!(lost.is_empty(), "{} of {} acknowledged writes are lost: {lost:?}", lost.len(), acknowledged.len());
}

/// The addresses behind the Service `kubernetes`, once they are these.
async fn endpoints_become(client: &Client, wanted: &[&str]) {
    let addresses = |endpoints: &Value| -> BTreeSet<String> {
        let subsets = endpoints["subsets"].as_array().into_iter().flatten();
        let all = subsets.flat_map(|s| s["addresses"].as_array().into_iter().flatten());
        all.map(|a| a["ip"].as_str().unwrap().to_owned()).collect()
    };
    let wanted: BTreeSet<String> = wanted.iter().map(|&address| address.to_owned()).collect();
    let path = "/api/v1/namespaces/default/endpoints";
    let by_name = ListParams { fields: "metadata.name=kubernetes".to_owned(), ..ListParams::default() };
    let list = client.list::<Value>(path, &by_name).await.unwrap();
    let mut watch = client.watch::<Value>(path, &by_name, &list.resource_version, support::PATIENCE).await.unwrap();
    let mut found = list.items.first().map(addresses).unwrap_or_default();
    while found != wanted {
        match watch.next().await.unwrap() {
            Some(WatchEvent::Added(o) | WatchEvent::Modified(o)) => found = addresses(&o),
            Some(_) => {}
            None => panic!("the endpoints are {found:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_of_the_api_leads_to_all_servers_and_to_no_other() {
    let etcd = Etcd::start();
    let (dir_a, dir_b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let a = start(&etcd, dir_a.path(), "server-a", &["--advertise-address", "192.0.2.1"]);
    let b = start(&etcd, dir_b.path(), "server-b", &["--advertise-address", "192.0.2.2"]);
    let at_b = b.admin();
    endpoints_become(&at_b, &["192.0.2.1", "192.0.2.2"]).await;
    // The one that runs the controllers goes, and the other sees to it.
    a.process.terminate();
    endpoints_become(&at_b, &["192.0.2.2"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_etcd_is_told_as_a_service_that_is_not_available() {
    let etcd = Etcd::start();
    let dir = tempfile::tempdir().unwrap();
    let server = start(&etcd, dir.path(), "server", &[]);
    let client = server.admin();
    client.create::<Value>(PATH, &object("before")).await.unwrap();
    etcd.hang();
    let error = client.create::<Value>(PATH, &object("meanwhile")).await.unwrap_err();
    etcd.go_on();
    let status = error.status().unwrap_or_else(|| panic!("{error}"));
    assert_eq!((status.code, status.reason.as_str()), (503, "ServiceUnavailable"), "{status:?}");
    assert!(status.message.contains("etcd does not answer"), "{status:?}");
}

#[tokio::test]
async fn a_wrong_token_and_no_token_are_told_and_tls_is_spoken() {
    let (dir, other, files) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let now = SystemTime::now();
    let ca = Authority::create(now).unwrap();
    let (own, client) =
        (ca.issue_server("etcd", &["127.0.0.1".to_owned()], now).unwrap(), ca.issue_client("kiln", None, now).unwrap());
    let file = |name: &str, text: &str| {
        let path = files.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let tls = ServerTls {
        ca: file("ca.crt", ca.certificate_pem()),
        certificate: file("etcd.crt", &own.certificate_pem),
        key: file("etcd.key", &own.key_pem),
    };
    let etcd = Etcd::start_with_tls(&tls);
    let (certificate, key) = (file("kiln.crt", &client.certificate_pem), file("kiln.key", &client.key_pem));
    let [ca, certificate, key] = [&tls.ca, &certificate, &key].map(|path| path.display().to_string());
    let flags: [&str; 6] =
        ["--datastore-cafile", &ca, "--datastore-certfile", &certificate, "--datastore-keyfile", &key];
    let server = start(&etcd, dir.path(), "server", &flags);
    server.admin().create::<Value>(PATH, &object("a")).await.unwrap();

    let refused = |token: Option<&str>| {
        let mut command = kiln();
        command.args(["server", "--bind-address", "127.0.0.1", "--https-listen-port", "0", "--disable-agent"]);
        command.args(["--disable", "mdns", "--datastore-endpoint", etcd.url(), "--data-dir"]).arg(other.path());
        command.args(flags).env("KILN_BOARD_ID", board('a'));
        if let Some(token) = token {
            command.env("KILN_TOKEN", token);
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(refused(None).contains("give all of them the same --token"));
    assert!(refused(Some("another")).contains("the token is not this cluster's"));
}
