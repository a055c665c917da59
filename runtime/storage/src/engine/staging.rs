//! What a batch of writes would do.

use std::collections::HashMap;
use std::sync::Arc;

use super::Engine;
use crate::types::{Event, EventKind, NewValue, Record, Revision, StorageError};

/// One write.
#[derive(Debug)]
pub(crate) enum Operation {
    Create { key: String, value: NewValue },
    Update { key: String, value: NewValue, expected: Revision },
    Delete { key: String, expected: Option<Revision> },
}

impl Operation {
    pub(crate) fn key(&self) -> &str {
        match self {
            Self::Create { key, .. } | Self::Update { key, .. } | Self::Delete { key, .. } => key,
        }
    }
}

/// The outcome of a batch's operations so far, on top of the engine's state.
pub(crate) struct Staging<'a> {
    engine: &'a Engine,
    /// What the batch has made of the keys that it touched; `None` is a deleted one.
    touched: HashMap<Arc<str>, Option<Record>>,
    next: Revision,
    pub(crate) events: Vec<Arc<Event>>,
}

impl<'a> Staging<'a> {
    pub(crate) fn new(engine: &'a Engine) -> Self {
        Self { engine, touched: HashMap::new(), next: engine.revision() + 1, events: Vec::new() }
    }

    /// Adds one operation. A refused one takes no revision.
    pub(crate) fn add(&mut self, operation: &Operation) -> Result<Arc<Event>, StorageError> {
        let revision = self.next;
        let current = match self.touched.get(operation.key()) {
            Some(touched) => touched.clone(),
            None => self.engine.get(operation.key()),
        };
        let event = match operation {
            Operation::Create { key, value } => {
                if current.is_some() {
                    return Err(StorageError::Exists);
                }
                let record = Record {
                    key: Arc::from(key.as_str()),
                    value: value.finish(revision),
                    create_revision: revision,
                    mod_revision: revision,
                };
                Event { kind: EventKind::Put { previous: None }, record, revision }
            }
            Operation::Update { value, expected, .. } => {
                let previous = expect(current, Some(*expected))?;
                let record = Record {
                    key: previous.key.clone(),
                    value: value.finish(revision),
                    create_revision: previous.create_revision,
                    mod_revision: revision,
                };
                Event { kind: EventKind::Put { previous: Some(previous) }, record, revision }
            }
            Operation::Delete { expected, .. } => {
                Event { kind: EventKind::Delete, record: expect(current, *expected)?, revision }
            }
        };
        let after = match event.kind {
            EventKind::Put { .. } => Some(event.record.clone()),
            EventKind::Delete => None,
        };
        self.touched.insert(event.record.key.clone(), after);
        self.next += 1;
        let event = Arc::new(event);
        self.events.push(event.clone());
        Ok(event)
    }
}

fn expect(current: Option<Record>, expected: Option<Revision>) -> Result<Record, StorageError> {
    let current = current.ok_or(StorageError::NotFound)?;
    match expected {
        Some(expected) if expected != current.mod_revision => Err(StorageError::Conflict { current: Some(current) }),
        _ => Ok(current),
    }
}
