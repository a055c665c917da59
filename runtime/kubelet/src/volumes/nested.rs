//! Mounts on top of mounts: a volume that is mounted inside of another needs a folder there, which cannot be made once the outer
//! one is read-only in the container.

use std::io;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{Pod, VolumeMount};

use super::dirs::make;

/// Makes the folders that other volumes are mounted on, in the folder of the volume of this name.
pub(crate) fn make_mount_points(name: &str, dir: &Path, pod: &Pod) -> io::Result<()> {
    let Some(spec) = &pod.spec else { return Ok(()) };
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|container| &container.volume_mounts);
    for mounts in containers.map(|container| &container.volume_mounts).chain(ephemeral).flatten() {
        for point in inside(name, mounts) {
            make(&dir.join(point), 0o755)?;
        }
    }
    Ok(())
}

/// Paths inside of a volume on which others are mounted; what lies in yet another is not ours to make.
fn inside(name: &str, mounts: &[VolumeMount]) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = mounts.iter().map(|mount| clean(&mount.mount_path)).collect();
    all.sort();
    let mut found = Vec::new();
    for ours in mounts.iter().filter(|mount| mount.name == name).map(|mount| clean(&mount.mount_path)) {
        let mut nested: Vec<&PathBuf> = Vec::new();
        for path in all.iter().filter(|path| **path != ours && path.starts_with(&ours)) {
            if nested.iter().all(|outer| !path.starts_with(outer)) {
                nested.push(path);
                found.extend(path.strip_prefix(&ours).map(Path::to_owned));
            }
        }
    }
    found
}

/// A path without dots; what leads above the root stays at the root.
fn clean(path: &str) -> PathBuf {
    let mut cleaned = PathBuf::from("/");
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => cleaned.push(name),
            Component::ParentDir => _ = cleaned.pop(),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_right_inside_of_a_volume_need_a_folder_in_it() {
        let mount = |name: &str, path: &str| VolumeMount {
            name: name.to_owned(),
            mount_path: path.to_owned(),
            ..VolumeMount::default()
        };
        let mounts = [
            mount("a", "/dir"),
            mount("b", "/dir/nested"),
            mount("c", "/dir/nested/double"),
            mount("d", "/dir/nested-vol"),
            mount("e", "/dir2"),
            mount("f", "dir/./x/../rel"),
        ];
        let found = |name: &str| {
            let paths = inside(name, &mounts);
            paths.iter().map(|path| path.to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(found("a"), ["nested", "nested-vol", "rel"]);
        assert_eq!(found("b"), ["double"]);
        assert_eq!(found("e"), Vec::<String>::new());
    }
}
