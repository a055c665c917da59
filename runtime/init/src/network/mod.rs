//! The network: every interface that node.toml means is brought up and gets an address, by DHCPv4 or from the file;
//! IPv6 router advertisements stay on. A thread follows cables and adapters as they come and go; boot goes on as soon
//! as one interface has an address.
//!
//! Flows in: node.toml's `[network]`, link events, DHCP packets. Flows out: addresses and routes (netlink),
//! `/run/resolv.conf`, [`status::NetworkStatus`]. The cluster service watches addresses by itself.

pub(crate) mod dhcp;
mod interface;
mod manager;
mod netlink;
mod resolv;
pub(crate) mod status;

use std::sync::Arc;

use kiln_node_config::Network;

use crate::error::Result;
use status::NetworkStatus;

/// Starts the network thread.
pub(crate) fn start(config: Network, host_name: String, status: Arc<NetworkStatus>) -> Result<()> {
    crate::thread::spawn("network", move || manager::run(&config, &host_name, &status))
}
