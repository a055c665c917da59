//! The one form that subsets of an Endpoints object are written in.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset};

/// What makes two addresses the same one: the IP and the uid of whom it leads to.
type AddressKey = (String, String);
type PortKey = (Option<String>, Option<String>, i32, Option<String>);

/// No port at all: kept, since a headless Service may have none.
const NO_PORT: i32 = -1;

/// Puts subsets into their one form: addresses that have the same ports are together, none is listed twice, and one that is
/// not ready in any of them is not ready. In order.
pub(crate) fn repack(subsets: &[EndpointSubset]) -> Vec<EndpointSubset> {
    let mut addresses = HashMap::<AddressKey, EndpointAddress>::new();
    let mut by_port = BTreeMap::<PortKey, BTreeMap<AddressKey, bool>>::new();
    for subset in subsets {
        let mut ports: Vec<PortKey> = subset.ports.iter().flatten().map(port_key).collect();
        if ports.is_empty() {
            ports.push((None, None, NO_PORT, None));
        }
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let unready = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
        for (address, ready) in ready.chain(unready) {
            let key = address_key(address);
            addresses.entry(key.clone()).or_insert_with(|| address.clone());
            for port in &ports {
                let known = by_port.entry(port.clone()).or_default().entry(key.clone()).or_insert(ready);
                *known &= ready;
            }
        }
    }
    let mut by_addresses = BTreeMap::<BTreeMap<AddressKey, bool>, Vec<EndpointPort>>::new();
    for (port, set) in by_port {
        let ports = by_addresses.entry(set).or_default();
        if port.2 != NO_PORT {
            let (name, protocol, port, app_protocol) = port;
            ports.push(EndpointPort { name, protocol, port, app_protocol });
        }
    }
    let subset = |(set, ports): (BTreeMap<AddressKey, bool>, Vec<EndpointPort>)| {
        let of = |ready: bool| -> Option<Vec<EndpointAddress>> {
            let keys = set.iter().filter(|(_, is_ready)| **is_ready == ready);
            let found: Vec<_> = keys.filter_map(|(key, _)| addresses.get(key).cloned()).collect();
            (!found.is_empty()).then_some(found)
        };
        let ports = (!ports.is_empty()).then_some(ports);
        EndpointSubset { addresses: of(true), not_ready_addresses: of(false), ports }
    };
    by_addresses.into_iter().map(subset).collect()
}

fn address_key(address: &EndpointAddress) -> AddressKey {
    let uid = address.target_ref.as_ref().and_then(|target| target.uid.clone());
    (address.ip.clone(), uid.unwrap_or_default())
}

fn port_key(port: &EndpointPort) -> PortKey {
    (port.name.clone(), port.protocol.clone(), port.port, port.app_protocol.clone())
}

/// The most addresses that are written.
pub(super) const MAX_ADDRESSES: usize = 1000;

/// Leaves out what is too much: first addresses that are not ready, of each subset by its share. Answers whether any was.
pub(super) fn truncate(subsets: &mut [EndpointSubset]) -> bool {
    let len = |addresses: &Option<Vec<EndpointAddress>>| addresses.as_ref().map_or(0, Vec::len);
    let ready: usize = subsets.iter().map(|subset| len(&subset.addresses)).sum();
    let unready: usize = subsets.iter().map(|subset| len(&subset.not_ready_addresses)).sum();
    if ready + unready <= MAX_ADDRESSES {
        return false;
    }
    let cut_ready = ready > MAX_ADDRESSES;
    let (room, total) = if cut_ready { (MAX_ADDRESSES, ready) } else { (MAX_ADDRESSES - ready, unready) };
    let mut left = room;
    for subset in subsets {
        let list = if cut_ready { &mut subset.addresses } else { &mut subset.not_ready_addresses };
        let share = (len(list) * room).div_ceil(total).min(left);
        if let Some(list) = list {
            list.truncate(share);
            left -= list.len();
        }
        if cut_ready {
            subset.not_ready_addresses = None;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subset(ready: &[&str], unready: &[&str], ports: &[i32]) -> EndpointSubset {
        let addresses = |ips: &[&str]| {
            let list: Vec<_> =
                ips.iter().map(|ip| EndpointAddress { ip: (*ip).to_owned(), ..EndpointAddress::default() }).collect();
            (!list.is_empty()).then_some(list)
        };
        let ports: Vec<_> = ports.iter().map(|port| EndpointPort { port: *port, ..EndpointPort::default() }).collect();
        EndpointSubset {
            addresses: addresses(ready),
            not_ready_addresses: addresses(unready),
            ports: (!ports.is_empty()).then_some(ports),
        }
    }

    #[test]
    fn addresses_with_the_same_ports_are_put_together() {
        let cases = [
            (
                vec![subset(&["1.2.3.4"], &[], &[111]), subset(&["1.2.3.4"], &[], &[222])],
                vec![subset(&["1.2.3.4"], &[], &[111, 222])],
            ),
            (
                vec![subset(&["1.2.3.4"], &[], &[111]), subset(&["5.6.7.8"], &[], &[111])],
                vec![subset(&["1.2.3.4", "5.6.7.8"], &[], &[111])],
            ),
            (
                vec![subset(&["1.2.3.4"], &[], &[111]), subset(&["5.6.7.8"], &[], &[222])],
                vec![subset(&["1.2.3.4"], &[], &[111]), subset(&["5.6.7.8"], &[], &[222])],
            ),
            (vec![subset(&["1.2.3.4"], &["1.2.3.4"], &[111])], vec![subset(&[], &["1.2.3.4"], &[111])]),
            (
                vec![subset(&["1.2.3.4"], &[], &[]), subset(&["1.2.3.5"], &[], &[])],
                vec![subset(&["1.2.3.4", "1.2.3.5"], &[], &[])],
            ),
            (vec![subset(&[], &[], &[111])], vec![]),
        ];
        for (given, wanted) in cases {
            assert_eq!(repack(&given), wanted, "{given:?}");
        }
    }

    #[test]
    fn more_than_a_thousand_addresses_are_cut_the_unready_first() {
        let ips = |from: usize, count: usize| -> Vec<String> {
            (from..from + count).map(|n| format!("10.0.{}.{}", n / 250, n % 250)).collect()
        };
        let count = |subset: &EndpointSubset| {
            (subset.addresses.as_ref().map_or(0, Vec::len), subset.not_ready_addresses.as_ref().map_or(0, Vec::len))
        };
        // (ready, unready) of two subsets, before and after.
        let cases = [
            ([(500, 100), (100, 100)], [(500, 100), (100, 100)], false),
            ([(500, 400), (300, 100)], [(500, 160), (300, 40)], true),
            ([(900, 50), (300, 50)], [(750, 0), (250, 0)], true),
        ];
        for (before, after, cut) in cases {
            let mut subsets: Vec<_> = before
                .iter()
                .map(|(ready, unready)| {
                    let (ready, unready) = (ips(0, *ready), ips(1000, *unready));
                    let refs = |list: &[String]| list.iter().map(String::as_str).map(str::to_owned).collect::<Vec<_>>();
                    let (ready, unready) = (refs(&ready), refs(&unready));
                    subset(
                        &ready.iter().map(String::as_str).collect::<Vec<_>>(),
                        &unready.iter().map(String::as_str).collect::<Vec<_>>(),
                        &[80],
                    )
                })
                .collect();
            assert_eq!(truncate(&mut subsets), cut);
            assert_eq!(subsets.iter().map(count).collect::<Vec<_>>(), after);
        }
    }
}
