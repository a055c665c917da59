//! The pod lifecycle event generator: tells workers when a container or sandbox has ended, so that none has to look.
//!
//! Three sources, the first that the runtime has: the CRI's own events, containerd's events, and a list of all containers each
//! second. After any break all workers look once, since events may have been lost.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kiln_client::Backoff;
use kiln_grpc::{CallError, Code};
use tokio::sync::Notify;

use crate::containerd::events::Events;
use crate::cri::{
    ContainerEventResponse, ContainerState, ContainerStatusRequest, CriError, GetEventsRequest, ListContainersRequest,
    ListPodSandboxRequest, PodSandboxState, PodSandboxStatusRequest, Runtime, Stream, VersionRequest,
};
use crate::pods::Pods;

/// The period of the last resort: upstream's too.
const RELIST: Duration = Duration::from_secs(1);
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long the CRI may lag behind containerd's events, a minute on a machine without time for it, in looks that are each twice as
/// late as the one before.
const LAG: (Duration, u32) = (Duration::from_millis(5), 14);

enum Source {
    Cri(Stream<ContainerEventResponse>),
    Containerd(Events),
    Relist,
}

/// Tells without end. `lost` is told when the runtime went away.
pub(crate) async fn run(runtime: Runtime, pods: Pods, lost: Arc<Notify>) {
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    loop {
        // A stream opens with its first event: what happened before it is seen by a look at all.
        let source = tokio::select! {
            source = open(&runtime) => source,
            never = wake_once_up(&runtime, &pods) => match never {},
        };
        match source {
            Ok(source) => {
                backoff.reset();
                pods.wake_all();
                let why = match source {
                    Source::Cri(events) => of_cri(events, &pods).await,
                    Source::Containerd(events) => of_containerd(events, &runtime, &pods).await,
                    Source::Relist => relist(&runtime, &pods).await,
                };
                tracing::debug!(why, "the runtime's events ended; they are taken up again");
                lost.notify_one();
            }
            Err(error) => tracing::debug!(%error, "the runtime's events cannot be read yet"),
        }
        tokio::time::sleep(backoff.next_wait()).await;
    }
}

/// Has all workers look, once the runtime answers and has had time to begin the stream.
async fn wake_once_up(runtime: &Runtime, pods: &Pods) -> std::convert::Infallible {
    if runtime.version(&VersionRequest { version: "0.1.0".to_owned() }).await.is_ok() {
        tokio::time::sleep(LAG.0 * 10).await;
        pods.wake_all();
    }
    std::future::pending().await
}

async fn open(runtime: &Runtime) -> Result<Source, CriError> {
    // A runtime that does not have the call says so at once; one that has says nothing before the first event.
    let mut events = match runtime.get_container_events(&GetEventsRequest {}).await {
        Ok(events) => events,
        Err(error) if error.is_unimplemented() => return open_other(runtime).await,
        Err(error) => return Err(error),
    };
    match tokio::time::timeout(LAG.0 * 10, events.next()).await {
        // A first event is news of a pod, and all workers look anyway.
        Err(_) | Ok(Ok(Some(_))) => Ok(Source::Cri(events)),
        Ok(Err(error)) if error.is_unimplemented() => open_other(runtime).await,
        Ok(Err(error)) => Err(error),
        Ok(Ok(None)) => open_other(runtime).await,
    }
}

async fn open_other(runtime: &Runtime) -> Result<Source, CriError> {
    match Events::subscribe(runtime.socket()).await {
        Ok(events) => Ok(Source::Containerd(events)),
        Err(CallError::Refused { code: Code::UNIMPLEMENTED, .. }) => Ok(Source::Relist),
        Err(error) => Err(error.into()),
    }
}

async fn of_cri(mut events: Stream<ContainerEventResponse>, pods: &Pods) -> String {
    loop {
        match events.next().await {
            Ok(Some(event)) => {
                let sandbox = event.pod_sandbox_status.map(|status| status.id).unwrap_or_default();
                if let Some(slot) = pods.owner(&event.container_id).or_else(|| pods.owner(&sandbox)) {
                    slot.wake.notify_one();
                }
            }
            Ok(None) => return "the runtime ended them".to_owned(),
            Err(error) => return error.to_string(),
        }
    }
}

async fn of_containerd(mut events: Events, runtime: &Runtime, pods: &Pods) -> String {
    loop {
        match events.next().await {
            Ok(Some(event)) => {
                let Some(slot) = pods.owner(&event.container).filter(|_| event.ended) else { continue };
                let runtime = runtime.clone();
                tokio::spawn(async move {
                    settled(&runtime, &event.container).await;
                    slot.wake.notify_one();
                });
            }
            Ok(None) => return "containerd ended them".to_owned(),
            Err(error) => return error.to_string(),
        }
    }
}

/// Waits until the CRI knows what containerd has told.
async fn settled(runtime: &Runtime, id: &str) {
    let mut wait = LAG.0;
    for _ in 0..LAG.1 {
        if has_ended(runtime, id).await {
            return;
        }
        tokio::time::sleep(wait).await;
        wait *= 2;
    }
}

/// Whether the CRI takes a container or sandbox for ended. One that ended as soon as it was started may be told as created still, and
/// after that as running.
async fn has_ended(runtime: &Runtime, id: &str) -> bool {
    let request = ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
    match runtime.container_status(&request).await {
        Ok(answer) => answer.status.is_none_or(|status| {
            ![ContainerState::Created as i32, ContainerState::Running as i32].contains(&status.state)
        }),
        Err(error) if error.is_not_found() => {
            let request = PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
            let answer = runtime.pod_sandbox_status(&request).await;
            !answer
                .is_ok_and(|answer| answer.status.is_some_and(|status| status.state == PodSandboxState::Ready as i32))
        }
        Err(_) => true,
    }
}

async fn relist(runtime: &Runtime, pods: &Pods) -> String {
    let mut known: HashMap<String, i32> = HashMap::new();
    loop {
        let all = (ListContainersRequest::default(), ListPodSandboxRequest::default());
        let lists = tokio::try_join!(runtime.list_containers(&all.0), runtime.list_pod_sandbox(&all.1));
        let (containers, sandboxes) = match lists {
            Ok(lists) => lists,
            Err(error) => return error.to_string(),
        };
        let containers = containers.containers.into_iter().map(|container| (container.id, container.state));
        // Told apart from the states of containers, which count from 0 too.
        let sandboxes = sandboxes.items.into_iter().map(|sandbox| (sandbox.id, sandbox.state + 16));
        let seen: HashMap<String, i32> = containers.chain(sandboxes).collect();
        let changed = seen.iter().filter(|(id, state)| known.get(*id) != Some(state)).map(|(id, _)| id);
        let gone = known.keys().filter(|id| !seen.contains_key(*id));
        for slot in changed.chain(gone).filter_map(|id| pods.owner(id)) {
            slot.wake.notify_one();
        }
        known = seen;
        tokio::time::sleep(RELIST).await;
    }
}
