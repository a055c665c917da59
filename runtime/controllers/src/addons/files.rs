//! Which files of the folders are manifests, and which of them are new or changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// How deep sub-folders are looked into.
const DEPTH: usize = 16;

/// A manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) path: PathBuf,
    /// Whether it and what it made are to be taken away.
    pub(super) disabled: bool,
    /// Whether it lies in the watched folder itself, from which it can be removed.
    pub(super) is_ours: bool,
    /// Another for each change.
    stamp: Stamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    seconds: i64,
    nanoseconds: i64,
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Self { inode: meta.ino(), size: meta.size(), seconds: meta.mtime(), nanoseconds: meta.mtime_nsec() }
    }
}

/// What is known of the folders.
#[derive(Debug)]
pub(super) struct Files {
    folders: Vec<PathBuf>,
    disabled: BTreeSet<String>,
    /// By the names of their Addons.
    files: BTreeMap<String, File>,
    /// As they were when they were applied.
    done: BTreeMap<String, File>,
}

impl Files {
    pub(super) fn new(folders: Vec<PathBuf>, disabled: BTreeSet<String>) -> Self {
        Self { folders, disabled, files: BTreeMap::new(), done: BTreeMap::new() }
    }

    /// The folder whose changes count.
    pub(super) fn watched(&self) -> &Path {
        self.folders.first().map_or(Path::new("/nonexistent"), PathBuf::as_path)
    }

    pub(super) fn get(&self, name: &str) -> Option<File> {
        self.files.get(name).cloned()
    }

    /// Whether a file was not applied yet since the start.
    pub(super) fn is_first(&self, name: &str) -> bool {
        !self.done.contains_key(name)
    }

    /// Notes that a file was applied, as it was then.
    pub(super) fn done(&mut self, name: &str, file: &File) {
        self.done.insert(name.to_owned(), file.clone());
    }

    /// Looks at the folders; answers the names of those that are new or changed. Files that are being written are left for later.
    pub(super) fn scan(&mut self, being_written: &BTreeSet<PathBuf>) -> Vec<String> {
        let mut found: BTreeMap<String, File> = BTreeMap::new();
        for (at, folder) in self.folders.iter().enumerate() {
            let mut paths = BTreeMap::new();
            walk(folder, 0, at == 0, &mut paths);
            let names = paths.keys().filter_map(|path| path.file_name()?.to_str());
            let skips: BTreeSet<String> =
                names.filter_map(|name| name.strip_suffix(".skip")).map(str::to_owned).collect();
            for (path, (meta, is_ours)) in paths {
                let Some(file_name) = path.file_name().and_then(|name| name.to_str()) else { continue };
                let disabled = is_disabled(folder, &path, &self.disabled);
                if !is_manifest(file_name) || (!disabled && skips.contains(file_name)) {
                    continue;
                }
                let name = file_name.split('.').next().unwrap_or_default().to_owned();
                if let Some(other) = found.get(&name) {
                    tracing::debug!("{} is left out: {} has its name", path.display(), other.path.display());
                    continue;
                }
                if being_written.contains(&path) {
                    // As it was: it is looked at when it is whole.
                    if let Some(before) = self.files.remove(&name) {
                        found.insert(name, before);
                    }
                    continue;
                }
                found.insert(name, File { disabled, is_ours, stamp: Stamp::of(&meta), path });
            }
        }
        self.done.retain(|name, _| found.contains_key(name));
        self.files = found;
        let changed = self.files.iter().filter(|(name, file)| self.done.get(*name) != Some(*file));
        changed.map(|(name, _)| name.clone()).collect()
    }
}

/// Adds the files of a folder. Links are followed; what lies behind a linked folder is not removed.
fn walk(folder: &Path, depth: usize, is_ours: bool, into: &mut BTreeMap<PathBuf, (Metadata, bool)>) {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    for path in entries.map(|entry| entry.path()) {
        let Ok(meta) = fs::metadata(&path) else { continue };
        if meta.is_dir() {
            if depth < DEPTH {
                walk(&path, depth + 1, is_ours && !path.is_symlink(), into);
            }
        } else if meta.is_file() {
            into.insert(path, (meta, is_ours));
        }
    }
}

fn is_manifest(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    !name.starts_with('.') && [".yaml", ".yml", ".json"].iter().any(|ending| lower.ends_with(ending))
}

/// What can be disabled of what lies in folders: manifests by their names without the last ending, and sub-folders.
pub fn names(folders: &[PathBuf]) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for folder in folders {
        let mut paths = BTreeMap::new();
        walk(folder, 0, true, &mut paths);
        let manifests =
            paths.into_keys().filter(|path| path.file_name().and_then(|n| n.to_str()).is_some_and(is_manifest));
        for path in manifests {
            all.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
            let above = path.strip_prefix(folder).ok().and_then(Path::parent).into_iter().flat_map(Path::ancestors);
            all.extend(above.filter_map(Path::to_str).filter(|name| !name.is_empty()).map(str::to_owned));
        }
    }
    all
}

/// Whether a file, by its name without the last ending, or one of the folders it lies in is disabled.
fn is_disabled(folder: &Path, path: &Path, disabled: &BTreeSet<String>) -> bool {
    let Some(within) = path.strip_prefix(folder).ok().and_then(Path::parent) else { return false };
    let above = within.ancestors().filter_map(Path::to_str).any(|name| !name.is_empty() && disabled.contains(name));
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    above || stem.is_some_and(|stem| disabled.contains(stem))
}
