//! The store in RAM alone, for tests and for what need not outlive the process.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::engine::{Engine, Operation, Retention, Staging, State, Watch};
use crate::types::{
    BoxFuture, Clock, Counters, Event, ListOptions, NewValue, Page, Record, Revision, Storage, StorageError,
};

/// An empty store that keeps the default amount of history.
pub fn open() -> Arc<dyn Storage> {
    open_with(Retention::default())
}

/// An empty store that keeps this much history.
pub fn open_with(retention: Retention) -> Arc<dyn Storage> {
    let engine = Engine::new(State::new(BTreeMap::new(), 1), retention, Vec::new(), Clock::default());
    Arc::new(MemoryStorage { engine, writing: Mutex::new(()), writes: AtomicU64::new(0) })
}

struct MemoryStorage {
    engine: Arc<Engine>,
    /// Held from staging to applying.
    writing: Mutex<()>,
    writes: AtomicU64,
}

impl MemoryStorage {
    fn write(&self, operation: &Operation) -> Result<Arc<Event>, StorageError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut staging = Staging::new(&self.engine);
        let event = staging.add(operation)?;
        let events = staging.events;
        self.engine.apply(events);
        self.writes.fetch_add(1, Ordering::Relaxed);
        Ok(event)
    }
}

impl Storage for MemoryStorage {
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
        Box::pin(async move { Ok(self.write(&Operation::Create { key, value })?.record.clone()) })
    }

    fn update(&self, key: String, value: NewValue, expected: Revision) -> BoxFuture<'_, Result<Record, StorageError>> {
        Box::pin(async move { Ok(self.write(&Operation::Update { key, value, expected })?.record.clone()) })
    }

    fn delete(
        &self,
        key: String,
        expected: Option<Revision>,
    ) -> BoxFuture<'_, Result<(Record, Revision), StorageError>> {
        Box::pin(async move {
            let event = self.write(&Operation::Delete { key, expected })?;
            Ok((event.record.clone(), event.revision))
        })
    }

    fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, StorageError> {
        Watch::new(&self.engine, prefix, after)
    }

    fn compact(&self, before: Revision) -> BoxFuture<'_, Result<(), StorageError>> {
        Box::pin(async move { self.engine.compact(before).map(drop) })
    }

    fn snapshot<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, Result<Revision, StorageError>> {
        crate::sqlite::snapshot(&self.engine, path)
    }

    fn counters(&self) -> Counters {
        Counters { writes: self.writes.load(Ordering::Relaxed), ..Counters::default() }
    }
}

impl Drop for MemoryStorage {
    fn drop(&mut self) {
        self.engine.close();
    }
}
