//! Writes a pod's status to the API: only what is different, only the last of several, and no step that is over before anybody
//! could have seen it.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use kiln_client::{Backoff, PatchKind, path};
use serde_json::json;
use tokio::sync::watch;

use super::manager::Node;
use super::slot::Slot;
use super::status::patch::difference;
use super::{name, namespace};

/// How long a pod that is being made is not shown as such: with its image at hand it runs before that.
const CREATING: Duration = Duration::from_millis(400);
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

type Status = Option<Arc<PodStatus>>;

pub(super) struct Writer {
    node: Arc<Node>,
    slot: Arc<Slot>,
    wanted: watch::Receiver<Status>,
    written: watch::Sender<Status>,
    /// The object as the last write left it: the mirror may be behind.
    known: Option<Arc<Pod>>,
}

impl Writer {
    /// A writer, and what tells which status is in the API.
    pub(super) fn new(
        node: Arc<Node>,
        slot: Arc<Slot>,
        wanted: watch::Receiver<Status>,
    ) -> (Self, watch::Receiver<Status>) {
        let written = watch::Sender::new(None);
        let receiver = written.subscribe();
        (Self { node, slot, wanted, written, known: None }, receiver)
    }

    /// Writes without end.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        while self.wanted.changed().await.is_ok() {
            loop {
                let Some(status) = self.wanted.borrow_and_update().clone() else { break };
                if is_being_made(&status) {
                    let newer = tokio::time::timeout(CREATING, self.wanted.changed()).await;
                    if newer.is_ok() {
                        // Seen: it is to be read again.
                        self.wanted.mark_changed();
                        continue;
                    }
                }
                match self.write(&status).await {
                    Ok(()) => {
                        backoff.reset();
                        self.written.send_replace(Some(status));
                        break;
                    }
                    Err(error) => {
                        tracing::warn!(pod = self.slot.uid, %error, "cannot write the pod's status; will try again");
                        tokio::time::sleep(backoff.next_wait()).await;
                    }
                }
            }
        }
    }

    async fn write(&mut self, status: &PodStatus) -> Result<(), kiln_client::ClientError> {
        // A static pod has none before its mirror is made.
        let Some(mirror) = self.slot.current().api else { return Ok(()) };
        let base = match &self.known {
            Some(known) if revision(known) > revision(&mirror) && known.metadata.uid == mirror.metadata.uid => known,
            _ => &mirror,
        };
        let Some(patch) = difference(base.status.as_ref(), status) else { return Ok(()) };
        let patch = json!({"metadata": {"uid": mirror.metadata.uid}, "status": patch});
        let path = format!("{}/status", path::<Pod>(namespace(&mirror), name(&mirror)));
        match self.node.client.patch::<Pod>(&path, PatchKind::Strategic, &patch).await {
            Ok(written) => self.known = Some(Arc::new(written)),
            // It is gone, or another has its name: nobody is left to read it.
            Err(error) if error.is_not_found() || error.is_conflict() => {}
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => tracing::warn!(pod = self.slot.uid, %error, "the pod's status was refused"),
        }
        Ok(())
    }
}

fn revision(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_deref().and_then(|revision| revision.parse().ok()).unwrap_or(0)
}

fn is_being_made(status: &PodStatus) -> bool {
    let waits = |status: &ContainerStatus| {
        let waiting = status.state.as_ref().and_then(|state| state.waiting.as_ref());
        waiting.is_some_and(|waiting| {
            matches!(waiting.reason.as_deref(), None | Some("ContainerCreating" | "PodInitializing"))
        })
    };
    let lists = [&status.container_statuses, &status.init_container_statuses];
    status.phase.as_deref() == Some("Pending") && lists.into_iter().flatten().flatten().all(waits)
}

/// Lets the API forget the pod: nothing of it runs any more.
pub(super) async fn delete(node: &Node, slot: &Slot) {
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    loop {
        let current = slot.current();
        let Some(api) = current.api.filter(|_| !current.gone) else { return };
        let options = json!({
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": api.metadata.uid},
        });
        match node.client.delete(&path::<Pod>(namespace(&api), name(&api)), &options).await {
            Ok(_) => return,
            Err(error) if error.is_not_found() || error.is_conflict() => return,
            Err(error) => {
                tracing::warn!(pod = slot.uid, %error, "cannot delete the pod from the API; will try again");
                tokio::time::sleep(backoff.next_wait()).await;
            }
        }
    }
}
