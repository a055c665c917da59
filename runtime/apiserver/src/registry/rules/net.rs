//! Ports, addresses and networks.

use std::net::IpAddr;

use kiln_apimachinery::FieldError;
use kiln_apimachinery::net::{Cidr, is_mapped, parse_ip_loosely};
use kiln_apimachinery::path::Path;
use serde_json::Value;

use super::Errors;

/// Protocols of ports.
pub(crate) const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];

const PORT: &str = "must be between 1 and 65535, inclusive";

/// A port's number.
pub(crate) fn port(path: &Path<'_>, number: i64, errors: &mut Errors) {
    if !(1..=65535).contains(&number) {
        errors.push(FieldError::invalid(path, &number.into(), PORT));
    }
}

/// What is wrong with the name of a port.
pub(crate) fn port_name(name: &str) -> Vec<String> {
    let mut out = Vec::new();
    if name.len() > 15 {
        out.push("must be no more than 15 bytes".to_owned());
    }
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        out.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !name.bytes().any(|b| b.is_ascii_lowercase()) {
        out.push("must contain at least one letter (a-z)".into());
    }
    if name.contains("--") {
        out.push("must not contain consecutive hyphens".into());
    }
    if name.starts_with('-') || name.ends_with('-') {
        out.push("must not begin or end with a hyphen".into());
    }
    out
}

/// A port's number or name.
pub(crate) fn port_or_name(path: &Path<'_>, value: Option<&Value>, errors: &mut Errors) {
    match value {
        Some(Value::String(name)) => {
            errors
                .extend(port_name(name).into_iter().map(|why| FieldError::invalid(path, &name.as_str().into(), &why)));
        }
        other => port(path, other.and_then(Value::as_i64).unwrap_or(0), errors),
    }
}

/// An address in a field that is older than strictness: what `old` has may stay.
pub(crate) fn ip(path: &Path<'_>, value: &str, old: &[&str], errors: &mut Errors) -> Option<IpAddr> {
    let address = parse_ip_loosely(value);
    if old.contains(&value) {
        return address;
    }
    let mut complain = |why: &str| errors.push(FieldError::invalid(path, &value.into(), why));
    let Some(address) = address else {
        complain("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
        return None;
    };
    if value.parse::<IpAddr>().is_err() {
        complain("must not have leading 0s");
        return None;
    }
    if is_mapped(address) {
        complain("must not be an IPv4-mapped IPv6 address");
        return None;
    }
    Some(address)
}

/// An address in a field that always was strict: written as it would be shown.
pub(crate) fn canonical_ip(path: &Path<'_>, value: &str, errors: &mut Errors) -> Option<IpAddr> {
    let address = ip(path, value, &[], errors)?;
    if address.to_string() != value {
        let why = format!("must be in canonical form (\"{address}\")");
        errors.push(FieldError::invalid(path, &value.into(), &why));
        return None;
    }
    Some(address)
}

/// A network in a field that is older than strictness: what `old` has may stay.
pub(crate) fn cidr(path: &Path<'_>, value: &str, old: &[&str], errors: &mut Errors) -> Option<Cidr> {
    let network = Cidr::parse_loosely(value);
    if old.contains(&value) {
        return network;
    }
    let mut complain = |why: &str| errors.push(FieldError::invalid(path, &value.into(), why));
    let Some(network) = network else {
        complain("must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
        return None;
    };
    if value.parse::<Cidr>().is_err() {
        complain("must not have leading 0s in IP or prefix length");
        return None;
    }
    if is_mapped(network.address()) {
        complain("must not have an IPv4-mapped IPv6 address");
        return None;
    }
    if network.masked() != network {
        complain("must not have bits set beyond the prefix length");
        return None;
    }
    Some(network)
}

/// A network in a field that always was strict.
pub(crate) fn canonical_cidr(path: &Path<'_>, value: &str, errors: &mut Errors) -> Option<Cidr> {
    let network = cidr(path, value, &[], errors)?;
    if network.to_string() != value {
        let why = format!("must be in canonical form (\"{network}\")");
        errors.push(FieldError::invalid(path, &value.into(), &why));
        return None;
    }
    Some(network)
}

/// An address that traffic can be sent to from elsewhere.
pub(crate) fn endpoint_ip(path: &Path<'_>, value: &str, errors: &mut Errors) {
    let mut complain = |why: &str| errors.push(FieldError::invalid(path, &value.into(), why));
    let Some(address) = parse_ip_loosely(value) else {
        complain("must be a valid IP address");
        return;
    };
    let (local, multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments()[0] & 0xff0f == 0xff02),
    };
    if address.is_unspecified() {
        complain(&format!("may not be unspecified ({value})"));
    }
    if address.is_loopback() {
        complain("may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    if local {
        complain("may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if multicast {
        complain("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_refused_with_the_rule_that_they_break() {
        let why = |value: &str| {
            let mut errors = Vec::new();
            canonical_ip(&Path::new("ip"), value, &mut errors);
            errors.first().map(FieldError::body).unwrap_or_default()
        };
        assert_eq!(why("10.0.0.1"), "");
        assert_eq!(why("10.0.0.01"), "Invalid value: \"10.0.0.01\": must not have leading 0s");
        assert_eq!(why("::ffff:1.2.3.4"), "Invalid value: \"::ffff:1.2.3.4\": must not be an IPv4-mapped IPv6 address");
        assert_eq!(why("FD00::1"), "Invalid value: \"FD00::1\": must be in canonical form (\"fd00::1\")");
        assert!(why("x").ends_with("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"));
    }

    #[test]
    fn what_was_stored_before_may_stay() {
        let mut errors = Vec::new();
        ip(&Path::new("ip"), "010.0.0.1", &["010.0.0.1"], &mut errors);
        cidr(&Path::new("c"), "10.0.0.1/8", &["10.0.0.1/8"], &mut errors);
        assert_eq!(errors, []);
        cidr(&Path::new("c"), "10.0.0.1/8", &[], &mut errors);
        assert_eq!(errors[0].body(), "Invalid value: \"10.0.0.1/8\": must not have bits set beyond the prefix length");
    }

    #[test]
    fn special_addresses_are_no_endpoints() {
        for bad in ["0.0.0.0", "127.0.0.1", "169.254.1.1", "224.0.0.5", "::", "fe80::1", "ff02::1"] {
            let mut errors = Vec::new();
            endpoint_ip(&Path::new("ip"), bad, &mut errors);
            assert_eq!(errors.len(), 1, "{bad}");
        }
    }
}
