//! Why a device was not, or not rightly, written.

use std::{io, path::PathBuf};

use thiserror::Error;

use super::device::Objection;

/// Why a device was not, or not rightly, written.
#[derive(Debug, Error)]
pub enum FlashError {
    /// Something speaks against the device; nothing was written.
    #[error("{} was not written: {}", device.display(), list(objections))]
    Refused {
        /// The device.
        device: PathBuf,
        /// What speaks against it.
        objections: Vec<Objection>,
    },
    /// The image does not fit; nothing was written.
    #[error("{} holds {size} bytes and the image has {needed}; nothing was written", device.display())]
    TooSmall {
        /// The device.
        device: PathBuf,
        /// Its size.
        size: u64,
        /// The image's size.
        needed: u64,
    },
    /// The block map does not parse or does not match its own checksum.
    #[error("{}: not a usable block map: {why}", path.display())]
    BlockMap {
        /// The `.bmap` file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The image's bytes are not those that the block map was made from; the device holds an unusable part of it.
    #[error("{}: bytes {start} to {end} are not what its block map says; the device is incomplete", image.display())]
    ImageDiffers {
        /// The image.
        image: PathBuf,
        /// First byte of the range.
        start: u64,
        /// First byte after it.
        end: u64,
    },
    /// The image ends before the block map does.
    #[error("{} ends at byte {size}, before the {expected} of its block map; the device is incomplete", image.display())]
    ImageShort {
        /// The image.
        image: PathBuf,
        /// Where it ends.
        size: u64,
        /// Its size as the map has it.
        expected: u64,
    },
    /// The device gave back other bytes than were written.
    #[error("{}: bytes {start} to {end} read back differently; the device is worn out or false", device.display())]
    ReadBack {
        /// The device.
        device: PathBuf,
        /// First byte of the range.
        start: u64,
        /// First byte after it.
        end: u64,
    },
    /// The system refused to read or write.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file or device.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl FlashError {
    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// What the reader can do about it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Refused { .. } => Some("check the device's name; --force writes to it all the same".to_owned()),
            Self::TooSmall { .. } => Some("use a larger card".to_owned()),
            Self::BlockMap { .. } | Self::ImageDiffers { .. } | Self::ImageShort { .. } => {
                Some("build the image again, or write it whole with --no-bmap if it was changed on purpose".to_owned())
            }
            Self::ReadBack { .. } => Some("try another card or card reader".to_owned()),
            Self::Io { .. } => None,
        }
    }
}

fn list(objections: &[Objection]) -> String {
    objections.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
