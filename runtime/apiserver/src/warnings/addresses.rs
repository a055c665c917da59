//! Addresses and networks in other forms than the one that everybody reads alike.

use std::net::{IpAddr, Ipv6Addr};

use kiln_apimachinery::net::{self, Cidr};

/// An address that is written in an odd way.
pub(super) fn address(path: &str, text: &str) -> Option<String> {
    let plain = net::parse_ip_loosely(text)?;
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_none() => canonical(path, "address", text, &v6.to_string()),
        Ok(IpAddr::V4(_)) => None,
        _ => Some(format!("{path}: non-standard IP address {text:?} is invalid: use \"{}\"", plain.to_canonical())),
    }
}

fn canonical(path: &str, what: &str, text: &str, good: &str) -> Option<String> {
    (text != good).then(|| format!("{path}: IPv6 {what} {text:?} should be in RFC 5952 canonical format ({good:?})"))
}

/// A network that is written in an odd way or may be meant as an address.
pub(super) fn network(path: &str, text: &str) -> Vec<String> {
    let Some(network) = Cidr::parse_loosely(text) else { return Vec::new() };
    let shown = |n: Cidr| format!("{}/{}", n.address(), n.bits());
    let (masked, whole) = (network.masked(), if network.is_v6() { 128 } else { 32 });
    let mut out = Vec::new();
    if masked.address() != network.address() {
        out.push(format!(
            "{path}: CIDR value {text:?} is ambiguous in this context (should be \"{}\" or \"{}/{whole}\"?)",
            shown(masked),
            network.address()
        ));
    }
    let (address, bits) = text.split_once('/').unwrap_or((text, ""));
    let strict = bits.bytes().all(|b| b.is_ascii_digit()) && (bits == "0" || !bits.starts_with('0'));
    let mapped = address.parse::<Ipv6Addr>().is_ok_and(|a| a.to_ipv4_mapped().is_some());
    match address.parse::<IpAddr>().ok().filter(|_| strict && !mapped) {
        None => out.push(format!("{path}: non-standard CIDR value {text:?} is invalid: use \"{}\"", shown(masked))),
        Some(IpAddr::V6(v6)) if out.is_empty() => {
            out.extend(canonical(path, "CIDR value", text, &format!("{v6}/{bits}")))
        }
        Some(_) => {}
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_that_programs_read_differently() {
        assert_eq!(address("p", "10.0.0.1"), None);
        assert_eq!(address("p", "fd00::1"), None);
        assert_eq!(
            address("p", "010.0.0.1").unwrap(),
            "p: non-standard IP address \"010.0.0.1\" is invalid: use \"10.0.0.1\""
        );
        assert_eq!(
            address("p", "::ffff:10.0.0.1").unwrap(),
            "p: non-standard IP address \"::ffff:10.0.0.1\" is invalid: use \"10.0.0.1\""
        );
        assert_eq!(
            address("p", "FD00:0::1").unwrap(),
            "p: IPv6 address \"FD00:0::1\" should be in RFC 5952 canonical format (\"fd00::1\")"
        );
        assert_eq!(address("p", "none"), None);
    }

    #[test]
    fn networks_are_told_that_may_be_addresses() {
        assert!(network("p", "10.0.0.0/8").is_empty());
        assert_eq!(
            network("p", "10.0.0.1/8"),
            [
                "p: CIDR value \"10.0.0.1/8\" is ambiguous in this context (should be \"10.0.0.0/8\" or \"10.0.0.1/32\"?)"
            ]
        );
        assert_eq!(
            network("p", "010.0.0.0/8"),
            ["p: non-standard CIDR value \"010.0.0.0/8\" is invalid: use \"10.0.0.0/8\""]
        );
        assert_eq!(
            network("p", "FD00::/64"),
            ["p: IPv6 CIDR value \"FD00::/64\" should be in RFC 5952 canonical format (\"fd00::/64\")"]
        );
    }
}
