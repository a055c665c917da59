//! What can go wrong on the way from a profile to an image.

use std::{io, path::PathBuf};

use super::{fat::FatError, partition::PartitionError};
use crate::{packages, profile::ProfileError, rootfs::RootfsError, toolchain};

/// Why an image could not be built or read.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A board or overlay is wrong.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// Packages could not be resolved, fetched or unpacked.
    #[error(transparent)]
    Packages(#[from] packages::Error),
    /// The runtime could not be built.
    #[error(transparent)]
    Toolchain(#[from] toolchain::Error),
    /// The root could not be assembled.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// A FAT partition could not be made or edited.
    #[error(transparent)]
    Fat(#[from] FatError),
    /// A partition table could not be written or read.
    #[error("{}: {source}", path.display())]
    Partition {
        /// The image or device.
        path: PathBuf,
        /// What is wrong with it.
        source: PartitionError,
    },
    /// The image has no such partition; it is not one of ours.
    #[error("{} has no partition {number}; is it a Kiln image?", path.display())]
    NoPartition {
        /// The image or device.
        path: PathBuf,
        /// The partition's number, from 1.
        number: u32,
    },
    /// The disk is full.
    #[error("no space left while {doing} {}; {}", path.display(), "free some, or choose another place with --out or --cache")]
    NoSpace {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
    },
    /// Another build writes the same image.
    #[error("another build is writing {}; wait for it to end", path.display())]
    Busy {
        /// The image.
        path: PathBuf,
    },
    /// A file could not be read or written.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// `SOURCE_DATE_EPOCH` is not a time.
    #[error("SOURCE_DATE_EPOCH is `{value}`; it must be the seconds since 1970, up to the year 2106")]
    Epoch {
        /// As it is set.
        value: String,
    },
}

impl ImageError {
    /// An error of the system, told apart by whether the disk is full.
    pub(crate) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> ImageError {
        let path = path.into();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ImageError::NoSpace { doing, path },
            _ => ImageError::Io { doing, path, source },
        }
    }
}
