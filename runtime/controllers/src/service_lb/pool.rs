//! A pool of addresses for load balancers, which nodes announce on their network.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use kiln_client::ObjectRef;

/// The most addresses of one range that are looked through for a free one.
const MOST: u128 = 1 << 16;

/// Ranges of addresses: written as `192.168.1.240-192.168.1.250` or `fd00::100/120`, with commas between several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pool {
    ranges: Vec<(IpAddr, IpAddr)>,
}

/// A text that is no pool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no range of addresses; write it like 192.168.1.240-192.168.1.250 or 192.168.1.240/29")]
pub struct PoolError(String);

impl Pool {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|(first, last)| {
            first.is_ipv4() == address.is_ipv4() && bits(*first) <= bits(address) && bits(address) <= bits(*last)
        })
    }

    /// The first address of a family that is not taken.
    fn free(&self, v4: bool, taken: &BTreeSet<IpAddr>) -> Option<IpAddr> {
        let ranges = self.ranges.iter().filter(|(first, _)| first.is_ipv4() == v4);
        ranges.into_iter().find_map(|(first, last)| {
            let length = (bits(*last) - bits(*first)).min(MOST);
            (0..=length).map(|at| address(bits(*first) + at, v4)).find(|address| !taken.contains(address))
        })
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn address(bits: u128, v4: bool) -> IpAddr {
    if v4 {
        // The range's ends are of 32 bits.
        Ipv4Addr::from_bits(u32::try_from(bits).unwrap_or(u32::MAX)).into()
    } else {
        Ipv6Addr::from_bits(bits).into()
    }
}

impl FromStr for Pool {
    type Err = PoolError;

    fn from_str(text: &str) -> Result<Self, PoolError> {
        let range = |text: &str| -> Option<(IpAddr, IpAddr)> {
            let (first, last) = if let Some((first, last)) = text.split_once('-') {
                (first.trim().parse::<IpAddr>().ok()?, last.trim().parse::<IpAddr>().ok()?)
            } else {
                let (first, prefix) = text.split_once('/').unwrap_or((text, ""));
                let first: IpAddr = first.parse().ok()?;
                let length: u8 = if first.is_ipv4() { 32 } else { 128 };
                let prefix = if prefix.is_empty() { length } else { prefix.parse().ok()? };
                let rest = (1u128.checked_shl(length.checked_sub(prefix)?.into())).map_or(u128::MAX, |size| size - 1);
                (address(bits(first) & !rest, first.is_ipv4()), address(bits(first) | rest, first.is_ipv4()))
            };
            (first.is_ipv4() == last.is_ipv4() && bits(first) <= bits(last)).then_some((first, last))
        };
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let ranges = parts.map(|part| range(part).ok_or_else(|| PoolError(part.to_owned())));
        Ok(Self { ranges: ranges.collect::<Result<_, _>>()? })
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.ranges.iter().enumerate() {
            write!(f, "{}{first}-{last}", if at > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

/// Who has which addresses.
#[derive(Debug, Default)]
pub(super) struct Given {
    by: BTreeMap<ObjectRef, BTreeSet<IpAddr>>,
}

impl Given {
    /// Notes what a Service has, of the pool.
    pub(super) fn take(&mut self, service: &ObjectRef, addresses: BTreeSet<IpAddr>) {
        if addresses.is_empty() {
            self.by.remove(service);
        } else {
            self.by.insert(service.clone(), addresses);
        }
    }

    /// Notes what a Service has if nothing is known of it yet.
    pub(super) fn note(&mut self, service: &ObjectRef, has: impl FnOnce() -> BTreeSet<IpAddr>) {
        if !self.by.contains_key(service) {
            self.take(service, has());
        }
    }

    /// Addresses for a Service, one of each of these families (IPv4 or not): what it has and what it wishes for before others.
    ///
    /// # Errors
    /// Why there are none.
    pub(super) fn give(
        &mut self,
        pool: &Pool,
        service: &ObjectRef,
        families: &[bool],
        wishes: &[IpAddr],
    ) -> Result<BTreeSet<IpAddr>, String> {
        let own = self.by.get(service).cloned().unwrap_or_default();
        let taken: BTreeSet<IpAddr> =
            self.by.iter().filter(|(other, _)| *other != service).flat_map(|(_, all)| all).copied().collect();
        let mut given = BTreeSet::new();
        for &v4 in families {
            let wish = wishes.iter().copied().find(|wish| wish.is_ipv4() == v4);
            let found = match wish {
                Some(wish) if !pool.contains(wish) => {
                    return Err(format!("{wish} is not in the pool of load balancers"));
                }
                Some(wish) if taken.contains(&wish) => return Err(format!("{wish} is another Service's")),
                Some(wish) => Some(wish),
                None => {
                    let kept = own.iter().copied().find(|one| one.is_ipv4() == v4 && pool.contains(*one));
                    kept.filter(|one| !taken.contains(one)).or_else(|| pool.free(v4, &taken))
                }
            };
            given.extend(found);
        }
        if given.is_empty() {
            return Err("no address is left in the pool of load balancers".to_owned());
        }
        self.take(service, given.clone());
        Ok(given)
    }
}

/// Which of the nodes announces an address: the one that does already, or else one by a hash, so that addresses are spread and few move
/// when nodes come and go.
pub(super) fn announcer<'a>(nodes: &[&'a str], address: IpAddr, current: Option<&str>) -> Option<&'a str> {
    if let Some(same) = nodes.iter().find(|node| Some(**node) == current) {
        return Some(same);
    }
    let rank = |node: &&&str| {
        let mut hasher = DefaultHasher::new();
        (address, **node).hash(&mut hasher);
        hasher.finish()
    };
    nodes.iter().max_by_key(rank).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn pools_are_read_as_people_write_them() {
        let pool: Pool = "192.168.1.240-192.168.1.242, 10.0.0.8/31,fd00::10/124".parse().expect("a pool");
        assert_eq!(pool.to_string(), "192.168.1.240-192.168.1.242,10.0.0.8-10.0.0.9,fd00::10-fd00::1f");
        assert_eq!(pool.to_string().parse(), Ok(pool.clone()));
        for (address, is_in) in [
            ("192.168.1.240", true),
            ("192.168.1.242", true),
            ("192.168.1.243", false),
            ("10.0.0.9", true),
            ("fd00::1f", true),
            ("fd00::20", false),
        ] {
            assert_eq!(pool.contains(ip(address)), is_in, "{address}");
        }
        for text in ["x", "10.0.0.2-10.0.0.1", "10.0.0.1-fd00::1", "10.0.0.0/33"] {
            assert!(text.parse::<Pool>().is_err(), "{text}");
        }
        assert!("".parse::<Pool>().is_ok_and(|pool| pool.is_empty()));
    }

    #[test]
    fn each_service_has_an_address_of_its_own_and_keeps_it() {
        let pool: Pool = "10.0.0.1-10.0.0.2,fd00::1".parse().expect("a pool");
        let service = |name: &str| ObjectRef::namespaced("ns", name);
        let mut given = Given::default();
        let give = |given: &mut Given, name: &str, families: &[bool], wishes: &[IpAddr]| {
            given
                .give(&pool, &service(name), families, wishes)
                .map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(give(&mut given, "b", &[true], &[ip("10.0.0.1")]).as_deref(), Ok(&["10.0.0.1".to_owned()][..]));
        assert_eq!(
            give(&mut given, "a", &[true, false], &[]).map(|all| all.join(" ")).as_deref(),
            Ok("10.0.0.2 fd00::1")
        );
        assert_eq!(
            give(&mut given, "a", &[true, false], &[]).map(|all| all.join(" ")).as_deref(),
            Ok("10.0.0.2 fd00::1")
        );
        assert!(give(&mut given, "c", &[true], &[]).is_err_and(|why| why.contains("no address is left")));
        assert!(give(&mut given, "c", &[true], &[ip("10.0.0.2")]).is_err_and(|why| why.contains("another Service's")));
        assert!(give(&mut given, "c", &[true], &[ip("10.0.0.3")]).is_err_and(|why| why.contains("not in the pool")));
        given.take(&service("b"), BTreeSet::new());
        assert_eq!(give(&mut given, "c", &[true], &[]).map(|all| all.join(" ")).as_deref(), Ok("10.0.0.1"));
    }

    #[test]
    fn one_node_announces_an_address_for_as_long_as_it_can() {
        let address = ip("10.0.0.1");
        let first = announcer(&["a", "b", "c"], address, None).expect("a node");
        assert_eq!(announcer(&["a", "b", "c"], address, Some("b")), Some("b"));
        let others: Vec<&str> = ["a", "b", "c"].into_iter().filter(|node| *node != first).collect();
        let second = announcer(&others, address, Some(first)).expect("a node");
        assert_ne!(second, first);
        assert_eq!(announcer(&[], address, Some("a")), None);
        let spread: BTreeSet<_> =
            (1..=50).filter_map(|last| announcer(&["a", "b", "c"], IpAddr::from([10, 0, 0, last]), None)).collect();
        assert_eq!(spread.len(), 3);
    }
}
