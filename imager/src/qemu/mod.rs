//! Boots an image in QEMU the way its board does.
//!
//! What a board's machine looks like is data: the `[qemu]` table of its file in `boards/`, a [`machine::Machine`]. The
//! kernel, device tree, initramfs and command line come out of the image itself.

pub mod machine;
