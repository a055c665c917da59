//! Container images from registries: by their names at build time, so that a board needs no registry.
//!
//! In flow names of images and an architecture; out flow archives (OCI image layouts in a tar file) in the cache, one an image,
//! which are the same to the byte for the same digest. The lock pins the digest of each image's manifest for the architecture.
//! Everything that comes is checked against its digest before it gets a name.

mod client;
mod credentials;
mod error;
mod reference;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{cache, packages::Lock, profile::Arch, progress::Progress};
use client::{Client, unreachable};
pub use credentials::Credentials;
pub use error::RegistryError;
pub use reference::Reference;

/// How images are fetched.
#[derive(Clone)]
pub struct Settings {
    /// Directory for all that can be made again.
    pub cache: PathBuf,
    /// Credentials of registries.
    pub credentials: Credentials,
    /// Take what the lock has, and nothing else.
    pub locked: bool,
    /// Make no connection.
    pub offline: bool,
}

/// The archives for what a user named: files as they are, images from their registries or the cache. Digests that the lock does
/// not have are added to it; the caller saves it.
///
/// # Errors
/// See [`RegistryError`].
pub fn archives(
    settings: &Settings,
    named: &[String],
    arch: Arch,
    lock: &mut Lock,
    progress: &Progress,
) -> Result<Vec<PathBuf>, RegistryError> {
    named
        .iter()
        .map(|name| {
            // What looks like a file is one, so that a missing one is told as such.
            let is_file = Path::new(name).exists() || name.starts_with(['/', '.']) || name.ends_with(".tar");
            if is_file { Ok(name.into()) } else { image(settings, &Reference::parse(name)?, arch, lock, progress) }
        })
        .collect()
}

/// The digest of an image's manifest for an architecture, as its registry has it now.
///
/// # Errors
/// See [`RegistryError`].
pub fn resolve(settings: &Settings, reference: &Reference, arch: Arch) -> Result<String, RegistryError> {
    let client = Client::new(reference, settings.credentials.of(reference));
    let top = client.manifest(reference.version())?;
    let parts: Vec<&Value> = top.value["manifests"].as_array().into_iter().flatten().collect();
    if parts.is_empty() {
        return Ok(top.digest);
    }
    let best = parts.iter().filter_map(|part| Some((rank(&part["platform"], arch)?, part["digest"].as_str()?))).max();
    match best {
        Some((_, digest)) if reference::is_digest(digest) => Ok(digest.to_owned()),
        _ => Err(RegistryError::OtherMachine {
            reference: reference.to_string(),
            wanted: arch.kubernetes().to_owned(),
            found: parts
                .iter()
                .filter_map(|part| part["platform"]["architecture"].as_str())
                .map(str::to_owned)
                .collect(),
        }),
    }
}

/// How well a platform fits: none if it doesn't run there; of 32-bit ARM the newest version that does.
fn rank(platform: &Value, arch: Arch) -> Option<u32> {
    let fits = platform["os"] == "linux" && platform["architecture"] == arch.kubernetes();
    let version = platform["variant"].as_str().and_then(|variant| variant.strip_prefix('v')?.parse().ok());
    let newest = if arch == Arch::Armv7 { 7 } else { 8 };
    fits.then(|| version.unwrap_or(0)).filter(|version| *version <= newest)
}

fn image(
    settings: &Settings,
    reference: &Reference,
    arch: Arch,
    lock: &mut Lock,
    progress: &Progress,
) -> Result<PathBuf, RegistryError> {
    let name = reference.to_string();
    let pinned = lock.image(&name, arch).map(str::to_owned);
    let digest = match pinned {
        Some(digest) => digest,
        None if settings.locked => return Err(RegistryError::Unlocked { reference: name, arch: arch.to_string() }),
        None if settings.offline => return Err(RegistryError::Offline { reference: name }),
        None => {
            let digest = resolve(settings, reference, arch)?;
            lock.pin_image(&name, arch, &digest);
            digest
        }
    };
    let folder = settings.cache.join("container-images");
    let path = folder.join(format!("{}.tar", reference.file_stem(&digest)));
    if path.is_file() {
        cache::touch(&path);
        return Ok(path);
    }
    if settings.offline {
        return Err(RegistryError::Offline { reference: name });
    }
    fs::create_dir_all(&folder).map_err(RegistryError::io("creating", &folder))?;
    pull(settings, reference, &digest, &folder, &path, progress)?;
    Ok(path)
}

/// Fetches an image by its manifest's digest into an archive.
fn pull(
    settings: &Settings,
    reference: &Reference,
    digest: &str,
    folder: &Path,
    path: &Path,
    progress: &Progress,
) -> Result<(), RegistryError> {
    let client = Client::new(reference, settings.credentials.of(reference));
    let manifest = client.manifest(digest)?;
    let mut blobs = BTreeMap::new();
    for part in
        std::iter::once(&manifest.value["config"]).chain(manifest.value["layers"].as_array().into_iter().flatten())
    {
        let (digest, size) = (part["digest"].as_str().unwrap_or_default(), part["size"].as_u64().unwrap_or_default());
        if !reference::is_digest(digest) {
            let message = format!("{reference}: its manifest names a blob {digest:?} that cannot be checked");
            return Err(RegistryError::Protocol { url: reference.base(), message });
        }
        blobs.insert(digest.to_owned(), size);
    }
    let step = progress.bytes(&format!("Fetching {reference}"), Some(blobs.values().sum()));
    let temporary = tempfile::Builder::new().prefix(".partial-").tempdir_in(folder);
    let temporary = temporary.map_err(RegistryError::io("creating a folder in", folder))?;
    for (digest, size) in &blobs {
        fetch(&client, digest, *size, &blob_file(temporary.path(), digest), &|bytes| step.inc(bytes))?;
    }
    let whole = temporary.path().join("archive");
    write(&whole, reference, &manifest, &blobs, temporary.path()).map_err(RegistryError::io("writing", &whole))?;
    fs::rename(&whole, path).map_err(RegistryError::io("renaming", &whole))?;
    step.done(digest);
    Ok(())
}

fn blob_file(folder: &Path, digest: &str) -> PathBuf {
    folder.join(digest.trim_start_matches("sha256:"))
}

/// Fetches a blob into a file and checks it.
fn fetch(
    client: &Client<'_>,
    digest: &str,
    size: u64,
    path: &Path,
    arrived: &dyn Fn(u64),
) -> Result<(), RegistryError> {
    let (url, mut body) = client.blob(digest)?;
    let mut file = File::create(path).map_err(RegistryError::io("creating", path))?;
    let (mut hash, mut received) = (Sha256::new(), 0);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) => return Err(unreachable(&url, &error)),
        };
        received += count as u64;
        if received > size {
            let (expected, got) = (format!("{size} bytes"), "more".to_owned());
            return Err(RegistryError::Digest { url, expected, got });
        }
        hash.update(&buffer[..count]);
        file.write_all(&buffer[..count]).map_err(RegistryError::io("writing", path))?;
        arrived(count as u64);
    }
    let got = format!("sha256:{}", hex::encode(hash.finalize()));
    if got != digest {
        return Err(RegistryError::Digest { url, expected: digest.to_owned(), got });
    }
    Ok(())
}

/// Writes an OCI image layout (image-layout.md) of one image: no time, no owner, one order.
fn write(
    path: &Path,
    reference: &Reference,
    manifest: &client::Manifest,
    blobs: &BTreeMap<String, u64>,
    folder: &Path,
) -> io::Result<()> {
    let mut tar = tar::Builder::new(io::BufWriter::new(File::create(path)?));
    let header = |size: u64| {
        let mut header = tar::Header::new_ustar();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_mtime(0);
        header
    };
    let descriptor = json!({
        "mediaType": manifest.media_type,
        "digest": manifest.digest,
        "size": manifest.bytes.len(),
        "annotations": { "io.containerd.image.name": reference.to_string() },
    });
    let index = json!({ "schemaVersion": 2, "manifests": [descriptor] }).to_string();
    for (name, text) in [("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#), ("index.json", &index)] {
        tar.append_data(&mut header(text.len() as u64), name, text.as_bytes())?;
    }
    let place = |digest: &str| format!("blobs/sha256/{}", digest.trim_start_matches("sha256:"));
    tar.append_data(&mut header(manifest.bytes.len() as u64), place(&manifest.digest), &*manifest.bytes)?;
    for (digest, _) in blobs.iter().filter(|(digest, _)| **digest != manifest.digest) {
        let file = File::open(blob_file(folder, digest))?;
        tar.append_data(&mut header(file.metadata()?.len()), place(digest), file)?;
    }
    let mut file = tar.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.flush()?;
    file.sync_all()
}

#[cfg(test)]
mod tests;
