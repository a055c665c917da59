//! The folders of volumes that the cluster provisioned on this node: each goes with its volume, which waits for that.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::PersistentVolume;
use kiln_client::{Change, Client, ClientError, Informer, ListParams, ObjectRef, PatchKind, Store, WorkQueue, path};
use serde::de::IgnoredAny;
use serde_json::json;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::mounts;

/// Holds a volume until its folder is removed.
const FINALIZER: &str = "kiln.dev/local-path";
/// The label with the node that a volume is on. The node authorizer knows it.
const NODE_LABEL: &str = "kiln.dev/local-path-node";

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("its folder cannot be removed: {0}")]
    Folder(#[from] io::Error),
    #[error(transparent)]
    Api(#[from] ClientError),
}

/// Removes the folders of this node's volumes that are deleted, until the shutdown.
pub(crate) async fn run(client: Client, node: &str, shutdown: CancellationToken) {
    let params = ListParams { labels: format!("{NODE_LABEL}={node}"), ..ListParams::default() };
    let informer = Informer::<PersistentVolume>::new(client.clone(), path::<PersistentVolume>("", ""), params);
    let (queue, store) = (WorkQueue::<ObjectRef>::default(), informer.store());
    let mirrored = informer.run(shutdown, |change| {
        if let Change::Applied { key, object, .. } = change
            && is_going(object)
        {
            queue.add(key.clone());
        }
    });
    let removed = async {
        while let Some(item) = queue.next().await {
            match remove(&client, &store, &item).await {
                Ok(()) => queue.forget(&item),
                Err(error) => {
                    tracing::warn!(volume = item.name, %error, "a deleted volume stays");
                    queue.add_failed(item.clone());
                }
            }
        }
    };
    tokio::select! {
        () = mirrored => {}
        () = removed => {}
    }
}

fn is_going(volume: &PersistentVolume) -> bool {
    let meta = &volume.metadata;
    meta.deletion_timestamp.is_some() && meta.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
}

async fn remove(client: &Client, store: &Store<PersistentVolume>, key: &ObjectRef) -> Result<(), Failure> {
    let Some(volume) = store.get(key).filter(|volume| is_going(volume)) else { return Ok(()) };
    match folder_of(&volume) {
        Some(folder) => {
            let shown = folder.display().to_string();
            spawn_blocking(move || remove_folder(&folder)).await.map_err(io::Error::other)??;
            tracing::info!(volume = key.name, folder = shown, "the folder of a deleted volume is removed");
        }
        None => {
            tracing::warn!(volume = key.name, "a deleted volume's folder is left: it is not called as those made here")
        }
    }
    let meta = &volume.metadata;
    let left: Vec<_> = meta.finalizers.iter().flatten().filter(|finalizer| *finalizer != FINALIZER).collect();
    // Only what was seen: others take their finalizers off as well.
    let patch = json!({"metadata": {"finalizers": left, "resourceVersion": meta.resource_version, "uid": meta.uid}});
    match client.patch::<IgnoredAny>(&path::<PersistentVolume>("", &key.name), PatchKind::Merge, &patch).await {
        Err(error) if !error.is_not_found() => Err(error.into()),
        _ => Ok(()),
    }
}

/// The folder of a volume, if it is called as those that are made for volumes of this kind: no other is ever removed.
fn folder_of(volume: &PersistentVolume) -> Option<PathBuf> {
    let spec = volume.spec.as_ref()?;
    let claim = spec.claim_ref.as_ref()?;
    let folder = Path::new(&spec.host_path.as_ref()?.path);
    let (name, namespace, claim) = (volume.metadata.name.as_ref()?, claim.namespace.as_ref()?, claim.name.as_ref()?);
    let plain = folder.is_absolute() && !folder.components().any(|part| part == Component::ParentDir);
    let ours = folder.file_name().is_some_and(|last| *last == *format!("{name}_{namespace}_{claim}"));
    (plain && ours && name.starts_with("pvc-")).then(|| folder.to_owned())
}

fn remove_folder(folder: &Path) -> io::Result<()> {
    if let Some(mount) = mounts::below(folder)?.first() {
        return Err(io::Error::other(format!("something is mounted on {}", mount.path.display())));
    }
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(folder: &str) -> PersistentVolume {
        serde_json::from_value(json!({"metadata": {"name": "pvc-1"}, "spec": {
            "hostPath": {"path": folder}, "claimRef": {"namespace": "default", "name": "data"}}}))
        .expect("a volume")
    }

    #[test]
    fn only_folders_that_are_called_as_their_volumes_are_removed() {
        assert_eq!(folder_of(&volume("/x/pvc-1_default_data")), Some("/x/pvc-1_default_data".into()));
        for other in ["/x/pvc-1_default_other", "/etc", "/x/../pvc-1_default_data", "pvc-1_default_data", "/"] {
            assert_eq!(folder_of(&volume(other)), None, "{other}");
        }
    }

    #[test]
    fn what_is_in_a_folder_goes_with_it_and_what_its_links_lead_to_stays() {
        let root = tempfile::tempdir().expect("a folder");
        let (folder, kept) = (root.path().join("volume"), root.path().join("kept"));
        fs::create_dir_all(folder.join("a/b")).expect("a folder");
        fs::write(&kept, "x").expect("a file");
        std::os::unix::fs::symlink(&kept, folder.join("link")).expect("a link");
        remove_folder(&folder).expect("removed");
        remove_folder(&folder).expect("gone already");
        assert!(!folder.exists() && kept.exists());
    }
}
