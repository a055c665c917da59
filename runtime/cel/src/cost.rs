//! What an expression may cost before any run, in the units of Kubernetes: one for a step, a tenth for a character that is
//! looked at.

/// Bytes of the largest request: what nobody has bounded can't be larger than that.
pub const LARGEST_REQUEST: u64 = 3 * 1024 * 1024;

/// The most elements, entries, characters or bytes that a value may have.
#[derive(Clone, Copy, Debug)]
pub struct Size(pub u64);

// Sizes say nothing of what a value is, so that types of different sizes are the same type.
impl PartialEq for Size {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Size {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self(u64::MAX);

    pub(crate) fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

/// The price of looking at so many characters.
pub(crate) fn walk(size: u64) -> u64 {
    size.div_ceil(10)
}
