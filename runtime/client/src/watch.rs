//! A watch's body, decoded line by line as it comes in.

use bytes::{Buf, BytesMut};
use http_body_util::BodyExt;
use kiln_apimachinery::Status;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

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

/// The events of a watch.
pub struct WatchStream<T = Value> {
    request: String,
    body: Body,
    buffer: BytesMut,
    /// Bytes of the buffer that hold no line end.
    searched: usize,
    item: std::marker::PhantomData<fn() -> T>,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

impl<T: DeserializeOwned> WatchStream<T> {
    pub(crate) fn new(request: String, body: Body) -> Self {
        Self { request, body, buffer: BytesMut::new(), searched: 0, item: std::marker::PhantomData }
    }

    /// The next event, or `None` when the server has ended the watch. An error ends it too; one that
    /// [`ClientError::is_expired`] calls for a new list. Safe to cancel.
    pub async fn next(&mut self) -> Result<Option<WatchEvent<T>>, ClientError> {
        loop {
            if let Some(end) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(self.searched + end);
                self.buffer.advance(1);
                self.searched = 0;
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return self.decode(&line).map(Some);
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

    fn decode(&self, line: &[u8]) -> Result<WatchEvent<T>, ClientError> {
        let line: Line<'_> = serde_json::from_slice(line).map_err(|error| self.unreadable(error))?;
        match line.kind {
            "ADDED" => self.object(line.object).map(WatchEvent::Added),
            "MODIFIED" => self.object(line.object).map(WatchEvent::Modified),
            "DELETED" => self.object(line.object).map(WatchEvent::Deleted),
            "BOOKMARK" => {
                let object: Value = self.object(line.object)?;
                Ok(WatchEvent::Bookmark(kiln_apimachinery::meta::resource_version(&object).to_owned()))
            }
            "ERROR" => Err(self.object::<Status>(line.object)?.into()),
            other => Err(self.unreadable(format!("there is no event type {other:?}"))),
        }
    }

    fn object<O: DeserializeOwned>(&self, raw: &RawValue) -> Result<O, ClientError> {
        // As bytes, like answers: one reader of each type is compiled, not two.
        serde_json::from_slice(raw.get().as_bytes()).map_err(|error| self.unreadable(error))
    }

    fn unreadable(&self, why: impl ToString) -> ClientError {
        ClientError::Decode { request: self.request.clone(), why: why.to_string() }
    }
}

impl<T> std::fmt::Debug for WatchStream<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WatchStream").field("request", &self.request).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use futures_util::stream;
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    fn stream_of(chunks: &[&'static str]) -> WatchStream {
        let frames: Vec<_> = chunks.iter().map(|chunk| Ok(Frame::data(Bytes::from_static(chunk.as_bytes())))).collect();
        WatchStream::new("GET /test".to_owned(), BodyExt::boxed(StreamBody::new(stream::iter(frames))))
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
