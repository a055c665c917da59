//! Resolving a board, its overlays and the user's choices to the profile of one image.

use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer, ser::SerializeStruct};
use sha2::{Digest, Sha256};

use super::{
    Arch, Board, Boot, ContainerImage, Kernel, Manifest, Overlay, PartitionPlan, ProfileError, QemuMachine, Sources,
    source::{SourceFile, nearest},
};

/// What the user asked for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The board's name.
    pub board: String,
    /// Overlays on top of the board's own.
    pub with: Vec<String>,
    /// Overlays of the board that are left out.
    pub without: Vec<String>,
    /// Files for the CONFIG partition.
    pub config: Vec<ConfigFile>,
    /// Archives of container images.
    pub container_images: Vec<PathBuf>,
    /// Files of objects that the server applies.
    pub manifests: Vec<PathBuf>,
}

/// A file for the CONFIG partition. It may hold a token or a key, so it is shown by size and hash only.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigFile {
    /// Absolute path in the partition, such as `/node.toml`.
    pub path: String,
    /// The bytes.
    pub content: Vec<u8>,
}

impl std::fmt::Debug for ConfigFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ConfigFile({}, {} bytes)", self.path, self.content.len())
    }
}

impl Serialize for ConfigFile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("ConfigFile", 3)?;
        out.serialize_field("path", &self.path)?;
        out.serialize_field("size", &self.content.len())?;
        out.serialize_field("sha256", &hex::encode(Sha256::digest(&self.content)))?;
        out.end()
    }
}

/// Everything that decides an image, resolved; printed before a build and the build's only description of the image.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Profile {
    /// The version of Kiln.
    pub version: String,
    /// The board's name.
    pub board: String,
    /// The board in one line.
    pub title: String,
    /// Architecture.
    pub arch: Arch,
    /// Whether the runtime shall feed a hardware watchdog.
    pub watchdog: bool,
    /// Package sources.
    pub sources: Vec<Sources>,
    /// Packages of the root, without their dependencies; sorted.
    pub packages: Vec<String>,
    /// Packages that only boot files are taken from; sorted.
    pub boot_packages: Vec<String>,
    /// Packages never taken; sorted.
    pub exclude_packages: Vec<String>,
    /// Patterns of paths left out of the root; sorted.
    pub exclude_paths: Vec<String>,
    /// Patterns of paths kept although a pattern leaves them out; sorted.
    pub keep_paths: Vec<String>,
    /// The kernel, with what the overlays need added.
    pub kernel: Kernel,
    /// How the board is started.
    pub boot: Boot,
    /// Partition table and sizes.
    pub partitions: PartitionPlan,
    /// The package that is the container runtime.
    pub container_runtime: Option<String>,
    /// Container images that are there at first boot.
    pub container_images: Vec<ContainerImage>,
    /// Manifests that the server applies at first boot.
    pub manifests: Vec<Manifest>,
    /// The overlays, in order.
    pub overlays: Vec<Overlay>,
    /// Files for the CONFIG partition.
    pub config: Vec<ConfigFile>,
    /// How QEMU plays the board.
    pub qemu: Option<QemuMachine>,
}

impl Profile {
    /// Resolves a request against `boards/` and `overlays/` of `workspace`.
    ///
    /// # Errors
    /// An unknown board or overlay, or a mistake in one of the files.
    pub fn resolve(workspace: &Path, request: &Request) -> Result<Profile, ProfileError> {
        let boards = workspace.join("boards");
        let board = Board::find(&boards, &request.board)?;
        let overlays = overlays(workspace, &boards, &board, request)?;
        let container_images = ContainerImage::all(&request.container_images, board.arch)?;
        let profile = Profile::assemble(board, overlays, request.config.clone());
        if let (None, Some(image)) = (&profile.container_runtime, container_images.first()) {
            let message = "no overlay of this build brings a container runtime that could run it".to_owned();
            return Err(ProfileError::ContainerImage { path: image.source.clone(), message });
        }
        let manifests = Manifest::all(&request.manifests)?;
        Ok(Profile { container_images, manifests, ..profile })
    }

    /// Merges a board and its overlays, already read.
    pub fn assemble(board: Board, overlays: Vec<Overlay>, mut config: Vec<ConfigFile>) -> Profile {
        let mut kernel = board.kernel;
        let of_board = kernel.clone();
        for list in
            [&mut kernel.initramfs_modules, &mut kernel.modules, &mut kernel.later_modules, &mut kernel.demand_modules]
        {
            list.clear();
        }
        let mut packages = board.packages.root;
        let mut exclude_packages = board.packages.exclude;
        let (mut exclude_paths, mut keep_paths) = (Vec::new(), Vec::new());
        for overlay in &overlays {
            packages.extend(overlay.packages.iter().cloned());
            exclude_packages.extend(overlay.exclude_packages.iter().cloned());
            exclude_paths.extend(overlay.exclude_paths.iter().cloned());
            keep_paths.extend(overlay.keep_paths.iter().cloned());
            kernel.required.extend(overlay.kernel.required.iter().cloned());
            kernel.initramfs_modules.extend(overlay.kernel.initramfs_modules.iter().cloned());
            kernel.modules.extend(overlay.kernel.modules.iter().cloned());
            kernel.later_modules.extend(overlay.kernel.later_modules.iter().cloned());
            kernel.demand_modules.extend(overlay.kernel.demand_modules.iter().cloned());
        }
        // Overlays first: a checksum or file system that the base names must be there before a driver wants it.
        kernel.initramfs_modules.extend(of_board.initramfs_modules);
        kernel.modules.extend(of_board.modules);
        kernel.later_modules.extend(of_board.later_modules);
        kernel.demand_modules.extend(of_board.demand_modules);
        kernel.required = sorted(kernel.required);
        config.sort_by(|a, b| a.path.cmp(&b.path));
        Profile {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            board: board.name,
            title: board.title,
            arch: board.arch,
            watchdog: board.watchdog,
            sources: board.sources,
            packages: sorted(packages),
            boot_packages: sorted(board.packages.boot),
            exclude_packages: sorted(exclude_packages),
            exclude_paths: sorted(exclude_paths),
            keep_paths: sorted(keep_paths),
            kernel,
            boot: board.boot,
            partitions: board.partitions,
            container_runtime: overlays.iter().rev().find_map(|o| o.container_runtime.clone()),
            container_images: Vec::new(),
            manifests: Vec::new(),
            overlays,
            config,
            qemu: board.qemu,
        }
    }

    /// Every package to resolve: the root's, the boot files', and the kernel.
    pub fn wanted(&self) -> Vec<String> {
        let mut wanted = self.packages.clone();
        wanted.extend(self.boot_packages.iter().cloned());
        wanted.push(self.kernel.package.clone());
        sorted(wanted)
    }
}

/// The board's overlays without the unwanted ones, then the added ones.
fn overlays(workspace: &Path, boards: &Path, board: &Board, request: &Request) -> Result<Vec<Overlay>, ProfileError> {
    let dir = workspace.join("overlays");
    let mut found: Vec<Overlay> = Vec::new();
    for name in &board.overlays {
        if request.without.contains(name.get_ref()) {
            continue;
        }
        match Overlay::find(&dir, name.get_ref()) {
            Err(ProfileError::UnknownOverlay { name: wrong, known, .. }) => {
                let source = SourceFile::read(&boards.join(format!("{}.toml", board.name)))?;
                let hint = match nearest(&wrong, known.iter().map(String::as_str)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("overlays: {}", known.join(", ")),
                };
                return Err(source.invalid(name.span().start, format!("there is no overlay `{wrong}`; {hint}")));
            }
            other => found.push(other?),
        }
    }
    for name in &request.with {
        if !found.iter().any(|o| &o.name == name) {
            found.push(Overlay::find(&dir, name)?);
        }
    }
    for name in &request.without {
        // A misspelt name would otherwise leave the overlay in without a word.
        Overlay::find(&dir, name)?;
    }
    Ok(found)
}

fn sorted(mut list: Vec<String>) -> Vec<String> {
    list.sort();
    list.dedup();
    list
}
