//! The series of groups, by cAdvisor's names.

use Of::{Disks, Figures as F, FileSystem as D, Group as G, Interfaces, Processes as P};

use super::super::metrics::seconds;
use super::super::node::FileSystem;
use super::Group;
use super::process::{Interface, Processes};
use crate::cgroups::{DiskIo, Figures, Stalled};

/// A series: what it is called, what it means, and where it is found.
pub(super) struct Series {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: &'static str,
    /// Labels beside those of the group, of each row of figures.
    pub(super) rows: &'static [&'static [(&'static str, &'static str)]],
    /// Whether the sample has the time at which it was read.
    pub(super) is_timed: bool,
    pub(super) of: Of,
}

/// What of a group a series shows; nothing, if that is not known.
#[derive(Clone, Copy)]
pub(super) enum Of {
    /// Of its control group.
    Figures(fn(&Figures) -> Option<f64>),
    /// Of its processes.
    Processes(fn(&Processes) -> u64),
    /// Of the node's disk.
    FileSystem(fn(&FileSystem) -> u64),
    /// Of each disk that was read or written.
    Disks(fn(&DiskIo) -> u64),
    /// Of each interface.
    Interfaces(fn(&Interface) -> u64),
    /// Of the rest.
    Group(fn(&Group) -> Option<f64>),
}

const PLAIN: &[&[(&str, &str)]] = &[&[]];

const fn counter(name: &'static str, help: &'static str, of: Of) -> Series {
    Series { name, help, kind: "counter", rows: PLAIN, is_timed: true, of }
}

const fn gauge(name: &'static str, help: &'static str, of: Of) -> Series {
    Series { name, help, kind: "gauge", rows: PLAIN, is_timed: true, of }
}

/// What a group may have, which has no time.
const fn spec(name: &'static str, help: &'static str, of: Of) -> Series {
    Series { name, help, kind: "gauge", rows: PLAIN, is_timed: false, of }
}

const fn with(rows: &'static [&'static [(&'static str, &'static str)]], series: Series) -> Series {
    Series { rows, ..series }
}

fn number(value: Option<u64>) -> Option<f64> {
    value.map(|value| value as f64)
}

/// A part of the figures of groups that have a quota.
fn limited(figures: &Figures, value: Option<u64>) -> Option<f64> {
    number(value.filter(|_| figures.quota.is_some()))
}

fn full(stalled: Option<Stalled>) -> Option<f64> {
    stalled.map(|stalled| seconds(stalled.full))
}

fn some(stalled: Option<Stalled>) -> Option<f64> {
    stalled.map(|stalled| seconds(stalled.some))
}

const FAULTS: &str = "container_memory_failures_total";
const OF_FAULTS: &str = "Pages that were not in the tables.";
const USED: &str = "container_fs_usage_bytes";
const OF_USED: &str = "What is used of a file system, in bytes.";

/// Those of one name follow each other.
pub(super) const SERIES: &[Series] = &[
    with(
        &[&[("cpu", "total")]],
        counter("container_cpu_usage_seconds_total", "Processor time, in seconds.", F(|f| f.cpu.map(seconds))),
    ),
    counter("container_cpu_user_seconds_total", "Processor time in programs, in seconds.", F(|f| f.user.map(seconds))),
    counter(
        "container_cpu_system_seconds_total",
        "Processor time in the kernel, in seconds.",
        F(|f| f.system.map(seconds)),
    ),
    counter(
        "container_cpu_cfs_periods_total",
        "Periods over which the quota was reckoned.",
        F(|f| limited(f, f.periods)),
    ),
    counter(
        "container_cpu_cfs_throttled_periods_total",
        "Periods in which the quota was used up.",
        F(|f| limited(f, f.throttled_periods)),
    ),
    counter(
        "container_cpu_cfs_throttled_seconds_total",
        "Time without a processor as the quota was used up, in seconds.",
        F(|f| limited(f, f.throttled).map(|nanos| nanos / 1e9)),
    ),
    gauge("container_memory_cache", "Files in memory, in bytes.", F(|f| number(f.cache))),
    gauge("container_memory_rss", "Memory without a file, in bytes.", F(|f| number(f.rss))),
    gauge("container_memory_kernel_usage", "Memory of the kernel for it, in bytes.", F(|f| number(f.kernel))),
    gauge("container_memory_mapped_file", "Files that are mapped, in bytes.", F(|f| number(f.mapped))),
    gauge("container_memory_swap", "Memory on disk, in bytes.", F(|f| number(f.swap))),
    counter(
        "container_memory_failcnt",
        "How often it came up against its limit of memory.",
        F(|f| number(f.limit_hits)),
    ),
    gauge("container_memory_usage_bytes", "All memory that is charged to it, in bytes.", F(|f| number(f.memory))),
    gauge(
        "container_memory_max_usage_bytes",
        "The most memory that was ever charged to it, in bytes.",
        F(|f| number(f.most_memory)),
    ),
    gauge(
        "container_memory_working_set_bytes",
        "Memory that it cannot do without, in bytes.",
        F(|f| number(f.working_set())),
    ),
    gauge(
        "container_memory_total_active_file_bytes",
        "Files in memory that were used lately, in bytes.",
        F(|f| number(f.active_file)),
    ),
    gauge(
        "container_memory_total_inactive_file_bytes",
        "Files in memory that were not used lately, in bytes.",
        F(|f| number(f.inactive_file)),
    ),
    with(
        &[
            &[("failure_type", "pgfault"), ("scope", "container")],
            &[("failure_type", "pgfault"), ("scope", "hierarchy")],
        ],
        counter(FAULTS, OF_FAULTS, F(|f| number(f.page_faults))),
    ),
    with(
        &[
            &[("failure_type", "pgmajfault"), ("scope", "container")],
            &[("failure_type", "pgmajfault"), ("scope", "hierarchy")],
        ],
        counter(FAULTS, OF_FAULTS, F(|f| number(f.major_page_faults))),
    ),
    counter("container_oom_events_total", "Processes that were killed as memory ran out.", F(|f| number(f.kills))),
    counter(
        "container_pressure_cpu_stalled_seconds_total",
        "Time in which all waited for a processor, in seconds.",
        F(|f| full(f.cpu_stalled)),
    ),
    counter(
        "container_pressure_cpu_waiting_seconds_total",
        "Time in which some waited for a processor, in seconds.",
        F(|f| some(f.cpu_stalled)),
    ),
    counter(
        "container_pressure_memory_stalled_seconds_total",
        "Time in which all waited for memory, in seconds.",
        F(|f| full(f.memory_stalled)),
    ),
    counter(
        "container_pressure_memory_waiting_seconds_total",
        "Time in which some waited for memory, in seconds.",
        F(|f| some(f.memory_stalled)),
    ),
    counter(
        "container_pressure_io_stalled_seconds_total",
        "Time in which all waited for disks, in seconds.",
        F(|f| full(f.io_stalled)),
    ),
    counter(
        "container_pressure_io_waiting_seconds_total",
        "Time in which some waited for disks, in seconds.",
        F(|f| some(f.io_stalled)),
    ),
    gauge("container_fs_inodes_free", "Free inodes of a file system.", D(|d| d.inodes_free)),
    gauge("container_fs_inodes_total", "Inodes of a file system.", D(|d| d.inodes)),
    gauge("container_fs_limit_bytes", "Room of a file system, in bytes.", D(|d| d.capacity)),
    gauge(USED, OF_USED, D(|d| d.capacity.saturating_sub(d.available))),
    with(&[&[("device", "")]], gauge(USED, OF_USED, G(|g| number(g.layer)))),
    counter("container_fs_reads_bytes_total", "Bytes read from a disk.", Disks(|d| d.read_bytes)),
    counter("container_fs_reads_total", "Reads from a disk.", Disks(|d| d.reads)),
    counter("container_fs_writes_bytes_total", "Bytes written to a disk.", Disks(|d| d.written_bytes)),
    counter("container_fs_writes_total", "Writes to a disk.", Disks(|d| d.writes)),
    counter("container_network_receive_bytes_total", "Bytes received.", Interfaces(|i| i.received.bytes)),
    counter("container_network_receive_packets_total", "Packets received.", Interfaces(|i| i.received.packets)),
    counter(
        "container_network_receive_packets_dropped_total",
        "Packets dropped at reception.",
        Interfaces(|i| i.received.dropped),
    ),
    counter("container_network_receive_errors_total", "Errors of reception.", Interfaces(|i| i.received.errors)),
    counter("container_network_transmit_bytes_total", "Bytes sent.", Interfaces(|i| i.sent.bytes)),
    counter("container_network_transmit_packets_total", "Packets sent.", Interfaces(|i| i.sent.packets)),
    counter(
        "container_network_transmit_packets_dropped_total",
        "Packets dropped before they were sent.",
        Interfaces(|i| i.sent.dropped),
    ),
    counter("container_network_transmit_errors_total", "Errors of sending.", Interfaces(|i| i.sent.errors)),
    gauge("container_processes", "Processes.", P(|p| p.count)),
    gauge("container_file_descriptors", "Open files.", P(|p| p.files)),
    gauge("container_sockets", "Open sockets.", P(|p| p.sockets)),
    gauge("container_threads", "Processes and threads.", F(|f| number(f.threads))),
    gauge(
        "container_threads_max",
        "The most threads that there may be, 0 for no limit.",
        F(|f| number(f.most_threads)),
    ),
    gauge("container_last_seen", "When it was seen last, in seconds since 1970.", G(|g| Some((g.at / 1000) as f64))),
    spec("container_spec_cpu_period", "The period of the quota, in microseconds.", F(|f| number(f.period))),
    spec("container_spec_cpu_quota", "Processor time in each period, in microseconds.", F(|f| number(f.quota))),
    spec("container_spec_cpu_shares", "The part of processor time when there is not enough.", F(|f| number(f.shares))),
    spec("container_spec_memory_limit_bytes", "The most memory, 0 for no limit.", F(|f| number(f.memory_limit))),
    spec("container_spec_memory_swap_limit_bytes", "The most swap, 0 for no limit.", F(|f| number(f.swap_limit))),
    spec(
        "container_spec_memory_reservation_limit_bytes",
        "Memory that is left to it, 0 for none.",
        F(|f| number(f.reservation)),
    ),
    spec("container_start_time_seconds", "When it started, in seconds since 1970.", G(|g| g.started)),
];
