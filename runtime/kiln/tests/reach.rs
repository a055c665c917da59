//! How the server reaches its nodes: through the tunnel that an agent dials, and in its own process.

#![allow(clippy::unwrap_used, reason = "a helper that unwraps fails the test with the place")]

mod support;

use serde_json::Value;
use support::{Server, board};

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
