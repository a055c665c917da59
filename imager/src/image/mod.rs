//! From a profile to an image: file systems, partitions, and what describes them.
//!
//! In flow a [`crate::profile::Profile`] and verified packages; out flow `kiln-<board>.img` and beside it a compressed
//! copy, block map, checksums, manifest and software bill of materials. Everything written depends on the inputs alone:
//! no clock, no random number, no host name. [`reader`] opens finished images and cards. Nothing here needs root.

pub mod fat;
pub mod medium;
pub mod partition;
pub mod reader;

mod bmap;
mod build;
mod error;
mod layout;
mod manifest;
pub(crate) mod output;
mod record;
pub(crate) mod sbom;
mod squashfs;
mod stage;
mod verity;

pub(crate) use build::time;
pub use build::{BuildOptions, BuildOutput, Inputs, Package, build, build_from, lock, request};
pub use error::ImageError;
pub(crate) use manifest::Runtime;
pub use verity::Verity;

#[cfg(test)]
pub(crate) mod tests {
    use std::{
        path::Path,
        process::{Command, Output},
    };

    /// Runs a host tool that judges what we made; none if this host does not have it.
    pub(crate) fn run(name: &str, args: &[&str]) -> Option<Output> {
        let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
        match Command::new(name).args(args).env("PATH", path).output() {
            Ok(output) => Some(output),
            Err(error) => {
                eprintln!("{name} was not run: {error}");
                None
            }
        }
    }

    /// As [`run`], with a file as the last argument.
    pub(crate) fn tool(name: &str, args: &[&str], file: &Path) -> Option<Output> {
        let file = file.to_string_lossy().into_owned();
        let mut all = args.to_vec();
        all.push(&file);
        run(name, &all)
    }
}
