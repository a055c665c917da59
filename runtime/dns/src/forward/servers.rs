//! Who can be asked, and in which order.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use nix::net::if_::if_nametoindex;
use tokio::time::Instant;

use crate::corefile::{Forward, Policy, Target};

const PORT: u16 = 53;
/// How often it is looked whether a file has changed, when it is needed at all.
const LOOK: Duration = Duration::from_secs(5);
/// How long a server that did not answer is asked last.
const SHUN: Duration = Duration::from_secs(10);
/// Where a server is that names none (resolv.conf(5)).
const NONE_NAMED: &str = "127.0.0.1";

#[derive(Default)]
pub(super) struct Servers {
    known: Mutex<Known>,
    turn: AtomicUsize,
}

#[derive(Default)]
struct Known {
    own: Vec<IpAddr>,
    files: HashMap<String, Listed>,
    /// When they failed to answer.
    faults: HashMap<SocketAddr, Instant>,
}

/// What a file names.
struct Listed {
    servers: Arc<[SocketAddr]>,
    modified: Option<SystemTime>,
    looked: Instant,
}

impl Servers {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_own(&self, addresses: &[IpAddr]) {
        self.known().own = addresses.to_vec();
    }

    /// The servers for a domain, in the order in which they are to be asked.
    pub(super) fn of(&self, forward: &Forward) -> Vec<SocketAddr> {
        let mut known = self.known();
        let mut servers = Vec::new();
        for target in &forward.to {
            match target {
                Target::Server(address) => servers.push(*address),
                Target::File(path) => servers.extend(known.file(path).iter()),
            }
        }
        // A question to itself would come back for ever.
        servers.retain(|server| server.port() != PORT || !known.own.contains(&server.ip()));
        if servers.len() > 1 {
            let turn = match forward.policy {
                Policy::Sequential => 0,
                Policy::RoundRobin => self.turn.fetch_add(1, Ordering::Relaxed),
                Policy::Random => usize::from(super::exchange::number()),
            };
            let first = turn % servers.len();
            servers.rotate_left(first);
            let now = Instant::now();
            servers.sort_by_key(|server| known.faults.get(server).is_some_and(|at| now < *at + SHUN));
        }
        servers
    }

    pub(super) fn answered(&self, server: SocketAddr) {
        self.known().faults.remove(&server);
    }

    pub(super) fn failed(&self, server: SocketAddr) {
        let (mut known, now) = (self.known(), Instant::now());
        known.faults.retain(|_, at| now < *at + SHUN);
        known.faults.insert(server, now);
    }
}

impl Known {
    fn file(&mut self, path: &str) -> Arc<[SocketAddr]> {
        let now = Instant::now();
        if let Some(listed) = self.files.get_mut(path) {
            if now < listed.looked + LOOK {
                return Arc::clone(&listed.servers);
            }
            listed.looked = now;
            if listed.modified == modified(path) {
                return Arc::clone(&listed.servers);
            }
        }
        let modified = modified(path);
        let servers: Arc<[SocketAddr]> = match std::fs::read_to_string(path) {
            Ok(text) => parse(&text).into(),
            Err(error) => {
                tracing::warn!(path, %error, "cannot read which servers there are for names outside the cluster");
                Arc::default()
            }
        };
        self.files.insert(path.to_owned(), Listed { servers: Arc::clone(&servers), modified, looked: now });
        servers
    }
}

fn modified(path: &str) -> Option<SystemTime> {
    Path::new(path).metadata().and_then(|metadata| metadata.modified()).ok()
}

/// The servers that a text in the form of resolv.conf names.
fn parse(text: &str) -> Vec<SocketAddr> {
    let lines = text.lines().filter_map(|line| line.trim_start().strip_prefix("nameserver"));
    let words =
        lines.filter_map(|rest| rest.starts_with(char::is_whitespace).then(|| rest.split_whitespace().next())?);
    let mut servers: Vec<SocketAddr> = words.filter_map(server).collect();
    if servers.is_empty() {
        servers.extend(server(NONE_NAMED));
    }
    servers
}

fn server(word: &str) -> Option<SocketAddr> {
    if let Some((address, link)) = word.split_once('%') {
        let address: Ipv6Addr = address.parse().ok()?;
        let index = link.parse().ok().or_else(|| if_nametoindex(link).ok())?;
        return Some(SocketAddrV6::new(address, PORT, 0, index).into());
    }
    Some(SocketAddr::new(word.parse().ok()?, PORT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corefile::Corefile;
    use std::collections::BTreeMap;

    fn forward(text: &str) -> Forward {
        let data = BTreeMap::from([("x.override".to_owned(), text.to_owned())]);
        Corefile::parse(&data).unwrap().blocks[0].forwards[0].clone()
    }

    #[test]
    fn resolv_conf_is_read_as_its_manual_says() {
        let text = "# nameserver 1.1.1.1\nnameserver 192.168.1.1\n nameserver\tfd00::1 # x\nnameserver fe80::1%1\nnameservers 2.2.2.2\nnameserver x\n";
        let wanted = ["192.168.1.1:53", "[fd00::1]:53", "[fe80::1%1]:53"].map(|text| text.parse().unwrap());
        assert_eq!(parse(text), wanted);
        assert_eq!(parse("search x\n"), ["127.0.0.1:53".parse().unwrap()]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_does_not_answer_is_asked_last_for_a_while_and_itself_never() {
        let servers = Servers::default();
        let forward = forward("forward . 10.0.0.1 10.43.0.10 10.0.0.2 {\n policy sequential\n}");
        servers.set_own(&["10.43.0.10".parse().unwrap()]);
        let order = || servers.of(&forward).iter().map(|server| server.ip().to_string()).collect::<Vec<_>>();
        assert_eq!(order(), ["10.0.0.1", "10.0.0.2"]);
        servers.failed("10.0.0.1:53".parse().unwrap());
        assert_eq!(order(), ["10.0.0.2", "10.0.0.1"]);
        tokio::time::advance(SHUN).await;
        assert_eq!(order(), ["10.0.0.1", "10.0.0.2"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_file_is_seen_and_a_missing_one_names_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        let (servers, forward) = (Servers::default(), forward(&format!("forward . {}", path.display())));
        assert!(servers.of(&forward).is_empty());
        for address in ["10.0.0.1", "10.0.0.2"] {
            std::fs::write(&path, format!("nameserver {address}\n")).unwrap();
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            // Two writes within a tick of the file system's clock would look like one.
            let age = if address == "10.0.0.1" { 10 } else { 0 };
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
            tokio::time::advance(LOOK).await;
            assert_eq!(servers.of(&forward), [SocketAddr::new(address.parse().unwrap(), PORT)]);
        }
    }
}
