//! Runs the real binary on loopback and waits for what it says and does.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use kiln_client::https::Https;
use kiln_client::kubeconfig::Kubeconfig;
use kiln_client::{Client, ListParams, WatchEvent};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) fn kiln() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("KILN_") {
            command.env_remove(variable);
        }
    }
    command.env_remove("KUBECONFIG").env_remove("NOTIFY_SOCKET");
    command
}

/// A running `kiln` and what it says.
pub(crate) struct Process {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let pipes: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for pipe in pipes {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        Process { child, lines, said: Vec::new() }
    }

    /// The next line that holds `part`.
    pub(crate) fn wait_for(&mut self, part: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.said.push(line.clone());
                    if line.contains(part) {
                        return line;
                    }
                }
                Err(why @ (RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected)) => {
                    panic!("{why} while waiting for `{part}`; it said:\n{}", self.said.join("\n"));
                }
            }
        }
    }

    /// All that it has said so far and that was waited through.
    pub(crate) fn said(&self) -> String {
        self.said.join("\n")
    }

    /// Ends it in order, and expects that to succeed.
    pub(crate) fn terminate(mut self) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}; it said:\n{}", self.said());
    }

    /// Ends it in order, and answers all that it has said.
    pub(crate) fn end(mut self) -> String {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        // The lines end with the process.
        self.said.extend(self.lines.iter());
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}; it said:\n{}", self.said());
        self.said()
    }

    /// Ends it as a power cut does.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server with its data folder.
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) url: String,
    dir: PathBuf,
}

impl Server {
    /// Starts one as node `server` on a port of its choice.
    pub(crate) fn start(dir: &Path) -> Self {
        Server::start_with(dir, &["--port", "0"])
    }

    pub(crate) fn start_with(dir: &Path, arguments: &[&str]) -> Self {
        let mut command = kiln();
        command.args(["server", "--bind", "127.0.0.1", "--no-mdns", "--node-name", "server", "--data-dir"]);
        command.arg(dir).args(arguments).env("KILN_BOARD_ID", "a".repeat(64));
        let mut process = Process::start(&mut command);
        let line = process.wait_for("serving url=");
        Server::of(process, &line, dir)
    }

    /// One that was started otherwise and has said this line, which holds its URL.
    pub(crate) fn of(process: Process, line: &str, dir: &Path) -> Self {
        let url = line.split("url=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap().to_owned();
        Server { process, url, dir: dir.to_owned() }
    }

    pub(crate) fn port(&self) -> &str {
        self.url.rsplit(':').next().unwrap()
    }

    /// Runs a verb with this server's data folder.
    pub(crate) fn cli(&self, words: &[&str]) -> Output {
        kiln().args(words).arg("--data-dir").arg(&self.dir).output().unwrap()
    }

    /// Makes a join token.
    pub(crate) fn token(&self, flags: &[&str]) -> String {
        let output = self.cli(&[&["token", "create"], flags].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// A client with all rights.
    pub(crate) fn admin(&self) -> Client {
        let path = self.dir.join("server/admin.kubeconfig");
        Client::new(Https::new(Kubeconfig::load(&path).unwrap().https(None, &path).unwrap()).unwrap())
    }

    /// Starts an agent on `board` that keeps its data in `dir`.
    pub(crate) fn agent(&self, dir: &Path, name: &str, board: &str, token: Option<&str>) -> Process {
        Process::start(&mut self.agent_command(dir, name, board, token))
    }

    pub(crate) fn agent_command(&self, dir: &Path, name: &str, board: &str, token: Option<&str>) -> Command {
        let mut command = kiln();
        command.args(["agent", "--server", &self.url, "--node-name", name, "--data-dir"]).arg(dir);
        command.env("KILN_BOARD_ID", board);
        if let Some(token) = token {
            command.env("KILN_TOKEN", token);
        }
        command
    }

    /// The node of this name once `condition` holds.
    pub(crate) async fn node(&self, name: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let client = self.admin();
        let params = ListParams { fields: format!("metadata.name={name}"), ..ListParams::default() };
        let path = "/api/v1/nodes";
        let waiting = async {
            let listed = client.list::<Value>(path, &params).await.unwrap();
            if let Some(node) = listed.items.into_iter().find(|n| condition(n)) {
                return node;
            }
            let mut watch = client.watch::<Value>(path, &params, &listed.resource_version, PATIENCE).await.unwrap();
            while let Some(event) = watch.next().await.unwrap() {
                match event {
                    WatchEvent::Added(node) | WatchEvent::Modified(node) if condition(&node) => {
                        return node;
                    }
                    _ => {}
                }
            }
            panic!("the watch of node {name} ended");
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("node {name} did not get there"))
    }
}

/// Whether a node's Ready condition is true.
pub(crate) fn ready(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// PID 1's end of the notify socket.
pub(crate) struct Supervisor {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Supervisor {
    pub(crate) fn new(dir: &Path) -> Self {
        let path = dir.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Supervisor { socket, path }
    }

    pub(crate) fn watches(&self, command: &mut Command) {
        command.env("NOTIFY_SOCKET", &self.path);
    }

    /// The value of the next variable of this name.
    pub(crate) fn wait_for(&self, name: &str) -> String {
        let mut buffer = [0; 4096];
        loop {
            let length = match self.socket.recv(&mut buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                length => length.unwrap(),
            };
            let message = String::from_utf8_lossy(&buffer[..length]);
            let value = message.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix('='));
            if let Some(value) = value {
                return value.to_owned();
            }
        }
    }
}

/// A board's id.
pub(crate) fn board(digit: char) -> String {
    digit.to_string().repeat(64)
}
