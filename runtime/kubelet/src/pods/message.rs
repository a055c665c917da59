//! What a container leaves as its last word: the file at its `terminationMessagePath`, or the end of its log.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use super::view::annotation;
use crate::cri::ContainerStatus;

/// The most bytes of a message.
const MAX_MESSAGE: u64 = 4096;
/// The most bytes and lines that are taken from the log.
const MAX_LOG: u64 = 2048;
const MAX_LINES: usize = 80;

/// The message of a container that has exited; else what the runtime says of it.
pub(super) fn of(status: &ContainerStatus) -> String {
    let annotation = |name: &str| status.annotations.get(name).map(String::as_str).unwrap_or_default();
    let falls_back = annotation(annotation::MESSAGE_POLICY) == "FallbackToLogsOnError" && status.exit_code != 0;
    let path = annotation(annotation::MESSAGE_PATH);
    let mount = status.mounts.iter().find(|mount| !path.is_empty() && mount.container_path == path);
    let written = match mount.map(|mount| (tail(Path::new(&mount.host_path), MAX_MESSAGE), &mount.host_path)) {
        None => String::new(),
        Some((Ok(bytes), _)) => String::from_utf8_lossy(&bytes).into_owned(),
        Some((Err(error), _)) if error.kind() == ErrorKind::NotFound => String::new(),
        Some((Err(error), path)) => return format!("Error on reading termination log {path}: {error}"),
    };
    if !written.is_empty() {
        return if status.message.is_empty() { written } else { format!("{}: {written}", status.message) };
    }
    if falls_back && let Ok(bytes) = tail(Path::new(&status.log_path), MAX_LOG * 8) {
        let text = log_end(&String::from_utf8_lossy(&bytes));
        if !text.is_empty() {
            return text;
        }
    }
    status.message.clone()
}

fn tail(path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The end of a log in the format of the CRI: `<time> <stream> <F or P> <text>`.
fn log_end(log: &str) -> String {
    let mut text = String::new();
    let lines: Vec<&str> = log.lines().collect();
    for line in &lines[lines.len().saturating_sub(MAX_LINES)..] {
        let mut parts = line.splitn(4, ' ');
        let (Some(_), Some("stdout" | "stderr"), Some(flag), Some(rest)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        text.push_str(rest);
        if flag.split(':').next() == Some("F") {
            text.push('\n');
        }
    }
    let most = usize::try_from(MAX_LOG).unwrap_or(usize::MAX);
    let mut start = text.len().saturating_sub(most);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text.split_off(start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cri::Mount;

    #[test]
    fn a_message_is_the_files_or_the_logs_end_after_a_failure() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        std::fs::write(path("log"), "t stdout F one\nt stderr P tw\nt stderr F o\nbroken\n").expect("a log");
        let mut status = ContainerStatus { exit_code: 1, log_path: path("log"), ..ContainerStatus::default() };
        status.annotations.insert(annotation::MESSAGE_PATH.to_owned(), "/dev/termination-log".to_owned());
        let mount =
            Mount { container_path: "/dev/termination-log".to_owned(), host_path: path("message"), ..Mount::default() };
        status.mounts.push(mount);
        assert_eq!(of(&status), "", "the policy is File");
        status.annotations.insert(annotation::MESSAGE_POLICY.to_owned(), "FallbackToLogsOnError".to_owned());
        assert_eq!(of(&status), "one\ntwo\n");
        status.exit_code = 0;
        assert_eq!(of(&status), "");
        std::fs::write(path("message"), "bye").expect("a message");
        assert_eq!(of(&status), "bye");
    }
}
