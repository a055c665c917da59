//! Where a field stands in an object, built up on the way down and written out only if there is something to complain about.

use std::fmt;

/// A path such as `spec.containers[0].resources.limits[cpu]`: one step, and the path before it.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    before: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    /// A path of one field, or of several with dots between. An empty one is the object itself.
    pub const fn new(field: &'a str) -> Self {
        Self { before: None, step: Step::Field(field) }
    }

    /// A field of what stands here; several with dots between go deeper.
    pub const fn child(&'a self, field: &'a str) -> Self {
        Self { before: Some(self), step: Step::Field(field) }
    }

    /// An item of the list that stands here.
    pub const fn index(&'a self, index: usize) -> Self {
        Self { before: Some(self), step: Step::Index(index) }
    }

    /// An entry of the map that stands here.
    pub const fn key(&'a self, key: &'a str) -> Self {
        Self { before: Some(self), step: Step::Key(key) }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(before) = self.before {
            before.fmt(f)?;
        }
        match self.step {
            Step::Field("") => Ok(()),
            Step::Field(name) if self.before.is_none_or(Path::is_empty) => f.write_str(name),
            Step::Field(name) => write!(f, ".{name}"),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => write!(f, "[{key}]"),
        }
    }
}

impl Path<'_> {
    fn is_empty(&self) -> bool {
        matches!(self.step, Step::Field("")) && self.before.is_none_or(Path::is_empty)
    }
}

impl From<Path<'_>> for String {
    fn from(path: Path<'_>) -> Self {
        path.to_string()
    }
}

impl From<&Path<'_>> for String {
    fn from(path: &Path<'_>) -> Self {
        path.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_items_and_keys_are_written_as_clients_know_them() {
        let spec = Path::new("spec");
        let containers = spec.child("containers");
        let first = containers.index(0);
        let limits = first.child("resources.limits");
        assert_eq!(limits.key("cpu").to_string(), "spec.containers[0].resources.limits[cpu]");
        assert_eq!(Path::new("").child("data").to_string(), "data");
        assert_eq!(String::from(&spec), "spec");
    }
}
