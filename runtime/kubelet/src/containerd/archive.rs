//! Images as files: OCI layouts in a tar archive, as `docker save`, `podman save`, `skopeo` and `ctr images export` write them.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::images::reference;

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const NAME: &str = "io.containerd.image.name";
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The longest blob that may be a manifest.
const MAX_MANIFEST: u64 = 4 << 20;
/// Bytes of a blob that are handed over at a time.
const CHUNK: usize = 1 << 20;

/// A blob in memory.
pub(crate) struct Blob {
    pub(crate) media_type: &'static str,
    pub(crate) digest: String,
    pub(crate) data: Vec<u8>,
}

impl Blob {
    pub(crate) fn new(media_type: &'static str, data: Vec<u8>) -> Self {
        let digest = format!("sha256:{}", hex(&Sha256::digest(&data)));
        Self { media_type, digest, data }
    }

    /// As a manifest refers to it.
    pub(crate) fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest, "size": self.data.len()})
    }
}

/// An image in memory: its blobs, of which the last is the manifest.
pub(crate) struct Image {
    pub(crate) name: String,
    pub(crate) blobs: Vec<Blob>,
}

/// An image archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    /// The file, or the archive in it, is damaged or not there.
    #[error("{0}")]
    Read(#[from] std::io::Error),
    /// It is an archive, but none of images.
    #[error("{0}")]
    Layout(String),
}

/// What an archive is made of, in the order of reading.
pub(crate) enum Part {
    /// A blob begins: its digest and size, and the labels by which containerd knows what it refers to.
    Begin { digest: String, size: u64, labels: BTreeMap<String, String> },
    /// The next bytes of the blob.
    Data(Vec<u8>),
    /// The names of the images, each with what it refers to: media type, digest, size.
    Names(Vec<(String, Target)>),
}

/// What a name refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) media_type: String,
    pub(crate) digest: String,
    pub(crate) size: i64,
}

/// Reads an archive from its beginning to its end, and tells each part. `tell` answers whether to go on.
pub(crate) fn read(path: &Path, mut tell: impl FnMut(Part) -> bool) -> Result<(), ArchiveError> {
    let mut archive = tar::Archive::new(File::open(path)?);
    let mut index = None;
    let mut tags: HashMap<String, Vec<String>> = HashMap::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = entry.path()?.to_string_lossy().trim_start_matches("./").to_owned();
        let size = entry.size();
        match name.as_str() {
            "index.json" => index = Some(json_of(&mut entry, size)?),
            "manifest.json" => tags = repo_tags(&json_of(&mut entry, size)?),
            _ => {
                let Some(hash) = name.strip_prefix("blobs/sha256/").filter(|hash| hash.len() == 64) else { continue };
                if !blob(&mut entry, format!("sha256:{hash}"), size, &mut tell)? {
                    return Ok(());
                }
            }
        }
    }
    let index = index.ok_or_else(|| ArchiveError::Layout("it has no index.json: it is no OCI layout".to_owned()))?;
    let names = names(&index, &tags);
    if names.is_empty() {
        return Err(ArchiveError::Layout("its images have no names".to_owned()));
    }
    tell(Part::Names(names));
    Ok(())
}

fn blob(
    entry: &mut impl Read,
    digest: String,
    size: u64,
    tell: &mut impl FnMut(Part) -> bool,
) -> Result<bool, ArchiveError> {
    // Manifests are read as a whole, since what they refer to is told before them.
    let mut first = Vec::new();
    let limit = if size <= MAX_MANIFEST { size } else { CHUNK as u64 };
    entry.by_ref().take(limit).read_to_end(&mut first)?;
    let is_whole = first.len() as u64 == size;
    let labels = if is_whole && first.first() == Some(&b'{') { references(&first) } else { BTreeMap::new() };
    if !tell(Part::Begin { digest, size, labels }) || !tell(Part::Data(first)) {
        return Ok(false);
    }
    loop {
        let mut chunk = Vec::new();
        entry.by_ref().take(CHUNK as u64).read_to_end(&mut chunk)?;
        if chunk.is_empty() {
            return Ok(true);
        }
        if !tell(Part::Data(chunk)) {
            return Ok(false);
        }
    }
}

fn json_of(entry: &mut impl Read, size: u64) -> Result<Value, ArchiveError> {
    if size > MAX_MANIFEST {
        return Err(ArchiveError::Layout("its index is too long".to_owned()));
    }
    serde_json::from_reader(entry).map_err(|error| ArchiveError::Layout(format!("its index: {error}")))
}

/// The labels that keep what a manifest or an index refers to from being collected.
pub(crate) fn references(json: &[u8]) -> BTreeMap<String, String> {
    let Ok(manifest) = serde_json::from_slice::<Value>(json) else { return BTreeMap::new() };
    let digest = |descriptor: &Value| descriptor["digest"].as_str().map(str::to_owned);
    let list = |field: &str| manifest[field].as_array().into_iter().flatten().filter_map(digest).collect::<Vec<_>>();
    let mut labels = BTreeMap::new();
    let mut put = |kind: &str, digest: String| labels.insert(format!("containerd.io/gc.ref.content.{kind}"), digest);
    if let Some(config) = digest(&manifest["config"]) {
        put("config", config);
    }
    for (number, layer) in list("layers").into_iter().enumerate() {
        put(&format!("l.{number}"), layer);
    }
    for (number, manifest) in list("manifests").into_iter().enumerate() {
        put(&format!("m.{number}"), manifest);
    }
    labels
}

/// Docker's own list: the tags of each image by the digest of its configuration.
fn repo_tags(manifest: &Value) -> HashMap<String, Vec<String>> {
    let images = manifest.as_array().into_iter().flatten();
    let row = |image: &Value| {
        let config = image["Config"].as_str()?.rsplit('/').next()?.trim_end_matches(".json").to_owned();
        let tags = image["RepoTags"].as_array()?.iter().filter_map(|tag| tag.as_str().map(str::to_owned)).collect();
        Some((format!("sha256:{config}"), tags))
    };
    images.filter_map(row).collect()
}

fn names(index: &Value, tags: &HashMap<String, Vec<String>>) -> Vec<(String, Target)> {
    let manifests: Vec<&Value> = index["manifests"].as_array().into_iter().flatten().collect();
    let mut names = Vec::new();
    for manifest in &manifests {
        let text = |field: &str| manifest[field].as_str().unwrap_or_default().to_owned();
        let size = manifest["size"].as_i64().unwrap_or_default();
        let target = Target { media_type: text("mediaType"), digest: text("digest"), size };
        let annotation = |name: &str| manifest["annotations"][name].as_str();
        // A bare tag is no name: which image's it is is said nowhere but in Docker's list.
        let named = annotation(NAME).or_else(|| annotation(REF_NAME).filter(|name| name.contains(['/', ':'])));
        match named {
            Some(name) => names.push((name.to_owned(), target)),
            // Docker's list goes by the configuration; with one image there is no doubt.
            None if manifests.len() == 1 => {
                names.extend(tags.values().flatten().map(|tag| (tag.clone(), target.clone())));
            }
            None => {}
        }
    }
    let whole = |(name, target): (String, Target)| Some((reference::normalised(&name).ok()?, target));
    names.into_iter().filter_map(whole).collect()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_from_annotations_or_from_dockers_list() {
        let entry = |annotations: Value| json!({"mediaType": MANIFEST, "digest": "sha256:a", "size": 7, "annotations": annotations});
        let of = |annotations: Value, tags: &[&str]| {
            let tags = HashMap::from([("sha256:c".to_owned(), tags.iter().map(|tag| (*tag).to_owned()).collect())]);
            let found = names(&json!({"manifests": [entry(annotations)]}), &tags);
            found.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(of(json!({NAME: "docker.io/library/a:1", REF_NAME: "1"}), &[]), ["docker.io/library/a:1"]);
        assert_eq!(of(json!({REF_NAME: "example.org/a:1"}), &[]), ["example.org/a:1"]);
        assert_eq!(of(json!({REF_NAME: "latest"}), &["busybox:latest"]), ["docker.io/library/busybox:latest"]);
        assert_eq!(of(Value::Null, &[]), [""; 0]);
    }

    #[test]
    fn what_a_manifest_refers_to_is_kept() {
        let manifest = json!({"config": {"digest": "sha256:c"}, "layers": [{"digest": "sha256:l"}]});
        let labels = references(manifest.to_string().as_bytes());
        assert_eq!(labels["containerd.io/gc.ref.content.config"], "sha256:c");
        assert_eq!(labels["containerd.io/gc.ref.content.l.0"], "sha256:l");
        assert!(references(b"{no json").is_empty());
    }
}
