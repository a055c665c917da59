//! Containers that end, as containerd itself tells of them: for versions whose CRI has no events.

use std::path::Path;

use kiln_grpc::{CallError, Messages};
use prost::Message as _;

use super::api::{Envelope, SubscribeRequest, TaskEvent, connect};

/// The namespace of containers that were made through the CRI.
const NAMESPACE: &str = "k8s.io";
const EXIT: &str = "/tasks/exit";
const OOM: &str = "/tasks/oom";

/// What happened to a container or sandbox.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// The id of the container or sandbox.
    pub(crate) container: String,
    /// Whether it ended; else a process in it was killed for want of memory.
    pub(crate) ended: bool,
}

/// A subscription.
pub(crate) struct Events(Messages);

impl Events {
    /// Subscribes at the containerd behind this socket.
    ///
    /// # Errors
    /// When it is not there, or is no containerd ([`kiln_grpc::Code::UNIMPLEMENTED`]).
    pub(crate) async fn subscribe(socket: &Path) -> Result<Self, CallError> {
        let filters = [EXIT, OOM].map(|topic| format!("topic==\"{topic}\",namespace=={NAMESPACE}"));
        let request = SubscribeRequest { filters: filters.into() };
        let connection = connect(socket, &[]).await?;
        connection.stream("/containerd.services.events.v1.Events/Subscribe", &request).await.map(Self)
    }

    /// The next event; `None` when containerd ended the stream.
    ///
    /// # Errors
    /// When the connection broke.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>, CallError> {
        while let Some(envelope) = self.0.next::<Envelope>().await? {
            if let Some(event) = read(&envelope) {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }
}

fn read(envelope: &Envelope) -> Option<Event> {
    if envelope.namespace != NAMESPACE {
        return None;
    }
    let event = TaskEvent::decode(&*envelope.event.as_ref()?.value).ok()?;
    match envelope.topic.as_str() {
        // The end of a process that was executed in the container is not the container's.
        EXIT if event.id == event.container_id => Some(Event { container: event.container_id, ended: true }),
        OOM => Some(Event { container: event.container_id, ended: false }),
        _ => None,
    }
}
