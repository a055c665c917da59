//! The expensive half of an image, kept in the cache: compressed root with its hash tree, kernel, initramfs, boot files.
//!
//! It depends on packages, overlays, the runtime and the board, but on no node's settings; cards of one cluster share it.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    thread,
};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::{ImageError, squashfs, verity, verity::Verity};
use crate::{
    boot, cache,
    profile::Profile,
    progress::Progress,
    rootfs::Root,
    tree::{Content, Tree},
};

/// Stages kept in a cache; older ones are removed.
const KEPT: usize = 8;

const ROOT: &str = "root.squashfs";
const KERNEL: &str = "vmlinuz";
const INITRAMFS: &str = "initramfs.zst";
const INFO: &str = "stage.json";

/// What is known of a stage beside its files.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Info {
    /// The kernel's version.
    pub(super) kernel: String,
    /// The root's hash tree.
    pub(super) verity: Verity,
}

/// A finished stage.
#[derive(Debug)]
pub(super) struct Stage {
    directory: PathBuf,
    pub(super) info: Info,
}

impl Stage {
    /// The stage for `key`, if the cache has it.
    pub(super) fn find(cache: &Path, key: &str) -> Option<Stage> {
        let directory = cache.join("stages").join(key);
        let info = serde_json::from_slice(&fs::read(directory.join(INFO)).ok()?).ok()?;
        cache::touch(&directory);
        Some(Stage { directory, info })
    }

    /// Makes the stage for `key` of an assembled root and the unpacked boot packages.
    ///
    /// It is made under another name and renamed, so that a build killed half-way leaves nothing that looks whole; what
    /// it did leave is removed by the next.
    pub(super) fn make(
        cache: &Path,
        key: &str,
        profile: &Profile,
        root: &Root,
        boot_packages: &Tree,
        init: &Content,
        progress: &Progress,
    ) -> Result<Stage, ImageError> {
        let stages = cache.join("stages");
        fs::create_dir_all(&stages).map_err(ImageError::io("creating", &stages))?;
        let _lock = lock(&stages)?;
        if let Some(stage) = Stage::find(cache, key) {
            return Ok(stage);
        }
        prune(&stages);
        let partial = stages.join(format!("{PARTIAL}{key}"));
        let made = fill(&partial, profile, root, boot_packages, init, progress);
        if made.is_err() {
            // The error that matters is the first one.
            let _ = fs::remove_dir_all(&partial);
        }
        let info = made?;
        let directory = stages.join(key);
        fs::rename(&partial, &directory).map_err(ImageError::io("renaming", &partial))?;
        Ok(Stage { directory, info })
    }

    fn content(&self, name: &str) -> Content {
        Content::File(self.directory.join(name))
    }

    /// The root with its hash area.
    pub(super) fn root(&self) -> Content {
        self.content(ROOT)
    }

    /// The kernel as it is stored.
    pub(super) fn kernel(&self) -> Content {
        self.content(KERNEL)
    }

    /// The initramfs.
    pub(super) fn initramfs(&self) -> Content {
        self.content(INITRAMFS)
    }

    /// Device trees and firmware for a slot.
    pub(super) fn slot_files(&self) -> Result<BTreeMap<String, Content>, ImageError> {
        files(&self.directory.join("slot"))
    }

    /// Files of packages for the first partition.
    pub(super) fn config_files(&self) -> Result<BTreeMap<String, Content>, ImageError> {
        files(&self.directory.join("config"))
    }
}

/// Prefix of a stage that is not finished.
const PARTIAL: &str = ".partial-";

/// One build at a time makes stages in a cache; it also may remove what a killed one left.
fn lock(stages: &Path) -> Result<Flock<File>, ImageError> {
    let path = stages.join(".lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(ImageError::io("opening", &path))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| ImageError::io("locking", &path)(errno.into()))
}

/// Removes unfinished stages and all but the newest finished ones. What cannot be removed only takes space.
fn prune(stages: &Path) {
    let Ok(entries) = fs::read_dir(stages) else { return };
    let mut finished = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(PARTIAL) {
            let _ = fs::remove_dir_all(entry.path());
        } else if let (false, Ok(meta)) = (name.starts_with('.'), entry.metadata()) {
            finished.push((meta.modified().ok(), entry.path()));
        }
    }
    finished.sort();
    finished.reverse();
    for (_, path) in finished.iter().skip(KEPT - 1) {
        let _ = fs::remove_dir_all(path);
    }
}

fn fill(
    directory: &Path,
    profile: &Profile,
    root: &Root,
    boot_packages: &Tree,
    init: &Content,
    progress: &Progress,
) -> Result<Info, ImageError> {
    fs::create_dir_all(directory).map_err(ImageError::io("creating", directory))?;
    let mtime = u32::try_from(root.info.build_time).unwrap_or(u32::MAX);
    let step = progress.step("Compress root, kernel and initramfs", None);
    let verity = thread::scope(|scope| {
        let boot = scope.spawn(|| -> Result<(), ImageError> {
            let path = directory.join(INITRAMFS);
            let bytes = boot::initramfs(root, init.clone(), mtime).map_err(ImageError::io("making", &path))?;
            write(&path, &bytes)?;
            let path = directory.join(KERNEL);
            let bytes =
                boot::kernel_file(&root.kernel, profile.kernel.compression).map_err(ImageError::io("making", &path))?;
            write(&path, &bytes)
        });
        let path = directory.join(ROOT);
        let made = make_root(&path, &root.tree, mtime).map_err(ImageError::io("writing", &path));
        match boot.join() {
            Ok(result) => result.and(made),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })?;
    for (part, rules) in [("slot", &profile.boot.slot_files), ("config", &profile.boot.config_files)] {
        for (path, content) in boot::copied(rules, boot_packages, &root.kernel_version)? {
            let to = directory.join(part).join(path.trim_start_matches('/'));
            let bytes = content.read().map_err(ImageError::io("reading", &to))?;
            if let Some(parent) = to.parent() {
                fs::create_dir_all(parent).map_err(ImageError::io("creating", parent))?;
            }
            write(&to, &bytes)?;
        }
    }
    let info = Info { kernel: root.kernel_version.clone(), verity };
    let text = serde_json::to_vec(&info).unwrap_or_default();
    write(&directory.join(INFO), &text)?;
    step.done("");
    Ok(info)
}

fn make_root(path: &Path, tree: &Tree, mtime: u32) -> io::Result<Verity> {
    let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(path)?;
    let length = squashfs::write(tree, mtime, &file)?;
    let verity = verity::append(&file, length)?;
    file.sync_all()?;
    Ok(verity)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
    let run = || {
        let mut file = File::create(path)?;
        io::Write::write_all(&mut file, bytes)?;
        file.sync_all()
    };
    run().map_err(ImageError::io("writing", path))
}

/// The files below a directory by their path in it; none if there is no directory.
fn files(directory: &Path) -> Result<BTreeMap<String, Content>, ImageError> {
    let mut found = BTreeMap::new();
    let mut pending = vec![(directory.to_owned(), String::new())];
    while let Some((directory, prefix)) = pending.pop() {
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(ImageError::io("reading", &directory)(error)),
        };
        for entry in entries {
            let entry = entry.map_err(ImageError::io("reading", &directory))?;
            let path = format!("{prefix}/{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                pending.push((entry.path(), path));
            } else {
                found.insert(path, Content::File(entry.path()));
            }
        }
    }
    Ok(found)
}
