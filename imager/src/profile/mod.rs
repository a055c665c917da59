//! What is to be built: boards, overlays, and the [`Profile`] they resolve to.
//!
//! In flow the files of `boards/` and `overlays/` and the user's choices; out flows one serialisable [`Profile`], which
//! is printed before a build and is the build's only description of the image. Nothing here reads packages or writes
//! images, and no code names a board: everything that differs between boards is a value in its TOML file.

mod arch;
mod board;
mod container_image;
mod manifest;
mod overlay;
mod resolve;
mod source;

pub use arch::Arch;
pub use board::{
    Board, BoardSummary, Boot, BootKind, Compression, Copy, Kernel, PartitionPlan, QemuMachine, Sources, Table, boards,
};
pub use container_image::ContainerImage;
pub use manifest::Manifest;
pub use overlay::{Concatenate, Overlay, OverlayKernel};
pub use resolve::{ConfigFile, Profile, Request};
pub use source::ProfileError;

#[cfg(test)]
mod tests;
