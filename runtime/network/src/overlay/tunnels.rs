//! This node's end of WireGuard: gives the interface its key and the other nodes as peers.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::rtnetlink::NetlinkError;
use crate::wireguard::{Device, PrivateKey, PublicKey, Tunnel, WireGuard};

/// The UDP port of WireGuard, flannel's and everybody's.
pub(super) const PORT: u16 = 51820;
/// Each so many seconds something is sent, so that routers in between go on knowing the way back.
const KEEPALIVE: u16 = 25;

/// The end, and what the kernel was told of others.
#[derive(Debug)]
pub(super) struct Tunnels {
    private: PrivateKey,
    /// What others know it by, once the kernel has computed it.
    public: Option<PublicKey>,
    /// Where peers were said to be. The kernel follows one that is heard from elsewhere, and must not be called back each time.
    told: BTreeMap<PublicKey, SocketAddr>,
}

/// What differs from the plan.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    stale: Vec<PublicKey>,
    wanted: Vec<PublicKey>,
}

impl Tunnels {
    pub(super) fn new(private: PrivateKey) -> Self {
        Self { private, public: None, told: BTreeMap::new() }
    }

    /// The key by which others know this node's end, if it has one.
    pub(super) fn public(&self) -> Option<PublicKey> {
        self.public
    }

    /// Changes the interface of this number to have these peers.
    ///
    /// # Errors
    /// The first thing that the kernel refused; another try goes on from there.
    pub(super) fn apply(&mut self, link: u32, wanted: &BTreeMap<PublicKey, Tunnel>) -> Result<(), NetlinkError> {
        let mut kernel = WireGuard::open()?;
        let mut device = kernel.device(link)?;
        if device.port != PORT || device.keys.as_ref().is_none_or(|(private, _)| *private != self.private) {
            kernel.set_device(link, &self.private, PORT)?;
            device = kernel.device(link)?;
        }
        let changes = changes(&device, wanted, &self.told);
        // First those that go: what was theirs may be another's now.
        for key in &changes.stale {
            kernel.remove_peer(link, key)?;
            self.told.remove(key);
        }
        for key in &changes.wanted {
            let Some(tunnel) = wanted.get(key) else { continue };
            kernel.set_peer(link, key, tunnel, KEEPALIVE)?;
            self.told.insert(*key, tunnel.endpoint);
        }
        self.public = device.keys.map(|(_, public)| public);
        Ok(())
    }
}

fn changes(device: &Device, wanted: &BTreeMap<PublicKey, Tunnel>, told: &BTreeMap<PublicKey, SocketAddr>) -> Changes {
    let is_right = |key: &PublicKey, tunnel: &Tunnel| {
        device.peers.get(key) == Some(&tunnel.allowed) && told.get(key) == Some(&tunnel.endpoint)
    };
    Changes {
        stale: device.peers.keys().filter(|key| !wanted.contains_key(key)).copied().collect(),
        wanted: wanted.iter().filter(|(key, tunnel)| !is_right(key, tunnel)).map(|(key, _)| *key).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_peers_that_differ_are_touched() {
        let key = |number: u8| PublicKey([number; 32]);
        let tunnel = |endpoint: &str, range: &str| Tunnel {
            endpoint: endpoint.parse().expect("an endpoint"),
            allowed: [range.parse().expect("a range")].into(),
        };
        let wanted = BTreeMap::from([
            (key(1), tunnel("192.168.1.1:51820", "10.42.1.0/24")),
            (key(2), tunnel("192.168.1.2:51820", "10.42.2.0/24")),
            (key(3), tunnel("192.168.1.3:51820", "10.42.3.0/24")),
            (key(4), tunnel("[fd00::4]:51820", "10.42.4.0/24")),
        ]);
        let at = |number: u8| (key(number), wanted[&key(number)].endpoint);
        // As it is; moved; with another range; not there; gone.
        let mut device = Device::default();
        for (number, range) in [(1, "10.42.1.0/24"), (2, "10.42.2.0/24"), (3, "10.42.30.0/24"), (9, "10.42.4.0/24")] {
            device.peers.insert(key(number), [range.parse().expect("a range")].into());
        }
        let moved = (key(2), "192.168.1.77:51820".parse().expect("an endpoint"));
        let told = BTreeMap::from([at(1), moved, at(3), at(4)]);
        let expected = Changes { stale: vec![key(9)], wanted: vec![key(2), key(3), key(4)] };
        assert_eq!(changes(&device, &wanted, &told), expected);
        // A new start tells all of them again, since nobody knows what was told.
        assert_eq!(changes(&device, &wanted, &BTreeMap::new()).wanted.len(), 4);
    }
}
