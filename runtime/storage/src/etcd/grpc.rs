//! gRPC as etcd needs it: requests to whichever member answers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kiln_grpc::{CallError, Code, Connection};
use prost::Message;

use super::endpoint::Dialer;
use crate::types::StorageError;

/// The pause once every endpoint has failed.
const PAUSE: Duration = Duration::from_millis(100);

/// Whether the revision asked for is no longer kept.
pub(super) fn is_compacted(error: &CallError) -> bool {
    matches!(error, CallError::Refused { code: Code::OUT_OF_RANGE, message } if message.contains("compacted"))
}

impl From<CallError> for StorageError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Unreached(why) | CallError::Broken(why) => Self::Unavailable(why),
            CallError::Refused { message, .. } if is_too_large(&message) => Self::TooLarge,
            CallError::Refused { code: Code::RESOURCE_EXHAUSTED, message } => Self::Full(message),
            CallError::Refused { message, .. } => Self::Etcd(message),
        }
    }
}

/// By the limit for what is stored, or by that for messages.
fn is_too_large(message: &str) -> bool {
    message.contains("request is too large") || message.contains("message larger than max")
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
                        let result = connection.unary(&method(path), ask).await;
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
            && !connection.is_closed()
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
        if current.as_ref().is_some_and(|connection| connection.base() == failed.base()) {
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

/// The path of a call, as `KV/Range`.
pub(super) fn method(call: &str) -> String {
    format!("/etcdserverpb.{call}")
}
