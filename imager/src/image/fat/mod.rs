//! FAT file systems: made with fixed identities and times, read and edited in place without privileges.
//!
//! FAT16 and FAT32 with long names, which is what firmware boots from. Everything is written in one order and with the
//! caller's times, so that the same files give the same bytes; `fsck.fat` finds no fault with it.

mod directory;
mod format;
mod table;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    io::{self, Write},
};

use super::medium::{Medium, Window};
use crate::tree::Content;
use directory::{Entry, Found};
pub use format::{format, is_fat32};
use table::{Place, Volume};

/// Why a FAT partition could not be made, read or edited.
#[derive(Debug, thiserror::Error)]
pub enum FatError {
    /// The files do not fit.
    #[error(
        "partition {label} is full: {path} needs {need} bytes, {free} are free; a larger partition is set in the board file"
    )]
    Full {
        /// The partition.
        label: String,
        /// The file that did not fit.
        path: String,
        /// Its size, bytes.
        need: u64,
        /// What was left, bytes.
        free: u64,
    },
    /// No such file.
    #[error("partition {label} has no file {path}")]
    NotFound {
        /// The partition.
        label: String,
        /// The path.
        path: String,
    },
    /// Not a FAT file system, or a damaged one.
    #[error("partition {label} is not a readable FAT file system: {source}")]
    Damaged {
        /// The partition.
        label: String,
        /// What was found.
        source: io::Error,
    },
    /// Reading or writing failed.
    #[error("partition {label}, {path}: {source}")]
    Io {
        /// The partition.
        label: String,
        /// The path in it.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

/// A mounted FAT partition. What is written is complete only after [`Fat::close`].
pub struct Fat<M: Medium> {
    label: String,
    volume: RefCell<Volume<M>>,
}

impl<M: Medium> std::fmt::Debug for Fat<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fat({})", self.label)
    }
}

impl<M: Medium> Fat<M> {
    /// Mounts the file system in a window; `label` is the name errors give it.
    ///
    /// # Errors
    /// [`FatError::Damaged`].
    pub fn open(window: Window<M>, label: &str) -> Result<Self, FatError> {
        match Volume::open(window) {
            Ok(volume) => Ok(Fat { label: label.to_owned(), volume: RefCell::new(volume) }),
            Err(source) => Err(FatError::Damaged { label: label.to_owned(), source }),
        }
    }

    /// The files below the root, with their sizes in bytes, sorted by path.
    ///
    /// # Errors
    /// [`FatError::Io`].
    pub fn list(&self) -> Result<BTreeMap<String, u64>, FatError> {
        let mut found = BTreeMap::new();
        let volume = self.volume.borrow();
        let mut pending = vec![(volume.root(), String::new())];
        while let Some((place, prefix)) = pending.pop() {
            for entry in directory::entries(&volume, place).map_err(|source| self.io(&prefix, source))? {
                let path = format!("{prefix}/{}", entry.name);
                if entry.is_directory {
                    pending.push((volume.place(entry.cluster), path));
                } else {
                    found.insert(path, u64::from(entry.size));
                }
            }
        }
        Ok(found)
    }

    /// A file's bytes.
    ///
    /// # Errors
    /// [`FatError::NotFound`] or [`FatError::Io`].
    pub fn read(&self, path: &str) -> Result<Vec<u8>, FatError> {
        let mut bytes = Vec::new();
        self.copy_out(path, &mut bytes)?;
        Ok(bytes)
    }

    /// Copies a file into `out` and returns its size in bytes.
    ///
    /// # Errors
    /// As [`Fat::read`].
    pub fn copy_out(&self, path: &str, out: &mut dyn Write) -> Result<u64, FatError> {
        let volume = self.volume.borrow();
        let mut run = || -> io::Result<Option<u64>> {
            let Some(entry) = find(&volume, path)?.filter(|entry| !entry.is_directory) else { return Ok(None) };
            volume.copy_out(entry.cluster, u64::from(entry.size), out)?;
            Ok(Some(u64::from(entry.size)))
        };
        match run() {
            Ok(Some(size)) => Ok(size),
            Ok(None) => Err(FatError::NotFound { label: self.label.clone(), path: path.to_owned() }),
            Err(source) => Err(self.io(path, source)),
        }
    }

    /// Writes a file, with the directories it needs, over what was there; `time` is seconds since 1970.
    ///
    /// # Errors
    /// [`FatError::Full`] before anything is changed, or [`FatError::Io`].
    pub fn write(&self, path: &str, bytes: &[u8], time: i64) -> Result<(), FatError> {
        let volume = &mut *self.volume.borrow_mut();
        let fail = |source| self.io(path, source);
        let stamp = directory::stamp(time);
        let cluster = volume.cluster_size();
        let reused = match find(volume, path).map_err(fail)? {
            Some(old) => u64::from(old.size).next_multiple_of(cluster),
            None => 0,
        };
        // A new directory takes a cluster, and an entry may lengthen the directory it is in.
        let directories = 2 * (relative(path).matches('/').count() as u64) + 1;
        let free = u64::from(volume.free()) * cluster + reused;
        if (bytes.len() as u64).next_multiple_of(cluster) + directories * cluster > free {
            let need = bytes.len() as u64;
            return Err(FatError::Full { label: self.label.clone(), path: path.to_owned(), need, free });
        }
        let mut place = volume.root();
        let mut name = relative(path);
        while let Some((first, rest)) = name.split_once('/') {
            place = directory::enter(volume, place, first, stamp).map_err(fail)?;
            name = rest;
        }
        if let Some(old) = directory::find(volume, place, name).map_err(fail)? {
            volume.release(old.entry.cluster);
        }
        let first = volume.store(bytes).map_err(fail)?;
        let size = u32::try_from(bytes.len())
            .map_err(|_| fail(io::Error::new(io::ErrorKind::FileTooLarge, "larger than FAT can hold")))?;
        let entry = Entry { name: name.to_owned(), is_directory: false, cluster: first, size };
        directory::put(volume, place, &entry, stamp).map_err(fail)
    }

    /// Removes a file if it is there.
    ///
    /// # Errors
    /// [`FatError::Io`].
    pub fn remove(&self, path: &str) -> Result<(), FatError> {
        let volume = &mut *self.volume.borrow_mut();
        let mut run = || -> io::Result<()> {
            let Some((place, name)) = descend(volume, path)? else { return Ok(()) };
            let Some(found) = directory::find(volume, place, name)? else { return Ok(()) };
            if found.entry.is_directory {
                return Err(io::Error::new(io::ErrorKind::IsADirectory, "is a directory"));
            }
            volume.release(found.entry.cluster);
            directory::erase(volume, place, &found)
        };
        run().map_err(|source| self.io(path, source))
    }

    /// The file system's label, as its root directory has it.
    pub fn label(&self) -> String {
        let volume = self.volume.borrow();
        directory::label(&volume).unwrap_or_default()
    }

    /// Size of the file system's data area and how much of it is free, bytes.
    ///
    /// # Errors
    /// None today; a file system whose free space must be searched for on the medium would have some.
    pub fn space(&self) -> Result<(u64, u64), FatError> {
        let volume = self.volume.borrow();
        Ok((u64::from(volume.clusters()) * volume.cluster_size(), u64::from(volume.free()) * volume.cluster_size()))
    }

    /// Writes the allocation tables and unmounts.
    ///
    /// # Errors
    /// [`FatError::Io`]; the file system may then be damaged.
    pub fn close(self) -> Result<(), FatError> {
        let label = self.label;
        self.volume.into_inner().close().map_err(|source| FatError::Io { label, path: "/".to_owned(), source })
    }

    fn io(&self, path: &str, source: io::Error) -> FatError {
        FatError::Io { label: self.label.clone(), path: path.to_owned(), source }
    }
}

/// Writes files into a file system, in the order of their paths; `time` is seconds since 1970.
///
/// # Errors
/// As [`Fat::write`], or a content cannot be read.
pub fn fill<M: Medium>(fat: &Fat<M>, files: &BTreeMap<String, Content>, time: i64) -> Result<(), FatError> {
    for (path, content) in files {
        let bytes = content.read().map_err(|source| fat.io(path, source))?;
        fat.write(path, &bytes, time)?;
    }
    Ok(())
}

fn relative(path: &str) -> &str {
    path.trim_start_matches('/')
}

/// The directory a path leads to, and the last name; none if a directory on the way is missing.
fn descend<'p, M: Medium>(volume: &Volume<M>, path: &'p str) -> io::Result<Option<(Place, &'p str)>> {
    let mut place = volume.root();
    let mut name = relative(path);
    while let Some((first, rest)) = name.split_once('/') {
        match directory::find(volume, place, first)? {
            Some(Found { entry, .. }) if entry.is_directory => place = volume.place(entry.cluster),
            _ => return Ok(None),
        }
        name = rest;
    }
    Ok(Some((place, name)))
}

fn find<M: Medium>(volume: &Volume<M>, path: &str) -> io::Result<Option<Entry>> {
    let Some((place, name)) = descend(volume, path)? else { return Ok(None) };
    Ok(directory::find(volume, place, name)?.map(|found| found.entry))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::medium::SparseFile;

    const MIB: u64 = 1 << 20;
    const TIME: i64 = 1_700_000_000;

    fn made(mib: u64) -> (tempfile::NamedTempFile, SparseFile) {
        let file = tempfile::NamedTempFile::new().expect("temp file");
        let mut image = SparseFile::new(file.reopen().expect("reopen"), mib * MIB).expect("sparse");
        format(Window::new(&mut image, 0, mib * MIB), mib * MIB, "CONFIG", 0x1234_5678).expect("format");
        (file, image)
    }

    fn open(image: &mut SparseFile) -> Fat<&mut SparseFile> {
        let length = image.length();
        Fat::open(Window::new(image, 0, length), "CONFIG").expect("open")
    }

    fn assert_sound(file: &tempfile::NamedTempFile) {
        if let Some(run) = crate::image::tests::tool("fsck.fat", &["-n"], file.path()) {
            assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stdout));
        }
    }

    fn some_files() -> BTreeMap<String, Content> {
        let big: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
        let mut files = BTreeMap::new();
        files.insert("/node.toml".to_owned(), Content::from("version = 1\n"));
        files.insert("/cluster/ca.crt".to_owned(), Content::from("certificate"));
        files.insert("/cluster/bootstrap-tokens.json".to_owned(), Content::from("[]"));
        files.insert("/EFI/BOOT/BOOTX64.EFI".to_owned(), Content::from(big));
        files.insert("/empty".to_owned(), Content::from(""));
        for n in 0..150 {
            files.insert(format!("/many/a file with a long name, number {n}.txt"), Content::from("x"));
        }
        files
    }

    #[test]
    fn what_is_written_is_read_back_and_fsck_finds_no_fault() {
        for mib in [16, 33, 128] {
            let (file, mut image) = made(mib);
            let fat = open(&mut image);
            fill(&fat, &some_files(), TIME).expect("fill");
            fat.close().expect("close");
            let fat = open(&mut image);
            assert_eq!(fat.label(), "CONFIG");
            let list = fat.list().expect("list");
            assert_eq!(list.len(), some_files().len());
            for (path, content) in some_files() {
                assert!(fat.read(&path).expect("read") == content.read().expect("in memory").as_ref(), "{path}");
            }
            assert_eq!(fat.read("/NODE.TOML").expect("names are compared without case"), b"version = 1\n");
            assert!(matches!(fat.read("/absent"), Err(FatError::NotFound { .. })));
            drop(fat);
            assert_sound(&file);
        }
    }

    #[test]
    fn mtools_reads_the_files() {
        let (file, mut image) = made(32);
        let fat = open(&mut image);
        fill(&fat, &some_files(), TIME).expect("fill");
        fat.close().expect("close");
        let path = file.path().to_string_lossy().into_owned();
        let Some(run) = crate::image::tests::run("mtype", &["-i", &path, "::/cluster/bootstrap-tokens.json"]) else {
            return;
        };
        assert_eq!(run.stdout, b"[]", "{}", String::from_utf8_lossy(&run.stderr));
    }

    #[test]
    fn an_edited_file_system_is_sound_and_loses_no_space() {
        let (file, mut image) = made(16);
        let fat = open(&mut image);
        fill(&fat, &some_files(), TIME).expect("fill");
        let before = fat.space().expect("space");
        fat.write("/node.toml", &[b'#'; 50_000], TIME).expect("write");
        fat.write("/node.toml", b"version = 1\n", TIME).expect("write");
        fat.remove("/cluster/ca.crt").expect("remove");
        fat.remove("/cluster/ca.crt").expect("what is gone stays gone");
        fat.write("/cluster/ca.crt", b"another", TIME).expect("write");
        assert_eq!(fat.space().expect("space"), before);
        fat.close().expect("close");
        assert_eq!(open(&mut image).read("/cluster/ca.crt").expect("read"), b"another");
        assert_sound(&file);
    }

    #[test]
    fn a_full_partition_names_the_file_and_changes_nothing() {
        let (file, mut image) = made(16);
        let fat = open(&mut image);
        fat.write("/a", &vec![1; 9 << 20], TIME).expect("write");
        let error = fat.write("/dir/b", &vec![1; 9 << 20], TIME).expect_err("too large");
        assert!(error.to_string().contains("CONFIG is full: /dir/b needs 9437184 bytes"), "{error}");
        assert_eq!(fat.list().expect("list").len(), 1);
        fat.close().expect("close");
        assert_sound(&file);
    }

    #[test]
    fn the_same_files_give_the_same_bytes() {
        let bytes = || {
            let (file, mut image) = made(16);
            let fat = open(&mut image);
            fill(&fat, &some_files(), TIME).expect("fill");
            fat.close().expect("close");
            std::fs::read(file.path()).expect("read")
        };
        assert!(bytes() == bytes(), "two runs differ");
    }

    #[test]
    fn garbage_is_refused_and_never_panics() {
        let (_, mut image) = made(16);
        let mut sector = vec![0; 512];
        image.read_at(&mut sector, 0).expect("read");
        for at in 0..512 {
            let mut wrong = sector.clone();
            wrong[at] ^= 0xff;
            image.write_at(&wrong, 0).expect("write");
            let length = image.length();
            if let Ok(fat) = Fat::open(Window::new(&mut image, 0, length), "CONFIG") {
                // Any answer will do as long as it is one.
                let _ = fat.list();
            }
        }
    }
}
