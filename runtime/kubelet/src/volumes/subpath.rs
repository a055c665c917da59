//! Parts of volumes (`subPath`). Whoever can write to a volume can put links into it that lead out, at any moment. So the part
//! is opened in one step that the kernel keeps inside of the volume, and what was opened is mounted at a place that only the
//! kubelet can change; the container gets that place.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, mkdirat};

use super::dirs::{make, names};
use super::mounts;

/// Which part, of which mount of which container.
#[derive(Debug)]
pub(crate) struct SubPath<'a> {
    /// The volume's file or folder.
    pub(crate) volume: &'a Path,
    /// The part, relative to it.
    pub(crate) part: &'a str,
    /// The pod's folder of parts; see [`super::dirs::Dirs::sub_paths`].
    pub(crate) places: &'a Path,
    /// The volume's name, the container's, and the mount's number in it.
    pub(crate) volume_name: &'a str,
    pub(crate) container: &'a str,
    pub(crate) index: usize,
}

/// Why a part is not one that may be asked for.
pub(crate) fn fault(part: &str) -> Option<String> {
    if part.starts_with('/') {
        return Some(format!("error SubPath `{part}` must not be an absolute path"));
    }
    let steps_back = Path::new(part).components().any(|component| component == Component::ParentDir);
    steps_back.then(|| format!("unable to provision SubPath `{part}`: must not contain '..'"))
}

/// Makes the part as a folder if it is not there, and mounts it; answers where.
pub(crate) fn prepare(sub_path: &SubPath<'_>) -> io::Result<PathBuf> {
    let volume = File::open(sub_path.volume)?;
    let part = match open(&volume, Path::new(sub_path.part)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_folders(&volume, Path::new(sub_path.part))?;
            open(&volume, Path::new(sub_path.part))?
        }
        opened => opened?,
    };
    let place = sub_path.places.join(sub_path.volume_name).join(sub_path.container);
    make(&place, 0o750)?;
    let place = place.join(sub_path.index.to_string());
    let stat = fstat(&part)?;
    if mounts::at(&place)?.is_some() {
        if is_same(&place, &stat) {
            return Ok(place);
        }
        mounts::unmount(&place)?;
    }
    make_target(&place, is_folder(&stat))?;
    mounts::bind_open(&part, &place)?;
    Ok(place)
}

/// Unmounts all parts below a pod's folder of them and removes their places.
pub(crate) fn clean_up(places: &Path) -> io::Result<()> {
    mounts::unmount_below(places)?;
    for volume in names(places)? {
        for container in names(&places.join(&volume))? {
            let folder = places.join(&volume).join(container);
            for index in names(&folder)? {
                // Never more than the place itself: should it still be a mount, nothing of the volume may be lost.
                let place = folder.join(index);
                if fs::symlink_metadata(&place)?.is_dir() { fs::remove_dir(&place)? } else { fs::remove_file(&place)? }
            }
            fs::remove_dir(&folder)?;
        }
        fs::remove_dir(places.join(volume))?;
    }
    match fs::remove_dir(places) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Opens a path for what it names, following links only inside of the volume.
fn open(volume: &File, path: &Path) -> io::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    openat2(volume, path, how).map_err(io::Error::from)
}

/// Makes the folders of a path that are missing, with the volume's own permissions.
fn make_folders(volume: &File, path: &Path) -> io::Result<()> {
    let mode = Mode::from_bits_truncate(volume.metadata()?.mode() & 0o7777);
    let mut parent = PathBuf::new();
    for part in path.components().filter(|part| matches!(part, Component::Normal(_))) {
        let folder = open(volume, &parent)?;
        parent.push(part);
        match mkdirat(&folder, Path::new(part.as_os_str()), mode) {
            Err(Errno::EEXIST) => continue,
            made => made?,
        }
        // Whatever the umask is. A link that was put in its place since is not followed.
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
        fchmod(openat2(&folder, AsRef::<OsStr>::as_ref(part.as_os_str()), how)?, mode)?;
    }
    Ok(())
}

fn make_target(place: &Path, is_folder: bool) -> io::Result<()> {
    match fs::symlink_metadata(place) {
        Ok(meta) if meta.is_dir() == is_folder => return Ok(()),
        Ok(meta) if meta.is_dir() => fs::remove_dir(place)?,
        Ok(_) => fs::remove_file(place)?,
        Err(_) => {}
    }
    // A file can be the place of anything that is no folder: what is mounted there has its own type.
    if is_folder { fs::create_dir(place) } else { fs::write(place, "") }
}

fn is_folder(stat: &FileStat) -> bool {
    stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits()
}

fn is_same(place: &Path, stat: &FileStat) -> bool {
    fs::symlink_metadata(place).is_ok_and(|meta| meta.dev() == stat.st_dev && meta.ino() == stat.st_ino)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    struct Pod {
        root: tempfile::TempDir,
    }

    impl Pod {
        fn new() -> Self {
            let root = tempfile::tempdir().expect("a folder");
            fs::create_dir(root.path().join("volume")).expect("a folder");
            Self { root }
        }

        fn volume(&self) -> PathBuf {
            self.root.path().join("volume")
        }

        fn places(&self) -> PathBuf {
            self.root.path().join("volume-subpaths")
        }

        fn prepare(&self, part: &str, index: usize) -> io::Result<PathBuf> {
            let (volume, places) = (self.volume(), self.places());
            prepare(&SubPath { volume: &volume, part, places: &places, volume_name: "v", container: "c", index })
        }
    }

    impl Drop for Pod {
        fn drop(&mut self) {
            clean_up(&self.places()).expect("cleaned up");
        }
    }

    #[test]
    fn files_folders_and_links_inside_can_be_parts() {
        let pod = Pod::new();
        fs::create_dir(pod.volume().join("d")).expect("a folder");
        fs::write(pod.volume().join("d/f"), "x").expect("a file");
        symlink("d/f", pod.volume().join("l")).expect("a link");
        for (index, part) in ["d/f", "l", "./d/./f"].into_iter().enumerate() {
            let place = pod.prepare(part, index).expect("mounted");
            assert_eq!(fs::read_to_string(place).expect("a file"), "x");
        }
        let place = pod.prepare("d", 3).expect("mounted");
        assert_eq!(fs::read_to_string(place.join("f")).expect("a file"), "x");
        assert_eq!(pod.prepare("d", 3).expect("it is mounted already"), place);
        assert_eq!(mounts::below(&place).expect("read").len(), 1);
    }

    #[test]
    fn a_part_that_is_missing_is_made_with_the_volumes_permissions() {
        let pod = Pod::new();
        fs::set_permissions(pod.volume(), Permissions::from_mode(0o2770)).expect("changed");
        let place = pod.prepare("a/b", 0).expect("made");
        fs::write(place.join("f"), "x").expect("a file");
        assert!(pod.volume().join("a/b/f").exists());
        for part in ["a", "a/b"] {
            assert_eq!(fs::metadata(pod.volume().join(part)).expect("made").mode() & 0o7777, 0o2770);
        }
    }

    #[test]
    fn no_link_leads_out_of_the_volume() {
        let pod = Pod::new();
        symlink("/etc", pod.volume().join("absolute")).expect("a link");
        symlink("../..", pod.volume().join("relative")).expect("a link");
        for part in ["absolute", "absolute/passwd", "absolute/new", "relative", "relative/new", "../volume"] {
            let error = pod.prepare(part, 0).expect_err(part);
            assert_eq!(error.raw_os_error(), Some(nix::libc::EXDEV), "{part}");
        }
        assert!(!Path::new("/etc/new").exists());
    }

    #[test]
    fn a_part_that_became_another_file_is_mounted_anew() {
        let pod = Pod::new();
        fs::write(pod.volume().join("f"), "old").expect("a file");
        pod.prepare("f", 0).expect("mounted");
        fs::remove_file(pod.volume().join("f")).expect("removed");
        fs::create_dir(pod.volume().join("f")).expect("a folder");
        fs::write(pod.volume().join("f/g"), "new").expect("a file");
        let place = pod.prepare("f", 0).expect("mounted");
        assert_eq!(fs::read_to_string(place.join("g")).expect("a file"), "new");
    }

    #[test]
    fn parts_that_may_not_be_asked_for_are_told() {
        assert_eq!(fault("/a").as_deref(), Some("error SubPath `/a` must not be an absolute path"));
        assert_eq!(fault("a/../b").as_deref(), Some("unable to provision SubPath `a/../b`: must not contain '..'"));
        assert_eq!(fault("a..b/c"), None);
    }
}
