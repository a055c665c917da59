//! The store's errors as a client should see them.

use kiln_apimachinery::{GroupResource, Status};
use kiln_storage::StorageError;

/// An error that is about no object.
pub(crate) fn storage(error: StorageError) -> Status {
    match error {
        StorageError::Compacted { .. } => Status::expired("The resourceVersion for the provided list is too old."),
        StorageError::FutureRevision { current } => Status::too_large_revision(current.saturating_add(1), current),
        other => Status::internal(other),
    }
}

/// An error of a write to one object.
pub(crate) fn write(error: StorageError, resource: &GroupResource, name: &str) -> Status {
    match error {
        StorageError::Exists => Status::already_exists(resource, name),
        StorageError::NotFound => Status::not_found(resource, name),
        StorageError::Conflict { .. } => Status::modified(resource, name),
        other => storage(other),
    }
}
