//! What starts the kernel: the kernel file, the initramfs, the command line and the boot loader's files.
//!
//! In flow the assembled root's kernel and modules and the boot section of the profile; out flow files for the slots and
//! the first partition. Which files a board's firmware wants is data of the board; only the formats are here.

pub mod cpio;
mod files;
mod initramfs;

pub use files::{Slot, cmdline, config_files, copied, slot_files};
pub use initramfs::{initramfs, kernel_file};
