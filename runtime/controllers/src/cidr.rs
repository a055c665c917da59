//! Networks as `10.42.0.0/16` and `fd00:42::/56`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A network of either family: its first address and how many bits of it are fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    /// The address's bits from the highest on; those of IPv4 are the upper 32.
    first: u128,
    prefix: u8,
    is_v4: bool,
}

/// A text that is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no network; write it like 10.42.0.0/16 or fd00:42::/56")]
pub struct CidrError(String);

impl Cidr {
    /// Whether it is of IPv4.
    pub(crate) fn is_ipv4(self) -> bool {
        self.is_v4
    }

    /// How many networks with `prefix` fixed bits it holds, as far as they can be counted.
    pub(crate) fn count(self, prefix: u8) -> u32 {
        let bits = u32::from(prefix.saturating_sub(self.prefix));
        if prefix < self.prefix { 0 } else { 1u32.checked_shl(bits).unwrap_or(u32::MAX) }
    }

    /// The `index`th network with `prefix` fixed bits in it; the caller keeps below [`Cidr::count`].
    pub(crate) fn part(self, prefix: u8, index: u32) -> Self {
        // In range because of the caller's bound; a network never wraps around the last address.
        let offset = u128::from(index).checked_shl(128 - u32::from(prefix)).unwrap_or(0);
        Self { first: self.first.wrapping_add(offset), prefix, ..self }
    }

    /// Whether the two share an address.
    pub(crate) fn overlaps(self, other: Self) -> bool {
        let prefix = self.prefix.min(other.prefix);
        self.is_v4 == other.is_v4 && (self.first ^ other.first) & mask(prefix) == 0
    }
}

fn mask(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let parse = || {
            let (address, prefix) = text.split_once('/')?;
            let (address, prefix) = (address.parse::<IpAddr>().ok()?, prefix.parse::<u8>().ok()?);
            let (bits, length) = match address {
                IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
                IpAddr::V6(v6) => (v6.to_bits(), 128),
            };
            (prefix <= length).then(|| Self { first: bits & mask(prefix), prefix, is_v4: address.is_ipv4() })
        };
        parse().ok_or_else(|| CidrError(text.to_owned()))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address: IpAddr = if self.is_v4 {
            // The shift leaves 32 bits.
            Ipv4Addr::from_bits(u32::try_from(self.first >> 96).unwrap_or_default()).into()
        } else {
            Ipv6Addr::from_bits(self.first).into()
        };
        write!(f, "{address}/{}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
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
        let cluster = cidr("fd00:42::7/56");
        assert_eq!((cluster.to_string().as_str(), cluster.count(64)), ("fd00:42::/56", 256));
        assert_eq!(cluster.part(64, 255).to_string(), "fd00:42:0:ff::/64");
        assert!(cluster.part(64, 3).overlaps(cluster) && !cluster.part(64, 3).overlaps(cluster.part(64, 4)));
        assert!(!cidr("::/0").overlaps(cidr("0.0.0.0/0")));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["10.42.0.0", "10.42.0.0/33", "a/16", "fd00::/129", ""] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }
}
