//! Images as volumes (KEP-4639) where containerd's CRI cannot mount them, which it can from version 2.1 on: a snapshot of the
//! image to read only, which the kubelet mounts itself. A snapshot is the garbage collector's root until its pod is gone.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use kiln_grpc::{CallError, Code, Connection};
use nix::mount::{MsFlags, mount};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::api::{
    ApplyRequest, CommitRequest, Descriptor, ListSnapshotsRequest, ListSnapshotsResponse, Mount, Mounts, NameRequest,
    Nothing, OfImage, ReadContentRequest, ReadContentResponse, SnapshotRequest, connect,
};

const HEADERS: &[(&str, &str)] = &[("containerd-namespace", "k8s.io")];
const SNAPSHOTS: &str = "/containerd.services.snapshots.v1.Snapshots";
/// Keeps a snapshot, with those below it, from being collected.
const ROOT: &str = "containerd.io/gc.root";
/// Says whose a snapshot is.
const POD: &str = "kiln.dev/pod-uid";
/// What may be in memory of one document.
const LARGEST: usize = 8 << 20;

/// An image cannot be shown as a volume.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ViewError {
    /// Containerd refused, or is not there.
    #[error("{0}")]
    Call(#[from] CallError),
    /// The image's description cannot be read.
    #[error("image {image}: {why}")]
    Image {
        /// Its id.
        image: String,
        /// What is wrong with it.
        why: String,
    },
    /// The kernel refused.
    #[error("{}: {source}", path.display())]
    Mount {
        /// Where it was to be mounted.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// Snapshots of images, as volumes of pods.
#[derive(Debug, Clone)]
pub(crate) struct Views {
    /// Containerd's socket.
    pub(crate) socket: PathBuf,
    /// The snapshotter that images are unpacked with.
    pub(crate) snapshotter: &'static str,
}

#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<String>,
}

/// An index or a manifest: whatever of both is there.
#[derive(Deserialize)]
struct Document {
    config: Option<Part>,
    #[serde(default)]
    layers: Vec<Part>,
    #[serde(default)]
    manifests: Vec<Part>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    media_type: String,
    digest: String,
    size: i64,
}

impl Views {
    /// Mounts the image of an id at a folder, to be read only. Does nothing if it is mounted.
    pub(crate) async fn mount(&self, image: &str, uid: &str, volume: &str, path: &Path) -> Result<(), ViewError> {
        if crate::volumes::is_mounted(path) {
            return Ok(());
        }
        let failed = |source| ViewError::Mount { path: path.to_owned(), source };
        let connection = connect(&self.socket, HEADERS).await?;
        let top = self.unpacked(&connection, image).await?;
        let labels = [(ROOT.to_owned(), jiff::Timestamp::now().to_string()), (POD.to_owned(), uid.to_owned())];
        let request = self.request(&key(uid, volume), &top, labels.into());
        let mounts: Mounts = match connection.unary(&format!("{SNAPSHOTS}/View"), &request).await {
            // Made before, by this kubelet or one before it.
            Err(error) if error.is(Code(6)) => connection.unary(&format!("{SNAPSHOTS}/Mounts"), &request).await?,
            made => made?,
        };
        std::fs::create_dir_all(path).map_err(failed)?;
        for one in &mounts.mounts {
            show(one, path).map_err(failed)?;
        }
        Ok(())
    }

    /// Lets go of a pod's snapshot; nothing shows it any more.
    pub(crate) async fn remove(&self, uid: &str, volume: &str) -> Result<(), ViewError> {
        let connection = connect(&self.socket, HEADERS).await?;
        Ok(self.discard(&connection, &key(uid, volume)).await?)
    }

    /// Lets go of the snapshots of all pods but these.
    pub(crate) async fn sweep(&self, alive: &HashSet<String>) -> Result<(), ViewError> {
        let connection = connect(&self.socket, HEADERS).await?;
        let request = ListSnapshotsRequest {
            snapshotter: self.snapshotter.to_owned(),
            filters: vec![format!("labels.\"{POD}\"")],
        };
        let mut found = connection.stream(&format!("{SNAPSHOTS}/List"), &request).await?;
        let mut gone = Vec::new();
        while let Some(answer) = found.next::<ListSnapshotsResponse>().await? {
            let others = answer.info.into_iter();
            gone.extend(
                others
                    .filter(|info| info.labels.get(POD).is_some_and(|uid| !alive.contains(uid)))
                    .map(|info| info.name),
            );
        }
        for key in gone {
            self.discard(&connection, &key).await?;
        }
        Ok(())
    }

    fn request(&self, key: &str, parent: &str, labels: BTreeMap<String, String>) -> SnapshotRequest {
        let snapshotter = self.snapshotter.to_owned();
        SnapshotRequest { snapshotter, key: key.to_owned(), parent: parent.to_owned(), labels }
    }

    async fn discard(&self, connection: &Connection, key: &str) -> Result<(), CallError> {
        let request = self.request(key, "", BTreeMap::new());
        match connection.unary::<_, Nothing>(&format!("{SNAPSHOTS}/Remove"), &request).await {
            Err(error) if !error.is(Code::NOT_FOUND) => Err(error),
            _ => Ok(()),
        }
    }

    /// The name of the snapshot with all of an image's layers, which is made if the image was not unpacked yet.
    async fn unpacked(&self, connection: &Connection, image: &str) -> Result<String, ViewError> {
        let config: Config = document(connection, image, image).await?;
        let chain = chain(&config.rootfs.diff_ids);
        let Some(top) = chain.last() else {
            return Err(ViewError::Image { image: image.to_owned(), why: "it has no layers".to_owned() });
        };
        if self.is_there(connection, top).await? {
            return Ok(top.clone());
        }
        let layers = layers(connection, image).await?;
        if layers.len() != chain.len() {
            let why = format!("it has {} layers and describes {}", layers.len(), chain.len());
            return Err(ViewError::Image { image: image.to_owned(), why });
        }
        let mut parent = "";
        for (layer, name) in layers.iter().zip(&chain) {
            if !self.is_there(connection, name).await? {
                self.unpack(connection, layer, parent, name).await?;
            }
            parent = name;
        }
        Ok(top.clone())
    }

    async fn is_there(&self, connection: &Connection, name: &str) -> Result<bool, CallError> {
        let request = self.request(name, "", BTreeMap::new());
        match connection.unary::<_, Nothing>(&format!("{SNAPSHOTS}/Stat"), &request).await {
            Ok(_) => Ok(true),
            Err(error) if error.is(Code::NOT_FOUND) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn unpack(&self, connection: &Connection, layer: &Part, parent: &str, name: &str) -> Result<(), CallError> {
        let key = format!("kiln-unpack-{name}");
        self.discard(connection, &key).await?;
        let labels = [(ROOT.to_owned(), jiff::Timestamp::now().to_string())].into();
        let prepared: Mounts =
            connection.unary(&format!("{SNAPSHOTS}/Prepare"), &self.request(&key, parent, labels)).await?;
        let diff = Descriptor { media_type: layer.media_type.clone(), digest: layer.digest.clone(), size: layer.size };
        let request = ApplyRequest { diff: Some(diff), mounts: prepared.mounts };
        let applied = connection.unary::<_, Nothing>("/containerd.services.diff.v1.Diff/Apply", &request).await;
        if let Err(error) = applied {
            self.discard(connection, &key).await?;
            return Err(error);
        }
        let request = CommitRequest { snapshotter: self.snapshotter.to_owned(), name: name.to_owned(), key };
        match connection.unary::<_, Nothing>(&format!("{SNAPSHOTS}/Commit"), &request).await {
            // Somebody else was faster.
            Err(error) if error.is(Code(6)) => self.discard(connection, &request.key).await,
            done => done.map(drop),
        }
    }
}

/// Whether a containerd of this version can mount images by its CRI.
pub(crate) fn mounts_images(version: &str) -> bool {
    let number = version.rsplit('/').next().unwrap_or_default();
    let mut parts =
        number.trim_start_matches('v').split(['.', '~', '-', '+']).map_while(|part| part.parse::<u32>().ok());
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (2, 1)
}

fn key(uid: &str, volume: &str) -> String {
    format!("kiln-volume-{uid}-{volume}")
}

/// The names of the snapshots of an image's layers, the lowest first: see OCI's image specification about chain ids.
fn chain(diff_ids: &[String]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for id in diff_ids {
        let name = match names.last() {
            None => id.clone(),
            Some(below) => {
                let digest = Sha256::digest(format!("{below} {id}"));
                digest.iter().fold("sha256:".to_owned(), |name, byte| format!("{name}{byte:02x}"))
            }
        };
        names.push(name);
    }
    names
}

/// The layers of the manifest that an image's configuration belongs to.
async fn layers(connection: &Connection, image: &str) -> Result<Vec<Part>, ViewError> {
    let failed = |why: &str| ViewError::Image { image: image.to_owned(), why: why.to_owned() };
    // The CRI names each image by its id too.
    let request = NameRequest { name: image.to_owned() };
    let found: OfImage = connection.unary("/containerd.services.images.v1.Images/Get", &request).await?;
    let target = found.image.and_then(|image| image.target).ok_or_else(|| failed("it leads nowhere"))?;
    let first: Document = document(connection, image, &target.digest).await?;
    let mut all = vec![];
    for manifest in &first.manifests {
        // Those of other machines are usually not there.
        all.extend(document::<Document>(connection, image, &manifest.digest).await.ok());
    }
    all.push(first);
    let is_it = |document: &Document| document.config.as_ref().is_some_and(|config| config.digest == image);
    all.into_iter().find(is_it).map(|document| document.layers).ok_or_else(|| failed("no manifest of it is there"))
}

async fn document<T: serde::de::DeserializeOwned>(
    connection: &Connection,
    image: &str,
    digest: &str,
) -> Result<T, ViewError> {
    let failed = |why: String| ViewError::Image { image: image.to_owned(), why: format!("{digest}: {why}") };
    let request = ReadContentRequest { digest: digest.to_owned() };
    let mut answers = connection.stream("/containerd.services.content.v1.Content/Read", &request).await?;
    let mut bytes = Vec::new();
    while let Some(answer) = answers.next::<ReadContentResponse>().await? {
        bytes.extend(answer.data);
        if bytes.len() > LARGEST {
            return Err(failed("it is too long".to_owned()));
        }
    }
    serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string()))
}

/// Mounts one of a snapshot's mounts so that nothing can be written to it and no program run from it. The runtime shows it to
/// containers by a mount of its own, which may be another one: so that it cannot be written then either, its file system is one that
/// has no place to write to, if the kernel has such.
fn show(from: &Mount, path: &Path) -> std::io::Result<()> {
    let closed = MsFlags::MS_RDONLY | MsFlags::MS_NOEXEC | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let source = Some(from.source.as_str());
    if from.kind == "bind" {
        // An image of one layer; the folder that it is mounted at is empty and so adds nothing.
        let layers = format!("lowerdir={}:{}", from.source, path.display());
        if mount(Some("overlay"), path, Some("overlay"), closed, Some(layers.as_str())).is_ok() {
            return Ok(());
        }
        mount(source, path, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
        let again = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | closed;
        return Ok(mount(None::<&str>, path, None::<&str>, again, None::<&str>)?);
    }
    let data: Vec<&str> = from.options.iter().map(String::as_str).filter(|option| *option != "ro").collect();
    Ok(mount(source, path, Some(from.kind.as_str()), closed, Some(data.join(",").as_str()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_snapshots_of_layers_are_called_by_what_is_below_them() {
        let chain = chain(&["sha256:a".to_owned(), "sha256:b".to_owned()]);
        let second =
            Sha256::digest("sha256:a sha256:b").iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        assert_eq!(chain, ["sha256:a".to_owned(), format!("sha256:{second}")]);
    }

    #[test]
    fn an_image_of_one_layer_cannot_be_written_by_another_mount_of_it_either() {
        let root = tempfile::tempdir().expect("a folder");
        let [layer, path, other] = ["layer", "path", "other"].map(|name| root.path().join(name));
        for folder in [&layer, &path, &other] {
            std::fs::create_dir(folder).expect("a folder");
        }
        std::fs::write(layer.join("file"), "x").expect("a file");
        let from = Mount { kind: "bind".to_owned(), source: layer.to_string_lossy().into_owned(), ..Mount::default() };
        show(&from, &path).expect("mounted");
        let sealed = crate::volumes::sealed(path.clone());
        mount(Some(&path), &other, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("bound");
        let again = MsFlags::MS_BIND | MsFlags::MS_REMOUNT;
        mount(None::<&str>, &other, None::<&str>, again, None::<&str>).expect("as a runtime would");
        let (read, written) = (std::fs::read_to_string(other.join("file")), std::fs::write(other.join("new"), "y"));
        for folder in [&other, &path] {
            nix::mount::umount(folder.as_path()).expect("unmounted");
        }
        assert_eq!(read.expect("a file"), "x");
        assert_eq!((written.is_err(), sealed), (true, crate::volumes::Place::Sealed(path)), "the kernel has overlays");
    }

    #[test]
    fn the_cri_of_containerd_mounts_images_from_2_1_on() {
        let rows = [
            ("containerd://1.6.20~ds1", false),
            ("containerd://2.0.5", false),
            ("containerd://2.1.0", true),
            ("containerd://v2.2.1-rc.1", true),
            ("containerd://3.0.0", true),
            ("", false),
        ];
        for (version, expected) in rows {
            assert_eq!(mounts_images(version), expected, "{version}");
        }
    }
}
