//! Builds, inspects, flashes and boots Kiln images.
//!
//! The flow is one direction: a board file, overlays and node settings resolve to a [`profile::Profile`], which is the
//! only input of a build; [`packages`] turns its package list into verified files, [`toolchain`] turns the workspace
//! into a static `kiln`, [`rootfs`] and [`boot`] turn both into file trees, and [`image`] lays those out as partitions.
//! Nothing here needs root, a container or a loop device.

pub mod boot;
pub mod bundle;
pub mod cache;
mod child;
pub mod cluster;
pub mod flash;
pub mod image;
pub mod inspect;
pub mod packages;
pub mod profile;
pub mod progress;
pub mod qemu;
pub mod registry;
pub mod rootfs;
pub mod toolchain;
pub mod tree;
