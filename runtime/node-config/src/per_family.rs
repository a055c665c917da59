//! What there is one of, or one of each family of addresses.

use std::fmt;
use std::net::IpAddr;

use serde::{Serialize, Serializer};

use crate::Cidr;

/// Something of a family of addresses.
pub trait Family {
    /// Whether it is of IPv4; else it is of IPv6.
    fn is_ipv4(&self) -> bool;
}

impl Family for IpAddr {
    fn is_ipv4(&self) -> bool {
        self.is_ipv4()
    }
}

impl Family for Cidr {
    fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }
}

/// One of either family, or one of each. The first one's family goes first where there is a choice. Shown with a comma between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PerFamily<T> {
    first: T,
    second: Option<T>,
}

impl<T: Family + Copy> PerFamily<T> {
    /// Those that are given, in their order.
    ///
    /// # Errors
    /// None or too many are given, or two of one family; in words that say what would be right.
    pub fn new(given: &[T]) -> Result<Self, String> {
        match *given {
            [first] => Ok(first.into()),
            [first, second] if first.is_ipv4() != second.is_ipv4() => Ok(Self { first, second: Some(second) }),
            _ => Err("write one, or one of IPv4 and one of IPv6".to_owned()),
        }
    }

    /// The first.
    pub fn first(self) -> T {
        self.first
    }

    /// All, in their order.
    pub fn iter(self) -> impl Iterator<Item = T> {
        std::iter::once(self.first).chain(self.second)
    }

    /// The one of the family of another.
    pub fn like(self, other: &impl Family) -> Option<T> {
        self.iter().find(|one| one.is_ipv4() == other.is_ipv4())
    }
}

impl<T> From<T> for PerFamily<T> {
    fn from(first: T) -> Self {
        Self { first, second: None }
    }
}

impl<T: fmt::Display> fmt::Display for PerFamily<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.fmt(f)?;
        self.second.as_ref().map_or(Ok(()), |second| write!(f, ",{second}"))
    }
}

impl<T: fmt::Display> Serialize for PerFamily<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
