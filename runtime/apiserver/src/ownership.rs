//! Who owns whom, as one stream over all kinds: what the garbage collector reads.
//!
//! `GET /kiln/v1/ownership` first tells every object that has owners or is being deleted with its dependents in mind,
//! then a bookmark, then each change of these facts, and each object that is gone. The frames are those of a watch of
//! `PartialObjectMetadata`. One stream in place of a watch per kind keeps a write at the cost of looking for two words
//! in its bytes, and covers kinds that are added later. It lasts until the reader goes or falls too far behind.

use ::http::{HeaderValue, Response, header};
use bytes::Bytes;
use kiln_apimachinery::Status;
use kiln_storage::{Event, EventKind, ListOptions, Record, Watch};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::mpsc;

use crate::http::body::{self, Body};
use crate::server::ApiServer;
use crate::verbs::errors;

/// The path; who may read it is a matter of RBAC for paths.
pub(crate) const PATH: &str = "/kiln/v1/ownership";
/// Frames that may wait for the reader.
const QUEUE: usize = 256;
const EVERYTHING: &str = "/registry/";
/// The stored form begins with kind, apiVersion and then this.
const METADATA: &[u8] = b"\"metadata\":";

/// What matters of an object's metadata.
#[derive(Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
struct Facts {
    name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    namespace: String,
    uid: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    owner_references: Vec<Owner>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    finalizers: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deletion_timestamp: Option<String>,
}

/// An `OwnerReference`.
#[derive(Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
struct Owner {
    api_version: String,
    kind: String,
    name: String,
    uid: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    block_owner_deletion: bool,
}

impl Facts {
    /// Of stored bytes; `None` for what is no object.
    fn of(stored: &[u8]) -> Option<Self> {
        let at = find(stored, METADATA)? + METADATA.len();
        serde_json::Deserializer::from_slice(stored.get(at..)?).into_iter().next()?.ok()
    }

    /// Of an object that is worth telling; a look at the bytes spares most the parsing.
    fn telling(stored: &[u8]) -> Option<Self> {
        let may = find(stored, b"\"ownerReferences\":").is_some() || find(stored, b"\"deletionTimestamp\":").is_some();
        may.then(|| Self::of(stored)).flatten().filter(Self::matter)
    }

    fn matter(&self) -> bool {
        let collects = |f: &String| matches!(f.as_str(), "orphan" | "foregroundDeletion");
        !self.owner_references.is_empty() || self.deletion_timestamp.is_some() && self.finalizers.iter().any(collects)
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(haystack, needle)
}

/// Answers with the stream.
pub(crate) async fn stream(server: &ApiServer) -> Result<Response<Body>, Status> {
    let storage = server.storage();
    let page = storage.list(EVERYTHING, ListOptions::default()).await.map_err(errors::storage)?;
    let watch = storage.watch(EVERYTHING, page.revision).map_err(errors::storage)?;
    let (sender, receiver) = mpsc::channel(QUEUE);
    let stream = Stream { server: server.clone(), sender };
    tokio::spawn(stream.run(page.records, page.revision, watch));
    let mut response = Response::new(body::channel(receiver));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// The reader went away.
struct Gone;

struct Stream {
    server: ApiServer,
    sender: mpsc::Sender<Bytes>,
}

impl Stream {
    async fn run(self, records: Vec<Record>, revision: i64, watch: Watch) {
        // Whoever could be told of an end has left.
        let _gone = self.serve(records, revision, watch).await;
    }

    async fn serve(&self, records: Vec<Record>, revision: i64, mut watch: Watch) -> Result<(), Gone> {
        for record in &records {
            if let Some(facts) = Facts::telling(&record.value) {
                self.send("ADDED", &record.key, &facts).await?;
            }
        }
        drop(records);
        let synced = json!({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": revision.to_string()}}});
        self.line(format!("{synced}\n")).await?;
        let stop = self.server.watches_end();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = self.sender.closed() => return Err(Gone),
                event = watch.next() => match event {
                    Some(event) => self.event(&event).await?,
                    // Too far behind: the end of the body tells the reader to begin anew.
                    None => return Ok(()),
                }
            }
        }
    }

    async fn event(&self, event: &Event) -> Result<(), Gone> {
        let record = &event.record;
        match &event.kind {
            EventKind::Delete => match Facts::of(&record.value) {
                Some(facts) => self.send("DELETED", &record.key, &facts).await,
                None => Ok(()),
            },
            EventKind::Put { previous } => {
                let before = previous.as_ref().and_then(|p| Facts::telling(&p.value));
                match (before, Facts::telling(&record.value)) {
                    (None, Some(now)) => self.send("ADDED", &record.key, &now).await,
                    (Some(before), Some(now)) if before != now => self.send("MODIFIED", &record.key, &now).await,
                    // It has lost its owners: without any it is still worth telling once.
                    (Some(_), None) => match Facts::of(&record.value) {
                        Some(now) => self.send("MODIFIED", &record.key, &now).await,
                        None => Ok(()),
                    },
                    _ => Ok(()),
                }
            }
        }
    }

    async fn send(&self, event: &str, key: &str, facts: &Facts) -> Result<(), Gone> {
        let mut segments = key.strip_prefix(EVERYTHING).unwrap_or_default().split('/');
        let (group, plural) = (segments.next().unwrap_or_default(), segments.next().unwrap_or_default());
        let group = if group == "core" { "" } else { group };
        let Some(resource) = self.server.registry().any_version(group, plural) else { return Ok(()) };
        let object = json!({"apiVersion": resource.api_version(), "kind": resource.kind, "metadata": facts});
        self.line(format!("{}\n", json!({"type": event, "object": object}))).await
    }

    async fn line(&self, line: String) -> Result<(), Gone> {
        self.sender.send(line.into()).await.map_err(|_| Gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_owned_objects_and_those_deleted_with_their_dependents_are_told() {
        let plain = br#"{"kind":"A","apiVersion":"v1","metadata":{"name":"a","uid":"1"},"data":{"x":"y"}}"#;
        assert!(Facts::telling(plain).is_none());
        assert_eq!(Facts::of(plain).map(|f| f.uid), Some("1".to_owned()));
        let owned = br#"{"kind":"A","apiVersion":"v1","metadata":{"name":"a","uid":"1","ownerReferences":[
            {"apiVersion":"v1","kind":"B","name":"b","uid":"2","controller":true}]},"data":7}"#;
        let facts = Facts::telling(owned).unwrap();
        assert_eq!(facts.owner_references[0].uid, "2");
        let leaving = br#"{"metadata":{"name":"a","uid":"1","deletionTimestamp":"t","finalizers":["x.org/y"]}}"#;
        assert!(Facts::telling(leaving).is_none());
        let orphaning = br#"{"metadata":{"name":"a","uid":"1","deletionTimestamp":"t","finalizers":["orphan"]}}"#;
        assert!(Facts::telling(orphaning).is_some());
    }

    #[test]
    fn bytes_that_are_no_object_are_passed_over() {
        assert!(Facts::of(b"").is_none());
        assert!(Facts::of(b"\"metadata\":").is_none());
        assert!(Facts::telling(b"\"metadata\":{\"ownerReferences\":3}").is_none());
    }
}
