//! Ranges of addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A range of IPv4 or IPv6 addresses, as `10.42.1.0/24`. Bits behind the prefix are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

/// The text is no range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no range of addresses; one is written as 10.42.1.0/24 or fd00:1::/64")]
pub struct InvalidCidr(String);

impl Cidr {
    /// The range that an address is in; `None` for a prefix that is too long for its family.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let (length, bits) = match address {
            IpAddr::V4(v4) => (32, u128::from(v4.to_bits()) << 96),
            IpAddr::V6(v6) => (128, v6.to_bits()),
        };
        if prefix > length {
            return None;
        }
        let first = bits & mask(prefix);
        let address = match address {
            // The upper 32 bits, of which the shift leaves just these.
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(first >> 96).unwrap_or_default())),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(first)),
        };
        Some(Self { address, prefix })
    }

    /// The range of a single address.
    pub fn host(address: IpAddr) -> Self {
        Self { address, prefix: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// Its first address.
    pub fn first(&self) -> IpAddr {
        self.address
    }

    /// Its last address.
    pub fn last(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(v4) => {
                let rest = u32::try_from(!mask(self.prefix) >> 96).unwrap_or_default();
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() | rest))
            }
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() | !mask(self.prefix))),
        }
    }

    /// How many bits of an address are the range's.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether it is of IPv4.
    pub fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }

    /// Whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        Self::new(address, self.prefix).is_some_and(|range| range == *self)
    }

    /// Whether they have addresses in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        if self.prefix <= other.prefix { self.contains(other.address) } else { other.contains(self.address) }
    }
}

fn mask(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)
}

impl FromStr for Cidr {
    type Err = InvalidCidr;

    fn from_str(text: &str) -> Result<Self, InvalidCidr> {
        let parse = || {
            let (address, prefix) = text.trim().split_once('/')?;
            Self::new(address.parse().ok()?, prefix.parse().ok()?)
        };
        parse().ok_or_else(|| InvalidCidr(text.to_owned()))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn ranges_are_read_and_written_and_compared() {
        for (text, first, last) in [
            ("10.42.1.0/24", "10.42.1.0", "10.42.1.255"),
            ("0.0.0.0/0", "0.0.0.0", "255.255.255.255"),
            ("10.1.2.3/32", "10.1.2.3", "10.1.2.3"),
            ("fd00:1::/64", "fd00:1::", "fd00:1::ffff:ffff:ffff:ffff"),
            ("::/0", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ] {
            let range = cidr(text);
            assert_eq!((range.to_string().as_str(), range.first().to_string().as_str()), (text, first));
            assert_eq!(range.last().to_string(), last);
        }
        assert_eq!(cidr("10.42.1.77/24"), cidr("10.42.1.0/24"));
        assert!(
            cidr("10.42.0.0/16").overlaps(&cidr("10.42.1.0/24")) && cidr("10.42.1.0/24").overlaps(&cidr("0.0.0.0/0"))
        );
        assert!(!cidr("10.42.0.0/24").overlaps(&cidr("10.42.1.0/24")) && !cidr("0.0.0.0/0").overlaps(&cidr("::/0")));
        for text in ["", "10.42.0.0", "10.42.0.0/33", "::/129", "a/8", "10.42.0.0/-1"] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }
}
