//! What the kernel says of the whole machine.

use std::collections::HashMap;
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
}
