//! What a server keeps over a restart and over a power cut.

#![allow(clippy::unwrap_used, reason = "a helper that unwraps fails the test with the place")]

mod support;

use kiln_client::Client;
use serde_json::{Value, json};
use support::{Server, board, ready};

const PATH: &str = "/api/v1/namespaces/default/configmaps";

async fn put(client: &Client, name: &str) -> bool {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"name": name}});
    client.create::<Value>(PATH, &object).await.is_ok()
}

#[tokio::test]
async fn a_restarted_server_keeps_everything_and_its_agent_goes_on() {
    let (data, agent_data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start(data.path());
    let token = server.token(&["--description", "kept"]);
    let mut agent = server.agent(agent_data.path(), "pi-1", &board('b'), Some(&token));
    agent.wait_for("joined node=\"pi-1\"");
    server.node("pi-1", ready).await;
    assert!(put(&server.admin(), "kept").await);
    let (url, port) = (server.url.clone(), server.port().to_owned());
    server.process.terminate();

    let server = Server::start_with(data.path(), &["--port", &port]);
    assert_eq!(server.url, url);
    let kept: Value = server.admin().get(&format!("{PATH}/kept")).await.unwrap();
    assert_eq!(kept["data"]["name"], "kept");
    assert!(String::from_utf8(server.cli(&["token", "list"]).stdout).unwrap().contains("kept"));
    // Leases live in RAM; that there is one again shows that the agent came back.
    let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let client = server.admin();
    let params = kiln_client::ListParams { fields: "metadata.name=pi-1".to_owned(), ..Default::default() };
    let listed = client.list::<Value>(lease, &params).await.unwrap();
    if listed.items.is_empty() {
        let mut watch =
            client.watch::<Value>(lease, &params, &listed.resource_version, support::PATIENCE).await.unwrap();
        let event = tokio::time::timeout(support::PATIENCE, watch.next()).await.unwrap().unwrap();
        assert!(matches!(event, Some(kiln_client::WatchEvent::Added(_))), "{event:?}");
    }
    server.node("pi-1", ready).await;
}

#[tokio::test]
async fn what_was_acknowledged_before_a_kill_is_there_after_it() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start_with(data.path(), &["--port", "0", "--no-agent"]);
    let client = server.admin();
    // Several writers at once, as commits are shared between them.
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let client = client.clone();
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                for number in 0.. {
                    let name = format!("w{writer}-{number}");
                    if !put(&client, &name).await {
                        break;
                    }
                    acknowledged.push(name);
                }
                acknowledged
            })
        })
        .collect();
    // The kill comes in the midst of the writes: once the first hundred can be seen.
    let params = kiln_client::ListParams::default();
    let mut watch = client.watch::<Value>(PATH, &params, "1", support::PATIENCE).await.unwrap();
    for _ in 0..100 {
        watch.next().await.unwrap().unwrap();
    }
    server.process.kill();
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    assert!(acknowledged.len() > 50, "{}", acknowledged.len());

    let server = Server::start_with(data.path(), &["--port", "0", "--no-agent"]);
    let listed = server.admin().list::<Value>(PATH, &params).await.unwrap();
    let there: std::collections::BTreeSet<&str> =
        listed.items.iter().filter_map(|o| o["metadata"]["name"].as_str()).collect();
    let lost: Vec<&String> = acknowledged.iter().filter(|n| !there.contains(n.as_str())).collect();
    assert!(lost.is_empty(), "{} of {} acknowledged writes are lost: {lost:?}", lost.len(), acknowledged.len());
}

#[tokio::test]
async fn a_second_server_on_the_same_data_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let _server = Server::start_with(data.path(), &["--port", "0", "--no-agent"]);
    let second = support::kiln()
        .args(["server", "--bind", "127.0.0.1", "--port", "0", "--no-mdns", "--no-agent", "--data-dir"])
        .arg(data.path())
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(6), "{}", String::from_utf8_lossy(&second.stderr));
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start_with(first.path(), &["--port", "0", "--no-agent"]);
    let output = support::kiln()
        .args(["server", "--bind", "127.0.0.1", "--no-mdns", "--no-agent", "--port", server.port(), "--data-dir"])
        .arg(second.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("can't listen on 127.0.0.1:{}", server.port())), "{text}");
}
