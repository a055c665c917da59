//! What can go wrong while an installer is made.

use std::io;

use crate::{image::ImageError, packages, profile::ProfileError, toolchain};

/// Why there is no installer.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A board or a container image is wrong.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// Packages could not be resolved, fetched or unpacked.
    #[error(transparent)]
    Packages(#[from] packages::Error),
    /// The runtime could not be built.
    #[error(transparent)]
    Toolchain(#[from] toolchain::Error),
    /// The lock or a result could not be written.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The recipe that came with this program is wrong.
    #[error("the recipe of installers: {message}")]
    Recipe {
        /// What is wrong with it.
        message: String,
    },
    /// A file is in none of the packages.
    #[error("no package of the installer has {what}; the packages have changed, and the recipe must")]
    Missing {
        /// A path, or a library's name.
        what: String,
    },
    /// A program cannot be made to run from the installer's folder.
    #[error("{path}: {message}")]
    Program {
        /// Where its package has it.
        path: String,
        /// Why not.
        message: String,
    },
    /// An unpacked file could not be read.
    #[error("reading {source}")]
    Read {
        /// The file, and what the system said.
        source: io::Error,
    },
}
