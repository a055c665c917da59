//! Patches: JSON patch (RFC 6902), JSON merge patch (RFC 7396) and Kubernetes' strategic merge patch. In flow an object and
//! a patch, out flows the changed object. Server-side apply, which needs the owners of fields besides, is a room of its own
//! ([`crate::apply`]); nothing here depends on it.

mod json;
mod merge;
mod strategic;

pub use json::apply as json_patch;
pub use merge::{apply as merge_patch, apply_object as object_merge_patch};
pub use strategic::apply as strategic_merge_patch;

/// A patch that can't be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch itself is malformed; a 400.
    #[error("{0}")]
    Malformed(String),
    /// The patch has more operations than one may; a 413.
    #[error("{0}")]
    TooLong(String),
    /// The patch is well-formed but does not fit the object (a failed `test`, a path that is not there); a 422.
    #[error("{0}")]
    DoesNotFit(String),
    /// The patch says something that can't be carried out; a 500, as in the reference.
    #[error("{0}")]
    Failed(String),
}
