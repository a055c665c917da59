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
    data: Option<PathBuf>,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        let data = command.get_args().skip_while(|argument| *argument != "--data-dir").nth(1).map(PathBuf::from);
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
        Process { child, lines, said: Vec::new(), data }
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

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Ends it in order, and expects that to succeed.
    pub(crate) fn terminate(mut self) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}; it said:\n{}", self.said());
    }

    /// Ends it in order, and answers all that it has said.
    pub(crate) fn end(self) -> String {
        self.end_by(Signal::SIGTERM)
    }

    /// Ends it in order by another signal, and answers all that it has said.
    pub(crate) fn end_by(mut self, signal: Signal) -> String {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
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
        if let Some(data) = &self.data {
            end_runtime(data);
        }
    }
}

/// Ends the containerd of a node that has ended: it goes on by design, for the sake of the pods.
fn end_runtime(data: &Path) {
    let config = data.join("containerd-state/config.toml");
    let is_argument =
        |text: &[u8]| text.split(|byte| *byte == 0).any(|word| word == config.as_os_str().as_encoded_bytes());
    for entry in std::fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let (Some(pid), Ok(text)) = (pid, std::fs::read(entry.path().join("cmdline")))
            && is_argument(&text)
        {
            // It may have ended meanwhile.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
    }
}

/// A server with its data folder.
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) url: String,
    dir: PathBuf,
}

/// Leaves this machine's own network alone, which the nodes of all tests share, and does not mind how full its disk is.
pub(crate) const APART: [&str; 7] = [
    "--flannel-backend=none",
    "--disable-kube-proxy",
    "--disable=dns",
    "--disable=ingress",
    "--disable=servicelb",
    "--no-mdns",
    "--kubelet-arg=eviction-hard=memory.available<50Mi,nodefs.available<1%,imagefs.available<1%",
];

/// A network of somebody else's in the data folder of a node that has none of ours: with one, its runtime is ready.
pub(crate) fn network(dir: &Path) {
    let folder = dir.join("agent/cni/net.d");
    std::fs::create_dir_all(&folder).unwrap();
    let list = r#"{"cniVersion": "1.0.0", "name": "alone", "plugins": [{"type": "loopback"}]}"#;
    std::fs::write(folder.join("10-alone.conflist"), list).unwrap();
}

impl Server {
    /// Starts one as node `server` on a port of its choice.
    pub(crate) fn start(dir: &Path) -> Self {
        Server::start_with(dir, &["--port", "0"])
    }

    pub(crate) fn start_with(dir: &Path, arguments: &[&str]) -> Self {
        let mut command = kiln();
        network(dir);
        command.args(["server", "--bind", "127.0.0.1", "--node-name", "server"]).args(APART);
        command.arg("--data-dir").arg(dir).args(arguments).env("KILN_BOARD_ID", "a".repeat(64));
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

    /// Connections of somebody with all rights.
    pub(crate) fn connections(&self) -> Https {
        let path = self.dir.join("server/admin.kubeconfig");
        Https::new(Kubeconfig::load(&path).unwrap().https(None, &path).unwrap()).unwrap()
    }

    /// A client with all rights.
    pub(crate) fn admin(&self) -> Client {
        Client::new(self.connections())
    }

    /// Starts an agent on `board` that keeps its data in `dir`.
    pub(crate) fn agent(&self, dir: &Path, name: &str, board: &str, token: Option<&str>) -> Process {
        Process::start(&mut self.agent_command(dir, name, board, token))
    }

    pub(crate) fn agent_command(&self, dir: &Path, name: &str, board: &str, token: Option<&str>) -> Command {
        network(dir);
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
