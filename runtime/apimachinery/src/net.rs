//! Addresses and networks as texts: read as strictly as the standard library does, or as loosely as old objects need it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Reads an address, numbers with leading zeros among its parts as decimal ones.
pub fn parse_ip_loosely(text: &str) -> Option<IpAddr> {
    text.parse().ok().or_else(|| {
        let parts: Vec<&str> = text.split('.').collect();
        let digits = |p: &&str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit());
        if parts.len() != 4 || !parts.iter().all(digits) {
            return None;
        }
        let trimmed = parts.iter().map(|p| match p.trim_start_matches('0') {
            "" => "0",
            rest => rest,
        });
        trimmed.collect::<Vec<_>>().join(".").parse::<Ipv4Addr>().ok().map(IpAddr::V4)
    })
}

/// True for `::ffff:10.0.0.1` and its like.
pub fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

/// A network: an address in it and how many of its bits are fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    address: IpAddr,
    bits: u8,
}

/// A text that is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no network; write it like 10.43.0.0/16 or fd00::/108")]
pub struct CidrError(String);

impl Cidr {
    /// Reads a network whose numbers may have leading zeros.
    pub fn parse_loosely(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        if bits.is_empty() || !bits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let address = parse_ip_loosely(address)?;
        let bits = bits.parse().ok()?;
        (bits <= width(address)).then_some(Self { address, bits })
    }

    /// The address that it was written with.
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// How many bits are fixed.
    pub fn bits(self) -> u8 {
        self.bits
    }

    /// True for a network of IPv6 addresses.
    pub fn is_v6(self) -> bool {
        self.address.is_ipv6()
    }

    /// How many addresses it has, less one.
    pub fn last_index(self) -> u128 {
        let free = u32::from(width(self.address) - self.bits);
        if free == 128 { u128::MAX } else { (1u128 << free) - 1 }
    }

    /// The same network written with its first address.
    pub fn masked(self) -> Self {
        Self { address: self.at(0), bits: self.bits }
    }

    /// The address at an index from the first, which wraps around at the end.
    pub fn at(self, index: u128) -> IpAddr {
        let mask = self.last_index();
        let number = (to_number(self.address) & !mask) | (index & mask);
        match self.address {
            // The value came out of 32 bits and only the lowest of them changed.
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX))),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(number)),
        }
    }

    /// The index of an address from the first; none if it is not in the network.
    pub fn index_of(self, address: IpAddr) -> Option<u128> {
        if address.is_ipv4() != self.address.is_ipv4() {
            return None;
        }
        let (mask, number) = (self.last_index(), to_number(address));
        (number & !mask == to_number(self.address) & !mask).then_some(number & mask)
    }

    /// Whether an address is in the network.
    pub fn contains(self, address: IpAddr) -> bool {
        self.index_of(address).is_some()
    }

    /// Whether the two share an address.
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.at(0)) || other.contains(self.at(0))
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn to_number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    /// Strict: no leading zeros. Bits beyond the fixed ones may be set.
    fn from_str(text: &str) -> Result<Self, CidrError> {
        let read = || {
            let (address, bits) = text.split_once('/')?;
            if bits.len() > 1 && bits.starts_with('0') {
                return None;
            }
            address.parse::<IpAddr>().ok()?;
            Self::parse_loosely(text)
        };
        read().ok_or_else(|| CidrError(text.to_owned()))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn leading_zeros_are_read_loosely_only() {
        assert_eq!(parse_ip_loosely("010.0.000.1"), Some("10.0.0.1".parse().unwrap()));
        assert_eq!(parse_ip_loosely("10.0.0.256"), None);
        assert_eq!(parse_ip_loosely("10.0.0"), None);
        assert!("010.0.0.0/8".parse::<Cidr>().is_err() && "10.0.0.0/08".parse::<Cidr>().is_err());
        assert_eq!(Cidr::parse_loosely("010.0.0.0/08"), Some(cidr("10.0.0.0/8")));
        assert_eq!(Cidr::parse_loosely("10.0.0.0/33"), None);
    }

    #[test]
    fn a_network_counts_its_addresses() {
        let net = cidr("10.43.0.0/16");
        assert_eq!((net.last_index(), net.at(1)), (65535, "10.43.0.1".parse().unwrap()));
        assert_eq!(net.index_of("10.43.1.2".parse().unwrap()), Some(258));
        assert_eq!(net.index_of("10.44.0.0".parse().unwrap()), None);
        assert_eq!(net.index_of("::1".parse().unwrap()), None);
        assert_eq!(cidr("fd00::5/64").masked().to_string(), "fd00::/64");
        assert_eq!(cidr("::/0").last_index(), u128::MAX);
    }

    #[test]
    fn networks_overlap_if_one_holds_the_other() {
        assert!(cidr("10.0.0.0/8").overlaps(cidr("10.43.0.0/16")) && cidr("10.43.0.0/16").overlaps(cidr("10.0.0.0/8")));
        assert!(!cidr("10.43.0.0/16").overlaps(cidr("10.42.0.0/16")));
        assert!(!cidr("::/0").overlaps(cidr("0.0.0.0/0")));
    }
}
