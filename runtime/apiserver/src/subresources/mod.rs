//! Parts of objects whose requests are no reads or writes of the object: each file answers one of them.

pub(crate) mod token;
