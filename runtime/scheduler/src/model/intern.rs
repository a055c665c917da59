//! Strings and values of which many equal ones exist, kept once.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

/// A shared string. Two that came from one interner compare by their address.
#[derive(Clone, Eq, PartialOrd, Ord)]
pub(crate) struct Name(Arc<str>);

impl Name {
    /// A string of its own, for tests and for what no interner sees.
    pub(crate) fn new(text: &str) -> Self {
        Self(Arc::from(text))
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        &*self.0 == other
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Keeps one of each value while anyone uses it.
pub(super) struct Interner<T: ?Sized> {
    known: HashSet<Arc<T>>,
    /// So many values lead to a look for those that nobody uses any more.
    sweep_at: usize,
}

impl<T: ?Sized + Eq + Hash> Interner<T> {
    pub(super) fn new() -> Self {
        Self { known: HashSet::new(), sweep_at: 1024 }
    }

    pub(super) fn share<Q: Borrow<T> + Into<Arc<T>>>(&mut self, value: Q) -> Arc<T> {
        if let Some(known) = self.known.get(value.borrow()) {
            return Arc::clone(known);
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|known| Arc::strong_count(known) > 1);
            self.sweep_at = (self.known.len() * 2).max(1024);
        }
        let value: Arc<T> = value.into();
        self.known.insert(Arc::clone(&value));
        value
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }
}

impl Interner<str> {
    pub(super) fn name(&mut self, text: &str) -> Name {
        Name(self.share(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_strings_are_one_and_those_nobody_uses_are_dropped() {
        let mut interner = Interner::<str>::new();
        let (a, b) = (interner.name("zone"), interner.name("zone"));
        assert!(Arc::ptr_eq(&a.0, &b.0));
        for i in 0..5_000 {
            interner.name(&format!("pod-{i}"));
        }
        assert!(interner.len() <= 1025, "{}", interner.len());
        assert!(Arc::ptr_eq(&interner.name("zone").0, &a.0));
    }
}
