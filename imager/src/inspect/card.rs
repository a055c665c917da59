//! An image file or a card: what is on it, and replacing one of its files safely.
//!
//! A thin layer on [`crate::image::reader`] that names the image in every error and knows what else a path may be that a
//! person gives: a packed image, a cut download, something that is no image at all.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use thiserror::Error;

use crate::image::{
    ImageError,
    fat::{Fat, FatError},
    partition::{DiskId, Partition},
    reader::{Image, Part},
};

/// First bytes of a zstd frame.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Why an image or card could not be read or changed.
#[derive(Debug, Error)]
pub enum CardError {
    /// The file or device could not be opened or read.
    #[error("cannot open {}: {source}", path.display())]
    Open {
        /// The image or device.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is packed.
    #[error("{} is packed; unpack it first with `zstd -d`", path.display())]
    Packed {
        /// The file.
        path: PathBuf,
    },
    /// A partition lies beyond the end of the file.
    #[error("{} is cut short: it has {size} bytes and a partition ends at {end}", path.display())]
    Short {
        /// The image.
        path: PathBuf,
        /// Its size.
        size: u64,
        /// Where the partition ends.
        end: u64,
    },
    /// It has not the partitions of a Kiln image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// One of its FAT partitions cannot be read or written.
    #[error("{}: {source}", path.display())]
    Fat {
        /// The image or device.
        path: PathBuf,
        /// What is wrong.
        source: FatError,
    },
}

/// An open image or card.
#[derive(Debug)]
pub struct Card {
    path: PathBuf,
    image: Image,
    size: u64,
}

impl Card {
    /// Opens an image file or block device for reading.
    ///
    /// # Errors
    /// [`CardError`] when it cannot be opened or is no whole image.
    pub fn open(path: &Path) -> Result<Self, CardError> {
        Self::with(path, Image::open)
    }

    /// Opens an image file or block device for [`Card::replace`].
    ///
    /// # Errors
    /// As [`Card::open`].
    pub fn open_to_edit(path: &Path) -> Result<Self, CardError> {
        Self::with(path, Image::open_to_edit)
    }

    fn with(path: &Path, open: impl Fn(&Path) -> Result<Image, ImageError>) -> Result<Self, CardError> {
        let failed = |source| CardError::Open { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(failed)?;
        let mut start = [0; 4];
        if file.read_exact(&mut start).is_ok() && start == ZSTD {
            return Err(CardError::Packed { path: path.to_owned() });
        }
        let size = file.seek(SeekFrom::End(0)).map_err(failed)?;
        let card = Self { path: path.to_owned(), image: open(path)?, size };
        for part in Part::ALL {
            let partition = card.partition(part)?;
            let end = partition.start.saturating_add(partition.length);
            if end > size {
                return Err(CardError::Short { path: path.to_owned(), size, end });
            }
        }
        Ok(card)
    }

    /// The image or device.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The disk's identity, which the kernel command line names as `kiln.disk`.
    pub fn id(&self) -> DiskId {
        self.image.id()
    }

    /// A partition's place.
    ///
    /// # Errors
    /// [`CardError::Image`] when there is none.
    pub fn partition(&self, part: Part) -> Result<&Partition, CardError> {
        Ok(self.image.partition(part)?)
    }

    /// Mounts one of the FAT partitions for reading.
    ///
    /// # Errors
    /// [`CardError::Image`] when there is no such FAT.
    pub fn fat(&self, part: Part) -> Result<Fat<&File>, CardError> {
        match self.image.fat(part) {
            Err(ImageError::Fat(source)) => Err(self.wrong(source)),
            other => Ok(other?),
        }
    }

    /// A file's bytes.
    ///
    /// # Errors
    /// [`CardError::Fat`] when it is not there or not readable.
    pub fn read(&self, part: Part, file: &str) -> Result<Vec<u8>, CardError> {
        self.fat(part)?.read(file).map_err(|source| self.wrong(source))
    }

    /// A file's bytes; `None` when there is no such file.
    ///
    /// # Errors
    /// [`CardError::Fat`] when it is not readable.
    pub fn read_if_there(&self, part: Part, file: &str) -> Result<Option<Vec<u8>>, CardError> {
        match self.fat(part)?.read(file) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(FatError::NotFound { .. }) => Ok(None),
            Err(source) => Err(self.wrong(source)),
        }
    }

    /// Every file of a FAT partition with its size in bytes, sorted by path.
    ///
    /// # Errors
    /// [`CardError::Fat`] when the partition is damaged.
    pub fn list(&self, part: Part) -> Result<BTreeMap<String, u64>, CardError> {
        self.fat(part)?.list().map_err(|source| self.wrong(source))
    }

    /// Replaces a file so that, whenever the power goes, the card holds the old or the new text whole: the new one is
    /// first written and synced as `<file>.new`, then over the old one, and only then is the copy removed. (FAT has no
    /// rename that replaces.)
    ///
    /// # Errors
    /// [`CardError::Fat`] with [`FatError::Full`] before anything is changed, or what the system says.
    pub fn replace(&self, part: Part, file: &str, content: &[u8]) -> Result<(), CardError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let now = i64::try_from(now).unwrap_or(0);
        let copy = format!("{file}.new");
        for name in [copy.as_str(), file] {
            let fat = self.fat(part)?;
            fat.write(name, content, now).and_then(|()| fat.close()).map_err(|source| self.wrong(source))?;
            self.image.sync()?;
        }
        let fat = self.fat(part)?;
        fat.remove(&copy).and_then(|()| fat.close()).map_err(|source| self.wrong(source))?;
        Ok(self.image.sync()?)
    }

    fn wrong(&self, source: FatError) -> CardError {
        CardError::Fat { path: self.path.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn what_is_no_image_is_named() {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(&[0; 4096]).expect("written");
        let error = Card::open(file.path()).expect_err("zeros are no image");
        assert!(error.to_string().contains("no usable partition table"), "{error}");
    }

    #[test]
    fn a_packed_image_is_told_apart() {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(&ZSTD).expect("written");
        assert!(matches!(Card::open(file.path()), Err(CardError::Packed { .. })));
    }
}
