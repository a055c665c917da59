//! RBAC: the rules in roles, and who is bound to them. A copy of all four kinds is kept by who is bound, so that a decision
//! looks at the user's own rules only.

mod index;
mod rule;

use kiln_storage::Record;

pub(crate) use index::Rules;
pub(crate) use rule::Rule;

use super::follow::{Followed, View};

/// The copy and the watch that keeps it.
pub(crate) type Rbac = Followed<Rules>;

impl View for Rules {
    const PREFIXES: &'static [&'static str] = &[index::PREFIX];

    fn put(&mut self, record: &Record) {
        Self::put(self, record);
    }

    fn remove(&mut self, record: &Record) {
        Self::remove(self, &record.key);
    }
}
