//! What is in an archive: its blobs, each checked against its digest, and the images that its index names.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Read},
    path::Path,
};

use serde_json::Value;
use sha2::{Digest, Sha256};

/// Annotations that name an image: containerd's, and that of the OCI image-spec.
const NAMES: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
/// The longest blob that is taken for a manifest, an index or a configuration, in bytes.
const LONGEST: u64 = 4 << 20;

/// Why an archive is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum ArchiveError {
    #[error("{0}")]
    Read(#[from] io::Error),
    #[error(
        "it has no index.json; write it with `docker save` (version 25 or newer), `podman save --format oci-archive`, \
         `skopeo copy ... oci-archive:FILE` or `ctr images export`"
    )]
    NoIndex,
    #[error("{file} is no JSON: {why}")]
    NoJson { file: &'static str, why: serde_json::Error },
    #[error("blob sha256:{digest} does not have that digest; the file is damaged")]
    Damaged { digest: String },
    #[error("no image in it has a name; give it one, as in `docker tag` before `docker save`")]
    NoName,
    #[error("image {name} is for {}, not for {wanted}", .found.join(", "))]
    OtherMachine { name: String, wanted: String, found: Vec<String> },
    #[error("image {name} lacks blob {digest}; export it with all its layers")]
    Incomplete { name: String, digest: String },
}

/// A pass through an archive.
#[derive(Default)]
struct Archive {
    index: Option<Value>,
    /// Docker's own list.
    docker: Value,
    /// Digests of all blobs.
    blobs: BTreeSet<String>,
    /// Those that are JSON.
    json: BTreeMap<String, Value>,
}

/// The names of the archive's images, sorted, each of which a machine of this architecture can run (in Kubernetes' word).
pub(super) fn names(path: &Path, arch: &str) -> Result<Vec<String>, ArchiveError> {
    let archive = Archive::read(path)?;
    let index = archive.index.as_ref().ok_or(ArchiveError::NoIndex)?;
    let mut names = BTreeSet::new();
    let manifests = list(index, "manifests");
    for manifest in &manifests {
        let called = archive.called(manifest, manifests.len() == 1);
        for name in &called {
            archive.check(name, manifest, arch)?;
        }
        names.extend(called);
    }
    if names.is_empty() {
        return Err(ArchiveError::NoName);
    }
    Ok(names.into_iter().collect())
}

impl Archive {
    fn read(path: &Path) -> Result<Self, ArchiveError> {
        let mut found = Self::default();
        for entry in tar::Archive::new(File::open(path)?).entries()? {
            let mut entry = entry?;
            let name = entry.path()?.to_string_lossy().trim_start_matches("./").to_owned();
            let size = entry.size();
            match name.as_str() {
                "index.json" => found.index = Some(json("index.json", &mut entry, size)?),
                "manifest.json" => found.docker = json("manifest.json", &mut entry, size)?,
                name => {
                    if let Some(digest) = name.strip_prefix("blobs/sha256/").filter(|digest| !digest.is_empty()) {
                        found.blob(digest, &mut entry, size)?;
                    }
                }
            }
        }
        Ok(found)
    }

    fn blob(&mut self, digest: &str, entry: &mut impl Read, size: u64) -> Result<(), ArchiveError> {
        let mut hash = Sha256::new();
        if size <= LONGEST {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            hash.update(&bytes);
            if let Ok(value) = serde_json::from_slice(&bytes) {
                self.json.insert(format!("sha256:{digest}"), value);
            }
        } else {
            let mut buffer = vec![0; 1 << 20];
            loop {
                match entry.read(&mut buffer)? {
                    0 => break,
                    read => hash.update(&buffer[..read]),
                }
            }
        }
        if hex::encode(hash.finalize()) != digest {
            return Err(ArchiveError::Damaged { digest: digest.to_owned() });
        }
        self.blobs.insert(format!("sha256:{digest}"));
        Ok(())
    }

    /// The names of what an index refers to. Docker's list is asked where the index has one image and says nothing.
    fn called(&self, descriptor: &Value, alone: bool) -> Vec<String> {
        let annotation = |name: &&str| descriptor["annotations"][*name].as_str();
        // A bare tag names no image.
        let named = NAMES.iter().filter_map(annotation).find(|name| name.contains(['/', ':']));
        match named {
            Some(name) => vec![name.to_owned()],
            None if alone => {
                let tags = self.docker.as_array().into_iter().flatten().flat_map(|image| list(image, "RepoTags"));
                tags.filter_map(|tag| tag.as_str().map(str::to_owned)).collect()
            }
            None => Vec::new(),
        }
    }

    /// Whether what an index refers to is whole, and for machines of this architecture.
    fn check(&self, name: &str, descriptor: &Value, arch: &str) -> Result<(), ArchiveError> {
        let lacks = |digest: &str| ArchiveError::Incomplete { name: name.to_owned(), digest: digest.to_owned() };
        let digest = text(descriptor, "digest");
        let object = self.json.get(digest).ok_or_else(|| lacks(digest))?;
        let parts = list(object, "manifests");
        if !parts.is_empty() {
            let for_arch = |part: &&&Value| text(&part["platform"], "architecture") == arch;
            return match parts.iter().find(for_arch) {
                Some(part) => self.check(name, part, arch),
                None => {
                    let found = parts.iter().map(|part| text(&part["platform"], "architecture").to_owned()).collect();
                    Err(ArchiveError::OtherMachine { name: name.to_owned(), wanted: arch.to_owned(), found })
                }
            };
        }
        let config = text(&object["config"], "digest");
        let machine = self.json.get(config).map(|config| text(config, "architecture")).ok_or_else(|| lacks(config))?;
        if machine != arch {
            let found = vec![machine.to_owned()];
            return Err(ArchiveError::OtherMachine { name: name.to_owned(), wanted: arch.to_owned(), found });
        }
        match list(object, "layers")
            .into_iter()
            .map(|layer| text(layer, "digest"))
            .find(|layer| !self.blobs.contains(*layer))
        {
            Some(layer) => Err(lacks(layer)),
            None => Ok(()),
        }
    }
}

fn json(file: &'static str, entry: &mut impl Read, size: u64) -> Result<Value, ArchiveError> {
    let mut bytes = Vec::new();
    entry.take(size.min(LONGEST)).read_to_end(&mut bytes)?;
    serde_json::from_slice(&bytes).map_err(|why| ArchiveError::NoJson { file, why })
}

fn list<'a>(object: &'a Value, field: &str) -> Vec<&'a Value> {
    object[field].as_array().into_iter().flatten().collect()
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_default()
}
