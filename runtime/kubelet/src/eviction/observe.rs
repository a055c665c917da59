//! What is left.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use nix::sys::statvfs::statvfs;

use super::threshold::Signal;
use crate::cgroups::Cgroups;

/// What there is of something, and what is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Observation {
    pub(super) available: u64,
    pub(super) capacity: u64,
}

pub(super) type Observations = BTreeMap<Signal, Observation>;

/// Looks at the machine. What cannot be read is not observed, and so not short.
pub(super) fn look(root: &Path, node_fs: &Path, image_fs: &Path, cgroups: Option<&Cgroups>) -> Observations {
    let mut found = Observations::new();
    let mut see = |signal: Signal, observation: Option<Observation>| {
        if let Some(observation) = observation {
            found.insert(signal, observation);
        }
    };
    let memory = memory(root);
    see(Signal::MemoryAvailable, memory);
    let pods = cgroups.and_then(|cgroups| cgroups.working_set(cgroups.root()).ok());
    let capacity = memory.map(|memory| memory.capacity);
    see(
        Signal::AllocatableMemoryAvailable,
        capacity.zip(pods).map(|(capacity, used)| Observation { available: capacity.saturating_sub(used), capacity }),
    );
    for (path, bytes, inodes) in [
        (node_fs, Signal::NodeFsAvailable, Signal::NodeFsInodesFree),
        (image_fs, Signal::ImageFsAvailable, Signal::ImageFsInodesFree),
    ] {
        let Ok(disk) = statvfs(path) else { continue };
        // The kernel's words are of different sizes on different machines.
        #[allow(clippy::useless_conversion, reason = "u32 on some machines")]
        let (block, blocks, left) =
            (u64::from(disk.fragment_size()), u64::from(disk.blocks()), u64::from(disk.blocks_available()));
        see(bytes, Some(Observation { available: left * block, capacity: blocks * block }));
        #[allow(clippy::useless_conversion, reason = "u32 on some machines")]
        let (all, free) = (u64::from(disk.files()), u64::from(disk.files_available()));
        // File systems that make inodes as they go have none.
        see(inodes, (all > 0).then_some(Observation { available: free, capacity: all }));
    }
    see(Signal::PidAvailable, pids(root));
    found
}

/// Free memory and what the kernel can take back from files that nobody has used lately.
fn memory(root: &Path) -> Option<Observation> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let of = |name: &str| -> Option<u64> {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
    };
    Some(Observation { available: of("MemFree:")? + of("Inactive(file):")?, capacity: of("MemTotal:")? })
}

fn pids(root: &Path) -> Option<Observation> {
    let read = |path: &str| fs::read_to_string(root.join(path)).ok();
    let loads = read("proc/loadavg")?;
    let used: u64 = loads.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()?;
    let most: u64 = read("proc/sys/kernel/pid_max")?.trim().parse().ok()?;
    let threads: u64 = read("proc/sys/kernel/threads-max").and_then(|text| text.trim().parse().ok()).unwrap_or(most);
    let capacity = most.min(threads);
    Some(Observation { available: capacity.saturating_sub(used), capacity })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_tell_what_is_left() {
        let root = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(root.path().join("proc/sys/kernel")).expect("folders");
        let write = |name: &str, text: &str| fs::write(root.path().join("proc").join(name), text).expect("a file");
        write("meminfo", "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 700 kB\nInactive(file): 50 kB\n");
        write("loadavg", "0.1 0.1 0.1 1/400 4711\n");
        write("sys/kernel/pid_max", "4096\n");
        write("sys/kernel/threads-max", "1000\n");
        let found = look(root.path(), root.path(), Path::new("/no/such/place"), None);
        let memory = Observation { available: 150 << 10, capacity: 1000 << 10 };
        assert_eq!(found.get(&Signal::MemoryAvailable), Some(&memory));
        assert_eq!(found.get(&Signal::PidAvailable), Some(&Observation { available: 600, capacity: 1000 }));
        assert!(found[&Signal::NodeFsAvailable].capacity > 0);
        assert!(
            !found.contains_key(&Signal::ImageFsAvailable) && !found.contains_key(&Signal::AllocatableMemoryAvailable)
        );
    }
}
