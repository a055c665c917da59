//! The latest frames that were sent to watches, so that all who watch the same share one encoding.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use kiln_storage::Revision;

use super::render::Renderer;

/// Frames kept. Watches are woken together, so that only the last few events are asked for more than once.
const SLOTS: usize = 64;
/// The largest frame kept; what is kept must not amount to much.
const LARGEST: usize = 64 * 1024;

/// What a frame shows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FrameKey {
    pub(crate) revision: Revision,
    pub(crate) event: &'static str,
    pub(crate) renderer: Arc<Renderer>,
    pub(crate) first: bool,
}

/// The frames, each in the slot of its revision.
#[derive(Debug)]
pub(crate) struct Frames {
    slots: Vec<Slot>,
}

impl Default for Frames {
    fn default() -> Self {
        Self { slots: (0..SLOTS).map(|_| Slot::default()).collect() }
    }
}

#[derive(Debug, Default)]
struct Slot(Mutex<Vec<(FrameKey, Bytes)>>);

/// Ways to write one event that are kept.
const WAYS: usize = 4;

impl Frames {
    /// The frame of an event, made if it is not there.
    pub(crate) fn get<E>(&self, key: FrameKey, make: impl FnOnce() -> Result<Bytes, E>) -> Result<Bytes, E> {
        // Revisions are positive.
        let slot = &self.slots[key.revision.unsigned_abs() as usize % SLOTS].0;
        // Held while the frame is made: who else wants it, wants it made once.
        let mut kept = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, frame)) = kept.iter().find(|(k, _)| *k == key) {
            return Ok(frame.clone());
        }
        let frame = make()?;
        if frame.len() <= LARGEST {
            kept.retain(|(k, _)| k.revision == key.revision);
            kept.truncate(WAYS - 1);
            kept.push((key, frame.clone()));
        }
        Ok(frame)
    }
}
