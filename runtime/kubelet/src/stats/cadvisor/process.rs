//! What the kernel says of processes: their files, and the network that they see.

use std::fs;
use std::path::Path;

/// Interfaces that tell nothing of a pod's traffic with others, by how their names begin.
const IGNORED: [&str; 4] = ["lo", "veth", "docker", "nerdctl"];

/// Processes, and what they have open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Processes {
    pub(super) count: u64,
    pub(super) files: u64,
    /// Those of the files that are sockets.
    pub(super) sockets: u64,
}

impl Processes {
    /// What is gone meanwhile has nothing open.
    pub(super) fn of(pids: &[u32]) -> Self {
        let mut processes = Self { count: pids.len() as u64, ..Self::default() };
        for pid in pids {
            for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
                processes.files += 1;
                let is_socket = fs::read_link(entry.path())
                    .is_ok_and(|to| to.as_os_str().as_encoded_bytes().starts_with(b"socket:"));
                processes.sockets += u64::from(is_socket);
            }
        }
        processes
    }
}

/// What went through an interface in one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    pub(super) bytes: u64,
    pub(super) packets: u64,
    pub(super) errors: u64,
    pub(super) dropped: u64,
}

/// An interface of a network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) received: Traffic,
    pub(super) sent: Traffic,
}

/// The interfaces that a process sees, which `of` names as `/proc` does: by its number, or `self`.
pub(super) fn interfaces(of: &str) -> Vec<Interface> {
    let text = fs::read_to_string(Path::new("/proc").join(of).join("net/dev")).unwrap_or_default();
    text.lines().filter_map(interface).collect()
}

/// A line of proc_pid_net(5)'s `dev`.
fn interface(line: &str) -> Option<Interface> {
    let (name, rest) = line.split_once(':')?;
    let (name, fields): (_, Vec<u64>) = (name.trim(), rest.split_whitespace().map_while(|n| n.parse().ok()).collect());
    let traffic = |from: usize| {
        let of = |at: usize| fields.get(from + at).copied();
        Some(Traffic { bytes: of(0)?, packets: of(1)?, errors: of(2)?, dropped: of(3)? })
    };
    let is_ignored = IGNORED.iter().any(|prefix| name.starts_with(prefix));
    let found = Interface { name: name.to_owned(), received: traffic(0)?, sent: traffic(8)? };
    (!is_ignored).then_some(found)
}

/// The path of a disk by its numbers; empty, if the kernel has none with a name.
pub(super) fn disk((major, minor): (u32, u32)) -> String {
    let link = fs::read_link(format!("/sys/dev/block/{major}:{minor}")).ok();
    let name = link.as_deref().and_then(Path::file_name);
    name.map(|name| format!("/dev/{}", name.to_string_lossy())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_read_but_for_those_that_tell_nothing() {
        let text = "Inter-|   Receive          |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes\n\
            \x20   lo: 3193 29 0 0 0 0 0 0 3193 29 0 0 0 0 0 0\n  eth0: 305 9 1 2 0 0 0 0 589 5 3 4 0 0 0 0\nveth0a: 1 1 1 1 1 1 1 1 1 1 1 1\n";
        let found: Vec<_> = text.lines().filter_map(interface).collect();
        let received = Traffic { bytes: 305, packets: 9, errors: 1, dropped: 2 };
        let sent = Traffic { bytes: 589, packets: 5, errors: 3, dropped: 4 };
        assert_eq!(found, [Interface { name: "eth0".to_owned(), received, sent }]);
    }

    #[test]
    fn open_files_are_counted_and_sockets_among_them() {
        let own = [std::process::id()];
        let before = Processes::of(&own);
        let _pair = std::os::unix::net::UnixStream::pair().expect("sockets");
        let after = Processes::of(&own);
        assert_eq!((before.count, after.count), (1, 1));
        // Other tests open and close files meanwhile.
        assert!(after.files >= 2 && after.sockets >= 2, "{after:?}");
        assert_eq!(Processes::of(&[u32::MAX]), Processes { count: 1, files: 0, sockets: 0 });
    }
}
