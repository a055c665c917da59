//! Joining: who becomes a node, who comes back, and who is refused.

#![allow(clippy::unwrap_used, reason = "a helper that unwraps fails the test with the place")]

mod support;

use kiln_client::PatchKind;
use serde_json::{Value, json};
use support::{Server, Supervisor, board, ready};

#[tokio::test]
async fn the_server_registers_itself_and_an_agent_joins_as_a_second_node() {
    let (data, agent_data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start(data.path());
    let role = "node-role.kubernetes.io/control-plane";
    server.node("server", |node| ready(node) && node["metadata"]["labels"][role] == "").await;
    let supervisor = Supervisor::new(agent_data.path());
    let mut command = server.agent_command(agent_data.path(), "pi-1", &board('b'), Some(&server.token(&[])));
    supervisor.watches(&mut command);
    let mut agent = support::Process::start(&mut command);
    assert!(supervisor.wait_for("X_KILN_TIME").parse::<u64>().unwrap() > 1_700_000_000);
    assert_eq!(supervisor.wait_for("READY"), "1");
    agent.wait_for("joined node=\"pi-1\"");
    let node = server.node("pi-1", ready).await;
    let info = &node["status"]["nodeInfo"];
    assert!(info["kernelVersion"].as_str().is_some_and(|k| !k.is_empty()), "{info}");
    // The serving certificate comes once the server can see the node's addresses.
    agent.wait_for("the serving certificate was renewed");
    let status = support::kiln().args(["status", "-o", "json", "--data-dir"]).arg(agent_data.path()).output().unwrap();
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(
        (&status["node"], &status["role"], &status["state"]),
        (&json!("pi-1"), &json!("agent"), &json!("joined"))
    );
    assert_eq!(status["server"], json!(server.url));
    agent.terminate();
    server.process.terminate();
}

#[tokio::test]
async fn a_reflashed_board_rejoins_under_its_name_and_another_board_is_refused() {
    let (data, first, second, third) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let server = Server::start(data.path());
    let token = server.token(&[]);
    let mut agent = server.agent(first.path(), "pi-1", &board('b'), Some(&token));
    agent.wait_for("joined node=\"pi-1\"");
    agent.kill();
    // The same board with an empty card.
    let mut agent = server.agent(second.path(), "pi-1", &board('b'), Some(&token));
    agent.wait_for("joined node=\"pi-1\"");
    agent.kill();
    let mut stranger = server.agent(third.path(), "pi-1", &board('c'), Some(&token));
    let line = stranger.wait_for("join failed");
    assert!(line.contains("node name \"pi-1\" belongs to another board"), "{line}");
    assert!(line.contains("delete Secret kube-system/pi-1.node-identity.kiln to release it"), "{line}");
    assert!(line.contains("give this node another node.name"), "{line}");
    assert!(!third.path().join("agent/client.crt").exists());
}

#[tokio::test]
async fn a_node_comes_back_without_its_token_by_the_certificate_it_has() {
    let (data, agent_data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start(data.path());
    let mut agent = server.agent(agent_data.path(), "pi-1", &board('b'), Some(&server.token(&[])));
    agent.wait_for("joined node=\"pi-1\"");
    agent.kill();
    let mut agent = server.agent(agent_data.path(), "pi-1", &board('b'), None);
    agent.wait_for("joined node=\"pi-1\"");
    assert!(!agent.said().contains("certificate requested"), "{}", agent.said());
}

#[tokio::test]
async fn an_expired_token_is_refused_with_what_to_do() {
    let (data, agent_data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start(data.path());
    let token = server.token(&["--ttl", "1h"]);
    let id = token.rsplit("::").next().unwrap().split(':').next().unwrap();
    let path = format!("/api/v1/namespaces/kube-system/secrets/bootstrap-token-{id}");
    let past = json!({"stringData": {"expiration": "2020-01-01T00:00:00Z"}});
    // Whether the cleaner has deleted it by then or not, it is of no more use.
    server.admin().patch::<Value>(&path, PatchKind::Merge, &past).await.unwrap();
    let mut agent = server.agent(agent_data.path(), "pi-1", &board('b'), Some(&token));
    let line = agent.wait_for("join failed");
    let told = "the token is unknown or expired; make a new one with kiln token create and put it in node.toml";
    assert!(line.contains(told), "{line}");
}

#[tokio::test]
async fn a_single_use_token_is_reported_as_spent_and_serves_its_own_board_only() {
    let (data, first, second, third) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let server = Server::start(data.path());
    let token = server.token(&["--single-use"]);
    let supervisor = Supervisor::new(first.path());
    let mut command = server.agent_command(first.path(), "pi-1", &board('b'), Some(&token));
    supervisor.watches(&mut command);
    let mut agent = support::Process::start(&mut command);
    assert_eq!(supervisor.wait_for("X_KILN_SCRUB_TOKEN"), "1");
    agent.wait_for("joined node=\"pi-1\"");
    agent.kill();
    // The power was cut before the token could be scrubbed: it is reported again.
    let mut agent = support::Process::start(&mut command);
    assert_eq!(supervisor.wait_for("X_KILN_SCRUB_TOKEN"), "1");
    agent.wait_for("joined node=\"pi-1\"");
    agent.kill();
    let mut agent = server.agent(second.path(), "pi-1", &board('b'), Some(&token));
    agent.wait_for("joined node=\"pi-1\"");
    let mut stranger = server.agent(third.path(), "pi-2", &board('c'), Some(&token));
    stranger.wait_for("join failed");
    let listed = String::from_utf8(server.cli(&["token", "list"]).stdout).unwrap();
    assert!(listed.lines().any(|l| l.contains("yes") && l.contains("pi-1")), "{listed}");
}

#[tokio::test]
async fn a_token_for_one_node_is_refused_for_another_name() {
    let (data, agent_data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start(data.path());
    let token = server.token(&["--node", "pi-1"]);
    let mut agent = server.agent(agent_data.path(), "pi-2", &board('b'), Some(&token));
    agent.wait_for("join failed");
    assert!(!agent_data.path().join("agent/client.crt").exists());
}

#[tokio::test]
async fn a_token_of_another_cluster_is_refused_before_its_secret_is_sent() {
    let (data, agent_data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start(data.path());
    let token = server.token(&[]);
    let other = format!("K10{}::{}", "0".repeat(64), token.split("::").nth(1).unwrap());
    let mut agent = server.agent(agent_data.path(), "pi-1", &board('b'), Some(&other));
    let line = agent.wait_for("join failed");
    assert!(line.contains("the secret was not sent"), "{line}");
    // What the server was asked for is in the tests of kiln-join, where the server is a rogue.
    let bad = server.cli(&["token", "delete", "nothing-like-it"]);
    assert!(!bad.status.success());
}

#[tokio::test]
async fn the_servers_own_name_is_refused_to_an_agent() {
    let (data, agent_data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start(data.path());
    let mut agent = server.agent(agent_data.path(), "server", &board('b'), Some(&server.token(&[])));
    let line = agent.wait_for("join failed");
    assert!(line.contains("belongs to another board"), "{line}");
}
