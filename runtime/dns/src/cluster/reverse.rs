//! Names of addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::services::{cluster_ips, ready};
use super::{Cluster, Found, SERVICE_NAME, TTL};
use crate::wire::{Name, Record, kind};

impl Cluster {
    /// Whose an address is: a Service's, or else those Services' endpoint that it is. An answer costs a walk over all of them;
    /// it is asked for seldom and kept, where an index would cost memory on every node.
    pub(super) fn reverse(&self, name: &Name, address: IpAddr) -> Found {
        if !(self.services.is_synced() && self.slices.is_synced()) {
            return Found::Unknown;
        }
        let text = address.to_string();
        let record = |labels: &[&str]| Some(Record::name(name, kind::PTR, TTL, &self.name(labels)?));
        for service in self.services.list() {
            let is = |ip: &&str| **ip == text || ip.parse() == Ok(address);
            if cluster_ips(&service).iter().any(is) {
                let labels = [of(&service.metadata.name), of(&service.metadata.namespace), "svc"];
                return self.have(record(&labels).into_iter().collect(), Vec::new());
            }
        }
        let mut records = Vec::new();
        for slice in self.slices.list() {
            let Some(service) = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME)) else {
                continue;
            };
            let hosts = ready(&slice).filter(|(_, candidate)| *candidate == address);
            for (host, _) in hosts {
                records.extend(record(&[&host, service, of(&slice.metadata.namespace), "svc"]));
            }
        }
        records.dedup();
        if records.is_empty() { Found::NotHere } else { self.have(records, Vec::new()) }
    }
}

fn of(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or_default()
}

/// The address whose name it is, in `in-addr.arpa` or `ip6.arpa`.
pub(crate) fn address(name: &Name) -> Option<IpAddr> {
    let labels: Vec<&str> = name.labels().map(std::str::from_utf8).collect::<Result<_, _>>().ok()?;
    match labels.as_slice() {
        [octets @ .., "in-addr", "arpa"] if octets.len() == 4 => {
            let octets: Vec<u8> = octets.iter().rev().map(|octet| octet.parse().ok()).collect::<Option<_>>()?;
            Some(Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?).into())
        }
        [nibbles @ .., "ip6", "arpa"] if nibbles.len() == 32 => {
            let digits =
                nibbles.iter().rev().map(|nibble| Some(nibble).filter(|n| n.len() == 1)?.chars().next()?.to_digit(16));
            let bits = digits.into_iter().try_fold(0u128, |bits, digit| Some(bits << 4 | u128::from(digit?)))?;
            Some(Ipv6Addr::from(bits).into())
        }
        _ => None,
    }
}
