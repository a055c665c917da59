//! A real etcd for tests: a process of its own on loopback, with its data in a folder that goes with it.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a failed step fails the test that took it")]

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::etcd::Endpoint;

/// Where the executable is: `KILN_ETCD`, the folder that `ci/setup` fills, or the path.
fn executable() -> PathBuf {
    if let Some(path) = std::env::var_os("KILN_ETCD") {
        return path.into();
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    let tools = std::env::var_os("KILN_CI_TOOLS").map(PathBuf::from).or_else(|| cache.map(|c| c.join("kiln-ci")));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = tools.into_iter().chain(std::env::split_paths(&path));
    folders.map(|folder| folder.join("etcd")).find(|file| file.is_file()).unwrap_or_else(|| {
        panic!(
            "this test needs etcd 3.5.13 or later: run ci/setup, or install Debian's package etcd-server, \
             or name the executable in KILN_ETCD"
        )
    })
}

/// Files for TLS between etcd and its clients, PEM.
#[derive(Debug, Clone)]
pub struct ServerTls {
    /// The CA that clients' certificates must be of.
    pub ca: PathBuf,
    /// etcd's certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// A member of etcd, by itself or of several. Dropping it kills the process.
#[derive(Debug)]
pub struct Etcd {
    folder: TempDir,
    arguments: Vec<String>,
    child: Option<Child>,
    url: String,
}

impl Etcd {
    /// One that is a cluster by itself.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn start() -> Self {
        Self::cluster(1, None).remove(0)
    }

    /// One that speaks TLS, and only with clients that have a certificate.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn start_with_tls(tls: &ServerTls) -> Self {
        Self::cluster(1, Some(tls)).remove(0)
    }

    /// The members of one cluster.
    ///
    /// # Panics
    /// When they can't be started.
    pub fn cluster(size: usize, tls: Option<&ServerTls>) -> Vec<Self> {
        // Another process may take a port before etcd does.
        for _ in 0..5 {
            let mut members = Self::members(size, tls);
            members.iter_mut().for_each(Self::spawn);
            if members.iter_mut().all(Self::is_ready) {
                return members;
            }
        }
        panic!("etcd does not start");
    }

    fn members(size: usize, tls: Option<&ServerTls>) -> Vec<Self> {
        let taken: Vec<TcpListener> = (0..2 * size).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<u16> = taken.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let peer = |n: usize| format!("http://127.0.0.1:{}", ports[2 * n + 1]);
        let all: Vec<String> = (0..size).map(|n| format!("m{n}={}", peer(n))).collect();
        let member = |n: usize| {
            let folder = tempfile::tempdir().unwrap();
            let url = format!("{scheme}://127.0.0.1:{}", ports[2 * n]);
            let data = folder.path().join("data").display().to_string();
            let mut arguments: Vec<String> = [
                ["--name", &format!("m{n}")],
                ["--data-dir", &data],
                ["--listen-client-urls", &url],
                ["--advertise-client-urls", &url],
                ["--listen-peer-urls", &peer(n)],
                ["--initial-advertise-peer-urls", &peer(n)],
                ["--initial-cluster", &all.join(",")],
                ["--logger", "zap"],
            ]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect();
            if let Some(tls) = tls {
                let files =
                    [("--trusted-ca-file", &tls.ca), ("--cert-file", &tls.certificate), ("--key-file", &tls.key)];
                arguments
                    .extend(files.iter().flat_map(|(flag, file)| [(*flag).to_owned(), file.display().to_string()]));
                arguments.push("--client-cert-auth".to_owned());
            }
            Self { folder, arguments, child: None, url }
        };
        (0..size).map(member).collect()
    }

    fn spawn(&mut self) {
        let child = Command::new(executable())
            .args(&self.arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("etcd can be run");
        self.child = Some(child);
    }

    /// Whether it serves, once it does or has ended.
    fn is_ready(&mut self) -> bool {
        let output = self.child.as_mut().and_then(|child| child.stderr.take()).expect("a process with a pipe");
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        let ready = lines.any(|line| line.contains("ready to serve client requests"));
        // It must go on being able to write its log.
        std::thread::spawn(move || lines.for_each(drop));
        ready
    }

    /// Where it serves clients.
    ///
    /// # Panics
    /// Never: its own URL is one.
    pub fn endpoint(&self) -> Endpoint {
        self.url.parse().expect("a URL")
    }

    /// Where it serves clients.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ends it as a power cut does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Fails if it has ended, which is what is wanted.
            _ = child.kill();
            _ = child.wait();
        }
    }

    /// Makes it silent, as a machine that hangs: connections stay and nothing is answered.
    ///
    /// # Panics
    /// When it does not run.
    pub fn hang(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on after [`Etcd::hang`].
    ///
    /// # Panics
    /// When it does not run.
    pub fn go_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().expect("a process").id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill can be run").success());
    }

    /// Starts it again, with what it had on its disk.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&mut self) {
        self.kill();
        self.spawn();
        assert!(self.is_ready(), "etcd did not start again");
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}
