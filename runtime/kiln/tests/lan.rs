//! Two machines on a network of their own (namespaces, joined by a cable): the agent is told no address.

#![allow(clippy::unwrap_used, reason = "a helper that unwraps fails the test with the place")]

mod support;

use std::process::{Child, Command, Stdio};

use support::{Process, Server, board, kiln, ready};

const INSIDE: &str = "KILN_TEST_INSIDE_NAMESPACE";

/// Runs the named test again inside a new network namespace; says whether this is that run.
fn inside_a_namespace(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "the test failed inside its namespace");
    false
}

fn run(words: &str) {
    let mut words = words.split(' ');
    let status = Command::new(words.next().unwrap()).args(words).status().unwrap();
    assert!(status.success());
}

/// The agent's machine: a namespace that lives as long as the process in it.
struct Machine(Child);

impl Machine {
    fn new() -> Self {
        // `cat` says that the namespace is there by echoing, and ends with the pipe.
        let mut child = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
        Machine(child)
    }

    fn enter(&self) -> Vec<String> {
        vec!["nsenter".to_owned(), format!("--net=/proc/{}/ns/net", self.0.id())]
    }

    fn run(&self, words: &str) {
        run(&format!("{} {words}", self.enter().join(" ")));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_agent_finds_the_server_by_mdns_and_follows_it_to_another_address() {
    if !inside_a_namespace("an_agent_finds_the_server_by_mdns_and_follows_it_to_another_address") {
        return;
    }
    let machine = Machine::new();
    run("ip link set lo up");
    run("ip link add left type veth peer name right");
    run(&format!("ip link set right netns {}", machine.0.id()));
    run("ip link set left up");
    machine.run("ip link set lo up");
    machine.run("ip addr add 10.99.0.2/24 dev right");
    machine.run("ip link set right up");

    let (data, agent_data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut command = kiln();
    command.args(["server", "--port", "6443", "--node-name", "server", "--data-dir"]).arg(data.path());
    command.env("KILN_BOARD_ID", board('a'));
    let mut process = Process::start(&mut command);
    let line = process.wait_for("serving url=");
    // As at boot, the server's address comes after the server.
    run("ip addr add 10.99.0.1/24 dev left");
    process.wait_for("the server has a new certificate");
    let server = Server::of(process, &line, data.path());

    let token_file = data.path().join("token");
    std::fs::write(&token_file, server.token(&[])).unwrap();
    let enter = machine.enter();
    let mut command = Command::new(&enter[0]);
    command.args(&enter[1..]).arg(env!("CARGO_BIN_EXE_kiln"));
    command.args(["agent", "--server", "discover", "--node-name", "pi-1", "--data-dir"]).arg(agent_data.path());
    command.arg("--token-file").arg(&token_file).env("KILN_BOARD_ID", board('b'));
    let mut agent = Process::start(&mut command);
    agent.wait_for("joined node=\"pi-1\" server=\"https://10.99.0.1:6443\"");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(server.node("pi-1", ready));

    // In this order: with the first address of a network its others go too.
    run("ip addr del 10.99.0.1/24 dev left");
    run("ip addr add 10.99.0.7/24 dev left");
    agent.wait_for("the server has moved server=\"https://10.99.0.7:6443\"");
    // It lives on under its name; that needs its Lease to be renewed at the new address.
    runtime.block_on(server.node("server", |node| node.to_string().contains("10.99.0.7")));
    runtime.block_on(server.node("pi-1", ready));
}
