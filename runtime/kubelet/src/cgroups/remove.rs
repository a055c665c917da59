//! Removing groups, with all that is below them and runs in them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::hierarchy::{Hierarchy, folders_in};
use super::{CgroupError, failed};

/// The first wait for killed processes to be gone, and how often it is doubled.
const WAIT: Duration = Duration::from_millis(5);
const TRIES: u32 = 8;

impl Hierarchy {
    /// Kills all processes of a group and removes it. Processes take a moment to end.
    pub(super) async fn remove(&self, group: &str) -> Result<(), CgroupError> {
        let folders = self.folders(group);
        let mut wait = WAIT;
        for attempt in 0.. {
            let processes: BTreeSet<i32> = folders.iter().flat_map(|folder| processes(folder)).collect();
            for process in processes {
                match kill(Pid::from_raw(process), Signal::SIGKILL) {
                    Err(errno) if errno != Errno::ESRCH => {
                        tracing::warn!(process, %errno, "cannot kill a process of a pod that is over");
                    }
                    _ => {}
                }
            }
            let removed: Result<Vec<()>, CgroupError> = folders.iter().map(|folder| remove(folder)).collect();
            match removed {
                Ok(_) => return Ok(()),
                Err(error) if attempt >= TRIES => return Err(error),
                Err(_) => tokio::time::sleep(wait).await,
            }
            wait *= 2;
        }
        Ok(())
    }
}

/// The processes in a folder and below it.
fn processes(folder: &Path) -> Vec<i32> {
    let own = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    let mut found: Vec<i32> = own.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect();
    found.extend(folders_in(folder).iter().flat_map(|name| processes(&folder.join(name))));
    found
}

fn remove(folder: &Path) -> Result<(), CgroupError> {
    for name in folders_in(folder) {
        remove(&folder.join(name))?;
    }
    match fs::remove_dir(folder) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => Err(failed(folder)(why)),
        _ => Ok(()),
    }
}
