//! Which networks are taken, and by whom.

use std::collections::BTreeMap;

use crate::Ipv4Cidr;

/// Bits of a node's network that are fixed: a /24 has addresses for the 110 pods of a node twice over.
const NODE_PREFIX: u8 = 24;

/// The networks of a cluster.
pub(super) struct Pool {
    cluster: Ipv4Cidr,
    taken: BTreeMap<String, Ipv4Cidr>,
}

impl Pool {
    pub(super) fn new(cluster: Ipv4Cidr) -> Self {
        Self { cluster, taken: BTreeMap::new() }
    }

    /// Notes the network that a node has.
    pub(super) fn take(&mut self, node: &str, network: Ipv4Cidr) {
        self.taken.insert(node.to_owned(), network);
    }

    pub(super) fn release(&mut self, node: &str) {
        self.taken.remove(node);
    }

    /// The node's network, or the first free one, which is taken for it.
    pub(super) fn allocate(&mut self, node: &str) -> Option<Ipv4Cidr> {
        if let Some(network) = self.taken.get(node) {
            return Some(*network);
        }
        let all = (0..self.cluster.count(NODE_PREFIX)).map(|index| self.cluster.part(NODE_PREFIX, index));
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
        let mut given = |node: &str| pool.allocate(node).map(|network| network.to_string());
        assert_eq!(given("a").as_deref(), Some("10.42.0.0/24"));
        assert_eq!(given("b").as_deref(), Some("10.42.2.0/24"));
        assert_eq!(given("a").as_deref(), Some("10.42.0.0/24"));
        assert_eq!(given("c").as_deref(), Some("10.42.3.0/24"));
        assert_eq!(given("d"), None);
        pool.release("b");
        assert_eq!(pool.allocate("d").map(|network| network.to_string()).as_deref(), Some("10.42.2.0/24"));
    }
}
