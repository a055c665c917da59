//! An image file or a card, opened without root or mounts: partition table and the files of its FAT partitions.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use fatfs::{FileSystem, FsOptions};
use gptman::GPT;
use mbrman::MBR;
use serde::Serialize;
use thiserror::Error;

const SECTOR: u64 = 512;
/// MBR partition type that says "look at the GPT".
const PROTECTIVE: u8 = 0xee;

/// Why an image or card could not be read or changed.
#[derive(Debug, Error)]
pub enum CardError {
    /// The file or device could not be opened, read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The image or device.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// There is no partition table with the four partitions of a Kiln image.
    #[error("{} is not a Kiln image: {why}", path.display())]
    NotAnImage {
        /// The image or device.
        path: PathBuf,
        /// What was looked for and not found.
        why: String,
    },
    /// A FAT partition cannot be used.
    #[error("{}: the {area} partition is not readable: {source}", path.display())]
    FileSystem {
        /// The image or device.
        path: PathBuf,
        /// The partition.
        area: Area,
        /// What is wrong with the file system, or what the system said.
        source: io::Error,
    },
    /// A file does not fit; nothing was changed.
    #[error(
        "{}: the {area} partition is full: {file} needs {needed} bytes and {free} are free; nothing was changed",
        path.display()
    )]
    Full {
        /// The image or device.
        path: PathBuf,
        /// The partition.
        area: Area,
        /// The file to be written.
        file: String,
        /// Bytes that it takes, in whole clusters.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// A file that must be there is not.
    #[error("{}: there is no {file} on the {area} partition", path.display())]
    Missing {
        /// The image or device.
        path: PathBuf,
        /// The partition.
        area: Area,
        /// The file.
        file: String,
    },
}

/// The partitions of a Kiln image, in their order on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Area {
    /// Settings; on UEFI also the ESP. FAT.
    Config,
    /// First system slot. FAT.
    SlotA,
    /// Second system slot. FAT.
    SlotB,
    /// What the node keeps. ext4, made at first boot.
    State,
}

impl Area {
    /// All of them, in their order on the disk.
    pub const ALL: [Area; 4] = [Area::Config, Area::SlotA, Area::SlotB, Area::State];
}

impl std::fmt::Display for Area {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Area::Config => "CONFIG",
            Area::SlotA => "slot A",
            Area::SlotB => "slot B",
            Area::State => "STATE",
        })
    }
}

/// The kind of partition table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TableKind {
    /// Master boot record.
    Mbr,
    /// GUID partition table.
    Gpt,
}

/// Where a partition is. Bytes from the start of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Extent {
    /// First byte.
    pub start: u64,
    /// Length.
    pub size: u64,
}

/// A file on a FAT partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileInfo {
    /// Path from the partition's root, without a leading slash.
    pub path: String,
    /// Bytes.
    pub size: u64,
}

/// An open image or card.
#[derive(Debug)]
pub struct Card {
    path: PathBuf,
    file: File,
    /// Bytes of the image or device.
    pub size: u64,
    /// The kind of partition table.
    pub table: TableKind,
    /// The MBR's signature as 8 hex digits, or the GPT's GUID, lower case: `kiln.disk` of the kernel command line.
    pub disk_id: String,
    extents: [Extent; 4],
}

impl Card {
    /// Opens an image file or block device; `writable` for [`Card::write`].
    ///
    /// # Errors
    /// [`CardError::Io`] when it cannot be opened, [`CardError::NotAnImage`] when it has not the partitions.
    pub fn open(path: &Path, writable: bool) -> Result<Self, CardError> {
        let io = |action| move |source| CardError::Io { path: path.to_owned(), action, source };
        let mut file = OpenOptions::new().read(true).write(writable).open(path).map_err(io("open"))?;
        let size = file.seek(SeekFrom::End(0)).map_err(io("read"))?;
        let not = |why: String| CardError::NotAnImage { path: path.to_owned(), why };
        let mut start = [0; 4];
        if file.read_exact_at(&mut start, 0).is_ok() && start == [0x28, 0xb5, 0x2f, 0xfd] {
            return Err(not("it is compressed; unpack it first with `zstd -d`".to_owned()));
        }
        let mbr = MBR::read_from(&mut file, SECTOR as u32).map_err(|_| not("it has no partition table".to_owned()))?;
        let (table, disk_id, found) =
            if mbr.header.partition_1.sys == PROTECTIVE { gpt(&mut file).map_err(not)? } else { plain(&mbr) };
        let extents: [Extent; 4] = found.try_into().map_err(|found: Vec<Extent>| {
            not(format!("it has {} partitions, not the 4 of a Kiln image", found.len()))
        })?;
        if let Some(beyond) = extents.iter().find(|extent| extent.start.saturating_add(extent.size) > size) {
            let end = beyond.start.saturating_add(beyond.size);
            return Err(not(format!("it is cut short: a partition ends at byte {end} of {size}")));
        }
        Ok(Self { path: path.to_owned(), file, size, table, disk_id, extents })
    }

    /// The image or device.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where a partition is.
    pub fn extent(&self, area: Area) -> Extent {
        self.extents[area as usize]
    }

    /// A reader of a partition's bytes.
    ///
    /// # Errors
    /// [`CardError::Io`] when the file cannot be opened a second time.
    pub fn region(&self, area: Area) -> Result<Region, CardError> {
        let file = self.file.try_clone().map_err(|source| self.io("open", source))?;
        let Extent { start, size } = self.extent(area);
        Ok(Region { file, start, size, at: 0 })
    }

    /// A file's bytes; `None` when there is no such file.
    ///
    /// # Errors
    /// [`CardError::FileSystem`] when the partition is no FAT or is damaged.
    pub fn read(&self, area: Area, name: &str) -> Result<Option<Vec<u8>>, CardError> {
        let fs = self.mount(area)?;
        let result = match fs.root_dir().open_file(name) {
            Ok(mut file) => {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).map(|_| Some(bytes))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        result.map_err(|source| self.file_system(area, source))
    }

    /// A file's bytes.
    ///
    /// # Errors
    /// [`CardError::Missing`] when there is no such file, and those of [`Card::read`].
    pub fn require(&self, area: Area, name: &str) -> Result<Vec<u8>, CardError> {
        self.read(area, name)?.ok_or_else(|| CardError::Missing {
            path: self.path.clone(),
            area,
            file: name.to_owned(),
        })
    }

    /// Every file of a FAT partition, sorted by path.
    ///
    /// # Errors
    /// [`CardError::FileSystem`] when the partition is no FAT or is damaged.
    pub fn list(&self, area: Area) -> Result<Vec<FileInfo>, CardError> {
        let fs = self.mount(area)?;
        let mut files = Vec::new();
        let mut pending = vec![(String::new(), fs.root_dir())];
        while let Some((prefix, directory)) = pending.pop() {
            for entry in directory.iter() {
                let entry = entry.map_err(|source| self.file_system(area, source))?;
                let name = entry.file_name();
                if name == "." || name == ".." {
                    continue;
                }
                let path = format!("{prefix}{name}");
                if entry.is_dir() {
                    pending.push((format!("{path}/"), entry.to_dir()));
                } else {
                    files.push(FileInfo { path, size: entry.len() });
                }
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }

    /// Replaces a file in a partition's root, so that at any moment the old or the new text is whole on the card: the
    /// new one is written beside it and synced before the old one goes. (FAT has no rename that replaces; a power cut
    /// between the last two steps leaves the new text as `<name>.new`.)
    ///
    /// # Errors
    /// [`CardError::Full`] before anything is changed, and those of [`Card::read`].
    pub fn write(&self, area: Area, name: &str, content: &[u8]) -> Result<(), CardError> {
        let fs = self.mount(area)?;
        let failed = |source| self.file_system(area, source);
        let stats = fs.stats().map_err(failed)?;
        let cluster = u64::from(stats.cluster_size());
        let temporary = format!("{name}.new");
        let root = fs.root_dir();
        remove_if_there(&root, &temporary).map_err(failed)?;
        let free = u64::from(fs.stats().map_err(failed)?.free_clusters()) * cluster;
        let needed = (content.len() as u64).next_multiple_of(cluster);
        if needed > free {
            return Err(CardError::Full { path: self.path.clone(), area, file: name.to_owned(), needed, free });
        }
        let mut file = root.create_file(&temporary).map_err(failed)?;
        file.write_all(content).and_then(|()| file.flush()).map_err(failed)?;
        drop(file);
        self.sync()?;
        remove_if_there(&root, name).map_err(failed)?;
        root.rename(&temporary, &root, name).map_err(failed)?;
        drop(root);
        fs.unmount().map_err(failed)?;
        self.sync()
    }

    fn mount(&self, area: Area) -> Result<FileSystem<Region>, CardError> {
        FileSystem::new(self.region(area)?, FsOptions::new()).map_err(|source| self.file_system(area, source))
    }

    fn sync(&self) -> Result<(), CardError> {
        self.file.sync_data().map_err(|source| self.io("write", source))
    }

    fn io(&self, action: &'static str, source: io::Error) -> CardError {
        CardError::Io { path: self.path.clone(), action, source }
    }

    fn file_system(&self, area: Area, source: io::Error) -> CardError {
        CardError::FileSystem { path: self.path.clone(), area, source }
    }
}

fn remove_if_there(directory: &fatfs::Dir<'_, Region>, name: &str) -> io::Result<()> {
    match directory.remove(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn plain(mbr: &MBR) -> (TableKind, String, Vec<Extent>) {
    let extents = mbr
        .iter()
        .filter(|(_, partition)| partition.is_used())
        .map(|(_, partition)| Extent {
            start: u64::from(partition.starting_lba) * SECTOR,
            size: u64::from(partition.sectors) * SECTOR,
        })
        .collect();
    (TableKind::Mbr, format!("{:08x}", u32::from_le_bytes(mbr.header.disk_signature)), extents)
}

fn gpt(file: &mut File) -> Result<(TableKind, String, Vec<Extent>), String> {
    let gpt = GPT::read_from(file, SECTOR).map_err(|error| format!("its GPT is damaged: {error}"))?;
    let extents = gpt
        .iter()
        .filter(|(_, partition)| partition.is_used())
        .map(|(_, partition)| {
            let sectors = (partition.ending_lba + 1).saturating_sub(partition.starting_lba);
            Extent { start: partition.starting_lba.saturating_mul(SECTOR), size: sectors.saturating_mul(SECTOR) }
        })
        .collect();
    Ok((TableKind::Gpt, guid(gpt.header.disk_guid), extents))
}

/// A GUID as people write it: its first three fields are little-endian on disk.
fn guid(bytes: [u8; 16]) -> String {
    let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let hex: String = order.iter().map(|index| format!("{:02x}", bytes[*index])).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// The bytes of one partition as a file of their own; nothing outside can be reached through it.
#[derive(Debug)]
pub struct Region {
    file: File,
    start: u64,
    size: u64,
    at: u64,
}

impl Region {
    fn left(&self, wanted: usize) -> usize {
        usize::try_from(self.size.saturating_sub(self.at)).map_or(wanted, |left| left.min(wanted))
    }
}

impl Read for Region {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.left(buffer.len());
        let read = self.file.read_at(&mut buffer[..length], self.start + self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Write for Region {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let length = self.left(buffer.len());
        let written = self.file.write_at(&buffer[..length], self.start + self.at)?;
        self.at += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Region {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.size.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.at.checked_add_signed(offset),
        };
        self.at = target.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guid_is_written_as_people_write_it() {
        let bytes: [u8; 16] = std::array::from_fn(|index| index as u8);
        assert_eq!(guid(bytes), "03020100-0504-0706-0809-0a0b0c0d0e0f");
    }

    #[test]
    fn a_file_without_a_partition_table_is_named() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let error = Card::open(file.path(), false).expect_err("an empty file is no image");
        assert!(error.to_string().contains("is not a Kiln image: it has no partition table"), "{error}");
    }

    #[test]
    fn a_region_ends_where_its_partition_ends() {
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(&[7; 64]).expect("written");
        let mut region = Region { file, start: 16, size: 8, at: 6 };
        assert_eq!(region.read(&mut [0; 32]).expect("readable"), 2);
        assert_eq!(region.write(&[0; 32]).expect("writable"), 0);
    }
}
