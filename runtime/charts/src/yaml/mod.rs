//! YAML as Kubernetes' and Helm's programs read and write it: YAML 1.1 by Go's yaml.v2, by way of JSON (sigs.k8s.io/yaml). `yes` is
//! true, `0644` is octal, keys are strings, and of two equal keys the later one holds. Scanner and emitter are libyaml's, of which
//! Go's are a translation; they are in the binary already.

mod emit;
mod order;
mod raw;
mod read;
mod resolve;

pub use emit::to_string;
pub use read::{documents, parse};
pub(crate) use resolve::go_int;

/// A text that is no YAML, or no YAML that JSON could say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("yaml: {0}")]
pub struct YamlError(String);

impl YamlError {
    fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

#[cfg(test)]
mod tests;
