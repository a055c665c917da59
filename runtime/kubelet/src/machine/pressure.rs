//! What runs short, by the upstream kubelet's default thresholds.

use std::fs;
use std::path::Path;

use nix::sys::statvfs::statvfs;

use super::facts::{meminfo, widen};

/// Bytes of memory, and percent of the disk, that must be free.
const FREE_MEMORY: u64 = 100 << 20;
const FREE_DISK: u64 = 10;
/// Percent of the inodes, and of the process ids, that must be free.
const FREE_INODES: u64 = 5;
const FREE_PIDS: u64 = 5;

/// What the machine is short of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Memory.
    pub memory: bool,
    /// Room or inodes on the disk that pods use.
    pub disk: bool,
    /// Process ids.
    pub pids: bool,
}

impl Pressure {
    /// Looks at a machine whose file system is at `root` and whose pods' disk is that of `data`. What cannot be read
    /// is not short.
    pub(super) fn read(root: &Path, data: &Path) -> Self {
        let memory = meminfo(root, "MemAvailable").is_ok_and(|available| available < FREE_MEMORY);
        let disk = statvfs(data).is_ok_and(|disk| {
            let room = widen(disk.blocks_available()) * 100 < widen(disk.blocks()) * FREE_DISK;
            // File systems that make inodes as they go have none.
            room || widen(disk.files_available()) * 100 < widen(disk.files()) * FREE_INODES
        });
        Self {
            memory,
            disk,
            pids: pids(root).is_some_and(|(used, most)| (most - used.min(most)) * 100 < most * FREE_PIDS),
        }
    }
}

/// Threads that exist, and the most that can.
fn pids(root: &Path) -> Option<(u64, u64)> {
    let read = |path: &str| fs::read_to_string(root.join(path)).ok();
    let loads = read("proc/loadavg")?;
    let used = loads.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()?;
    let most = read("proc/sys/kernel/pid_max")?.trim().parse().ok()?;
    Some((used, most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_process_ids_run_short_below_their_thresholds() {
        let root = tempfile::tempdir().expect("a folder");
        let proc = root.path().join("proc");
        fs::create_dir_all(proc.join("sys/kernel")).expect("a folder");
        let write = |name: &str, text: &str| fs::write(proc.join(name), text).expect("a file");
        let look = || Pressure::read(root.path(), root.path());
        write("meminfo", "MemAvailable: 102401 kB\n");
        write("loadavg", "0.1 0.1 0.1 1/31129 4711\n");
        write("sys/kernel/pid_max", "32768\n");
        assert!(!look().memory && !look().pids);
        write("meminfo", "MemAvailable: 102399 kB\n");
        write("loadavg", "0.1 0.1 0.1 1/31130 4711\n");
        assert!(look().memory && look().pids);
    }
}
