//! A node as the others see it: its ranges of pod addresses, and what it tells about its end of the overlay by annotations.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Map, Value, json};

use super::Backend;
use crate::cidr::Cidr;
use crate::rtnetlink::Mac;
use crate::wireguard::PublicKey;

/// The kind of way that leads to the node.
pub(super) const BACKEND: &str = "kiln.dev/backend-type";
/// What is to be known beyond that: a VXLAN's hardware address, or the public key of WireGuard.
pub(super) const DATA: &str = "kiln.dev/backend-data";
/// The address that the node is reached at.
pub(super) const PUBLIC: [&str; 2] = ["kiln.dev/public-ip", "kiln.dev/public-ipv6"];
/// Set by people, where the node is reached at another address than it knows.
const OVERWRITE: [&str; 2] = ["kiln.dev/public-ip-overwrite", "kiln.dev/public-ipv6-overwrite"];

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Peer {
    /// The Node's name.
    pub(super) name: String,
    /// When it came into the cluster.
    pub(super) created: Option<Time>,
    /// Ranges of its pods' addresses.
    pub(super) cidrs: Vec<Cidr>,
    /// The kind of way that it offers; none if it has not told yet.
    pub(super) backend: Option<Backend>,
    /// Where it is reached: over IPv4 and over IPv6.
    pub(super) public: [Option<IpAddr>; 2],
    /// The hardware address of its VXLAN interfaces.
    pub(super) mac: Option<Mac>,
    /// The public key of its WireGuard interface.
    pub(super) key: Option<PublicKey>,
}

impl Peer {
    /// Reads a Node. What cannot be read is as if it were not there.
    pub(super) fn of(node: &Node) -> Self {
        let spec = node.spec.as_ref();
        let cidrs = spec.and_then(|spec| spec.pod_cidrs.as_deref()).unwrap_or_default();
        let annotation = |name: &str| node.metadata.annotations.as_ref()?.get(name).map(String::as_str);
        let data: Value = annotation(DATA).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let public = |at: usize| {
            let address = annotation(OVERWRITE[at]).or_else(|| annotation(PUBLIC[at]))?.parse::<IpAddr>().ok()?;
            (address.is_ipv4() == (at == 0)).then_some(address)
        };
        Self {
            name: node.metadata.name.clone().unwrap_or_default(),
            created: node.metadata.creation_timestamp.clone(),
            cidrs: cidrs.iter().filter_map(|cidr| cidr.parse().ok()).collect(),
            backend: annotation(BACKEND).and_then(|text| text.parse().ok()),
            public: [public(0), public(1)],
            mac: data["vtepMAC"].as_str().and_then(|text| text.parse().ok()),
            key: data["publicKey"].as_str().and_then(|text| text.parse().ok()),
        }
    }

    /// Whether this node was there before another one: what both want is this one's.
    pub(super) fn is_before(&self, other: &Self) -> bool {
        (&self.created, &self.name) < (&other.created, &other.name)
    }

    /// The annotations by which others know this end.
    pub(super) fn annotations(&self) -> Map<String, Value> {
        let mut annotations = Map::new();
        let backend = self.backend.map_or(Value::Null, |backend| backend.to_string().into());
        annotations.insert(BACKEND.to_owned(), backend);
        let vxlan = self.mac.map(|mac| json!({"vni": super::VNI, "vtepMAC": mac.to_string()}));
        let data = vxlan.or_else(|| self.key.map(|key| json!({"publicKey": key.to_string()})));
        annotations.insert(DATA.to_owned(), data.map_or(Value::Null, |data| data.to_string().into()));
        for (name, address) in PUBLIC.iter().zip(&self.public) {
            annotations.insert((*name).to_owned(), address.map_or(Value::Null, |address| address.to_string().into()));
        }
        annotations
    }
}

/// The hardware address of a node's VXLAN interfaces: made of its name, so that it is the same after each start. It only has to
/// differ from those of the cluster's other nodes.
pub(super) fn mac_of(name: &str) -> Mac {
    // FNV-1a.
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let [a, b, c, d, e, f, ..] = (hash ^ (hash >> 48)).to_le_bytes();
    // Locally administered, and of one station.
    Mac([a & 0xfc | 2, b, c, d, e, f])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_announces_is_what_the_others_read() {
        let own = Peer {
            name: "pi".to_owned(),
            created: None,
            cidrs: vec!["10.42.3.0/24".parse().expect("a range")],
            backend: Some(Backend::Vxlan),
            public: ["192.168.1.7".parse().ok(), "fd00::7".parse().ok()],
            mac: Some(mac_of("pi")),
            key: None,
        };
        let wireguard =
            Peer { backend: Some(Backend::WireGuard), mac: None, key: Some(PublicKey([7; 32])), ..own.clone() };
        let node = |annotations: Value| -> Node {
            let node = json!({
                "metadata": {"name": "pi", "annotations": annotations},
                "spec": {"podCIDRs": ["10.42.3.0/24", "nonsense"]},
            });
            serde_json::from_value(node).expect("a Node")
        };
        let mut annotations = Value::Object(own.annotations());
        assert_eq!(Peer::of(&node(annotations.clone())), own);
        assert_eq!(Peer::of(&node(Value::Object(wireguard.annotations()))), wireguard);
        annotations["kiln.dev/public-ip-overwrite"] = "203.0.113.7".into();
        assert_eq!(Peer::of(&node(annotations)).public[0], "203.0.113.7".parse().ok());
        let nonsense = json!({BACKEND: "?", DATA: "{", PUBLIC[0]: "fd00::1", PUBLIC[1]: "10.0.0.1"});
        let read = Peer::of(&node(nonsense));
        assert_eq!((read.backend, read.public, read.mac), (None, [None, None], None));
    }

    #[test]
    fn hardware_addresses_of_nodes_differ_and_are_for_local_use() {
        let macs: std::collections::BTreeSet<_> = (0..5000).map(|number| mac_of(&format!("node-{number}"))).collect();
        assert_eq!(macs.len(), 5000);
        assert!(macs.iter().all(|mac| mac.0[0] & 3 == 2));
    }
}
