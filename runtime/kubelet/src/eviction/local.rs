//! Limits of the node's own disk that pods set themselves: of folders, of containers and of the pod.

use k8s_openapi::api::core::v1::{Container, Pod};

use super::usage::PodUsage;
use crate::resources::{self, EPHEMERAL_STORAGE, Overhead, find, pod_limits, read};

/// Whether a pod has such a limit, and so must be measured from time to time.
pub(super) fn is_limited(pod: &Pod) -> bool {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let mut folders = volumes.filter_map(|volume| volume.empty_dir.as_ref());
    folders.any(|folder| folder.size_limit.is_some()) || containers(pod).any(|container| limit(container).is_some())
}

/// The limit that a pod has gone beyond: what metrics call it, and a message.
pub(super) fn breach(pod: &Pod, usage: &PodUsage, has_own_image_fs: bool) -> Option<(&'static str, String)> {
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        let Some(size) = volume.empty_dir.as_ref().and_then(|folder| folder.size_limit.as_ref()) else { continue };
        let (limit, used) = (read(size), usage.volumes.get(&volume.name));
        if used.is_some_and(|used| limit.value() > 0 && exceeds(used.bytes, limit.value())) {
            let (name, limit) = (&volume.name, limit.to_string());
            let message = format!("Usage of EmptyDir volume {name:?} exceeds the limit {limit:?}. ");
            return Some(("emptydirfs.limit", message));
        }
    }
    if let Some(limit) = pod_limits(pod, Overhead::With).get(EPHEMERAL_STORAGE)
        && exceeds(usage.disk().bytes, limit.value())
    {
        let message = format!("Pod ephemeral local storage usage exceeds the total limit of containers {limit}. ");
        return Some(("ephemeralpodfs.limit", message));
    }
    let spec = pod.spec.iter();
    for container in spec.flat_map(|spec| &spec.containers) {
        let (Some(limit), Some(used)) = (limit(container), usage.containers.get(&container.name)) else { continue };
        let logs = used.logs.map_or(0, |logs| logs.bytes);
        let root = used.root.filter(|_| !has_own_image_fs).map_or(0, |root| root.bytes);
        if limit.value() != 0 && exceeds(logs + root, limit.value()) {
            let name = &container.name;
            let limit = limit.to_string();
            let message = format!("Container {name} exceeded its local ephemeral storage limit {limit:?}. ");
            return Some(("ephemeralcontainerfs.limit", message));
        }
    }
    None
}

fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.spec.iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()))
}

fn limit(container: &Container) -> Option<kiln_apimachinery::quantity::Quantity> {
    find(resources::limits(container), EPHEMERAL_STORAGE)
}

fn exceeds(used: u64, limit: i64) -> bool {
    i128::from(used) > i128::from(limit)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::usage::{ContainerUsage, DiskUsage};
    use super::*;

    #[test]
    fn each_limit_has_its_message() {
        let container = |name: &str| json!({"name": name, "resources": {"limits": {"ephemeral-storage": "1Mi"}}});
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "containers": [container("a"), container("b")],
            "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}, {"name": "w", "emptyDir": {}}],
        }}))
        .expect("a pod");
        assert!(is_limited(&pod));
        let disk = |bytes: u64| DiskUsage { bytes, inodes: 1 };
        let used = |volume: u64, other: u64, root: u64, logs: u64| PodUsage {
            volumes: [("v".to_owned(), disk(volume)), ("w".to_owned(), disk(other))].into(),
            containers: [(
                "a".to_owned(),
                ContainerUsage { root: Some(disk(root)), logs: Some(disk(logs)), memory: None },
            )]
            .into(),
            ..PodUsage::default()
        };
        let mega = 1 << 20;
        let of = |usage: &PodUsage, own: bool| breach(&pod, usage, own).map(|(_, message)| message);
        assert_eq!(of(&used(mega, 0, 0, 0), false), None);
        let why = "Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". ";
        assert_eq!(of(&used(mega + 1, 0, 0, 0), false).as_deref(), Some(why));
        let why = "Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. ";
        assert_eq!(of(&used(0, 2 * mega + 1, 0, 0), false).as_deref(), Some(why));
        let why = "Container a exceeded its local ephemeral storage limit \"1Mi\". ";
        assert_eq!(of(&used(0, 0, mega, 1), false).as_deref(), Some(why));
        assert_eq!(of(&used(0, 0, mega, 1), true), None, "what is written lies on the images' disk");
    }
}
