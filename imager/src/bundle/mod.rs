//! Installers: one file that makes a Kiln node of any Linux, without a network and whatever C library is there.
//!
//! In flow the runtime and Debian's container runtime, from the packages that the lock pins for a board of the architecture; out
//! flows a shell script with an archive behind it, a checksum, and a software bill of materials. The programs are those of the
//! images, with their loader and libraries beside them in a private folder: [`relocate`] points them there. Everything written
//! depends on the inputs alone.

mod contents;
mod error;
mod installer;
mod recipe;
mod relocate;

use std::path::PathBuf;

use serde::Serialize;

use crate::{
    image::{self, BuildOptions, ImageError, output, sbom},
    packages::{self, PathFilter, Unpacked},
    profile::{Arch, ContainerImage, Profile, Request},
    progress::Progress,
    toolchain::{self, RuntimeRequest},
    tree::{Content, Tree},
};
pub use error::BundleError;
use recipe::Recipe;

/// The folder that an installer owns. Programs know it, so it is the same everywhere.
pub const PREFIX: &str = "/usr/local/lib/kiln";
/// Its loader and libraries; no longer than the path of a loader, whose place in a program it takes.
const LIBRARY: &str = "/usr/local/lib/kiln/lib";

/// What an installer is to hold.
#[derive(Clone, Debug)]
pub struct BundleRequest {
    /// The machines it is for.
    pub arch: Arch,
    /// Archives of container images to bring along.
    pub container_images: Vec<PathBuf>,
    /// Where to write it; none: `kiln-install-<arch>.sh` in the folder of results.
    pub file: Option<PathBuf>,
}

/// What was made.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BundleOutput {
    /// The installer.
    pub installer: PathBuf,
    /// Bytes.
    pub size: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
    /// Bytes that it takes when installed.
    pub installed_size: u64,
    /// The checksum file.
    pub checksums: PathBuf,
    /// The bill of materials.
    pub sbom: PathBuf,
}

/// Makes an installer.
///
/// # Errors
/// See [`BundleError`]. No result is half written.
pub fn build(
    request: &BundleRequest,
    options: &BuildOptions,
    progress: &Progress,
) -> Result<BundleOutput, BundleError> {
    let recipe = Recipe::read()?;
    let part = recipe.of(request.arch)?;
    let board =
        Request { board: part.board.clone(), container_images: request.container_images.clone(), ..Request::default() };
    let profile = Profile::resolve(&options.workspace, &board)?;
    let (mut lock, section) = image::lock(&profile, options, progress)?;
    let mut pins: Vec<_> = section.packages.iter().filter(|pin| recipe.packages.contains(&pin.name)).cloned().collect();
    pins.sort();
    let debs = packages::fetch(&options.packages, &pins, progress)?;
    let before = lock.clone();
    let runtime = toolchain::runtime_binary(
        &RuntimeRequest {
            workspace: &options.workspace,
            arch: request.arch,
            explicit: options.runtime.as_deref(),
            choice: options.toolchain,
            cache: &options.cache,
            packages: &options.packages,
            locked: options.locked,
        },
        &mut lock,
        progress,
    )?;
    if lock != before {
        lock.save(&options.lock)?;
    }
    let mut tree = Tree::default();
    let mut described = Vec::new();
    for (pin, unpacked) in pins.into_iter().zip(Unpacked::open_all(&options.packages, &debs, progress)?) {
        unpacked.add_to(&mut tree, &PathFilter::default())?;
        described.push((pin, unpacked.metadata));
    }

    let step = progress.step("Pack", None);
    let images: &[ContainerImage] = &profile.container_images;
    let kiln = Content::File(runtime.path.clone());
    let files = contents::assemble(&recipe, &tree, kiln, images, &profile.version)?;
    let time = image::time(options.time, section.timestamp)?;
    let mut installed_size = 0;
    for (_, content) in files.values() {
        installed_size += content.len().map_err(|source| BundleError::Read { source })?;
    }
    let archive = installer::pack(&files, time).map_err(|source| BundleError::Read { source })?;
    let path = match &request.file {
        Some(file) => file.clone(),
        None => options.out.join(format!("kiln-install-{}.sh", request.arch)),
    };
    let beside = |extension: &str| PathBuf::from(format!("{}.{extension}", path.display()));
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut whole = Vec::with_capacity(archive.len() + (16 << 10));
    installer::write(&mut whole, &archive, &profile.version, request.arch, &part.machines)
        .map_err(ImageError::io("writing", &path))?;
    let summary = output::Summary::of(&whole);
    let subject = sbom::Subject {
        name: format!("kiln-install-{}-{}", request.arch, profile.version),
        version: &profile.version,
        purpose: "INSTALL",
        images,
        file: &name,
        sha256: &summary.sha256,
    };
    let made_by = image::Runtime { sha256: &runtime.sha256, size: runtime.size, toolchain: &runtime.toolchain };
    let sbom_text = sbom::render(&subject, &described, (&made_by, &runtime.crates), time);
    output::write(&beside("spdx.json"), &sbom_text)?;
    output::write(&beside("sha256"), format!("{}  {name}\n", summary.sha256).as_bytes())?;
    // Last, so that it is never newer than what describes it.
    output::write_program(&path, &whole)?;
    step.done(&format!("{} MiB", summary.size >> 20));
    Ok(BundleOutput {
        size: summary.size,
        sha256: summary.sha256,
        installed_size,
        checksums: beside("sha256"),
        sbom: beside("spdx.json"),
        installer: path,
    })
}
