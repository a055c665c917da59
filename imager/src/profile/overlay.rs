//! An overlay: packages, kernel needs and a file tree that are layered into the root.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    ProfileError,
    board::names,
    source::{SourceFile, nearest},
};
use crate::tree::{Content, Kind, Node, Tree};

/// An overlay of `overlays/<name>/`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Overlay {
    /// The directory's name; not written in the file.
    #[serde(skip_deserializing)]
    pub name: String,
    /// One line: what it adds.
    pub description: String,
    /// Packages for the root.
    #[serde(default)]
    pub packages: Vec<String>,
    /// Packages never taken, though something depends on them.
    #[serde(default)]
    pub exclude_packages: Vec<String>,
    /// Paths left out of the root, as patterns of [`crate::packages::PathFilter`].
    #[serde(default)]
    pub exclude_paths: Vec<String>,
    /// Paths kept although a pattern of any overlay leaves them out.
    #[serde(default)]
    pub keep_paths: Vec<String>,
    /// Files to join into one, as a package's maintainer script would have done.
    #[serde(default)]
    pub concatenate: Vec<Concatenate>,
    /// The package whose version is reported as the node's container runtime.
    #[serde(default)]
    pub container_runtime: Option<String>,
    /// Kernel options and modules.
    #[serde(default)]
    pub kernel: OverlayKernel,
    /// The directory this overlay was read from.
    #[serde(skip)]
    pub directory: PathBuf,
}

/// Files joined into one, in the order of their names; the parts leave the root.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Concatenate {
    /// Pattern of the parts' absolute paths.
    pub from: String,
    /// The joined file's absolute path.
    pub to: String,
}

/// What an overlay needs of the kernel.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct OverlayKernel {
    /// Options, as in a board's `kernel.required`.
    #[serde(default)]
    pub required: Vec<String>,
    /// Modules, as in a board's `kernel.initramfs-modules`.
    #[serde(default)]
    pub initramfs_modules: Vec<String>,
    /// Modules, as in a board's `kernel.modules`.
    #[serde(default)]
    pub modules: Vec<String>,
    /// Modules, as in a board's `kernel.later-modules`.
    #[serde(default)]
    pub later_modules: Vec<String>,
    /// Modules, as in a board's `kernel.demand-modules`.
    #[serde(default)]
    pub demand_modules: Vec<String>,
}

impl Overlay {
    /// Reads `dir/<name>/overlay.toml`.
    ///
    /// # Errors
    /// [`ProfileError::UnknownOverlay`] with the nearest name, or the place of a mistake in the file.
    pub fn find(dir: &Path, name: &str) -> Result<Overlay, ProfileError> {
        let known = names(dir, "")?;
        if !known.iter().any(|k| k == name) {
            let near = nearest(name, known.iter().map(String::as_str)).map(str::to_owned);
            return Err(ProfileError::UnknownOverlay { name: name.to_owned(), nearest: near, known });
        }
        let directory = dir.join(name);
        let source = SourceFile::read(&directory.join("overlay.toml"))?;
        let mut overlay: Overlay = source.parse()?;
        overlay.name = name.to_owned();
        overlay.directory = directory;
        Ok(overlay)
    }

    /// The overlay's own files (`tree/`), owned by root; only a file's executable bit is taken from the checkout.
    ///
    /// # Errors
    /// [`ProfileError::Read`] with the path.
    pub fn tree(&self) -> Result<Tree, ProfileError> {
        let mut tree = Tree::default();
        let root = self.directory.join("tree");
        if root.is_dir() {
            walk(&root, "", &mut tree)?;
        }
        Ok(tree)
    }
}

fn walk(dir: &Path, prefix: &str, tree: &mut Tree) -> Result<(), ProfileError> {
    for name in names(dir, "")? {
        let path = dir.join(&name);
        let read = |source: io::Error| ProfileError::Read { path: path.clone(), source };
        let meta = fs::symlink_metadata(&path).map_err(read)?;
        let inner = format!("{prefix}/{name}");
        let (kind, mode) = if meta.is_dir() {
            walk(&path, &inner, tree)?;
            (Kind::Directory, 0o755)
        } else if meta.is_symlink() {
            let target = fs::read_link(&path).map_err(read)?;
            (Kind::Symlink(target.to_string_lossy().into_owned()), 0o777)
        } else {
            let mode = if meta.permissions().mode() & 0o100 != 0 { 0o755 } else { 0o644 };
            (Kind::File(Content::Bytes(fs::read(&path).map_err(read)?.into())), mode)
        };
        tree.nodes.insert(inner, Node { kind, mode, uid: 0, gid: 0 });
    }
    Ok(())
}
