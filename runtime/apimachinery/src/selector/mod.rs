//! Selectors: which objects a list or a watch is about, by labels or by fields.

mod field;
mod label;

pub use field::{FieldSelector, FieldTerm};
pub use label::{LabelSelector, Operator, Requirement};

/// A selector that can't be read. The text goes into a 400.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// The grammar of a label selector is broken.
    #[error("unable to parse requirement: {0}")]
    Label(String),
    /// The grammar of a field selector is broken.
    #[error("invalid selector: {0:?}; can't understand {1:?}")]
    Field(String, String),
}
