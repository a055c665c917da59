//! What the kernel says of the whole machine.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

use nix::sys::statvfs::statvfs;

/// Figures of the machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Machine {
    /// Nanoseconds of CPU since the boot.
    pub(super) cpu: u64,
    /// Bytes.
    pub(super) total: u64,
    pub(super) free: u64,
    pub(super) available: u64,
    pub(super) rss: u64,
    pub(super) swap_total: u64,
    pub(super) swap_free: u64,
    /// Seconds since 1970.
    pub(super) booted: u64,
    /// Processes and threads: those that there are, and the most that there can be.
    pub(super) processes: u64,
    pub(super) most_processes: u64,
}

impl Machine {
    /// Reads it; what can't be read is 0.
    pub(super) fn read() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let mut machine = Self::parse(&read("/proc/stat"), &read("/proc/meminfo"));
        // Such as `0.10 0.20 0.30 1/234 5678`: of all, so many run.
        let load = read("/proc/loadavg");
        let tasks = load.split(' ').nth(3).and_then(|t| t.split_once('/')).and_then(|(_, all)| all.parse().ok());
        machine.processes = tasks.unwrap_or_default();
        let limit = |path: &str| read(path).trim().parse::<u64>().ok();
        let limits = [limit("/proc/sys/kernel/pid_max"), limit("/proc/sys/kernel/threads-max")];
        machine.most_processes = limits.into_iter().flatten().min().unwrap_or_default();
        machine
    }

    fn parse(stat: &str, memory: &str) -> Self {
        let field = |name: &str| {
            let line = stat.lines().find(|l| l.split(' ').next() == Some(name)).unwrap_or_default();
            line.split_whitespace().skip(1).map(|n| n.parse().unwrap_or(0)).collect::<Vec<u64>>()
        };
        // user, nice, system, idle, iowait, irq, softirq, steal: in hundredths of a second.
        let ticks: u64 =
            field("cpu").iter().take(8).enumerate().filter(|(i, _)| !matches!(i, 3 | 4)).map(|(_, t)| t).sum();
        let memory: HashMap<&str, u64> = memory
            .lines()
            .filter_map(|line| {
                let (name, rest) = line.split_once(':')?;
                Some((name, rest.split_whitespace().next()?.parse::<u64>().ok()? * 1024))
            })
            .collect();
        let of = |name: &str| memory.get(name).copied().unwrap_or_default();
        Self {
            cpu: ticks.saturating_mul(10_000_000),
            total: of("MemTotal"),
            free: of("MemFree"),
            available: of("MemAvailable"),
            rss: of("AnonPages"),
            swap_total: of("SwapTotal"),
            swap_free: of("SwapFree"),
            booted: field("btime").first().copied().unwrap_or_default(),
            ..Self::default()
        }
    }

    /// What could not be freed without loss.
    pub(super) fn working_set(&self) -> u64 {
        self.total.saturating_sub(self.available)
    }
}

/// How the machine's processors are built.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Topology {
    /// Cores, of which each may be several processors.
    pub(super) cores: u64,
    /// Packages of cores.
    pub(super) sockets: u64,
}

impl Topology {
    /// By a folder with one of each processor (`cpu0` and so on).
    pub(super) fn read(folder: &Path) -> Self {
        let (mut cores, mut sockets) = (HashSet::new(), HashSet::new());
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let number = |name: &str| {
                let text = fs::read_to_string(entry.path().join("topology").join(name)).ok()?;
                text.trim().parse::<i64>().ok()
            };
            if let (Some(socket), Some(core)) = (number("physical_package_id"), number("core_id")) {
                sockets.insert(socket);
                cores.insert((socket, core));
            }
        }
        Self { cores: cores.len() as u64, sockets: sockets.len() as u64 }
    }
}

/// Bytes and inodes of a file system: all and those that are free.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct FileSystem {
    pub(super) capacity: u64,
    pub(super) available: u64,
    pub(super) inodes: u64,
    pub(super) inodes_free: u64,
}

impl FileSystem {
    pub(super) fn of(path: &Path) -> Option<Self> {
        let found = statvfs(path).ok()?;
        // Their types differ between machines.
        #[allow(clippy::useless_conversion, clippy::unnecessary_cast, reason = "32 bits on some machines")]
        let (unit, blocks, available, inodes, inodes_free) = (
            found.fragment_size() as u64,
            found.blocks() as u64,
            found.blocks_available() as u64,
            found.files() as u64,
            found.files_free() as u64,
        );
        Some(Self {
            capacity: unit.saturating_mul(blocks),
            available: unit.saturating_mul(available),
            inodes,
            inodes_free,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read() {
        let stat = "cpu  100 1 50 9999 8888 2 3 4 0 0\ncpu0 1 1 1 1\nbtime 1700000000\n";
        let memory = "MemTotal:  1000 kB\nMemFree: 100 kB\nMemAvailable: 400 kB\nAnonPages: 300 kB\nSwapTotal: 0 kB\n";
        let machine = Machine::parse(stat, memory);
        assert_eq!(machine.cpu, 160 * 10_000_000);
        assert_eq!((machine.booted, machine.working_set()), (1_700_000_000, 600 * 1024));
        assert_eq!(Machine::parse("", ""), Machine::default());
        assert!(FileSystem::of(Path::new("/")).unwrap().capacity > 0);
    }
    #[test]
    fn processors_of_one_core_are_counted_once() {
        let root = tempfile::tempdir().expect("a folder");
        for (name, socket, core) in [("cpu0", 0, 0), ("cpu1", 0, 0), ("cpu2", 0, 1), ("cpu3", 1, 0)] {
            let folder = root.path().join(name).join("topology");
            fs::create_dir_all(&folder).expect("a folder");
            fs::write(folder.join("physical_package_id"), format!("{socket}\n")).expect("a file");
            fs::write(folder.join("core_id"), format!("{core}\n")).expect("a file");
        }
        fs::create_dir(root.path().join("cpufreq")).expect("a folder");
        assert_eq!(Topology::read(root.path()), Topology { cores: 3, sockets: 2 });
    }
}
