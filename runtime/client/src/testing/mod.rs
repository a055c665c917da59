//! An API in memory for tests: objects by their paths, with revisions, watches, finalizers and subresources, and with
//! faults on demand. It judges no object and knows no user.

mod objects;
mod target;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use kiln_apimachinery::Status;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use self::objects::Objects;
use self::target::Target;
use crate::client::Client;
use crate::error::ClientError;
use crate::transport::{Body, BoxError, BoxFuture, Transport, full_body};

/// The API. Cloning it gives another handle of the same one.
#[derive(Clone, Default)]
pub struct FakeApi {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    objects: Objects,
    watches: Vec<Watch>,
    /// Answers to GETs of paths that are no object's.
    documents: BTreeMap<String, Value>,
    requests: Vec<String>,
    refusals: VecDeque<(String, Status)>,
    offline: bool,
}

struct Watch {
    target: Target,
    lines: mpsc::UnboundedSender<Bytes>,
}

impl FakeApi {
    /// An empty API.
    pub fn new() -> Self {
        Self::default()
    }

    /// A client of it.
    pub fn client(&self) -> Client {
        Client::new(self.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an object at its path, over whatever is there.
    pub fn put(&self, path: &str, object: Value) {
        let mut state = self.state();
        state.objects.put(&Target::parse(path), object);
        state.publish();
    }

    /// Removes the object at a path, whatever its finalizers.
    pub fn remove(&self, path: &str) {
        let mut state = self.state();
        state.objects.remove(&Target::parse(path));
        state.publish();
    }

    /// Changes the object at a path.
    ///
    /// # Panics
    /// If there is none.
    pub fn edit(&self, path: &str, edit: impl FnOnce(&mut Value)) {
        let Some(mut object) = self.object(path) else { panic!("there is no {path}") };
        edit(&mut object);
        self.put(path, object);
    }

    /// The object at a path.
    pub fn object(&self, path: &str) -> Option<Value> {
        self.state().objects.get(&Target::parse(path)).cloned()
    }

    /// Answers GETs of a path that is no object's.
    pub fn document(&self, path: &str, document: Value) {
        self.state().documents.insert(path.to_owned(), document);
    }

    /// Refuses the next request whose method and path contain this text.
    pub fn refuse_next(&self, text: &str, status: Status) {
        self.state().refusals.push_back((text.to_owned(), status));
    }

    /// Makes the API unreachable, ending all watches, or reachable again.
    pub fn set_offline(&self, offline: bool) {
        let mut state = self.state();
        state.offline = offline;
        if offline {
            state.watches.clear();
        }
    }

    /// Method and path of all requests since the last call of this.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state().requests)
    }
}

impl State {
    fn answer(&mut self, request: &Request<Bytes>) -> Result<Response<Body>, Status> {
        let name = format!("{} {}", request.method(), request.uri());
        self.requests.push(name.clone());
        if let Some(at) = self.refusals.iter().position(|(text, _)| name.contains(text.as_str()))
            && let Some((_, status)) = self.refusals.remove(at)
        {
            return Err(status);
        }
        if let Some(document) = self.documents.get(request.uri().path()) {
            return Ok(ok(document));
        }
        let target = Target::parse(&request.uri().to_string());
        if request.method() == Method::GET {
            return match target.watch_after {
                Some(after) => Ok(self.watch(target, after)),
                None if target.name.is_empty() => Ok(ok(&self.objects.list(&target))),
                None => self.objects.find(&target).map(ok),
            };
        }
        let body = if request.body().is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(request.body()).map_err(|error| Status::bad_request(error.to_string()))?
        };
        let kind = request.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let done = self.objects.write(request.method(), &target, kind, body);
        self.publish();
        done.map(|object| ok(&object))
    }

    fn watch(&mut self, target: Target, after: u64) -> Response<Body> {
        let (lines, queue) = mpsc::unbounded_channel();
        let watch = Watch { target, lines };
        for (_, event) in self.objects.log.iter().filter(|(revision, _)| *revision > after) {
            watch.offer(event);
        }
        self.watches.push(watch);
        let stream = stream::unfold(queue, |mut queue| async {
            let line = queue.recv().await?;
            Some((Ok::<_, BoxError>(Frame::data(line)), queue))
        });
        Response::new(BodyExt::boxed(StreamBody::new(SyncStream(Mutex::new(Box::pin(stream))))))
    }

    fn publish(&mut self) {
        for event in self.objects.unpublished() {
            self.watches.retain(|watch| watch.offer(&event));
        }
    }
}

impl Watch {
    /// Answers whether anyone still listens.
    fn offer(&self, event: &Value) -> bool {
        if !self.target.selects(&event["object"]) || event["target"] != json!(self.target.collection()) {
            return !self.lines.is_closed();
        }
        let line = format!("{}\n", json!({"type": event["type"], "object": event["object"]}));
        self.lines.send(Bytes::from(line)).is_ok()
    }
}

/// A stream that is `Sync`, as a body must be: it is only ever polled by its owner.
struct SyncStream<S>(Mutex<S>);

impl<S: futures_util::Stream + Unpin> futures_util::Stream for SyncStream<S> {
    type Item = S::Item;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<S::Item>> {
        let stream = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        std::pin::Pin::new(stream).poll_next(cx)
    }
}

fn ok(value: &Value) -> Response<Body> {
    Response::new(full_body(value.to_string()))
}

impl Transport for FakeApi {
    fn send(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<Response<Body>, ClientError>> {
        Box::pin(async move {
            let mut state = self.state();
            if state.offline {
                return Err(ClientError::Connect { server: "the fake API".to_owned(), why: "offline".to_owned() });
            }
            Ok(state.answer(&request).unwrap_or_else(|status| {
                let mut response = ok(&status.to_value());
                *response.status_mut() = http::StatusCode::from_u16(status.code).unwrap_or_default();
                response
            }))
        })
    }
}
