//! What killed pods leave: mounts, network namespaces, and the notes that runtime and plugins keep outside of the node's folders.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use serde::Deserialize;

use crate::exit::Failure;

/// Where containerd's shims have their sockets and runc its notes, whatever folder containerd was given.
const SHIMS: &str = "/run/containerd";
/// What CNI plugins were told, by network, container and interface.
const NETWORKS: &str = "/var/lib/cni/results";

/// The part of a container's bundle that tells its namespaces (`config.json` of the OCI runtime-spec).
#[derive(Deserialize, Default)]
struct Bundle {
    #[serde(default)]
    linux: Linux,
}

#[derive(Deserialize, Default)]
struct Linux {
    #[serde(default)]
    namespaces: Vec<Namespace>,
}

#[derive(Deserialize)]
struct Namespace {
    r#type: String,
    #[serde(default)]
    path: PathBuf,
}

/// Removes them: of the node with this data, the kubelet's folder `root` and the runtime's sockets in `state`. Answers how many mounts there were.
///
/// # Errors
/// If a mount or a file stays.
pub(super) fn remove(data: &Path, root: &Path, state: &Path) -> anyhow::Result<usize> {
    let tasks = state.join("io.containerd.runtime.v2.task/k8s.io");
    let sandboxes = data.join("containerd/io.containerd.grpc.v1.cri/sandboxes");
    let mut namespaces = BTreeSet::new();
    for task in names(&tasks) {
        let bundle = fs::read(tasks.join(&task).join("config.json")).unwrap_or_default();
        let bundle: Bundle = serde_json::from_slice(&bundle).unwrap_or_default();
        let of_network = bundle.linux.namespaces.into_iter().filter(|namespace| namespace.r#type == "network");
        namespaces.extend(of_network.filter_map(|namespace| cni_namespace(&namespace.path)));
    }
    let layers = data.join("containerd");
    // A disk of its own for one of these folders is not ours.
    let is_below = |mount: &Path, folder: &Path| mount != folder && mount.starts_with(folder);
    let mut count = 0;
    // The last mounted goes first: it may be on another.
    for mount in mounts()?.iter().rev() {
        if is_below(mount, state) || is_below(mount, root) || is_below(mount, &layers) || namespaces.contains(mount) {
            count += 1;
            match umount2(mount, MntFlags::MNT_DETACH) {
                Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
                Err(errno) => {
                    return Err(Failure::File(format!("cannot unmount {}: {}", mount.display(), errno.desc())).into());
                }
            }
        }
    }
    for namespace in &namespaces {
        gone(fs::remove_file(namespace), namespace)?;
    }
    for task in names(&tasks) {
        let socket = fs::read_to_string(tasks.join(&task).join("address")).unwrap_or_default();
        if let Some(socket) = socket.trim().strip_prefix("unix://").map(Path::new).filter(|s| s.starts_with(SHIMS)) {
            gone(fs::remove_file(socket), socket)?;
        }
        let notes = Path::new(SHIMS).join("runc/k8s.io").join(&task);
        gone(fs::remove_dir_all(&notes), &notes)?;
    }
    let ids: BTreeSet<String> = names(&tasks).into_iter().chain(names(&sandboxes)).collect();
    for note in names(Path::new(NETWORKS)).iter().filter(|note| note.split('-').any(|part| ids.contains(part))) {
        let path = Path::new(NETWORKS).join(note);
        gone(fs::remove_file(&path), &path)?;
    }
    gone(fs::remove_dir_all(&tasks), &tasks)?;
    // Others may have something in these.
    for folder in [
        "/run/containerd/runc/k8s.io",
        "/run/containerd/runc",
        "/run/containerd/s",
        SHIMS,
        NETWORKS,
        "/var/lib/cni",
        "/run/netns",
    ] {
        _ = fs::remove_dir(folder);
    }
    Ok(count)
}

/// A network namespace that the runtime made, as the table of mounts names it.
fn cni_namespace(path: &Path) -> Option<PathBuf> {
    let (folder, name) = (path.parent()?, path.file_name()?.to_str()?);
    // It is named by /var/run, which is a link mostly.
    let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    (name.starts_with("cni-") && folder.ends_with("netns")).then(|| folder.join(name))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// That something is gone already is as good.
fn gone(removed: std::io::Result<()>, path: &Path) -> anyhow::Result<()> {
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Failure::File(format!("cannot remove {}: {error}", path.display())).into())
        }
        _ => Ok(()),
    }
}

/// The places where something is mounted, in the order of mounting.
fn mounts() -> anyhow::Result<Vec<PathBuf>> {
    let text = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(text.lines().filter_map(|line| line.split(' ').nth(4)).map(|place| unescape(place).into()).collect())
}

/// Blanks and the like are octal there (proc(5)).
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(char::from(byte));
                out.push_str(&part[3..]);
            }
            None => {
                out.push('\\');
                out.push_str(part);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_with_blanks_are_read_as_they_are() {
        assert_eq!(unescape("/mnt/a\\040b\\134c"), "/mnt/a b\\c");
        assert_eq!(unescape("/plain"), "/plain");
        assert!(mounts().unwrap().contains(&PathBuf::from("/")));
    }

    #[test]
    fn only_namespaces_of_the_runtime_are_removed() {
        assert_eq!(cni_namespace(Path::new("/nowhere/netns/cni-1")), Some("/nowhere/netns/cni-1".into()));
        assert_eq!(cni_namespace(Path::new("/run/netns/mine")), None);
        assert_eq!(cni_namespace(Path::new("/proc/1/ns/net")), None);
    }
}
