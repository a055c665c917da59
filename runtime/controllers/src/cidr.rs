//! IPv4 networks as `10.42.0.0/16`.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// A network: its first address and how many bits of it are fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ipv4Cidr {
    first: u32,
    prefix: u8,
}

/// A text that is no IPv4 network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no IPv4 network; write it like 10.42.0.0/16")]
pub struct CidrError(String);

impl Ipv4Cidr {
    /// How many networks with `prefix` fixed bits it holds.
    pub(crate) fn count(self, prefix: u8) -> u32 {
        let bits = u32::from(prefix.saturating_sub(self.prefix));
        if prefix < self.prefix { 0 } else { 1u32.checked_shl(bits).unwrap_or(u32::MAX) }
    }

    /// The `index`th network with `prefix` fixed bits in it; the caller keeps below [`Ipv4Cidr::count`].
    pub(crate) fn part(self, prefix: u8, index: u32) -> Self {
        let size = 1u64 << (32 - u32::from(prefix.min(32)));
        // In range because of the caller's bound; a network never wraps around the last address.
        let offset = u32::try_from(u64::from(index) * size).unwrap_or(0);
        Self { first: self.first.wrapping_add(offset), prefix }
    }

    /// Whether the two share an address.
    pub(crate) fn overlaps(self, other: Self) -> bool {
        let prefix = self.prefix.min(other.prefix);
        (self.first ^ other.first) & mask(prefix) == 0
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0)
}

impl FromStr for Ipv4Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let parse = || {
            let (address, prefix) = text.split_once('/')?;
            let (address, prefix) = (address.parse::<Ipv4Addr>().ok()?, prefix.parse::<u8>().ok()?);
            (prefix <= 32).then(|| Self { first: u32::from(address) & mask(prefix), prefix })
        };
        parse().ok_or_else(|| CidrError(text.to_owned()))
    }
}

impl fmt::Display for Ipv4Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.first), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Ipv4Cidr {
        text.parse().expect("a network")
    }

    #[test]
    fn a_network_is_divided_into_parts_that_do_not_overlap() {
        let cluster = cidr("10.42.7.9/16");
        assert_eq!(cluster.to_string(), "10.42.0.0/16");
        assert_eq!(cluster.count(24), 256);
        assert_eq!(cluster.part(24, 255).to_string(), "10.42.255.0/24");
        assert!(!cluster.part(24, 1).overlaps(cluster.part(24, 2)));
        assert!(cluster.part(24, 1).overlaps(cluster));
        assert_eq!(cidr("10.0.0.0/25").count(24), 0);
        assert_eq!(cidr("0.0.0.0/0").count(24), 1 << 24);
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["10.42.0.0", "10.42.0.0/33", "a/16", "fd00::/64", ""] {
            assert!(text.parse::<Ipv4Cidr>().is_err(), "{text}");
        }
    }
}
