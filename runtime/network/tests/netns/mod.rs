//! Network namespaces for tests. Root only.

use std::fs::File;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};

use nix::sched::{CloneFlags, setns};
use nix::unistd::geteuid;

static WORLDS: AtomicU32 = AtomicU32::new(0);

/// Says whether namespaces can be made; without root there is nothing to see.
pub(crate) fn is_root() -> bool {
    let is_root = geteuid().is_root();
    if !is_root {
        println!("needs root");
    }
    is_root
}

/// Namespaces that go when this goes.
pub(crate) struct Namespaces {
    prefix: String,
    names: Vec<String>,
}

impl Namespaces {
    /// None yet.
    pub(crate) fn new() -> Self {
        let number = WORLDS.fetch_add(1, Ordering::Relaxed);
        Self { prefix: format!("kt{}-{number}", std::process::id()), names: Vec::new() }
    }

    /// Makes one.
    pub(crate) fn add(&mut self, name: &str) {
        let done = Command::new("ip").args(["netns", "add", &self.path(name)]).status().expect("iproute2 is there");
        assert!(done.success());
        self.names.push(name.to_owned());
    }

    /// The name under which the machine has it.
    pub(crate) fn path(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// Runs commands of `ip` in one, a line each.
    pub(crate) fn ip(&self, name: &str, commands: &str) {
        let mut child = Command::new("ip")
            .args(["-n", &self.path(name), "-batch", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("iproute2 is there");
        child.stdin.take().expect("a pipe").write_all(commands.as_bytes()).expect("written");
        assert!(child.wait().expect("ended").success(), "in {name}: {commands}");
    }

    /// What a command prints in one.
    pub(crate) fn shown(&self, name: &str, command: &[&str]) -> String {
        let done = Command::new("ip").args(["netns", "exec", &self.path(name)]).args(command).output();
        String::from_utf8_lossy(&done.expect("iproute2 is there").stdout).into_owned()
    }

    /// Does something in one, on a thread of its own.
    pub(crate) fn within<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let file = File::open(format!("/run/netns/{}", self.path(name))).expect("a namespace");
        thread::spawn(move || {
            setns(file, CloneFlags::CLONE_NEWNET).expect("root may enter it");
            work()
        })
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in &self.names {
            _ = Command::new("ip").args(["netns", "delete", &self.path(name)]).status();
        }
    }
}
