//! Which networks are taken, and by whom.

use std::collections::BTreeMap;

use crate::Cidr;

/// Bits of a node's IPv4 network that are fixed: a /24 has addresses for the 110 pods of a node twice over.
const NODE_PREFIX: u8 = 24;
/// Bits of a node's IPv6 network that are fixed.
const NODE_PREFIX_V6: u8 = 64;

/// The networks of a cluster, of one family.
pub(super) struct Pool {
    cluster: Cidr,
    taken: BTreeMap<String, Cidr>,
}

impl Pool {
    pub(super) fn new(cluster: Cidr) -> Self {
        Self { cluster, taken: BTreeMap::new() }
    }

    /// Notes the network that a node has, if it is of the pool's family.
    pub(super) fn take(&mut self, node: &str, network: Cidr) {
        if network.is_ipv4() == self.cluster.is_ipv4() {
            self.taken.insert(node.to_owned(), network);
        }
    }

    pub(super) fn release(&mut self, node: &str) {
        self.taken.remove(node);
    }

    /// The node's network, or the first free one, which is taken for it.
    pub(super) fn allocate(&mut self, node: &str) -> Option<Cidr> {
        if let Some(network) = self.taken.get(node) {
            return Some(*network);
        }
        let prefix = if self.cluster.is_ipv4() { NODE_PREFIX } else { NODE_PREFIX_V6 };
        let all = (0..self.cluster.count(prefix)).map(|index| self.cluster.part(prefix, index));
        let free = all.into_iter().find(|network| self.taken.values().all(|taken| !taken.overlaps(*network)))?;
        self.take(node, free);
        Some(free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_free_network_is_given_and_kept() {
        let mut pool = Pool::new("10.42.0.0/22".parse().expect("a network"));
        pool.take("old", "10.42.1.0/24".parse().expect("a network"));
        pool.take("old", "fd00::/64".parse().expect("a network"));
        let mut given = |node: &str| pool.allocate(node).map(|network| network.to_string());
        assert_eq!(given("a").as_deref(), Some("10.42.0.0/24"));
        assert_eq!(given("b").as_deref(), Some("10.42.2.0/24"));
        assert_eq!(given("a").as_deref(), Some("10.42.0.0/24"));
        assert_eq!(given("c").as_deref(), Some("10.42.3.0/24"));
        assert_eq!(given("d"), None);
        pool.release("b");
        assert_eq!(pool.allocate("d").map(|network| network.to_string()).as_deref(), Some("10.42.2.0/24"));
    }

    #[test]
    fn a_node_gets_64_bits_of_an_ipv6_range() {
        let mut pool = Pool::new("fd00:42::/56".parse().expect("a network"));
        pool.take("old", "fd00:42::/64".parse().expect("a network"));
        assert_eq!(pool.allocate("a").map(|network| network.to_string()).as_deref(), Some("fd00:42:0:1::/64"));
    }
}
