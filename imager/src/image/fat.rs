//! FAT file systems: made with fixed identities and times, read and edited in place.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
};

use fatfs::{Dir, FatType, FileSystem, FormatVolumeOptions, FsOptions};
use jiff::{Timestamp, tz::TimeZone};

use super::medium::{Medium, Window};
use crate::tree::Content;

const MIB: u64 = 1024 * 1024;

/// Why a FAT partition could not be made, read or edited.
#[derive(Debug, thiserror::Error)]
pub enum FatError {
    /// The files do not fit.
    #[error("partition {label} is full: {path} needs {need} bytes, {free} are free; a larger partition is set in the board file")]
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

/// A mounted FAT partition.
pub struct Fat<M: Medium> {
    label: String,
    fs: FileSystem<Window<M>>,
}

impl<M: Medium> std::fmt::Debug for Fat<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fat({})", self.label)
    }
}

/// Whether a partition of this size gets FAT32 (true) or FAT16.
pub fn is_fat32(length: u64) -> bool {
    length >= 100 * MIB
}

/// Makes an empty file system that fills the window.
///
/// # Errors
/// [`FatError::Io`].
pub fn format<M: Medium>(window: Window<M>, length: u64, label: &str, volume_id: u32) -> Result<(), FatError> {
    let mut name = [b' '; 11];
    for (to, from) in name.iter_mut().zip(label.bytes()) {
        *to = from;
    }
    let mut options = FormatVolumeOptions::new().volume_id(volume_id).volume_label(name);
    if is_fat32(length) {
        // About a hundred thousand clusters: enough to be FAT32 by definition, few enough for a small table.
        let cluster = (length / 131_072).next_power_of_two().clamp(512, 32_768);
        options = options.fat_type(FatType::Fat32).bytes_per_cluster(cluster as u32);
    } else {
        options = options.fat_type(FatType::Fat16);
    }
    fatfs::format_volume(window, options).map_err(|source| FatError::Io {
        label: label.to_owned(),
        path: "/".to_owned(),
        source,
    })
}

impl<M: Medium> Fat<M> {
    /// Mounts the file system in a window; `label` is the name errors give it.
    ///
    /// # Errors
    /// [`FatError::Damaged`].
    pub fn open(window: Window<M>, label: &str) -> Result<Self, FatError> {
        match FileSystem::new(window, FsOptions::new()) {
            Ok(fs) => Ok(Fat { label: label.to_owned(), fs }),
            Err(source) => Err(FatError::Damaged { label: label.to_owned(), source }),
        }
    }

    /// The files below the root, with their sizes in bytes, sorted by path.
    ///
    /// # Errors
    /// [`FatError::Io`].
    pub fn list(&self) -> Result<BTreeMap<String, u64>, FatError> {
        let mut found = BTreeMap::new();
        self.walk(&self.fs.root_dir(), "", &mut found)?;
        Ok(found)
    }

    fn walk(
        &self,
        directory: &Dir<'_, Window<M>>,
        prefix: &str,
        found: &mut BTreeMap<String, u64>,
    ) -> Result<(), FatError> {
        for entry in directory.iter() {
            let entry = entry.map_err(|source| self.io(prefix, source))?;
            let name = entry.file_name();
            if name == "." || name == ".." {
                continue;
            }
            let path = format!("{prefix}/{name}");
            if entry.is_dir() {
                self.walk(&entry.to_dir(), &path, found)?;
            } else {
                found.insert(path, entry.len());
            }
        }
        Ok(())
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
        let mut file = match self.fs.root_dir().open_file(relative(path)) {
            Ok(file) => file,
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                return Err(FatError::NotFound { label: self.label.clone(), path: path.to_owned() });
            }
            Err(source) => return Err(self.io(path, source)),
        };
        let mut buffer = vec![0; 64 * 1024];
        let mut total = 0;
        loop {
            let count = file.read(&mut buffer).map_err(|source| self.io(path, source))?;
            if count == 0 {
                return Ok(total);
            }
            out.write_all(&buffer[..count]).map_err(|source| self.io(path, source))?;
            total += count as u64;
        }
    }

    /// Writes a file, with the directories it needs, over what was there; `time` is seconds since 1970.
    ///
    /// # Errors
    /// [`FatError::Full`] before anything is changed, or [`FatError::Io`].
    pub fn write(&self, path: &str, bytes: &[u8], time: i64) -> Result<(), FatError> {
        let cluster = u64::from(self.fs.cluster_size());
        let free = u64::from(self.fs.stats().map_err(|s| self.io(path, s))?.free_clusters()) * cluster;
        let reused = match self.fs.root_dir().open_file(relative(path)) {
            Ok(mut file) => {
                let size = io::Seek::seek(&mut file, io::SeekFrom::End(0)).map_err(|s| self.io(path, s))?;
                size.next_multiple_of(cluster)
            }
            Err(_) => 0,
        };
        // A new directory takes a cluster, and the entry may lengthen the one it is in.
        let directories = relative(path).matches('/').count() as u64 + 1;
        let need = (bytes.len() as u64).next_multiple_of(cluster);
        if need + directories * cluster > free + reused {
            return Err(FatError::Full {
                label: self.label.clone(),
                path: path.to_owned(),
                need: bytes.len() as u64,
                free: free + reused,
            });
        }
        let mut directory = self.fs.root_dir();
        let mut name = relative(path);
        while let Some((first, rest)) = name.split_once('/') {
            directory = directory.create_dir(first).map_err(|s| self.io(path, s))?;
            name = rest;
        }
        let mut file = directory.create_file(name).map_err(|s| self.io(path, s))?;
        file.truncate().map_err(|s| self.io(path, s))?;
        file.write_all(bytes).map_err(|s| self.io(path, s))?;
        let stamp = date_time(time);
        #[allow(deprecated)] // The replacement, a time provider, must be 'static and so would be global.
        {
            file.set_created(stamp);
            file.set_modified(stamp);
            file.set_accessed(stamp.date);
        }
        file.flush().map_err(|s| self.io(path, s))
    }

    /// Removes a file if it is there.
    ///
    /// # Errors
    /// [`FatError::Io`].
    pub fn remove(&self, path: &str) -> Result<(), FatError> {
        match self.fs.root_dir().remove(relative(path)) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(self.io(path, source)),
            _ => Ok(()),
        }
    }

    /// The file system's label, as written at its start.
    pub fn label(&self) -> String {
        self.fs.volume_label().trim_end().to_owned()
    }

    /// Size of the file system's data area and how much of it is free, bytes.
    ///
    /// # Errors
    /// [`FatError::Io`].
    pub fn space(&self) -> Result<(u64, u64), FatError> {
        let stats = self.fs.stats().map_err(|s| self.io("/", s))?;
        let cluster = u64::from(stats.cluster_size());
        Ok((u64::from(stats.total_clusters()) * cluster, u64::from(stats.free_clusters()) * cluster))
    }

    /// Writes what is still in memory and unmounts.
    ///
    /// # Errors
    /// [`FatError::Io`]; the file system may then be damaged.
    pub fn close(self) -> Result<(), FatError> {
        let label = self.label;
        self.fs.unmount().map_err(|source| FatError::Io { label, path: "/".to_owned(), source })
    }

    fn io(&self, path: &str, source: io::Error) -> FatError {
        FatError::Io { label: self.label.clone(), path: path.to_owned(), source }
    }
}

/// Writes files into an empty file system, in the order of their paths.
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

/// A time in UTC as FAT has it: from 1980, in steps of two seconds.
fn date_time(seconds: i64) -> fatfs::DateTime {
    let first = 315_532_800; // 1980-01-01
    let last = 4_354_819_198; // 2107-12-31
    let stamp = Timestamp::from_second(seconds.clamp(first, last)).unwrap_or_default();
    let civil = stamp.to_zoned(TimeZone::UTC).datetime();
    let narrow = |value: i8| u16::from(value.unsigned_abs());
    fatfs::DateTime {
        date: fatfs::Date {
            year: civil.year().unsigned_abs(),
            month: narrow(civil.month()),
            day: narrow(civil.day()),
        },
        time: fatfs::Time {
            hour: narrow(civil.hour()),
            min: narrow(civil.minute()),
            sec: narrow(civil.second()) & !1,
            millis: 0,
        },
    }
}
