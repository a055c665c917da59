//! Finished binaries by their digest, and which sources and tools each was made from.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::cargo::{INIT, PACKAGE};
use super::{Crate, Error, Program, Result, RuntimeBinary, crates};
use crate::{cache, profile::Arch, progress::Progress};

/// Files of the workspace that decide what is built; those that are missing count as such.
const FILES: [&str; 5] = ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml", "rust-toolchain", ".cargo/config.toml"];

/// The folder of the workspace that holds the runtime's crates.
const SOURCES: &str = "runtime";

/// `<cache>/runtime`.
pub(super) struct Store {
    root: PathBuf,
}

/// A binary in the store.
#[derive(Clone)]
pub(super) struct Kept {
    path: PathBuf,
    sha256: String,
    size: u64,
}

/// What one build makes.
pub(super) struct Pair {
    /// The runtime.
    pub(super) kiln: Kept,
    /// What starts in the initramfs.
    pub(super) init: Kept,
}

impl Pair {
    /// Adds what made it, and of what.
    pub(super) fn made_by(self, toolchain: String, crates: Vec<Crate>) -> RuntimeBinary {
        let Kept { path, sha256, size } = self.kiln;
        let init = Program { path: self.init.path, sha256: self.init.sha256 };
        RuntimeBinary { path, sha256, size, init, toolchain, crates }
    }
}

impl Store {
    /// Opens the store, making it when it is missing.
    pub(super) fn open(cache: &Path) -> Result<Self> {
        let root = cache.join("runtime");
        let stamps = root.join("stamps");
        fs::create_dir_all(&stamps).map_err(Error::io("create", &stamps))?;
        Ok(Self { root })
    }

    /// Waits until no other process makes a toolchain or compiles in this cache.
    pub(super) fn lock(&self, progress: &Progress) -> Result<File> {
        let path = self.root.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(Error::io("open", &path))?;
        if file.try_lock().is_err() {
            progress.note(&format!("waiting for another build that uses {}", self.root.display()));
            file.lock().map_err(Error::io("lock", &path))?;
        }
        Ok(file)
    }

    /// The binaries that were made from what has this fingerprint, if they still are what they were.
    pub(super) fn find(&self, arch: Arch, fingerprint: &str) -> Option<Pair> {
        let stamp = fs::read_to_string(self.stamp_path(fingerprint)).ok()?;
        let mut lines = stamp.lines();
        let mut next = |name: &str| {
            let sha256 = lines.next()?;
            let path = self.path(arch, name, sha256);
            let (size, found) = digest(&path).ok()?;
            (found == sha256).then_some(Kept { path, sha256: found, size })
        };
        let pair = Pair { kiln: next(PACKAGE)?, init: next(INIT)? };
        cache::touch(&self.stamp_path(fingerprint));
        [&pair.kiln, &pair.init].into_iter().filter_map(|kept| kept.path.parent()).for_each(cache::touch);
        Some(pair)
    }

    /// Copies a binary into the store under a name.
    pub(super) fn keep(&self, arch: Arch, name: &str, binary: &Path) -> Result<Kept> {
        let (size, sha256) = digest(binary).map_err(Error::io("read", binary))?;
        let path = self.path(arch, name, &sha256);
        if digest(&path).is_ok_and(|(_, found)| found == sha256) {
            return Ok(Kept { path, sha256, size });
        }
        write(&path, |file| {
            io::copy(&mut File::open(binary)?, file)?;
            file.set_permissions(fs::Permissions::from_mode(0o755))
        })?;
        Ok(Kept { path, sha256, size })
    }

    /// The crates of a binary: the list beside it, else that which `list` makes, which is kept. An image without it is
    /// better than none.
    pub(super) fn crates(
        &self,
        kept: &Kept,
        list: impl FnOnce() -> Result<Vec<Crate>, String>,
        progress: &Progress,
    ) -> Vec<Crate> {
        if let Some(known) = crates::read(&kept.path) {
            return known;
        }
        let listed = list().and_then(|crates| {
            let (path, bytes) = crates::written(&kept.path, &crates);
            write(&path, |file| file.write_all(&bytes)).map_err(|error| error.to_string())?;
            Ok(crates)
        });
        listed.unwrap_or_else(|why| {
            progress.note(&format!("warning: the bill of materials lists no crates of kiln: {why}"));
            Vec::new()
        })
    }

    /// Notes what binaries were made from.
    pub(super) fn stamp(&self, fingerprint: &str, pair: &Pair) -> Result<()> {
        write(&self.stamp_path(fingerprint), |file| writeln!(file, "{}\n{}", pair.kiln.sha256, pair.init.sha256))
    }

    fn path(&self, arch: Arch, name: &str, sha256: &str) -> PathBuf {
        let short = sha256.get(..32).unwrap_or(sha256);
        self.root.join(format!("{arch}-{short}")).join(name)
    }

    fn stamp_path(&self, fingerprint: &str) -> PathBuf {
        self.root.join("stamps").join(fingerprint)
    }
}

/// Digest of the runtime's sources, what they are locked to, the architecture and `tools`.
///
/// # Errors
/// [`Error::BadWorkspace`] when this is no Kiln workspace, or has no `Cargo.lock`; [`Error::Io`].
pub(super) fn fingerprint(workspace: &Path, arch: Arch, tools: &[&str]) -> Result<String> {
    let manifest = workspace.join(SOURCES).join("kiln/Cargo.toml");
    for (path, reason) in [(&manifest, "not found"), (&workspace.join("Cargo.lock"), "not found; it pins the crates")] {
        if !path.is_file() {
            return Err(Error::BadWorkspace { path: path.clone(), reason: reason.into() });
        }
    }
    let mut hash = Sha256::new();
    let mut add = |name: &str, bytes: &[u8]| {
        hash.update(format!("{} {name} {}\n", name.len(), bytes.len()));
        hash.update(bytes);
    };
    add("arch", arch.name().as_bytes());
    for tool in tools {
        add("tool", tool.as_bytes());
    }
    for name in FILES {
        match fs::read(workspace.join(name)) {
            Ok(bytes) => add(name, &bytes),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io("read", workspace.join(name))(e)),
        }
    }
    let mut files = Vec::new();
    list(&workspace.join(SOURCES), &mut files)?;
    files.sort();
    for path in files {
        let name = path.strip_prefix(workspace).unwrap_or(&path).to_string_lossy().into_owned();
        add(&name, &fs::read(&path).map_err(Error::io("read", &path))?);
    }
    Ok(hex::encode(hash.finalize()))
}

/// All files below a folder, without tests and examples, which are not in the binary.
fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let path = entry.map_err(Error::io("list", folder))?.path();
        match path.is_dir() {
            true if path.ends_with("tests") || path.ends_with("examples") => {}
            true => list(&path, files)?,
            false => files.push(path),
        }
    }
    Ok(())
}

/// Size and SHA-256 of a file.
fn digest(path: &Path) -> io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut size = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((size, hex::encode(hash.finalize()))),
            count => {
                hash.update(&buffer[..count]);
                size += count as u64;
            }
        }
    }
}

/// Writes a file whole or not at all, with its parent directory.
fn write(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> Result<()> {
    let parent = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    let make = || {
        let mut file = tempfile::Builder::new().prefix(".unfinished-").tempfile_in(parent)?;
        fill(file.as_file_mut())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    make().map_err(Error::io("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir_all(at("runtime/kiln/src")).unwrap();
        for (name, text) in [
            ("Cargo.toml", "[workspace]"),
            ("Cargo.lock", "1"),
            ("runtime/kiln/Cargo.toml", "a"),
            ("runtime/kiln/src/main.rs", "b"),
        ] {
            fs::write(at(name), text).unwrap();
        }
        directory
    }

    #[test]
    fn the_fingerprint_follows_sources_lock_tools_and_architecture_and_not_the_folder() {
        let (one, other) = (workspace(), workspace());
        let of = |directory: &Path| fingerprint(directory, Arch::Aarch64, &["t"]).unwrap();
        let first = of(one.path());
        assert_eq!(first, of(other.path()));
        assert_ne!(first, fingerprint(one.path(), Arch::Armv7, &["t"]).unwrap());
        assert_ne!(first, fingerprint(one.path(), Arch::Aarch64, &["u"]).unwrap());
        for name in ["Cargo.lock", "runtime/kiln/src/main.rs", "runtime/new.rs"] {
            let before = of(one.path());
            fs::write(one.path().join(name), "changed").unwrap();
            assert_ne!(before, of(one.path()), "{name}");
        }
    }

    #[test]
    fn a_folder_that_is_no_workspace_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let error = fingerprint(directory.path(), Arch::Aarch64, &[]).unwrap_err().to_string();
        assert!(error.contains("runtime/kiln/Cargo.toml"), "{error}");
    }

    #[test]
    fn a_stamp_whose_binary_changed_counts_for_nothing() {
        let cache = tempfile::tempdir().unwrap();
        let store = Store::open(cache.path()).unwrap();
        let binary = cache.path().join("made");
        fs::write(&binary, "bytes").unwrap();
        let keep = |name| store.keep(Arch::X86_64, name, &binary).unwrap();
        let pair = Pair { kiln: keep(PACKAGE), init: keep(INIT) };
        store.stamp("f", &pair).unwrap();
        let found = store.find(Arch::X86_64, "f").unwrap();
        assert_eq!((found.kiln.path, found.init.path), (pair.kiln.path.clone(), pair.init.path.clone()));
        for changed in [&pair.kiln.path, &pair.init.path] {
            fs::write(changed, "byte").unwrap();
            assert!(store.find(Arch::X86_64, "f").is_none());
            keep(changed.file_name().unwrap().to_str().unwrap());
            assert!(store.find(Arch::X86_64, "f").is_some());
        }
    }
}
