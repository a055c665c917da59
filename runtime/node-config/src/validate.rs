//! Rules for single values, for this file and for flags that stand for its keys. Every error says what would be right.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use serde::Serialize;

use crate::net::is_host_name;
use crate::{Cidr, PerFamily};

/// A node's name: RFC 1123 subdomain in lower case, at most 63 characters, since it is also the host name.
///
/// # Errors
/// What would be right.
pub fn node_name(text: &str) -> Result<String, String> {
    if !is_host_name(text) || text.len() > 63 || text.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(format!(
            "`{text}` is no node name; use up to 63 of a-z, 0-9, - and ., with a letter or digit at each end"
        ));
    }
    Ok(text.to_owned())
}

/// A host name or address.
pub(crate) fn host(text: &str) -> Result<String, String> {
    if is_host_name(text) || text.parse::<IpAddr>().is_ok() {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is neither a host name nor an address"))
    }
}

/// A certificate's alternative name: as [`host`], or a wildcard as `*.example.org`.
///
/// # Errors
/// What would be right.
pub fn san(text: &str) -> Result<String, String> {
    host(text.strip_prefix("*.").unwrap_or(text))
        .map(|_| text.to_owned())
        .map_err(|_| format!("`{text}` is neither a host name nor an address (no https:// and no port here)"))
}

/// The ways between the pods of different nodes, the default first; the one after WireGuard's is K3s' name for it.
pub const BACKENDS: [&str; 5] = ["vxlan", "host-gw", "wireguard", "wireguard-native", "none"];

/// One of [`BACKENDS`].
pub(crate) fn backend(text: &str) -> Result<String, String> {
    let is_known = BACKENDS.contains(&text);
    is_known.then(|| text.to_owned()).ok_or_else(|| format!("`{text}` is none of {}", BACKENDS.join(", ")))
}

/// An IP address.
pub(crate) fn ip(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("`{text}` is no IP address"))
}

/// A range for pods, of either family, and large enough for a node's /24 or /64. As in Kubernetes no more than 16 bits of an IPv6
/// range are there to tell nodes' parts apart.
///
/// # Errors
/// What would be right.
pub fn cluster_range(text: &str) -> Result<Cidr, String> {
    range(text, 8..=24, 48..=64)
}

/// A range for services, of either family.
///
/// # Errors
/// What would be right.
pub fn service_range(text: &str) -> Result<Cidr, String> {
    range(text, 8..=28, 64..=124)
}

/// Whether pods' and services' ranges go together.
///
/// # Errors
/// What would be right.
pub fn networks(pods: PerFamily<Cidr>, services: PerFamily<Cidr>) -> Result<(), String> {
    let overlap = pods.iter().find_map(|pods| {
        let services = services.like(&pods)?;
        pods.overlaps(services).then_some((pods, services))
    });
    if let Some((pods, services)) = overlap {
        return Err(format!("pods' {pods} and services' {services} overlap; choose two apart"));
    }
    match pods.like(&services.first()) {
        Some(_) => Ok(()),
        None => Err(format!("pods' {pods} and services' {services} are of different families; give both of one")),
    }
}

fn range(text: &str, v4: RangeInclusive<u8>, v6: RangeInclusive<u8>) -> Result<Cidr, String> {
    let range: Cidr = text.parse()?;
    let prefixes = if range.address.is_ipv4() { v4 } else { v6 };
    if !range.is_network() {
        let start = range.nth(0).unwrap_or(range.address);
        return Err(format!("`{text}` has bits set behind its prefix; write {start}/{}", range.prefix));
    }
    if !prefixes.contains(&range.prefix) {
        let (least, most) = (prefixes.start(), prefixes.end());
        return Err(format!("the prefix length is {}; take one from {least} to {most}", range.prefix));
    }
    Ok(range)
}

/// An interface's own address.
pub(crate) fn interface_address(text: &str) -> Result<Cidr, String> {
    let cidr: Cidr = text.parse()?;
    let host_bits = if cidr.address.is_ipv4() { 32 - cidr.prefix } else { 128 - cidr.prefix };
    if cidr.address.is_unspecified() || cidr.address.is_multicast() || cidr.address.is_loopback() {
        return Err(format!("`{}` can't be an interface's address", cidr.address));
    }
    if cidr.address.is_ipv4() && host_bits >= 2 && cidr.is_network() {
        return Err(format!("`{text}` is the network's own address; write the node's, with the prefix length"));
    }
    Ok(cidr)
}

/// A default gateway next to an interface's address.
pub(crate) fn gateway(address: Cidr, gateway: IpAddr) -> Result<(), String> {
    if address.address.is_ipv4() != gateway.is_ipv4() {
        return Err(format!("`{gateway}` and the address {address} are of different IP versions"));
    }
    let link_local = matches!(gateway, IpAddr::V6(a) if a.segments()[0] & 0xffc0 == 0xfe80);
    if gateway == address.address {
        return Err(format!("`{gateway}` is the interface's own address"));
    }
    if !link_local && !address.contains(gateway) {
        return Err(format!("`{gateway}` can't be reached from {address}; it must lie in the same network"));
    }
    Ok(())
}

/// What a node may say of itself below the prefixes that are Kubernetes' own, as the NodeRestriction admission has it.
const OWN_LABELS: [&str; 2] = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone"];

fn is_reserved(prefix: &str) -> bool {
    let within = |domain: &str| prefix.strip_suffix(domain).is_some_and(|p| p.is_empty() || p.ends_with('.'));
    let free = ["kubelet.kubernetes.io", "node.kubernetes.io"];
    (within("kubernetes.io") || within("k8s.io"))
        && !free.iter().any(|f| prefix == *f || prefix.ends_with(&format!(".{f}")))
}

/// A label's key: an optional DNS prefix and a name.
pub(crate) fn label_key(text: &str) -> Result<(), String> {
    let (prefix, name) = text.split_once('/').map_or((None, text), |(p, n)| (Some(p), n));
    if prefix.is_some_and(|p| !is_host_name(p) || p.chars().any(|c| c.is_ascii_uppercase())) {
        return Err("the part before / in a label's key is a DNS name in lower case, as example.org/zone".to_owned());
    }
    if prefix.is_some_and(|p| is_reserved(p) && !OWN_LABELS.contains(&text)) {
        return Err(
            "a node can't give itself this label, since workloads are placed by it; use a prefix of your own, or kubectl label"
                .to_owned(),
        );
    }
    if name.is_empty() || !is_label_text(name) {
        return Err(
            "a label's key is up to 63 of A-Z, a-z, 0-9, -, _ and ., with a letter or digit at each end".to_owned()
        );
    }
    Ok(())
}

/// A label as a flag has it: `KEY=VALUE`.
///
/// # Errors
/// What would be right.
pub fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is no label; write it as KEY=VALUE"))?;
    label_key(key)?;
    label_value(value)?;
    Ok((key.to_owned(), value.to_owned()))
}

/// A taint: what keeps pods away that do not tolerate it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value, or empty.
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

/// A taint as a flag has it: `KEY=VALUE:EFFECT` or `KEY:EFFECT`.
///
/// # Errors
/// What would be right.
pub fn taint(text: &str) -> Result<Taint, String> {
    let wrong = || {
        format!("`{text}` is no taint; write it as KEY=VALUE:EFFECT, with NoSchedule, PreferNoSchedule or NoExecute")
    };
    let (pair, effect) = text.rsplit_once(':').ok_or_else(wrong)?;
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    let name = key.rsplit_once('/').map_or(key, |(_, name)| name);
    let known = ["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect);
    if !known || name.is_empty() || !is_label_text(name) || !is_label_text(value) {
        return Err(wrong());
    }
    Ok(Taint { key: key.to_owned(), value: value.to_owned(), effect: effect.to_owned() })
}

/// A label's value.
pub(crate) fn label_value(text: &str) -> Result<(), String> {
    if is_label_text(text) {
        Ok(())
    } else {
        Err(format!(
            "`{text}` is no label value; use up to 63 of A-Z, a-z, 0-9, -, _ and ., with a letter or digit at each end"
        ))
    }
}

fn is_label_text(text: &str) -> bool {
    let ends = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && ends(text.chars().next())
        && ends(text.chars().next_back())
}
