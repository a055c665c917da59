//! The processes of a node: found by what they were started with, since nobody is left who knows them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill as signal};
use nix::unistd::Pid;

use crate::exit::Failure;

/// How long killed processes may take to be gone, and how often they are looked at.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(10);

/// A running `kiln server` or `kiln agent` with this data folder.
pub(super) fn service(data: &Path) -> Option<i32> {
    let is_service = |pid: &i32| {
        let words = command(*pid);
        let is_kiln = words.first().is_some_and(|word| word.rsplit('/').next() == Some("kiln"));
        let verb = words.get(1).map(String::as_str);
        let folder =
            words.iter().position(|word| word == "--data-dir" || word == "-d").and_then(|at| words.get(at + 1));
        let folder = folder.map(String::as_str).or_else(|| words.iter().find_map(|w| w.strip_prefix("--data-dir=")));
        let folder = folder.unwrap_or(crate::cli::DATA_DIR);
        is_kiln && matches!(verb, Some("server" | "agent")) && Path::new(folder) == data
    };
    numbers().into_iter().find(is_service)
}

/// Kills containerd, the shims and all that runs below them. Answers how many that were.
///
/// # Errors
/// If one of them does not end.
pub(super) fn kill(state: &Path) -> anyhow::Result<usize> {
    let (config, socket) = (state.join("config.toml"), state.join("containerd.sock"));
    let is_ours = |pid: &i32| {
        let words = command(*pid);
        let names = |path: &Path| words.iter().any(|word| Path::new(word) == path);
        names(&config) || names(&socket) && words[0].contains("containerd-shim")
    };
    let roots: BTreeSet<i32> = numbers().into_iter().filter(is_ours).collect();
    let doomed = with_children(&roots, &parents());
    for pid in &doomed {
        match signal(Pid::from_raw(*pid), Signal::SIGKILL) {
            Err(Errno::ESRCH) | Ok(()) => {}
            Err(errno) => return Err(Failure::File(format!("cannot kill process {pid}: {}", errno.desc())).into()),
        }
    }
    let began = Instant::now();
    for pid in &doomed {
        while is_alive(*pid) {
            if began.elapsed() > PATIENCE {
                return Err(Failure::File(format!("process {pid} was killed and does not end")).into());
            }
            sleep(LOOK);
        }
    }
    Ok(doomed.len())
}

/// Some processes and all below them.
fn with_children(roots: &BTreeSet<i32>, parents: &BTreeMap<i32, i32>) -> BTreeSet<i32> {
    let mut found = roots.clone();
    loop {
        let more: Vec<i32> = parents
            .iter()
            .filter(|(pid, parent)| found.contains(parent) && !found.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

fn numbers() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// A process's words; none of one that has ended.
fn command(pid: i32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = bytes.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
    let mut words: Vec<String> = words.collect();
    if words.last().is_some_and(String::is_empty) {
        words.pop();
    }
    words
}

/// Each process's parent.
fn parents() -> BTreeMap<i32, i32> {
    numbers().into_iter().filter_map(|pid| Some((pid, stat(pid)?.1))).collect()
}

/// A process's state and parent, which follow its name in parentheses (proc(5)).
fn stat(pid: i32) -> Option<(char, i32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut rest = text.rsplit(')').next()?.split_whitespace();
    Some((rest.next()?.chars().next()?, rest.next()?.parse().ok()?))
}

fn is_alive(pid: i32) -> bool {
    stat(pid).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_below_a_process_is_found_and_nothing_beside_it() {
        let parents = BTreeMap::from([(1, 0), (2, 1), (3, 2), (4, 3), (5, 1), (6, 5)]);
        assert_eq!(with_children(&BTreeSet::from([2]), &parents), BTreeSet::from([2, 3, 4]));
        assert_eq!(with_children(&BTreeSet::new(), &parents), BTreeSet::new());
    }

    #[test]
    fn this_process_is_alive_and_has_words() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(is_alive(own));
        assert!(!command(own).is_empty());
        assert!(parents().contains_key(&own));
    }
}
