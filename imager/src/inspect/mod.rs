//! Reads what an image or card says about itself, and checks that it is true.
//!
//! In flows a path, out flow its partitions, files and settings ([`report`]), or a list of checks ([`verify`]). Nothing
//! here mounts anything or needs root; [`card::Card`] also replaces single files of a FAT partition, for
//! `imager config set`.

pub mod about;
pub mod card;
mod cpio;
pub mod report;
pub mod settings;
pub mod slots;
pub mod verify;
mod verity;

pub use about::About;
pub use card::{Card, CardError};
pub use report::{ImageReport, report};
pub use verify::{Check, verify};
