//! Patches: JSON patch (RFC 6902), JSON merge patch (RFC 7396) and Kubernetes' strategic merge patch. In flow an object and
//! a patch, out flows the changed object. Server-side apply, which needs the owners of fields besides, will be the fourth room
//! beside these three; nothing in them depends on it.

mod json;
mod merge;
mod rules;
mod strategic;

pub use json::apply as json_patch;
pub use merge::apply as merge_patch;
pub use rules::{ListRule, rule};
pub use strategic::apply as strategic_merge_patch;

/// A patch that can't be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch itself is malformed; a 400.
    #[error("{0}")]
    Malformed(String),
    /// The patch is well-formed but does not fit the object (a failed `test`, a path that is not there); a 422.
    #[error("{0}")]
    DoesNotFit(String),
}
