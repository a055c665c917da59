//! Keys of sets and values of maps: what their parts are, and their bytes as the kernel has them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a part of a key or of a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Type {
    /// A number in the machine's byte order, as of `numgen`.
    Integer,
    /// An IPv4 address.
    Ipv4,
    /// An IPv6 address.
    Ipv6,
    /// A protocol over IP.
    Protocol,
    /// A port.
    Port,
    /// A packet's mark.
    Mark,
    /// An interface's name.
    Interface,
}

impl Type {
    /// Its number among nft's data types, which the kernel keeps for whoever lists the set.
    fn id(self) -> u32 {
        match self {
            Self::Integer => 4,
            Self::Ipv4 => 7,
            Self::Ipv6 => 8,
            Self::Protocol => 12,
            Self::Port => 13,
            Self::Mark => 19,
            Self::Interface => 41,
        }
    }

    /// Its length in bytes, without padding.
    pub(super) fn length(self) -> u32 {
        match self {
            Self::Integer | Self::Ipv4 | Self::Mark => 4,
            Self::Ipv6 | Self::Interface => 16,
            Self::Protocol => 1,
            Self::Port => 2,
        }
    }

    /// The length of several: each is padded to registers of four bytes if there are more than one.
    pub(super) fn total(types: &[Type]) -> u32 {
        match types {
            [one] => one.length(),
            several => several.iter().map(|one| one.length().next_multiple_of(4)).sum(),
        }
    }

    pub(super) fn ids(types: &[Type]) -> u32 {
        types.iter().fold(0, |ids, one| (ids << 6) | one.id())
    }
}

/// A key, or a value that is no verdict: its parts, each padded to four bytes but the only one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Vec<u8>);

impl Key {
    /// No parts yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more part, as the kernel has it.
    #[must_use]
    pub fn part(mut self, bytes: &[u8]) -> Self {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self.0.extend_from_slice(bytes);
        // A part behind another is in a register of its own, so it is as long as one.
        if self.0.len() > bytes.len() {
            self.0.resize(self.0.len().next_multiple_of(4), 0);
        }
        self
    }

    /// With one more address.
    #[must_use]
    pub fn address(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => self.part(&address.octets()),
            IpAddr::V6(address) => self.part(&address.octets()),
        }
    }

    /// With one more protocol.
    #[must_use]
    pub fn protocol(self, protocol: u8) -> Self {
        self.part(&[protocol])
    }

    /// With one more port.
    #[must_use]
    pub fn port(self, port: u16) -> Self {
        self.part(&port.to_be_bytes())
    }

    /// With one more number, as `numgen` has it.
    #[must_use]
    pub fn number(self, number: u32) -> Self {
        self.part(&number.to_ne_bytes())
    }

    /// With one more name of an interface.
    #[must_use]
    pub fn interface(self, name: &str) -> Self {
        let mut bytes = name.as_bytes().to_vec();
        bytes.resize(16, 0);
        self.part(&bytes)
    }

    /// As the kernel has it.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// The next greater one of the same length; none behind the greatest.
    pub(super) fn successor(&self) -> Option<Self> {
        let mut bytes = self.0.clone();
        for byte in bytes.iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                return Some(Self(bytes));
            }
        }
        None
    }
}

impl From<Ipv4Addr> for Key {
    fn from(address: Ipv4Addr) -> Self {
        Self::new().address(address.into())
    }
}

impl From<Ipv6Addr> for Key {
    fn from(address: Ipv6Addr) -> Self {
        Self::new().address(address.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_key_are_padded_but_an_only_one() {
        assert_eq!(Key::new().port(80).bytes(), [0, 80]);
        assert_eq!(Key::new().protocol(6).port(80).bytes(), [6, 0, 0, 0, 0, 80, 0, 0]);
        let whole = Key::from(Ipv4Addr::new(10, 0, 0, 1)).protocol(17).port(53);
        assert_eq!(whole.bytes(), [10, 0, 0, 1, 17, 0, 0, 0, 0, 53, 0, 0]);
    }

    #[test]
    fn the_greatest_key_has_none_behind_it() {
        let key = |bytes: &[u8]| Key::from_bytes(bytes);
        assert_eq!(key(&[10, 0, 0, 255]).successor(), Some(key(&[10, 0, 1, 0])));
        assert_eq!(key(&[255, 255, 255, 255]).successor(), None);
    }
}
