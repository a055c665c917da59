//! Static pods: manifests in a folder, each with a mirror pod in the API that shows it.
//!
//! The folder is watched by inotify. A manifest that changed is another pod, with another uid: its old one ends and the new one
//! begins.

use std::fs;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node as ApiNode, Pod, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kiln_client::{Backoff, path};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::manager::{News, Node};
use super::slot::Slot;
use super::{MIRROR, SOURCE, name, namespace, uid};

const HASH: &str = "kubernetes.io/config.hash";
const SEEN: &str = "kubernetes.io/config.seen";
const RETRY: (std::time::Duration, std::time::Duration) =
    (std::time::Duration::from_secs(1), std::time::Duration::from_secs(60));

/// Tells what is in the folder, now and after each change, without end.
pub(super) async fn watch(folder: Option<PathBuf>, node: String, news: mpsc::UnboundedSender<News>) {
    let tell = |pods| _ = news.send(News::Statics(pods));
    let Some(folder) = folder else {
        tell(Vec::new());
        return std::future::pending().await;
    };
    let mut changes = match changes(&folder) {
        Ok(changes) => changes,
        Err(error) => {
            tracing::warn!("{}: {error}; static pods are read once", folder.display());
            tell(read(&folder, &node));
            return std::future::pending().await;
        }
    };
    let mut buffer = [0; 4096];
    loop {
        tell(read(&folder, &node));
        match changes.read(&mut buffer).await {
            Ok(1..) => {}
            Ok(0) => return std::future::pending().await,
            Err(error) => {
                tracing::warn!("{}: {error}; its changes are not seen any more", folder.display());
                return std::future::pending().await;
            }
        }
    }
}

fn changes(folder: &Path) -> std::io::Result<Receiver> {
    fs::create_dir_all(folder)?;
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    let what = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_DELETE;
    inotify.add_watch(folder, what)?;
    // Bytes come as from a pipe, and are not looked into.
    Receiver::from_owned_fd_unchecked(inotify.as_fd().try_clone_to_owned()?)
}

/// The pods of a folder's manifests; a file that is none is told of and left out.
fn read(folder: &Path, node: &str) -> Vec<Arc<Pod>> {
    let files = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok).map(|file| file.path());
    let mut pods = Vec::new();
    for file in files {
        let is_hidden = file.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if is_hidden || !file.is_file() {
            continue;
        }
        let parsed = fs::read(&file).map_err(|error| error.to_string()).and_then(|text| parse(&text, &file, node));
        match parsed {
            Ok(pod) => pods.push(Arc::new(pod)),
            Err(error) => tracing::warn!("{}: {error}; it is left out", file.display()),
        }
    }
    pods.sort_by(|a, b| name(a).cmp(name(b)));
    pods
}

/// A manifest as the pod that it is on this node.
fn parse(text: &[u8], file: &Path, node: &str) -> Result<Pod, String> {
    let value: Value = serde_yaml_ng::from_slice(text).map_err(|error| error.to_string())?;
    if value["kind"] != "Pod" {
        return Err("it is no Pod".to_owned());
    }
    let mut pod: Pod = kiln_client::typed(&value).map_err(|error| error.to_string())?;
    let name = pod.metadata.name.take().filter(|name| !name.is_empty()).ok_or("it has no name")?;
    let mut hash = Sha256::new();
    hash.update(format!("host:{node}\0file:{}\0", file.display()));
    hash.update(text);
    let uid = crate::containerd::archive::hex(&hash.finalize()[..16]);
    let meta = &mut pod.metadata;
    meta.name = Some(format!("{name}-{}", node.to_lowercase()));
    meta.namespace.get_or_insert_with(|| "default".to_owned());
    meta.uid.get_or_insert(uid.clone());
    let annotations = meta.annotations.get_or_insert_default();
    annotations.insert(HASH.to_owned(), uid);
    annotations.insert(SOURCE.to_owned(), "file".to_owned());
    annotations.insert(SEEN.to_owned(), jiff::Timestamp::now().to_string());
    let spec = pod.spec.get_or_insert_default();
    spec.node_name = Some(node.to_owned());
    defaults(spec);
    let everything = Toleration {
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        ..Toleration::default()
    };
    spec.tolerations.get_or_insert_default().push(everything);
    pod.status.get_or_insert_default().phase = Some("Pending".to_owned());
    Ok(pod)
}

/// What the API would have filled in, as far as the kubelet reads it.
fn defaults(spec: &mut k8s_openapi::api::core::v1::PodSpec) {
    spec.termination_grace_period_seconds.get_or_insert(30);
    spec.enable_service_links.get_or_insert(true);
    for text in [(&mut spec.restart_policy, "Always"), (&mut spec.dns_policy, "ClusterFirst")] {
        text.0.get_or_insert_with(|| text.1.to_owned());
    }
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        container.termination_message_path.get_or_insert_with(|| "/dev/termination-log".to_owned());
        container.termination_message_policy.get_or_insert_with(|| "File".to_owned());
        let image = container.image.as_deref().unwrap_or_default();
        let is_latest = image.ends_with(":latest") || !image.rsplit('/').next().is_some_and(|last| last.contains(':'));
        let policy = if is_latest { "Always" } else { "IfNotPresent" };
        container.image_pull_policy.get_or_insert_with(|| policy.to_owned());
        let probes = [&mut container.liveness_probe, &mut container.readiness_probe, &mut container.startup_probe];
        for probe in probes.into_iter().flatten() {
            probe.period_seconds.get_or_insert(10);
            probe.timeout_seconds.get_or_insert(1);
            probe.success_threshold.get_or_insert(1);
            probe.failure_threshold.get_or_insert(3);
        }
    }
}

/// Makes the mirror of a static pod, unless that is gone by then.
pub(super) fn mirror(node: &Arc<Node>, slot: &Arc<Slot>, workers: &TaskTracker) {
    let (node, slot) = (node.clone(), slot.clone());
    workers.spawn(async move {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            let current = slot.current();
            if current.gone || current.api.is_some() || !super::is_static(&current.pod) {
                return;
            }
            match make_mirror(&node, &current.pod).await {
                // One that is there is told by the watch.
                Ok(()) => return,
                Err(error) if error.status().is_some_and(|status| status.code == 409) => return,
                Err(error) => tracing::warn!(pod = slot.uid, %error, "cannot make the mirror pod; will try again"),
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
    });
}

async fn make_mirror(node: &Node, pod: &Pod) -> Result<(), kiln_client::ClientError> {
    let of: ApiNode = node.client.get(&path::<ApiNode>("", &node.name)).await?;
    let mut mirror = pod.clone();
    let meta = &mut mirror.metadata;
    let hash = meta.annotations.as_ref().and_then(|annotations| annotations.get(HASH)).cloned().unwrap_or_default();
    meta.annotations.get_or_insert_default().insert(MIRROR.to_owned(), hash);
    meta.uid = None;
    meta.owner_references = Some(vec![OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.name.clone(),
        uid: of.metadata.uid.unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }]);
    mirror.status = None;
    node.client.create::<Value>(&path::<Pod>(namespace(pod), ""), &mirror).await?;
    Ok(())
}

/// Ends a mirror that is being deleted, or shows no static pod of ours.
pub(super) fn mend(node: &Arc<Node>, mirror: &Arc<Pod>, workers: &TaskTracker) {
    let shows = super::annotation(mirror, MIRROR).is_some_and(|static_uid| node.pods.slot(static_uid).is_some());
    if mirror.metadata.deletion_timestamp.is_some() || !shows {
        remove_mirror(node, mirror.clone(), workers);
    }
}

/// Deletes a mirror pod at once: it is only a picture.
pub(super) fn remove_mirror(node: &Arc<Node>, mirror: Arc<Pod>, workers: &TaskTracker) {
    let node = node.clone();
    workers.spawn(async move {
        let options = json!({
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": uid(&mirror)},
        });
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        while let Err(error) = node.client.delete(&path::<Pod>(namespace(&mirror), name(&mirror)), &options).await {
            if !error.is_transient() {
                return;
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_a_pod_of_this_node_with_the_defaults_of_the_api() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: a, image: 'x:1'}]}\n";
        fs::write(folder.path().join("web.yaml"), text).expect("a file");
        fs::write(folder.path().join("other.yaml"), "kind: Service\n").expect("a file");
        fs::write(folder.path().join(".hidden.yaml"), text).expect("a file");
        let pods = read(folder.path(), "Pi");
        let [pod] = &pods[..] else { panic!("one pod, not {}", pods.len()) };
        assert_eq!((name(pod), namespace(pod)), ("web-pi", "default"));
        assert!(super::super::is_static(pod));
        assert_eq!(uid(pod).len(), 32);
        let spec = pod.spec.as_ref().expect("a spec");
        assert_eq!(spec.node_name.as_deref(), Some("Pi"));
        assert_eq!(spec.containers[0].image_pull_policy.as_deref(), Some("IfNotPresent"));
        let same = read(folder.path(), "Pi");
        assert_eq!(uid(&same[0]), uid(pod), "the same manifest is the same pod");
    }
}
