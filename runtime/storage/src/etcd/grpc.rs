//! gRPC as far as etcd needs it: requests with one answer, and the stream of a watch.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Incoming};
use prost::Message;
use tokio::sync::mpsc;

use super::endpoint::{Connection, Dialer, Outgoing};
use crate::types::StorageError;

/// The pause once every endpoint has failed.
const PAUSE: Duration = Duration::from_millis(100);

/// Codes of gRPC that mean something to the store.
mod code {
    pub(super) const RESOURCE_EXHAUSTED: u16 = 8;
    pub(super) const OUT_OF_RANGE: u16 = 11;
    pub(super) const UNAVAILABLE: u16 = 14;
}

/// Why a call failed.
#[derive(Debug, Clone)]
pub(super) enum CallError {
    /// There was no connection; nothing was asked.
    Unreached(String),
    /// The connection ended, or the member can't serve: a write may have happened or not.
    Broken(String),
    /// etcd's answer is no.
    Refused { code: u16, message: String },
}

impl CallError {
    /// Whether the revision asked for is no longer kept.
    pub(super) fn is_compacted(&self) -> bool {
        matches!(self, Self::Refused { code: code::OUT_OF_RANGE, message } if message.contains("compacted"))
    }
}

impl From<CallError> for StorageError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Unreached(why) | CallError::Broken(why) => Self::Unavailable(why),
            CallError::Refused { code: code::RESOURCE_EXHAUSTED, message } => Self::Full(message),
            CallError::Refused { message, .. } => Self::Etcd(message),
        }
    }
}

/// Calls whichever member answers.
pub(super) struct Client {
    dialer: Dialer,
    current: Mutex<Option<Connection>>,
    /// The endpoint that is used, or tried next.
    number: AtomicUsize,
    /// How long a request may take, fail-over included.
    patience: Duration,
}

impl Client {
    pub(super) fn new(dialer: Dialer, patience: Duration) -> Self {
        Self { dialer, current: Mutex::new(None), number: AtomicUsize::new(0), patience }
    }

    /// A request that may be asked again, since it changes nothing.
    pub(super) async fn read<Q: Message, A: Message + Default>(&self, path: &str, ask: &Q) -> Result<A, CallError> {
        self.call(path, ask, true).await
    }

    /// A request that is asked at most once.
    pub(super) async fn write<Q: Message, A: Message + Default>(&self, path: &str, ask: &Q) -> Result<A, CallError> {
        self.call(path, ask, false).await
    }

    async fn call<Q: Message, A: Message + Default>(&self, path: &str, ask: &Q, again: bool) -> Result<A, CallError> {
        let mut last = CallError::Unreached("no answer in time".to_owned());
        let attempts = async {
            for attempt in 1.. {
                let result = match self.connection().await {
                    Ok(connection) => {
                        let result = unary(connection.clone(), path, ask).await;
                        if matches!(result, Err(CallError::Broken(_) | CallError::Unreached(_))) {
                            self.leave(&connection);
                        }
                        result
                    }
                    Err(why) => Err(CallError::Unreached(why)),
                };
                match result {
                    Err(error @ CallError::Unreached(_)) => last = error,
                    Err(error @ CallError::Broken(_)) if again => last = error,
                    other => return other,
                }
                if attempt % self.dialer.endpoints.len() == 0 {
                    tokio::time::sleep(PAUSE).await;
                }
            }
            Err(CallError::Unreached("no endpoint".to_owned()))
        };
        // A write that was under way when the time was over may have happened.
        match tokio::time::timeout(self.patience, attempts).await {
            Ok(result) => result,
            Err(_) => Err(last),
        }
    }

    /// The connection in use, or a new one to the endpoint whose turn it is.
    async fn connection(&self) -> Result<Connection, String> {
        let number = self.number.load(Ordering::Relaxed);
        if let Some(connection) = &*self.lock()
            && !connection.sender.is_closed()
        {
            return Ok(connection.clone());
        }
        match self.dialer.connect(number).await {
            Ok(connection) => {
                *self.lock() = Some(connection.clone());
                Ok(connection)
            }
            Err(why) => {
                self.turn(number);
                Err(why)
            }
        }
    }

    /// Gives up a connection that failed, unless that was done already, and turns to the next endpoint.
    fn leave(&self, failed: &Connection) {
        let number = self.number.load(Ordering::Relaxed);
        let mut current = self.lock();
        if current.as_ref().is_some_and(|connection| connection.base == failed.base) {
            *current = None;
            self.turn(number);
        }
    }

    fn turn(&self, from: usize) {
        // Whoever else failed at the same endpoint has turned already.
        _ = self.number.compare_exchange(from, from.wrapping_add(1), Ordering::Relaxed, Ordering::Relaxed);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Connection>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn unary<Q: Message, A: Message + Default>(connection: Connection, path: &str, ask: &Q) -> Result<A, CallError> {
    let (sender, body) = mpsc::unbounded_channel();
    // The receiver is right here.
    _ = sender.send(frame(ask));
    drop(sender);
    let mut incoming = Messages::open(connection, path, Outgoing(body)).await?;
    let answer = incoming.next().await?.ok_or_else(|| CallError::Broken("no answer came".to_owned()))?;
    // What follows the answer is its status.
    incoming.next::<A>().await?;
    Ok(answer)
}

/// A message with the five bytes that gRPC puts before it: not compressed, and its length.
pub(super) fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = Vec::with_capacity(5 + length);
    bytes.push(0);
    bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend(message.encode_to_vec());
    Bytes::from(bytes)
}

/// The messages of an answer.
pub(super) struct Messages {
    body: Incoming,
    buffer: bytes::BytesMut,
    base: String,
}

impl Messages {
    /// Sends a request and waits for the answer's beginning.
    pub(super) async fn open(mut connection: Connection, path: &str, body: Outgoing) -> Result<Self, CallError> {
        let request = Request::post(format!("{}/etcdserverpb.{path}", connection.base))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            // A member that has lost the others says so, instead of serving what it remembers.
            .header("hasleader", "true")
            .body(body)
            .map_err(|error| CallError::Unreached(error.to_string()))?;
        let base = connection.base.clone();
        connection.sender.ready().await.map_err(|error| CallError::Unreached(format!("{base}: {error}")))?;
        let response = connection.sender.try_send_request(request).await.map_err(|mut failed| {
            let unsent = failed.take_message().is_some();
            let why = format!("{base}: {}", failed.error());
            if unsent { CallError::Unreached(why) } else { CallError::Broken(why) }
        })?;
        check_http(&response, &base)?;
        // Without a body the status is in the headers.
        check_status(response.headers(), &base)?;
        Ok(Self { body: response.into_body(), buffer: bytes::BytesMut::new(), base })
    }

    /// The next message; `None` after the last.
    pub(super) async fn next<M: Message + Default>(&mut self) -> Result<Option<M>, CallError> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(CallError::Broken(format!("{}: {error}", self.base))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.buffer.extend_from_slice(&data),
                    Err(frame) => {
                        if let Some(trailers) = frame.trailers_ref() {
                            check_status(trailers, &self.base)?;
                        }
                    }
                },
            }
        }
    }

    fn take<M: Message + Default>(&mut self) -> Result<Option<M>, CallError> {
        take(&mut self.buffer).map_err(|why| CallError::Broken(format!("{}: {why}", self.base)))
    }
}

/// The message at the buffer's head, if it is there as a whole.
pub(super) fn take<M: Message + Default>(buffer: &mut bytes::BytesMut) -> Result<Option<M>, String> {
    let Some((head, _)) = buffer.split_first_chunk::<5>() else { return Ok(None) };
    let [compressed, length @ ..] = *head;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if buffer.len() - 5 < length {
        return Ok(None);
    }
    if compressed != 0 {
        return Err("the answer is compressed, which was not asked for".to_owned());
    }
    let mut message = buffer.split_to(5 + length);
    bytes::Buf::advance(&mut message, 5);
    M::decode(message.freeze()).map(Some).map_err(|error| error.to_string())
}

fn check_http(response: &Response<Incoming>, base: &str) -> Result<(), CallError> {
    if response.status() == http::StatusCode::OK {
        return Ok(());
    }
    Err(CallError::Broken(format!("{base}: it answers {}; is it etcd?", response.status())))
}

fn check_status(headers: &HeaderMap, base: &str) -> Result<(), CallError> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(code) = text("grpc-status") else { return Ok(()) };
    let message = format!("{base}: {}", text("grpc-message").unwrap_or("no reason given"));
    match code.parse() {
        Ok(0) => Ok(()),
        Ok(code::UNAVAILABLE) => Err(CallError::Broken(message)),
        Ok(code) => Err(CallError::Refused { code, message }),
        Err(_) => Err(CallError::Broken(message)),
    }
}
