//! The command line: what is printed, and how failures are told.

#![allow(clippy::unwrap_used, reason = "a helper that unwraps fails the test with the place")]

mod support;

use std::process::Output;

use kiln_client::ListParams;
use kiln_pki::{Authority, secret};
use serde_json::{Value, json};
use support::{Server, Supervisor, board, kiln};

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

#[tokio::test]
async fn a_server_card_brings_its_ca_and_tokens_and_they_may_leave_the_card_afterwards() {
    let (data, card, agent_data) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ca = Authority::create(std::time::SystemTime::now()).unwrap();
    let (id, word) = secret::new_token().unwrap();
    let tokens = json!([{"id": id, "secretSha256": secret::hash(&word), "description": "card", "expires": null, "singleUse": false, "node": null}]);
    for (name, text) in [
        ("ca.crt", ca.certificate_pem().to_owned()),
        ("ca.key", ca.key_pem()),
        ("bootstrap-tokens.json", tokens.to_string()),
    ] {
        std::fs::write(card.path().join(name), text).unwrap();
    }
    let supervisor = Supervisor::new(card.path());
    let mut command = kiln();
    command.args(["server", "--bind", "127.0.0.1", "--port", "0", "--node-name", "server"]).args(support::APART);
    command.arg("--data-dir").arg(data.path()).arg("--cluster-dir").arg(card.path()).env("KILN_BOARD_ID", board('a'));
    supervisor.watches(&mut command);
    let mut process = support::Process::start(&mut command);
    assert_eq!(supervisor.wait_for("X_KILN_IMPORTED_CA"), "1");
    process.wait_for("joined");
    process.terminate();

    for name in ["ca.key", "bootstrap-tokens.json"] {
        std::fs::remove_file(card.path().join(name)).unwrap();
    }
    let card_flag = card.path().display().to_string();
    let server = Server::start_with(data.path(), &["--port", "0", "--cluster-dir", &card_flag]);
    let token = format!("K10{}::{id}:{word}", ca.hash());
    let mut agent = server.agent(agent_data.path(), "pi-1", &board('b'), Some(&token));
    agent.wait_for("joined node=\"pi-1\"");
}

#[tokio::test]
async fn tokens_are_made_listed_and_deleted() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start_with(data.path(), &["--port", "0", "--no-agent"]);
    let made =
        server.cli(&["token", "create", "--ttl", "0", "--node", "pi-1", "--description", "the lab", "-o", "json"]);
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    assert_eq!((&made["expires"], &made["node"]), (&Value::Null, &json!("pi-1")));
    let token = made["token"].as_str().unwrap();
    let listed = server.cli(&["token", "list", "-o", "json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed[0]["id"], made["id"]);
    assert_eq!(listed[0]["description"], "the lab");
    assert!(!listed.to_string().contains(token.rsplit(':').next().unwrap()), "no secret is kept");
    let table = text(&server.cli(&["token", "list"]));
    assert!(table.contains("never") && table.contains("the lab"), "{table}");
    assert!(server.cli(&["token", "delete", token]).status.success());
    let again = server.cli(&["token", "delete", token]);
    assert_eq!(again.status.code(), Some(5), "{}", text(&again));
}

#[tokio::test]
async fn a_server_that_starts_and_ends_in_order_has_nothing_to_warn_of() {
    let data = tempfile::tempdir().unwrap();
    for run in ["first", "second"] {
        let mut server = Server::start_with(data.path(), &["--port", "0", "--advertise-address", "192.0.2.1"]);
        server.process.wait_for("joined");
        server.node("server", support::ready).await;
        // What the controllers make last of all that a new namespace has.
        let client = server.admin();
        let namespace = json!({"metadata": {"name": run}});
        client.create::<Value>("/api/v1/namespaces", &namespace).await.unwrap();
        for (what, name) in [("serviceaccounts", "default"), ("configmaps", "kube-root-ca.crt")] {
            let path = format!("/api/v1/namespaces/{run}/{what}");
            let by_name = ListParams { fields: format!("metadata.name={name}"), ..ListParams::default() };
            let list = client.list::<Value>(&path, &by_name).await.unwrap();
            let mut watch = client.watch::<Value>(&path, &by_name, "0", support::PATIENCE).await.unwrap();
            assert!(!list.items.is_empty() || watch.next().await.unwrap().is_some());
        }
        client.get::<Value>("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes").await.unwrap();
        let last = format!("written-last-in-the-{run}");
        let map = json!({"metadata": {"name": last}});
        client.create::<Value>("/api/v1/namespaces/default/configmaps", &map).await.unwrap();
        let said = server.process.end();
        // The kubelet's port may be another test's.
        let warned = |line: &str| (line.contains("WARN") || line.contains("ERROR")) && !line.contains("port 10250");
        assert!(!said.lines().any(warned), "{run}: {said}");
        let database = std::fs::read(data.path().join("server/kiln.db")).unwrap();
        let found = database.windows(last.len()).any(|window| window == last.as_bytes());
        assert!(found, "{run}: the log is in the database at the end");
    }
}

#[test]
fn a_server_without_a_node_ends_in_order_with_its_machine() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start_with(data.path(), &["--port", "0", "--no-agent"]);
    let said = server.process.end_by(nix::sys::signal::Signal::SIGPWR);
    assert!(said.contains("SIGPWR: shutting down"), "{said}");
}

#[tokio::test]
async fn the_kubeconfig_works_and_takes_another_address() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start_with(data.path(), &["--port", "0", "--no-agent"]);
    let printed = String::from_utf8(server.cli(&["kubeconfig"]).stdout).unwrap();
    let path = data.path().join("printed");
    std::fs::write(&path, &printed).unwrap();
    let listed = kiln().args(["token", "list", "--kubeconfig"]).arg(&path).output().unwrap();
    assert!(listed.status.success(), "{}", text(&listed));
    let other = String::from_utf8(server.cli(&["kubeconfig", "--server", "https://pi.local:6443"]).stdout).unwrap();
    assert!(other.contains("server: \"https://pi.local:6443\""), "{other}");
    let status = text(&server.cli(&["status"]));
    assert!(status.contains("node:         server (server)") && status.contains("commits since the start"), "{status}");
}

#[tokio::test]
async fn a_file_says_what_flags_say_and_flags_and_variables_go_before_it() {
    let data = tempfile::tempdir().unwrap();
    let sample =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/server-flags.toml")).unwrap();
    let file = data.path().join("server.toml");
    std::fs::write(&file, sample).unwrap();
    let kubeconfig = data.path().join("kubeconfig");
    let mut command = kiln();
    command.args(["server", "--bind", "127.0.0.1", "--port", "0", "--config"]).arg(&file).arg("--data-dir");
    command.arg(data.path()).env("KILN_KUBECONFIG_OUTPUT", &kubeconfig).env("KILN_BOARD_ID", board('a'));
    command.env("KILN_AGENT_TOKEN", "abcdef.0123456789abcdef");
    let mut process = support::Process::start(&mut command);
    let line = process.wait_for("serving url=\"https://127.0.0.1:");
    let server = Server::of(process, &line, data.path());
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&kubeconfig).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o640, "the mode is the file's");
    let listed = kiln().args(["token", "list", "--kubeconfig"]).arg(&kubeconfig).output().unwrap();
    assert!(text(&listed).contains("abcdef"), "{}", text(&listed));
    let issuer: Value = server.admin().get("/.well-known/openid-configuration").await.unwrap();
    assert_eq!(issuer["issuer"], "https://kube.example.org");
}

#[test]
fn failures_are_told_with_their_code() {
    let dir = tempfile::tempdir().unwrap();
    let flags = dir.path().join("flags.toml");
    std::fs::write(&flags, "disable-agent = true\ntls-sans = [\"a\"]\n").unwrap();
    let flags = flags.display().to_string();
    let config = dir.path().join("node.toml");
    std::fs::write(&config, "version = 1\n[node]\nrole = \"server\"\nnmae = \"x\"\n").unwrap();
    let run = |words: &[&str]| kiln().args(words).arg("--data-dir").arg(dir.path()).output().unwrap();
    let config = config.display().to_string();
    for (words, code, part) in [
        (&["server", "--frobnicate"][..], 2, "unexpected argument"),
        (&["server", "--config", &config], 3, "node.toml:4:1: unknown key `nmae`; did you mean `name`?"),
        (&["server", "--config", &flags], 3, "flags.toml:2:1: unknown key `tls-sans`; did you mean `tls-san`?"),
        (&["server", "--kubelet-arg", "max-pod=5"], 2, "it has node-labels, register-with-taints, node-ip"),
        (
            &["server", "--kube-apiserver-arg", "v=9"],
            2,
            "the API server has no `v`; it has admission-control-config-file, api-audiences",
        ),
        (&["server", "--datastore-endpoint", "mysql://x"], 2, "is no endpoint of etcd"),
        (&["server", "--datastore-endpoint", "https://127.0.0.1:1"], 3, "the same --token"),
        (&["server", "--cluster-dns", "8.8.8.8"], 3, "is not in services'"),
        (
            &["server", "--disable", "mdns,severlb"],
            3,
            "--disable severlb: there is no part and no manifest of this name",
        ),
        (
            &["server", "--agent-token", "short", "--disable", "mdns", "--port", "0", "--bind", "127.0.0.1"],
            3,
            "abcdef.0",
        ),
        (&["agent"], 3, "--server"),
        (&["agent", "--node-name", "No Name"], 2, "is no node name"),
        (&["agent", "--server", "http://x"], 2, "starts with https://"),
        (&["token", "list"], 3, "run this on a server"),
        (&["token", "create", "--ttl", "soon"], 2, "write a number with s, m, h or d"),
        (&["kubeconfig"], 3, "admin.kubeconfig"),
        (&["status"], 6, "no kiln server or agent has run"),
    ] {
        let output = run(words);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {}", text(&output));
        assert!(text(&output).contains(part), "{words:?}: {}", text(&output));
    }
}

#[test]
fn version_completions_and_manual_are_printed() {
    for words in [&["version"][..], &["version", "-o", "json"], &["completions", "bash"], &["man"], &["--help"]] {
        let output = kiln().args(words).output().unwrap();
        assert!(output.status.success() && output.stdout.len() > 20, "{words:?}: {}", text(&output));
    }
    let help = text(&kiln().arg("--help").output().unwrap());
    assert!(help.contains("Exit codes:") && help.contains("the server refused"), "{help}");
    let server = text(&kiln().args(["server", "--help"]).output().unwrap());
    for part in ["Listener:", "Cluster:", "Access:", "Datastore:", "Node:", "Examples:", "KILN_DATASTORE_ENDPOINT"] {
        assert!(server.contains(part), "{part}: {server}");
    }
}
