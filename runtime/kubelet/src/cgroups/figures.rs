//! What the kernel has counted of a group, and what the group may have: as its files say it now.

use std::collections::BTreeMap;
use std::fs;
use std::time::UNIX_EPOCH;

use super::hierarchy::{Hierarchy, Version};
use super::limits::shares_of_weight;

/// A limit above this is none: version 1 shows the largest number of whole pages.
const ENDLESS: u64 = 1 << 62;
/// Nanoseconds of a microsecond.
const MICRO: u64 = 1000;

/// Figures of a group with those below it. `None` is what the kernel does not tell. Times are in nanoseconds, sizes in bytes; what
/// is counted is counted since the group was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// When it was made, in seconds since 1970.
    pub made: Option<u64>,
    /// Processor time.
    pub cpu: Option<u64>,
    /// Of it in programs.
    pub user: Option<u64>,
    /// Of it in the kernel.
    pub system: Option<u64>,
    /// Periods over which its quota was reckoned.
    pub periods: Option<u64>,
    /// Those in which it used all of it.
    pub throttled_periods: Option<u64>,
    /// How long it could not run because of that.
    pub throttled: Option<u64>,
    /// Memory that is charged to it.
    pub memory: Option<u64>,
    /// The most that ever was.
    pub most_memory: Option<u64>,
    /// How often it came up against its limit.
    pub limit_hits: Option<u64>,
    /// Files in memory.
    pub cache: Option<u64>,
    /// Memory without a file.
    pub rss: Option<u64>,
    /// Memory on disk.
    pub swap: Option<u64>,
    /// Files in memory that processes have mapped.
    pub mapped: Option<u64>,
    /// The kernel's own memory for it.
    pub kernel: Option<u64>,
    /// Files in memory that were used lately.
    pub active_file: Option<u64>,
    /// Files in memory that nobody has used lately.
    pub inactive_file: Option<u64>,
    /// Pages that had to be looked up.
    pub page_faults: Option<u64>,
    /// Those that came from a disk.
    pub major_page_faults: Option<u64>,
    /// Processes that were killed as memory ran out.
    pub kills: Option<u64>,
    /// Processes and threads.
    pub threads: Option<u64>,
    /// The most that it may have; 0 for no limit.
    pub most_threads: Option<u64>,
    /// What went to and came from disks, by their major and minor numbers.
    pub disks: BTreeMap<(u32, u32), DiskIo>,
    /// Waits for processors.
    pub cpu_stalled: Option<Stalled>,
    /// Waits for memory.
    pub memory_stalled: Option<Stalled>,
    /// Waits for disks.
    pub io_stalled: Option<Stalled>,
    /// Its part of processor time, in version 1's unit.
    pub shares: Option<u64>,
    /// Over how many microseconds its quota is reckoned.
    pub period: Option<u64>,
    /// Microseconds of processor time in each period; none if there is no limit.
    pub quota: Option<u64>,
    /// The most memory that it may have; 0 for no limit.
    pub memory_limit: Option<u64>,
    /// The most swap, with version 1 the most memory and swap; 0 for no limit.
    pub swap_limit: Option<u64>,
    /// Memory that is left to it when memory is short; 0 for no limit.
    pub reservation: Option<u64>,
}

impl Figures {
    /// Memory that its processes cannot do without.
    pub fn working_set(&self) -> Option<u64> {
        Some(self.memory?.saturating_sub(self.inactive_file.unwrap_or(0)))
    }
}

/// What processes have read from and written to a disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskIo {
    /// Bytes.
    pub read_bytes: u64,
    /// Operations.
    pub reads: u64,
    /// Bytes.
    pub written_bytes: u64,
    /// Operations.
    pub writes: u64,
}

/// How long, in nanoseconds, a group's processes could not go on for want of something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stalled {
    /// At least one of them.
    pub some: u64,
    /// All that had something to do.
    pub full: u64,
}

impl Hierarchy {
    /// Reads each file of a group once.
    pub(super) fn figures(&self, group: &str) -> Figures {
        let read = |controller: &str, file: &str| {
            let text = self.folder(group, controller).and_then(|folder| fs::read_to_string(folder.join(file)).ok());
            text.unwrap_or_default()
        };
        let figures = match self.version() {
            Version::V1 => v1(read),
            Version::V2 => v2(|file| read("", file)),
        };
        Figures { made: self.made(group), ..figures }
    }

    /// A folder is changed by groups that are made in it, the file not so.
    fn made(&self, group: &str) -> Option<u64> {
        let folder = self.folder(group, "cpu")?;
        let file = folder.join(if self.version() == Version::V2 { "cgroup.events" } else { "cgroup.clone_children" });
        let changed = [folder, file].into_iter().filter_map(|path| fs::metadata(path).ok()?.modified().ok());
        Some(changed.min()?.duration_since(UNIX_EPOCH).ok()?.as_secs())
    }
}

fn v1(read: impl Fn(&str, &str) -> String) -> Figures {
    let (cpu, memory) = (read("cpu", "cpu.stat"), read("memory", "memory.stat"));
    let (cpu, stat) = (|key: &str| field(&cpu, key), |key: &str| field(&memory, key));
    let number = |controller: &str, file: &str| number(&read(controller, file));
    let bound = |controller: &str, file: &str| bound(&read(controller, file));
    let mut disks = BTreeMap::new();
    for (file, is_bytes) in [("io_service_bytes", true), ("io_serviced", false)] {
        operations(&mut disks, &read("blkio", &format!("blkio.throttle.{file}_recursive")), is_bytes);
    }
    Figures {
        cpu: number("cpuacct", "cpuacct.usage"),
        user: number("cpuacct", "cpuacct.usage_user"),
        system: number("cpuacct", "cpuacct.usage_sys"),
        periods: cpu("nr_periods"),
        throttled_periods: cpu("nr_throttled"),
        throttled: cpu("throttled_time"),
        memory: number("memory", "memory.usage_in_bytes"),
        most_memory: number("memory", "memory.max_usage_in_bytes"),
        limit_hits: number("memory", "memory.failcnt"),
        cache: stat("total_cache"),
        rss: stat("total_rss"),
        swap: stat("total_swap"),
        mapped: stat("total_mapped_file"),
        kernel: number("memory", "memory.kmem.usage_in_bytes"),
        active_file: stat("total_active_file"),
        inactive_file: stat("total_inactive_file"),
        page_faults: stat("total_pgfault"),
        major_page_faults: stat("total_pgmajfault"),
        kills: field(&read("memory", "memory.oom_control"), "oom_kill"),
        threads: number("pids", "pids.current"),
        most_threads: bound("pids", "pids.max"),
        disks,
        shares: number("cpu", "cpu.shares"),
        period: number("cpu", "cpu.cfs_period_us"),
        // -1 is no number of this kind.
        quota: number("cpu", "cpu.cfs_quota_us"),
        memory_limit: bound("memory", "memory.limit_in_bytes"),
        swap_limit: bound("memory", "memory.memsw.limit_in_bytes"),
        reservation: bound("memory", "memory.soft_limit_in_bytes"),
        ..Figures::default()
    }
}

fn v2(read: impl Fn(&str) -> String) -> Figures {
    let (cpu, memory, events, max) = (read("cpu.stat"), read("memory.stat"), read("memory.events"), read("cpu.max"));
    let (cpu, stat, events) =
        (|key: &str| field(&cpu, key), |key: &str| field(&memory, key), |key: &str| field(&events, key));
    let nanos = |key: &str| cpu(key).map(|micros| micros.saturating_mul(MICRO));
    let number = |file: &str| number(&read(file));
    let bound = |file: &str| bound(&read(file));
    let mut max = max.split_whitespace();
    Figures {
        cpu: nanos("usage_usec"),
        user: nanos("user_usec"),
        system: nanos("system_usec"),
        periods: cpu("nr_periods"),
        throttled_periods: cpu("nr_throttled"),
        throttled: nanos("throttled_usec"),
        memory: number("memory.current"),
        most_memory: number("memory.peak"),
        limit_hits: events("max"),
        cache: stat("file"),
        rss: stat("anon"),
        swap: number("memory.swap.current"),
        mapped: stat("file_mapped"),
        kernel: stat("kernel"),
        active_file: stat("active_file"),
        inactive_file: stat("inactive_file"),
        page_faults: stat("pgfault"),
        major_page_faults: stat("pgmajfault"),
        kills: events("oom_kill"),
        threads: number("pids.current"),
        most_threads: bound("pids.max"),
        disks: read("io.stat").lines().filter_map(disk).collect(),
        cpu_stalled: stalled(&read("cpu.pressure")),
        memory_stalled: stalled(&read("memory.pressure")),
        io_stalled: stalled(&read("io.pressure")),
        shares: number("cpu.weight").map(shares_of_weight),
        // `max 100000`, or a quota in place of the word.
        quota: max.next().and_then(|quota| quota.parse().ok()),
        period: max.next().and_then(|period| period.parse().ok()),
        memory_limit: bound("memory.max"),
        swap_limit: bound("memory.swap.max"),
        reservation: bound("memory.min"),
        ..Figures::default()
    }
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// A limit, 0 if there is none.
fn bound(text: &str) -> Option<u64> {
    match text.trim() {
        "max" => Some(0),
        text => text.parse().ok().map(|limit| if limit > ENDLESS { 0 } else { limit }),
    }
}

/// The value of a key in lines such as `pgfault 12`.
fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Such as `8:0`.
fn device(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Version 1's lines, such as `8:0 Read 4096`.
fn operations(disks: &mut BTreeMap<(u32, u32), DiskIo>, text: &str, is_bytes: bool) {
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some(at), Some(what), Some(count)) =
            (words.next().and_then(device), words.next(), words.next().and_then(number))
        else {
            continue;
        };
        let disk: &mut DiskIo = disks.entry(at).or_default();
        match (what, is_bytes) {
            ("Read", true) => disk.read_bytes = count,
            ("Read", false) => disk.reads = count,
            ("Write", true) => disk.written_bytes = count,
            ("Write", false) => disk.writes = count,
            _ => {}
        }
    }
}

/// Version 2's line, such as `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0`.
fn disk(line: &str) -> Option<((u32, u32), DiskIo)> {
    let (at, rest) = line.split_once(' ')?;
    let value = |key: &str| {
        let mut pairs = rest.split_whitespace().filter_map(|pair| pair.split_once('='));
        pairs.find(|(name, _)| *name == key).and_then(|(_, value)| number(value)).unwrap_or(0)
    };
    let io = DiskIo {
        read_bytes: value("rbytes"),
        reads: value("rios"),
        written_bytes: value("wbytes"),
        writes: value("wios"),
    };
    Some((device(at)?, io))
}

/// Such as `some avg10=0.00 avg60=0.00 avg300=0.00 total=12` and the same with `full`, in microseconds.
fn stalled(text: &str) -> Option<Stalled> {
    let total = |kind: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
        number(line.rsplit_once("total=")?.1).map(|micros| micros.saturating_mul(MICRO))
    };
    // Kernels before 5.13 have no second line for processors.
    Some(Stalled { some: total("some ")?, full: total("full ").unwrap_or(0) })
}

#[cfg(test)]
mod tests {
    use super::super::Cgroups;
    use super::super::testing::{self, V1, V2};
    use super::*;

    #[test]
    fn both_versions_tell_the_same_of_a_group() {
        let root = tempfile::tempdir().expect("a folder");
        let figures = |cgroups: Cgroups| {
            let figures = cgroups.figures("/g");
            assert!(figures.made.is_some_and(|made| made > 1_700_000_000), "{figures:?}");
            Figures { made: None, ..figures }
        };
        let common = Figures {
            cpu: Some(5_000_000_000),
            user: Some(3_000_000_000),
            system: Some(2_000_000_000),
            periods: Some(40),
            throttled_periods: Some(7),
            throttled: Some(1_500_000_000),
            memory: Some(20 << 20),
            most_memory: Some(30 << 20),
            limit_hits: Some(3),
            cache: Some(9 << 20),
            rss: Some(8 << 20),
            swap: Some(4096),
            mapped: Some(2 << 20),
            kernel: Some(1 << 20),
            active_file: Some(3 << 20),
            inactive_file: Some(5 << 20),
            page_faults: Some(1234),
            major_page_faults: Some(12),
            kills: Some(1),
            threads: Some(4),
            most_threads: Some(0),
            disks: [((8, 0), DiskIo { read_bytes: 4096, reads: 1, written_bytes: 8192, writes: 2 })].into(),
            period: Some(100_000),
            quota: Some(50_000),
            memory_limit: Some(64 << 20),
            reservation: Some(0),
            ..Figures::default()
        };
        let first = figures(testing::recorded(root.path(), "g", &V1));
        assert_eq!(first, Figures { shares: Some(512), swap_limit: Some(128 << 20), ..common.clone() });
        assert_eq!(first.working_set(), Some(15 << 20));
        let root = tempfile::tempdir().expect("a folder");
        let second = figures(testing::recorded(root.path(), "g", &V2));
        let stalled = |some, full| Some(Stalled { some, full });
        let expected = Figures {
            shares: Some(shares_of_weight(20)),
            swap_limit: Some(0),
            cpu_stalled: stalled(11_000, 0),
            memory_stalled: stalled(22_000, 2_000),
            io_stalled: stalled(33_000, 3_000),
            ..common
        };
        assert_eq!(second, expected);
        assert_eq!(testing::recorded(root.path(), "other", &[]).figures("/none"), Figures::default());
    }

    #[test]
    fn what_has_no_limit_says_0_and_has_no_quota() {
        for (text, expected) in [("max", Some(0)), ("9223372036854771712", Some(0)), ("5", Some(5)), ("", None)] {
            assert_eq!(bound(text), expected, "{text}");
        }
        let without = v2(|file| if file == "cpu.max" { "max 100000\n".to_owned() } else { String::new() });
        assert_eq!((without.quota, without.period), (None, Some(100_000)));
        let without = v1(|_, file| if file == "cpu.cfs_quota_us" { "-1\n".to_owned() } else { String::new() });
        assert_eq!(without.quota, None);
    }
}
