//! Packages turned into files: into an in-memory tree with owners, or into a directory for private tools.

mod metadata;
mod private;

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{Deb, Entry, EntryKind, Error, PathFilter, Result, Settings, cache, parallel};
use crate::{
    progress::Progress,
    tree::{Content, Kind, Node, Tree},
};

pub use metadata::Metadata;
pub use private::unpack_to_dir;

/// Format of `manifest.json` in an unpacked package; another one is unpacked again.
const FORMAT: u32 = 1;

/// Directories that live in `/usr` on a merged system.
const MERGED: [&str; 4] = ["/bin", "/sbin", "/lib", "/lib64"];

/// A package unpacked into the cache: each file's content under its number, and everything else in a manifest, so that
/// neither root nor a second decompression is needed.
#[derive(Clone, Debug)]
pub struct Unpacked {
    /// What the package says about itself.
    pub metadata: Metadata,
    /// Its file tree, in the order of the archive.
    pub entries: Vec<Entry>,
    directory: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    format: u32,
    metadata: Metadata,
    entries: Vec<Entry>,
}

impl Unpacked {
    /// Unpacks a `.deb` into `<cache>/unpacked/<sha256>/`, or finds it there. A file from [`super::fetch`] has its hash
    /// for a name; any other is hashed first.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::BadDeb`], [`Error::Io`]; nothing is left in the cache then.
    pub fn open(settings: &Settings, deb: &Path) -> Result<Self> {
        let stem = deb.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let sha256 = match stem.len() == 64 && stem.bytes().all(|c| c.is_ascii_hexdigit()) {
            true => stem.to_owned(),
            false => cache::digest(deb).map_err(Error::io("read", deb))?.1,
        };
        let root = cache::directory(settings, "unpacked")?;
        let directory = root.join(sha256);
        if let Some(found) = Self::find(&directory) {
            return Ok(found);
        }
        cache::sweep(&root, settings.now);
        let fresh = tempfile::Builder::new()
            .prefix(cache::UNFINISHED)
            .tempdir_in(&root)
            .map_err(Error::io("create a directory in", &root))?;
        let manifest = extract(deb, fresh.path())?;
        let json = serde_json::to_vec(&manifest).map_err(|e| Error::io("write", fresh.path())(e.into()))?;
        let at = fresh.path().join("manifest.json");
        fs::write(&at, json).map_err(Error::io("write", at))?;
        install(fresh, &directory)?;
        Ok(Self { metadata: manifest.metadata, entries: manifest.entries, directory })
    }

    /// [`Self::open`] for all of `debs`, on all processors; in the same order.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_all(settings: &Settings, debs: &[PathBuf], progress: &Progress) -> Result<Vec<Self>> {
        let step = progress.step("Unpacking packages", Some(debs.len() as u64));
        let unpacked = parallel::map(debs, parallel::processors(), |deb| {
            let unpacked = Self::open(settings, deb)?;
            step.inc(1);
            Ok(unpacked)
        })?;
        step.done(&format!("{} packages", debs.len()));
        Ok(unpacked)
    }

    /// What is cached, if it is complete: a crash of the machine may have left files empty.
    fn find(directory: &Path) -> Option<Self> {
        let manifest = fs::read(directory.join("manifest.json")).ok()?;
        let Manifest { format, metadata, entries } = serde_json::from_slice(&manifest).ok()?;
        let whole = |(number, entry): (usize, &Entry)| match entry.kind {
            EntryKind::File(size) => fs::metadata(content(directory, number)).is_ok_and(|meta| meta.len() == size),
            _ => true,
        };
        (format == FORMAT && entries.iter().enumerate().all(whole)).then_some(())?;
        crate::cache::touch(directory);
        Some(Self { metadata, entries, directory: directory.into() })
    }

    /// Adds the package's files to `tree`, paths merged into `/usr`, without those that `filter` leaves out.
    ///
    /// As in dpkg, a directory that is there keeps its mode and owner, and a symbolic link does not replace it. Missing
    /// parents are made, owned by root.
    ///
    /// # Errors
    /// [`Error::BadDeb`] when a file is already there with other content, or a hard link leads nowhere.
    pub fn add_to(&self, tree: &mut Tree, filter: &PathFilter) -> Result<()> {
        let bad = |reason: String| Error::BadDeb { path: self.directory.clone(), reason };
        let package = &self.metadata.package;
        let mut files: HashMap<&str, usize> = HashMap::new();
        for (number, entry) in self.entries.iter().enumerate() {
            let kind = match &entry.kind {
                EntryKind::Directory => Kind::Directory,
                EntryKind::Symlink(target) => Kind::Symlink(target.clone()),
                EntryKind::File(_) => {
                    files.insert(&entry.path, number);
                    Kind::File(Content::File(content(&self.directory, number)))
                }
                EntryKind::Hardlink(target) => {
                    let number = *files.get(target.as_str()).ok_or_else(|| {
                        bad(format!("{package}: {} is a hard link to {target}, which is not in it", entry.path))
                    })?;
                    files.insert(&entry.path, number);
                    Kind::File(Content::File(content(&self.directory, number)))
                }
            };
            let path = merged(entry);
            if !filter.keeps(&path) {
                continue;
            }
            match (tree.nodes.get(&path).map(|node| &node.kind), &kind) {
                (Some(Kind::Directory), Kind::Directory | Kind::Symlink(_)) => continue,
                (Some(Kind::Symlink(_)), Kind::Directory) => continue,
                (Some(Kind::Symlink(old)), Kind::Symlink(new)) if old == new => continue,
                (Some(_), _) => {
                    return Err(bad(format!("{package}: {path} is already there from another package")));
                }
                (None, _) => {}
            }
            add_parents(tree, &path);
            let Entry { mode, uid, gid, .. } = *entry;
            tree.nodes.insert(path, Node { kind, mode, uid, gid });
        }
        Ok(())
    }

    /// The content of the regular file at `path` (as packed), if the package has one.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn file(&self, path: &str) -> Result<Option<File>> {
        let Some(number) = self.entries.iter().position(|e| e.path == path && matches!(e.kind, EntryKind::File(_)))
        else {
            return Ok(None);
        };
        let at = content(&self.directory, number);
        File::open(&at).map(Some).map_err(Error::io("open", at))
    }
}

/// Unpacks a package into `tree`; see [`Unpacked::open`] and [`Unpacked::add_to`].
///
/// # Errors
/// Theirs.
pub fn unpack_into(settings: &Settings, tree: &mut Tree, deb: &Path, filter: &PathFilter) -> Result<Metadata> {
    let unpacked = Unpacked::open(settings, deb)?;
    unpacked.add_to(tree, filter)?;
    Ok(unpacked.metadata)
}

/// Where a file's content lies in an unpacked package.
fn content(directory: &Path, number: usize) -> PathBuf {
    directory.join(number.to_string())
}

/// Writes the contents of a package's files by number and returns everything else.
fn extract(path: &Path, into: &Path) -> Result<Manifest> {
    let deb = Deb::open(path)?;
    let mut entries = Vec::new();
    deb.visit(&mut |entry, bytes| {
        if let EntryKind::File(size) = entry.kind {
            write_file(bytes, size, &content(into, entries.len()), 0o644, path)?;
        }
        entries.push(entry);
        Ok(())
    })?;
    Ok(Manifest { format: FORMAT, metadata: Metadata::of(&deb, path)?, entries })
}

/// Gives a finished directory its name; an incomplete one that has it goes, and another build's equal one may stay.
fn install(fresh: tempfile::TempDir, directory: &Path) -> Result<()> {
    if directory.exists() && Unpacked::find(directory).is_none() {
        fs::remove_dir_all(directory).map_err(Error::io("remove", directory))?;
    }
    match fs::rename(fresh.path(), directory) {
        Ok(()) => {
            let _moved = fresh.keep();
            Ok(())
        }
        Err(e) if matches!(e.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => Ok(()),
        Err(e) => Err(Error::io("write", directory)(e)),
    }
}

/// Copies a member's content to a new file; a short read is the package's fault, a failed write this machine's.
fn write_file(content: &mut dyn Read, size: u64, at: &Path, mode: u32, deb: &Path) -> Result<()> {
    let truncated = |reason: String| Error::Truncated { path: deb.into(), reason };
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(at).map_err(Error::io("create", at))?;
    let mut buffer = [0; 32 * 1024];
    let mut written = 0;
    loop {
        let n = content.read(&mut buffer).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => truncated(format!("data.tar: {e}")),
            _ => Error::BadDeb { path: deb.into(), reason: format!("data.tar: {e}") },
        })?;
        if n == 0 && written == size {
            return Ok(());
        }
        if n == 0 {
            return Err(truncated(format!("data.tar: a file of {size} bytes ends after {written}")));
        }
        written += n as u64;
        io::Write::write_all(&mut file, &buffer[..n]).map_err(Error::io("write", at))?;
    }
}

/// An entry's path with `/bin`, `/sbin`, `/lib` and `/lib64` moved into `/usr`; the links with those names stay.
fn merged(entry: &Entry) -> String {
    let path = entry.path.as_str();
    let below = MERGED.iter().any(|directory| match path.strip_prefix(directory) {
        Some("") => matches!(entry.kind, EntryKind::Directory),
        Some(rest) => rest.starts_with('/'),
        None => false,
    });
    if below { format!("/usr{path}") } else { path.into() }
}

fn add_parents(tree: &mut Tree, path: &str) {
    let mut path = path;
    while let Some((parent, _)) = path.rsplit_once('/') {
        if parent.is_empty() || tree.nodes.contains_key(parent) {
            return;
        }
        tree.nodes.insert(parent.into(), Node { kind: Kind::Directory, mode: 0o755, uid: 0, gid: 0 });
        path = parent;
    }
}
