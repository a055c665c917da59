//! What the runtime has of pods that nobody wants any more: they were deleted while the kubelet was not running.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use futures_util::future::join_all;
use kiln_client::Backoff;

use super::logs;
use super::manager::{Node, known};
use super::view::{annotation, label};
use crate::cri::{
    Container, ContainerState, ContainerStatusRequest, CriError, ListContainersRequest, ListPodSandboxRequest,
    RemoveContainerRequest, RemovePodSandboxRequest, StopContainerRequest, StopPodSandboxRequest,
};
use crate::pods::worker::not_found_is_fine;

const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The grace, in seconds, of a container that does not tell its own.
const GRACE: i64 = 2;

/// Ends and removes all of them.
pub(super) async fn end(node: &Node) {
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    while let Err(error) = try_end(node).await {
        tracing::debug!(%error, "what is left of other pods cannot be removed yet");
        tokio::time::sleep(backoff.next_wait()).await;
    }
    node.preparer.remove_others(&known(node)).await;
}

async fn try_end(node: &Node) -> Result<(), CriError> {
    let wanted = known(node);
    let all = (ListContainersRequest::default(), ListPodSandboxRequest::default());
    let (containers, sandboxes) =
        tokio::try_join!(node.runtime.list_containers(&all.0), node.runtime.list_pod_sandbox(&all.1))?;
    let is_other = |labels: &BTreeMap<String, String>| is_other(labels, &wanted);
    let others: Vec<Container> = containers.containers.into_iter().filter(|one| is_other(&one.labels)).collect();
    for ended in join_all(others.iter().map(|container| end_container(node, container))).await {
        ended?;
    }
    for sandbox in sandboxes.items.into_iter().filter(|sandbox| is_other(&sandbox.labels)) {
        let (pod_sandbox_id, metadata) = (sandbox.id, sandbox.metadata.unwrap_or_default());
        tracing::info!(sandbox = pod_sandbox_id, "removing a sandbox of a pod that is not wanted any more");
        let stop = StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() };
        not_found_is_fine(node.runtime.stop_pod_sandbox(&stop).await)?;
        not_found_is_fine(node.runtime.remove_pod_sandbox(&RemovePodSandboxRequest { pod_sandbox_id }).await)?;
        // Only what is known to be this node's: another may keep its logs in the same folder.
        logs::remove(&logs::folder_of(&node.config.logs, &metadata.namespace, &metadata.name, &metadata.uid));
    }
    Ok(())
}

/// Whether something with these labels is a pod's, and of none that is wanted.
fn is_other(labels: &BTreeMap<String, String>, wanted: &HashSet<String>) -> bool {
    labels.get(label::POD_UID).is_some_and(|uid| !wanted.contains(uid))
}

async fn end_container(node: &Node, container: &Container) -> Result<(), CriError> {
    let container_id = container.id.clone();
    if container.state == ContainerState::Running as i32 {
        let request = ContainerStatusRequest { container_id: container_id.clone(), verbose: false };
        let annotations = match node.runtime.container_status(&request).await {
            Ok(answer) => answer.status.map(|status| status.annotations).unwrap_or_default(),
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        };
        let timeout = annotations.get(annotation::GRACE).and_then(|grace| grace.parse().ok()).unwrap_or(GRACE);
        let request = StopContainerRequest { container_id: container_id.clone(), timeout };
        not_found_is_fine(node.runtime.stop_container(&request).await)?;
    }
    not_found_is_fine(node.runtime.remove_container(&RemoveContainerRequest { container_id }).await)
}
