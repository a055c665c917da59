//! cgroup v2: one group per service directly below the root.

use std::fs;

use nix::unistd::Pid;

use crate::error::{Error, Result};

const ROOT: &str = "/sys/fs/cgroup";

/// Lets child groups use the controllers that this kernel has. Returns those that the node needs and lacks.
pub(crate) fn delegate() -> Vec<&'static str> {
    let available = fs::read_to_string(format!("{ROOT}/cgroup.controllers")).unwrap_or_default();
    for controller in available.split_whitespace() {
        // One by one: a single refusal must not take the others with it.
        let _ = fs::write(format!("{ROOT}/cgroup.subtree_control"), format!("+{controller}"));
    }
    ["cpu", "memory", "pids"].into_iter().filter(|needed| !available.split_whitespace().any(|c| c == *needed)).collect()
}

/// Moves a process into its service's group.
pub(crate) fn enter(service: &str, pid: Pid) -> Result<()> {
    let group = format!("{ROOT}/{service}");
    fs::create_dir_all(&group).map_err(|e| Error::io("create the cgroup", &group, e))?;
    let procs = format!("{group}/cgroup.procs");
    fs::write(&procs, pid.to_string()).map_err(|e| Error::io("join the cgroup", &procs, e))
}

/// Kills whatever is left in a service's group. A group that was never made has nothing left.
pub(crate) fn kill(service: &str) {
    let _ = fs::write(format!("{ROOT}/{service}/cgroup.kill"), "1");
}
