//! Control groups as two kernels have shown them, for tests.

use std::fs;
use std::path::Path;

use super::Cgroups;
use super::hierarchy::Hierarchy;

/// A file of a group and what is in it; with version 1 the controller's folder is in front.
pub(crate) type Recorded = (&'static str, &'static str);

/// A container on a kernel with version 1.
pub(crate) const V1: [Recorded; 22] = [
    ("cpu/cgroup.clone_children", "0\n"),
    ("cpu/cgroup.procs", ""),
    ("cpu/cpu.stat", "nr_periods 40\nnr_throttled 7\nthrottled_time 1500000000\nnr_bursts 0\nburst_time 0\n"),
    ("cpu/cpu.shares", "512\n"),
    ("cpu/cpu.cfs_period_us", "100000\n"),
    ("cpu/cpu.cfs_quota_us", "50000\n"),
    ("cpuacct/cpuacct.usage", "5000000000\n"),
    ("cpuacct/cpuacct.usage_user", "3000000000\n"),
    ("cpuacct/cpuacct.usage_sys", "2000000000\n"),
    (
        "memory/memory.stat",
        "cache 1\nrss 2\npgfault 3\nhierarchical_memory_limit 67108864\ntotal_cache 9437184\ntotal_rss 8388608\ntotal_rss_huge 0\n\
         total_mapped_file 2097152\ntotal_swap 4096\ntotal_pgfault 1234\ntotal_pgmajfault 12\ntotal_inactive_file 5242880\n\
         total_active_file 3145728\n",
    ),
    ("memory/memory.usage_in_bytes", "20971520\n"),
    ("memory/memory.max_usage_in_bytes", "31457280\n"),
    ("memory/memory.failcnt", "3\n"),
    ("memory/memory.kmem.usage_in_bytes", "1048576\n"),
    ("memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"),
    ("memory/memory.limit_in_bytes", "67108864\n"),
    ("memory/memory.memsw.limit_in_bytes", "134217728\n"),
    ("memory/memory.soft_limit_in_bytes", "9223372036854771712\n"),
    ("pids/pids.current", "4\n"),
    ("pids/pids.max", "max\n"),
    (
        "blkio/blkio.throttle.io_service_bytes_recursive",
        "8:0 Read 4096\n8:0 Write 8192\n8:0 Sync 12288\n8:0 Total 12288\nTotal 12288\n",
    ),
    ("blkio/blkio.throttle.io_serviced_recursive", "8:0 Read 1\n8:0 Write 2\n8:0 Sync 3\n8:0 Total 3\nTotal 3\n"),
];

/// The same container on a kernel with version 2.
pub(crate) const V2: [Recorded; 19] = [
    ("cgroup.events", "populated 1\nfrozen 0\n"),
    ("cgroup.procs", ""),
    (
        "cpu.stat",
        "usage_usec 5000000\nuser_usec 3000000\nsystem_usec 2000000\nnr_periods 40\nnr_throttled 7\nthrottled_usec 1500000\n",
    ),
    ("cpu.weight", "20\n"),
    ("cpu.max", "50000 100000\n"),
    ("cpu.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=11\n"),
    (
        "memory.stat",
        "anon 8388608\nfile 9437184\nkernel 1048576\nfile_mapped 2097152\ninactive_file 5242880\nactive_file 3145728\n\
         pgfault 1234\npgmajfault 12\n",
    ),
    ("memory.current", "20971520\n"),
    ("memory.peak", "31457280\n"),
    ("memory.events", "low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\noom_group_kill 0\n"),
    ("memory.swap.current", "4096\n"),
    ("memory.max", "67108864\n"),
    ("memory.swap.max", "max\n"),
    ("memory.min", "0\n"),
    (
        "memory.pressure",
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=22\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=2\n",
    ),
    ("io.stat", "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n"),
    (
        "io.pressure",
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=33\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=3\n",
    ),
    ("pids.current", "4\n"),
    ("pids.max", "max\n"),
];

/// A tree in a folder, with these files in one of its groups; another call adds another group.
pub(crate) fn recorded(folder: &Path, group: &str, files: &[Recorded]) -> Cgroups {
    let is_first = files.iter().any(|(name, _)| name.contains('/'));
    let write = |path: &Path, text: &str| {
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    };
    for (name, text) in files {
        match name.split_once('/') {
            Some((controller, file)) => write(&folder.join(controller).join(group).join(file), text),
            None => write(&folder.join(group).join(name), text),
        }
    }
    let hierarchy = if is_first {
        let names = ["cpu", "cpuacct", "memory", "pids", "blkio"];
        Hierarchy::V1(names.map(|name| (name.to_owned(), folder.join(name))).into())
    } else {
        Hierarchy::V2(folder.to_owned())
    };
    Cgroups { hierarchy, root: super::PODS.to_owned(), metrics: crate::metrics::Metrics::default() }
}
