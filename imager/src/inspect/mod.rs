//! Reads what an image or card says about itself.
//!
//! In flows a path, out flow its partitions, files and settings. Nothing here mounts anything or needs root;
//! [`card::Card`] also writes single files to a FAT partition, for `imager config set`.

pub mod card;
pub mod cpio;
