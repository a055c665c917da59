//! The store as its callers hold it.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::log::Log;
use super::writer::{Counts, Request, Timing, Writer};
use crate::engine::{Engine, Operation, Watch};
use crate::types::{BoxFuture, Counters, Event, ListOptions, NewValue, Page, Record, Revision, Storage, StorageError};

/// Requests that may wait for the writer before callers wait to ask.
const QUEUE: usize = 1_024;

/// Reads from the engine, and asks the writer to write.
pub(super) struct SqliteStorage {
    engine: Arc<Engine>,
    counts: Arc<Counts>,
    /// Both are there until the handle is dropped.
    requests: Option<mpsc::Sender<Request>>,
    writer: Option<JoinHandle<()>>,
}

impl SqliteStorage {
    pub(super) fn start(
        log: Log,
        engine: Arc<Engine>,
        timing: Timing,
        reserved: Revision,
        forget: Vec<Revision>,
    ) -> Result<Self, StorageError> {
        let counts = Arc::new(Counts::default());
        let (requests, queue) = mpsc::channel(QUEUE);
        let writer = Writer::new(log, engine.clone(), counts.clone(), timing, reserved, forget);
        let writer = std::thread::Builder::new()
            .name("storage".to_owned())
            .spawn(move || writer.run(queue))
            .map_err(|error| StorageError::Sqlite(format!("the writer's thread could not start: {error}")))?;
        Ok(Self { engine, counts, requests: Some(requests), writer: Some(writer) })
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, StorageError>>) -> Request,
    ) -> Result<T, StorageError> {
        let (reply, answer) = oneshot::channel();
        let requests = self.requests.as_ref().ok_or(StorageError::Closed)?;
        requests.send(request(reply)).await.map_err(|_| StorageError::Closed)?;
        answer.await.map_err(|_| StorageError::Closed)?
    }

    async fn write(&self, operation: Operation) -> Result<Arc<Event>, StorageError> {
        self.ask(|reply| Request::Write { operation, reply }).await
    }
}

impl Storage for SqliteStorage {
    fn current_revision(&self) -> Revision {
        self.engine.revision()
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Record>, StorageError>> {
        Box::pin(async move { Ok(self.engine.get(key)) })
    }

    fn list<'a>(&'a self, prefix: &'a str, options: ListOptions) -> BoxFuture<'a, Result<Page, StorageError>> {
        Box::pin(async move { self.engine.list(prefix, &options) })
    }

    fn create(&self, key: String, value: NewValue) -> BoxFuture<'_, Result<Record, StorageError>> {
        Box::pin(async move { Ok(self.write(Operation::Create { key, value }).await?.record.clone()) })
    }

    fn update(&self, key: String, value: NewValue, expected: Revision) -> BoxFuture<'_, Result<Record, StorageError>> {
        Box::pin(async move { Ok(self.write(Operation::Update { key, value, expected }).await?.record.clone()) })
    }

    fn delete(
        &self,
        key: String,
        expected: Option<Revision>,
    ) -> BoxFuture<'_, Result<(Record, Revision), StorageError>> {
        Box::pin(async move {
            let event = self.write(Operation::Delete { key, expected }).await?;
            Ok((event.record.clone(), event.revision))
        })
    }

    fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, StorageError> {
        Watch::new(&self.engine, prefix, after)
    }

    fn compact(&self, before: Revision) -> BoxFuture<'_, Result<(), StorageError>> {
        Box::pin(self.ask(move |reply| Request::Compact { before, reply }))
    }

    fn snapshot<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, Result<Revision, StorageError>> {
        super::snapshot(&self.engine, path)
    }

    fn counters(&self) -> Counters {
        self.counts.read()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // It fails if it is closed already.
            _ = self.ask(|reply| Request::Close { reply }).await;
        })
    }
}

impl Drop for SqliteStorage {
    /// Waits until what was asked for is written and the file is closed, so that the store can be opened again.
    fn drop(&mut self) {
        self.requests = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the store's writer ended by a panic");
        }
    }
}
