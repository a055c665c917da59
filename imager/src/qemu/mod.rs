//! Boots an image in QEMU the way its board does.
//!
//! What a board's machine looks like is data: the `[qemu]` table of its file in `boards/`, a [`machine::Machine`]. The
//! kernel, device tree, initramfs and command line come out of the image itself ([`assets`]); [`command`] turns machine,
//! assets and the user's [`options::Options`] into arguments without touching anything, and [`run`] carries them out.

pub mod assets;
pub mod command;
mod console;
pub mod error;
pub mod fdt;
pub mod machine;
pub mod options;
mod qcow2;
mod qmp;
pub mod run;

pub use error::RunError;
pub use machine::Machine;
pub use options::{Forward, Options};
pub use run::run;
