//! How the server reaches its nodes: through the tunnel that an agent dials, and in its own process.

#![allow(clippy::unwrap_used, reason = "a helper that unwraps fails the test with the place")]

mod support;

use bytes::Bytes;
use http::{Request, Version};
use kiln_client::{Transport as _, read_body};
use serde_json::Value;
use support::{Server, board};

#[tokio::test]
async fn a_head_over_http2_brings_the_size_and_no_body() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let connections = server.connections();
    let get = connections.send(Request::get("/version").body(Bytes::new()).unwrap()).await.unwrap();
    let whole = read_body(get.into_body(), 1 << 20).await.unwrap();
    for (path, size) in [("/version", Some(whole.len())), ("/api/v1/namespaces", None), ("/nothing", None)] {
        let head = connections.send(Request::head(path).body(Bytes::new()).unwrap()).await.unwrap();
        assert_eq!((head.version(), head.status() == 200), (Version::HTTP_2, path != "/nothing"), "{path}");
        let told = head.headers()["content-length"].to_str().unwrap().parse::<usize>().unwrap();
        assert!(told > 0 && size.is_none_or(|size| size == told), "{path}: {told}");
        assert!(read_body(head.into_body(), 0).await.unwrap().is_empty(), "{path}");
    }
    server.process.terminate();
}

#[tokio::test]
async fn nodes_are_reached_through_their_tunnels_which_come_back_when_they_break() {
    let (data, agent_data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut server = Server::start(data.path());
    let mut agent = server.agent(agent_data.path(), "pi-1", &board('b'), Some(&server.token(&[])));
    agent.wait_for("the tunnel is open");
    server.process.wait_for("the node's tunnel is open node=\"pi-1\"");
    server.node("pi-1", |node| !node.is_null()).await;
    server.node("server", |node| !node.is_null()).await;
    let admin = server.admin();
    for node in ["pi-1", "server"] {
        let pods: Value = admin.get(&format!("/api/v1/nodes/{node}/proxy/pods")).await.unwrap();
        assert_eq!(pods["kind"], "PodList", "{node}");
    }
    // What nodes use, of which a node tells also where it runs no pods.
    let metrics: Value = admin.get("/apis/metrics.k8s.io/v1beta1/nodes").await.unwrap();
    let names: Vec<&str> =
        metrics["items"].as_array().unwrap().iter().map(|i| i["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["pi-1", "server"], "{metrics}");
    assert!(metrics["items"][0]["usage"]["memory"].as_str().unwrap().ends_with("Ki"));

    agent.kill();
    server.process.wait_for("the node's tunnel has ended node=\"pi-1\"");
    let error = admin.get::<Value>("/api/v1/nodes/pi-1/proxy/pods").await.unwrap_err().to_string();
    assert!(error.contains("there is no tunnel to node \"pi-1\""), "{error}");
    let mut agent = server.agent(agent_data.path(), "pi-1", &board('b'), None);
    agent.wait_for("the tunnel is open");
    server.process.wait_for("the node's tunnel is open node=\"pi-1\"");
    let pods: Value = admin.get("/api/v1/nodes/pi-1/proxy/pods").await.unwrap();
    assert_eq!(pods["kind"], "PodList");
    agent.terminate();
    server.process.terminate();
}
