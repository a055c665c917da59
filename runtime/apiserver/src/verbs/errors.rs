//! The store's errors as a client should see them.

use kiln_apimachinery::status::Reason;
use kiln_apimachinery::{GroupResource, Status};
use kiln_storage::StorageError;

/// An error that is about no object.
pub(crate) fn storage(error: StorageError) -> Status {
    match error {
        StorageError::Compacted { .. } => Status::expired("The resourceVersion for the provided list is too old."),
        StorageError::FutureRevision { current } => Status::too_large_revision(current.saturating_add(1), current),
        // Without a reason of the reference's: there, too, the message is what tells.
        StorageError::Full(_) => Status { code: 507, reason: "InsufficientStorage".into(), ..plain(error.to_string()) },
        StorageError::TooLarge => plain(error.to_string()),
        StorageError::Unavailable(_) => Status::failure(Reason::ServiceUnavailable, error.to_string()),
        other => Status::internal(other),
    }
}

/// A 500 with nothing but a sentence: what the reference answers with where it does not say more of an error.
pub(crate) fn plain(message: impl Into<String>) -> Status {
    Status { status: "Failure".into(), message: message.into(), code: 500, ..Status::default() }
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
