//! Where containers' logs lie: `<logs>/<namespace>_<name>_<uid>/<container>/<attempt>.log`.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;

use super::{name, namespace, uid};

/// The folder of a pod's logs.
pub(crate) fn folder(logs: &Path, pod: &Pod) -> PathBuf {
    folder_of(logs, namespace(pod), name(pod), uid(pod))
}

/// The folder of the logs of a pod of which only these are known.
pub(crate) fn folder_of(logs: &Path, namespace: &str, name: &str, uid: &str) -> PathBuf {
    logs.join(format!("{namespace}_{name}_{uid}"))
}

/// The attempt that follows those whose logs are there: the runtime may have forgotten containers, as at a reboot.
pub(crate) fn next_attempt(folder: &Path) -> u32 {
    let Ok(files) = fs::read_dir(folder) else { return 0 };
    let attempt = |name: &str| {
        let (number, rest) = name.split_once('.')?;
        (rest == "log" || rest.starts_with("log.")).then(|| number.parse::<u32>().ok()).flatten()
    };
    let attempts = files.filter_map(Result::ok).filter_map(|file| attempt(&file.file_name().to_string_lossy()));
    attempts.max().map_or(0, |last| last + 1)
}

/// Removes the logs of one attempt, rotated ones too.
pub(crate) fn remove_attempt(folder: &Path, container: &str, attempt: u32) {
    let Ok(files) = fs::read_dir(folder.join(container)) else { return };
    let prefix = format!("{attempt}.log");
    for file in files.filter_map(Result::ok) {
        if file.file_name().to_string_lossy().starts_with(&prefix) {
            // Gone is what it is to be.
            _ = fs::remove_file(file.path());
        }
    }
}

/// Removes all logs of a pod.
pub(crate) fn remove(folder: &Path) {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => tracing::warn!("{}: {error}", folder.display()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_go_on_after_the_logs_that_are_there() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(next_attempt(&folder.path().join("none")), 0);
        for name in ["0.log", "2.log.20260101-000000.gz", "7.txt", "x.log"] {
            fs::write(folder.path().join(name), "").expect("a file");
        }
        assert_eq!(next_attempt(folder.path()), 3);
    }
}
