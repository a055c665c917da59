//! Opening an image or a card without privileges beyond reading it: its table, and the files of its FAT partitions.

use std::{
    fs::{File, OpenOptions},
    path::{Path, PathBuf},
};

use super::{
    ImageError,
    fat::Fat,
    medium::Window,
    partition::{self, DiskId, Partition, Role},
};

/// The partitions of a Kiln image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Settings, and on UEFI the boot loader.
    Config,
    /// The first slot.
    SlotA,
    /// The second slot.
    SlotB,
    /// The node's own file system.
    State,
}

impl Part {
    /// Every partition, in the order of the table.
    pub const ALL: [Part; 4] = [Part::Config, Part::SlotA, Part::SlotB, Part::State];

    /// Number in the table, from 1.
    pub fn number(self) -> u32 {
        match self {
            Part::Config => 1,
            Part::SlotA => 2,
            Part::SlotB => 3,
            Part::State => 4,
        }
    }

    /// The file system's label and the partition's name in a GPT.
    pub fn label(self) -> &'static str {
        match self {
            Part::Config => "CONFIG",
            Part::SlotA => "SLOT_A",
            Part::SlotB => "SLOT_B",
            Part::State => "STATE",
        }
    }
}

/// An open image or card.
#[derive(Debug)]
pub struct Image {
    path: PathBuf,
    file: File,
    id: DiskId,
    partitions: Vec<Partition>,
}

impl Image {
    /// Opens an image file or block device for reading.
    ///
    /// # Errors
    /// It cannot be read, or has no usable partition table.
    pub fn open(path: &Path) -> Result<Image, ImageError> {
        Image::with(path, OpenOptions::new().read(true))
    }

    /// Opens an image file or block device for editing. Call [`Image::sync`] at the end.
    ///
    /// # Errors
    /// As [`Image::open`].
    pub fn open_to_edit(path: &Path) -> Result<Image, ImageError> {
        Image::with(path, OpenOptions::new().read(true).write(true))
    }

    fn with(path: &Path, options: &OpenOptions) -> Result<Image, ImageError> {
        let file = options.open(path).map_err(ImageError::io("opening", path))?;
        let (id, partitions) =
            partition::read(&file).map_err(|source| ImageError::Partition { path: path.to_owned(), source })?;
        Ok(Image { path: path.to_owned(), file, id, partitions })
    }

    /// The disk's identity.
    pub fn id(&self) -> DiskId {
        self.id
    }

    /// The table.
    pub fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    /// One partition of the table.
    ///
    /// # Errors
    /// [`ImageError::NoPartition`].
    pub fn partition(&self, part: Part) -> Result<&Partition, ImageError> {
        self.partitions
            .iter()
            .find(|p| p.number == part.number())
            .ok_or_else(|| ImageError::NoPartition { path: self.path.clone(), number: part.number() })
    }

    /// Mounts one of the FAT partitions. Writing needs [`Image::open_to_edit`], and [`Fat::close`] at the end.
    ///
    /// # Errors
    /// There is no such partition, or no FAT on it.
    pub fn fat(&self, part: Part) -> Result<Fat<&File>, ImageError> {
        let found = self.partition(part)?;
        if found.role == Role::State {
            return Err(ImageError::NoPartition { path: self.path.clone(), number: part.number() });
        }
        Ok(Fat::open(Window::new(&self.file, found.start, found.length), part.label())?)
    }

    /// Waits until everything written is on the disk.
    ///
    /// # Errors
    /// The disk says that it is not.
    pub fn sync(&self) -> Result<(), ImageError> {
        self.file.sync_all().map_err(ImageError::io("writing", &self.path))
    }

    /// The file or device, for reading what lies outside the FAT partitions.
    pub fn file(&self) -> &File {
        &self.file
    }
}
