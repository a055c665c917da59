//! Container images that an image brings along, as archives: looked through before anything is built, since on a card in the field
//! a wrong one would only be told by a pod that does not start.
//!
//! In flow the archives that the user names; out flow the names by which pods ask for what is in them. Their bytes go into the root as
//! they are, and the runtime loads them at first boot.

mod archive;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{Arch, ProfileError};

/// The folder of the root that the runtime loads archives from.
const FOLDER: &str = "/usr/share/kiln/images";

/// An archive of container images: an OCI image layout in a tar file, as `docker save`, `podman save --format oci-archive`, `skopeo copy`
/// and `ctr images export` write it. See the OCI image-spec, image-layout.md.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ContainerImage {
    /// The file on this machine.
    #[serde(skip)]
    pub source: PathBuf,
    /// Where it lies in the root.
    pub path: String,
    /// The names of the images in it; sorted.
    pub names: Vec<String>,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
}

impl ContainerImage {
    /// Looks through an archive for images that a board of this architecture can run.
    ///
    /// # Errors
    /// The file can't be read, it is damaged, or an image in it is incomplete or for other machines.
    pub fn open(source: &Path, arch: Arch) -> Result<Self, ProfileError> {
        let invalid = |message: String| ProfileError::ContainerImage { path: source.to_owned(), message };
        let names = archive::names(source, arch.kubernetes()).map_err(|why| invalid(why.to_string()))?;
        let (size, sha256) = hash(source).map_err(|error| invalid(error.to_string()))?;
        let name = source.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        // The runtime knows archives by their ending.
        let stem = name.strip_suffix(".tar").unwrap_or(&name);
        Ok(Self { source: source.to_owned(), path: format!("{FOLDER}/{stem}.tar"), names, size, sha256 })
    }

    /// Opens archives in the order of their places in the root.
    ///
    /// # Errors
    /// As [`ContainerImage::open`], and when two files have the same name.
    pub(super) fn all(sources: &[PathBuf], arch: Arch) -> Result<Vec<Self>, ProfileError> {
        let mut images = sources.iter().map(|source| Self::open(source, arch)).collect::<Result<Vec<_>, _>>()?;
        images.sort_by(|a, b| a.path.cmp(&b.path));
        let mut known = BTreeSet::new();
        for image in &images {
            if !known.insert(&image.path) {
                let message = "another archive has the same file name; rename one".to_owned();
                return Err(ProfileError::ContainerImage { path: image.source.clone(), message });
            }
        }
        Ok(images)
    }
}

/// Size and SHA-256 of a file.
fn hash(path: &Path) -> io::Result<(u64, String)> {
    let (mut file, mut hash, mut size) = (File::open(path)?, Sha256::new(), 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((size, hex::encode(hash.finalize()))),
            read => {
                hash.update(&buffer[..read]);
                size += read as u64;
            }
        }
    }
}
