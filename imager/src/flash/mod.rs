//! Writes an image to a card or disk.
//!
//! In flow an image (`.img` or `.img.zst`), its block map and a device; out flows a device that was read back and found
//! to hold the image. [`device`] says what speaks against a device, [`bmap`] which blocks carry data, [`write`] does the
//! work. Nobody is asked anything here: the command line shows [`device::Target`] to a person before it calls
//! [`write::flash`].

pub mod bmap;
pub mod device;
pub mod error;
pub mod write;

pub use bmap::BlockMap;
pub use device::{Host, Objection, Target};
pub use error::FlashError;
pub use write::{Report, flash};
