//! Rotates logs of containers: the runtime writes them, and knows no limit.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::manager::Node;
use super::view::State;
use crate::cri::ReopenContainerLogRequest;

/// How often logs are looked at.
const LOOK: Duration = Duration::from_secs(10);

/// When logs are begun anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// The most bytes of a log (`containerLogMaxSize`).
    pub size: u64,
    /// The most files of a container's attempt (`containerLogMaxFiles`), two at least.
    pub files: usize,
}

impl Default for Rotation {
    /// Upstream's.
    fn default() -> Self {
        Self { size: 10 << 20, files: 5 }
    }
}

/// Looks after all logs without end.
pub(super) async fn run(node: Arc<Node>) {
    loop {
        tokio::time::sleep(LOOK).await;
        for pod in node.pods.list() {
            for container in pod.containers().iter().filter(|container| container.state == State::Running) {
                let log = pod.log(&container.name, container.attempt);
                if fs::metadata(&log).is_ok_and(|log| log.len() > node.config.rotation.size) {
                    rotate(&node, &container.id, &log).await;
                }
            }
        }
    }
}

async fn rotate(node: &Node, id: &str, log: &Path) {
    let time = node.clock.now().strftime("%Y%m%d-%H%M%S").to_string();
    let mut old = log.as_os_str().to_owned();
    old.push(format!(".{time}"));
    let old = PathBuf::from(old);
    if let Err(error) = fs::rename(log, &old) {
        tracing::warn!("{}: {error}; it is not rotated", log.display());
        return;
    }
    let request = ReopenContainerLogRequest { container_id: id.to_owned() };
    if let Err(error) = node.runtime.reopen_container_log(&request).await {
        tracing::warn!("{}: {error}; it is not rotated", log.display());
        // The runtime writes on into the same file, which must have its name.
        _ = fs::rename(&old, log);
        return;
    }
    for file in too_many(log, node.config.rotation.files) {
        // Gone is what it is to be.
        _ = fs::remove_file(file);
    }
}

/// The oldest files beyond the number `most` that is kept, the one that is written included.
fn too_many(log: &Path, most: usize) -> Vec<PathBuf> {
    let name = log.file_name().map(|name| format!("{}.", name.to_string_lossy())).unwrap_or_default();
    let files = log.parent().and_then(|folder| fs::read_dir(folder).ok()).into_iter().flatten().filter_map(Result::ok);
    let is_old = |path: &PathBuf| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(&name));
    let mut old: Vec<PathBuf> = files.map(|file| file.path()).filter(is_old).collect();
    // The times in their names sort as they are.
    old.sort();
    let spare = (old.len() + 1).saturating_sub(most);
    old.truncate(spare);
    old
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_logs_go_first() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("0.log");
        for number in 1..=6 {
            fs::write(folder.path().join(format!("0.log.20260101-00000{number}")), "").expect("a file");
        }
        fs::write(folder.path().join("10.log.20260101-000000"), "").expect("another attempt's");
        let names: Vec<_> = too_many(&log, Rotation::default().files)
            .iter()
            .filter_map(|path| path.file_name()?.to_str().map(str::to_owned))
            .collect();
        assert_eq!(names, ["0.log.20260101-000001", "0.log.20260101-000002"]);
    }
}
