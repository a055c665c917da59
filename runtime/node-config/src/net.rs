//! Small network values: a server's URL, an address range, what an interface row matches.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// Port that is meant when a server's URL names none.
pub const DEFAULT_PORT: u16 = 6443;

/// `https://host:port` of a Kubernetes API, with nothing after it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServerUrl {
    /// Name or address; an IPv6 address stands here without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl FromStr for ServerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |why: &str| Err(format!("{why}; write it as https://192.168.1.10:6443 or https://name:6443"));
        let Some(rest) = text.strip_prefix("https://") else {
            return bad("a server's URL starts with https://");
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.is_empty() || rest.contains(['/', '?', '#', '@']) || rest.contains(char::is_whitespace) {
            return bad("a server's URL has a host and a port, and nothing else");
        }
        let (host, port) = if let Some(v6) = rest.strip_prefix('[') {
            let Some((host, after)) = v6.split_once(']') else {
                return bad("the [ has no ]");
            };
            if host.parse::<Ipv6Addr>().is_err() {
                return bad("between [ and ] stands an IPv6 address");
            }
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return bad("after ] comes a port or nothing"),
            }
        } else {
            match rest.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            }
        };
        let port = match port.map(str::parse::<u16>) {
            None => DEFAULT_PORT,
            Some(Ok(port)) if port > 0 => port,
            Some(_) => return bad("a port is a number from 1 to 65535"),
        };
        if !host.contains(':') && !is_host_name(host) {
            return bad("the host is neither a name nor an address");
        }
        Ok(ServerUrl { host: host.to_owned(), port })
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "https://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "https://{}:{}", self.host, self.port)
        }
    }
}

impl Serialize for ServerUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A DNS name as RFC 1123 has it (an IPv4 address passes too), in any case.
pub(crate) fn is_host_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && text.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

/// An address with a prefix length: an interface's own address, or a range whose host bits are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr {
    /// The address as written.
    pub address: IpAddr,
    /// Length of the network part in bits.
    pub prefix: u8,
}

impl Cidr {
    /// The mask as a number with the address's width in its low bits.
    fn mask(self) -> u128 {
        let width = self.width();
        let ones = u128::MAX >> (128 - u32::from(width));
        let host = u32::from(width - self.prefix);
        if host >= 128 { 0 } else { (ones >> host) << host }
    }

    fn width(self) -> u8 {
        if self.address.is_ipv4() { 32 } else { 128 }
    }

    /// Whether `address` lies in this range.
    pub fn contains(self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4()
            && number(self.address) & self.mask() == number(address) & self.mask()
    }

    /// Whether the two ranges share an address.
    pub fn overlaps(self, other: Cidr) -> bool {
        if self.prefix <= other.prefix { self.contains(other.address) } else { other.contains(self.address) }
    }

    /// Whether the host bits are zero, as they are in a range.
    pub fn is_network(self) -> bool {
        number(self.address) & !self.mask() & (u128::MAX >> (128 - u32::from(self.width()))) == 0
    }

    /// The `n`th address of the range (0 is the network's own), or `None` past its end.
    pub fn nth(self, n: u128) -> Option<IpAddr> {
        let address = (number(self.address) & self.mask()).checked_add(n)?;
        let address = match self.address {
            IpAddr::V4(_) => IpAddr::V4(u32::try_from(address).ok()?.into()),
            IpAddr::V6(_) => IpAddr::V6(address.into()),
        };
        self.contains(address).then_some(address)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => u128::from(u32::from(a)),
        IpAddr::V6(a) => u128::from(a),
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((address, prefix)) = text.split_once('/') else {
            return Err(format!("`{text}` has no prefix length; write {text}/24"));
        };
        let address: IpAddr = address.parse().map_err(|_| format!("`{address}` is no IP address"))?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        match prefix.parse::<u8>() {
            Ok(prefix) if prefix <= width => Ok(Cidr { address, prefix }),
            _ => Err(format!("the prefix length `{prefix}` is no number from 0 to {width}")),
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Which interfaces a `[[network.interface]]` row is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InterfaceMatch {
    /// The kernel's name, exactly.
    Name(String),
    /// The kernel's name up to a trailing `*`.
    Prefix(String),
    /// The hardware address.
    Mac([u8; 6]),
}

impl InterfaceMatch {
    /// Whether an interface of this kernel name and hardware address is meant.
    pub fn matches(&self, name: &str, mac: Option<[u8; 6]>) -> bool {
        match self {
            InterfaceMatch::Name(n) => n == name,
            InterfaceMatch::Prefix(p) => name.starts_with(p.as_str()),
            InterfaceMatch::Mac(m) => mac == Some(*m),
        }
    }
}

impl FromStr for InterfaceMatch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(mac) = parse_mac(text) {
            return Ok(InterfaceMatch::Mac(mac));
        }
        let name = text.strip_suffix('*').unwrap_or(text);
        let fits = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | ':' | '*');
        if name.len() > 15 || !name.chars().all(fits) || text.is_empty() {
            return Err(format!(
                "`{text}` is neither an interface's name (eth0, en*) nor a MAC address (dc:a6:32:01:02:03)"
            ));
        }
        Ok(if name.len() < text.len() {
            InterfaceMatch::Prefix(name.to_owned())
        } else {
            InterfaceMatch::Name(name.to_owned())
        })
    }
}

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next().filter(|p| p.len() == 2)?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

impl fmt::Display for InterfaceMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InterfaceMatch::Name(n) => f.write_str(n),
            InterfaceMatch::Prefix(p) => write!(f, "{p}*"),
            InterfaceMatch::Mac(m) => {
                write!(f, "{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", m[0], m[1], m[2], m[3], m[4], m[5])
            }
        }
    }
}

impl Serialize for InterfaceMatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_urls_are_read_with_names_addresses_and_default_port() {
        for (text, host, port, shown) in [
            ("https://10.0.2.2:6443", "10.0.2.2", 6443, "https://10.0.2.2:6443"),
            ("https://pi-1.local", "pi-1.local", 6443, "https://pi-1.local:6443"),
            ("https://[fd00::1]:7443/", "fd00::1", 7443, "https://[fd00::1]:7443"),
        ] {
            let url: ServerUrl = text.parse().unwrap();
            assert_eq!((url.host.as_str(), url.port), (host, port));
            assert_eq!(url.to_string(), shown);
        }
        for text in [
            "http://a:1",
            "https://",
            "https://a:0",
            "https://a:b",
            "https://a/b",
            "https://u@a",
            "https://[::1",
            "https://a_b",
        ] {
            assert!(text.parse::<ServerUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn ranges_know_what_they_hold() {
        let range: Cidr = "10.42.0.0/16".parse().unwrap();
        assert!(range.is_network() && range.contains("10.42.255.1".parse().unwrap()));
        assert!(!range.contains("10.43.0.0".parse().unwrap()));
        assert_eq!(range.nth(1), Some("10.42.0.1".parse().unwrap()));
        assert_eq!(range.nth(65536), None);
        assert!(range.overlaps("10.0.0.0/8".parse().unwrap()));
        assert!(!range.overlaps("10.43.0.0/16".parse().unwrap()));
        let all: Cidr = "::/0".parse().unwrap();
        assert!(all.is_network() && all.contains("fe80::1".parse().unwrap()));
        assert!(!"192.168.1.3/24".parse::<Cidr>().unwrap().is_network());
        assert!("1.2.3.4/33".parse::<Cidr>().is_err());
    }

    #[test]
    fn an_interface_matches_by_name_prefix_or_mac() {
        let by = |t: &str| t.parse::<InterfaceMatch>().unwrap();
        assert!(by("eth0").matches("eth0", None) && !by("eth0").matches("eth01", None));
        assert!(by("en*").matches("enp1s0", None));
        assert!(by("DC:A6:32:01:02:03").matches("x", Some([0xdc, 0xa6, 0x32, 1, 2, 3])));
        assert_eq!(by("DC:A6:32:01:02:03").to_string(), "dc:a6:32:01:02:03");
        assert!("a/b".parse::<InterfaceMatch>().is_err());
        assert!("".parse::<InterfaceMatch>().is_err());
    }
}
