//! Why an image could not be run.

use std::{io, path::PathBuf};

use thiserror::Error;

use super::fdt::FdtError;
use crate::inspect::CardError;

/// Why an image could not be run.
#[derive(Debug, Error)]
pub enum RunError {
    /// The emulator is not installed.
    #[error("{program} is not installed")]
    Emulator {
        /// The program.
        program: String,
        /// The Debian package that has it.
        package: String,
        /// The first version that has the board's machine.
        min_version: Option<String>,
    },
    /// The emulator is older than the board's machine.
    #[error("{program} is version {found}; this board's machine came with {needed}")]
    TooOld {
        /// The program.
        program: String,
        /// Its version.
        found: String,
        /// The first version that will do.
        needed: String,
    },
    /// None of the board's UEFI firmware files is on the host.
    #[error("no UEFI firmware on this machine; looked for {}", looked_for.join(", "))]
    Firmware {
        /// The files that were looked for.
        looked_for: Vec<String>,
        /// The Debian package that has one of them.
        package: Option<String>,
    },
    /// The machine has a fixed amount of memory.
    #[error("{machine} has {fixed} of memory and takes no other amount")]
    FixedMemory {
        /// The machine.
        machine: String,
        /// What it has.
        fixed: String,
    },
    /// This machine's processor cannot run the guest.
    #[error("no KVM for this run: {0}")]
    Kvm(String),
    /// The image does not fit the board's SD slot, and is a device that cannot be resized.
    #[error("{}: an SD card's size must be a power of two for QEMU, and this is {size} bytes", path.display())]
    CardSize {
        /// The image or device.
        path: PathBuf,
        /// Its size.
        size: u64,
    },
    /// The image could not be read.
    #[error(transparent)]
    Card(#[from] CardError),
    /// The image's device tree could not be read.
    #[error("{file} of the image: {source}")]
    DeviceTree {
        /// The file in the slot.
        file: String,
        /// What is wrong with it.
        source: FdtError,
    },
    /// A file could not be read or written, or a program not started.
    #[error("cannot {action} {what}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        what: String,
        /// What the system said.
        source: io::Error,
    },
}

impl RunError {
    pub(super) fn io(action: &'static str, what: impl ToString) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, what: what.to_string(), source }
    }

    /// What the reader can do about it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Emulator { package, min_version: Some(version), .. } => Some(format!(
                "install Debian's package {package}, version {version} or later (bookworm has it in backports)"
            )),
            Self::Emulator { package, min_version: None, .. } => Some(format!("install Debian's package {package}")),
            Self::TooOld { needed, .. } => {
                Some(format!("install QEMU {needed} or later (bookworm has it in backports)"))
            }
            Self::Firmware { package: Some(package), .. } => Some(format!("install Debian's package {package}")),
            Self::Kvm(_) => Some("leave --kvm out".to_owned()),
            Self::FixedMemory { .. } => Some("leave --memory out".to_owned()),
            Self::CardSize { .. } => Some("use --snapshot, which runs on an overlay of the right size".to_owned()),
            _ => None,
        }
    }
}
