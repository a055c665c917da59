//! A watch's body, decoded line by line as it comes in.

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use kiln_apimachinery::Status;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::decode::from_json;
use crate::error::{ClientError, chain};
use crate::transport::Body;

/// The most bytes of one event.
const MAX_LINE: usize = 32 << 20;

/// One change of a watched collection.
#[derive(Debug, Clone, PartialEq)]
pub enum WatchEvent<T = Value> {
    /// An object is new to the collection.
    Added(T),
    /// An object changed.
    Modified(T),
    /// An object left the collection; this is its last state.
    Deleted(T),
    /// Nothing changed up to this revision.
    Bookmark(String),
}

impl<T> WatchEvent<T> {
    /// The same event with another form of its object.
    fn try_map<U, E>(self, form: impl FnOnce(T) -> Result<U, E>) -> Result<WatchEvent<U>, E> {
        Ok(match self {
            Self::Added(object) => WatchEvent::Added(form(object)?),
            Self::Modified(object) => WatchEvent::Modified(form(object)?),
            Self::Deleted(object) => WatchEvent::Deleted(form(object)?),
            Self::Bookmark(revision) => WatchEvent::Bookmark(revision),
        })
    }
}

/// The events of a watch.
pub struct WatchStream<T = Value> {
    events: RawEvents,
    item: std::marker::PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> WatchStream<T> {
    pub(crate) fn new(events: RawEvents) -> Self {
        Self { events, item: std::marker::PhantomData }
    }

    /// The next event, or `None` when the server has ended the watch. An error ends it too; one that
    /// [`ClientError::is_expired`] calls for a new list. Safe to cancel.
    pub async fn next(&mut self) -> Result<Option<WatchEvent<T>>, ClientError> {
        let Some(event) = self.events.next().await? else { return Ok(None) };
        event.try_map(|json| self.events.decode(&json)).map(Some)
    }
}

/// The events of a watch, their objects as JSON: the part that is the same for objects of every type.
pub(crate) struct RawEvents {
    request: String,
    body: Body,
    buffer: BytesMut,
    /// Bytes of the buffer that hold no line end.
    searched: usize,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

impl RawEvents {
    pub(crate) fn new(request: String, body: Body) -> Self {
        Self { request, body, buffer: BytesMut::new(), searched: 0 }
    }

    /// As [`WatchStream::next`].
    pub(crate) async fn next(&mut self) -> Result<Option<WatchEvent<Bytes>>, ClientError> {
        loop {
            if let Some(end) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(self.searched + end).freeze();
                self.buffer.advance(1);
                self.searched = 0;
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return self.event(&line).map(Some);
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > MAX_LINE {
                return Err(self.unreadable(format!("an event has more than {MAX_LINE} bytes")));
            }
            match self.body.frame().await {
                // What is left in the buffer was cut off by the end: the revision before it is where to go on.
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => {
                    return Err(ClientError::Connect { server: self.request.clone(), why: chain(&*error) });
                }
            }
        }
    }

    fn event(&self, bytes: &Bytes) -> Result<WatchEvent<Bytes>, ClientError> {
        let line: Line<'_> = serde_json::from_slice(bytes).map_err(|error| self.unreadable(error))?;
        let object = line.object.get().as_bytes();
        match line.kind {
            "ADDED" => Ok(WatchEvent::Added(bytes.slice_ref(object))),
            "MODIFIED" => Ok(WatchEvent::Modified(bytes.slice_ref(object))),
            "DELETED" => Ok(WatchEvent::Deleted(bytes.slice_ref(object))),
            "BOOKMARK" => {
                let object: Value = self.decode(object)?;
                Ok(WatchEvent::Bookmark(kiln_apimachinery::meta::resource_version(&object).to_owned()))
            }
            "ERROR" => Err(self.decode::<Status>(object)?.into()),
            other => Err(self.unreadable(format!("there is no event type {other:?}"))),
        }
    }

    /// An event's object.
    fn decode<O: DeserializeOwned>(&self, json: &[u8]) -> Result<O, ClientError> {
        from_json(json).map_err(|error| self.unreadable(error))
    }

    /// That something in the stream cannot be read.
    pub(crate) fn unreadable(&self, why: impl ToString) -> ClientError {
        ClientError::Decode { request: self.request.clone(), why: why.to_string() }
    }
}

impl<T> std::fmt::Debug for WatchStream<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WatchStream").field("request", &self.events.request).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    fn stream_of(chunks: &[&'static str]) -> WatchStream {
        let frames: Vec<_> = chunks.iter().map(|chunk| Ok(Frame::data(Bytes::from_static(chunk.as_bytes())))).collect();
        let body = BodyExt::boxed(StreamBody::new(stream::iter(frames)));
        WatchStream::new(RawEvents::new("GET /test".to_owned(), body))
    }

    #[tokio::test]
    async fn events_are_found_however_the_stream_is_cut() {
        let mut watch = stream_of(&[
            "{\"type\":\"ADDED\",\"object\":{\"a\":1}}\n{\"type\":\"DEL",
            "ETED\",\"object\":{\"a\"",
            ":2}}",
            "\n\n{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"7\"}}}\n{\"type\":\"ADDED\"",
        ]);
        assert_eq!(watch.next().await.unwrap(), Some(WatchEvent::Added(serde_json::json!({"a": 1}))));
        assert_eq!(watch.next().await.unwrap(), Some(WatchEvent::Deleted(serde_json::json!({"a": 2}))));
        assert_eq!(watch.next().await.unwrap(), Some(WatchEvent::Bookmark("7".to_owned())));
        assert_eq!(watch.next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn an_expired_revision_in_mid_stream_calls_for_a_new_list() {
        let mut watch =
            stream_of(&["{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"code\":410,\"reason\":\"Expired\"}}\n"]);
        assert!(watch.next().await.unwrap_err().is_expired());
    }

    #[tokio::test]
    async fn garbage_is_named_as_such() {
        let mut watch = stream_of(&["<html>\n"]);
        assert!(matches!(watch.next().await, Err(ClientError::Decode { .. })));
    }
}
