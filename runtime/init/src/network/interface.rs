//! One interface: what node.toml means for it, and the next thing that it needs.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use kiln_node_config::{Cidr, Interface, Method, Network, PerFamily};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket, sockopt};

use super::dhcp::client::{Action, Client, Lease};
use super::dhcp::packet::Incoming;
use super::netlink::{Link, Netlink};
use super::status::LinkStatus;
use crate::console::say;
use crate::error::{Error, Result};
use crate::sys::uptime;

const CLIENT_PORT: u16 = 68;
const SERVER_PORT: u16 = 67;
/// Routes of an interface get this plus its index, so that the first interface's default route counts.
const METRIC: u32 = 100;

/// How an interface gets its address.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Plan {
    Loopback,
    Dhcp { dns: Vec<IpAddr> },
    Static { addresses: PerFamily<Cidr>, gateways: Option<PerFamily<IpAddr>>, dns: Vec<IpAddr> },
}

/// An interface in our care.
#[derive(Debug)]
pub(super) struct Managed {
    link: Link,
    plan: Plan,
    dhcp: Option<(Client, UdpSocket)>,
    /// Addresses on the interface.
    addresses: Vec<Cidr>,
    failure: Option<String>,
}

impl Managed {
    /// Takes a link into care; `None` if node.toml does not mean it.
    pub(super) fn new(config: &Network, link: Link) -> Option<Self> {
        let plan = plan(config, &link)?;
        Some(Self { link, plan, dhcp: None, addresses: Vec::new(), failure: None })
    }

    /// The interface's name.
    pub(super) fn name(&self) -> &str {
        &self.link.name
    }

    /// The lease in use and the socket on which its server speaks.
    pub(super) fn dhcp(&self) -> Option<&(Client, UdpSocket)> {
        self.dhcp.as_ref()
    }

    /// Takes the kernel's news of the link.
    pub(super) fn update(&mut self, link: Link) {
        let restored = link.carrier && !self.link.carrier;
        self.link = link;
        if let (true, Some((client, _))) = (restored, &mut self.dhcp) {
            client.link_restored(uptime::now());
        }
    }

    /// Does the next thing that the interface needs; a failure stays with it.
    pub(super) fn bring_up(&mut self, requests: &mut Netlink, host_name: &str) {
        let outcome = self.try_bring_up(requests, host_name);
        self.note(outcome);
    }

    /// Does what DHCP has to do at `now`.
    pub(super) fn tick(&mut self, requests: &mut Netlink, now: Duration) {
        let Some((client, _)) = &mut self.dhcp else {
            return;
        };
        if !self.link.carrier {
            // Nobody would hear; the carrier's return wakes the client.
            client.postpone(now + Duration::from_secs(3600));
            return;
        }
        let actions = client.tick(now);
        self.perform(requests, actions);
    }

    /// Takes the packets that have come in.
    pub(super) fn receive(&mut self, requests: &mut Netlink) {
        let mut buffer = [0u8; 2048];
        let mut actions = Vec::new();
        if let Some((client, socket)) = &mut self.dhcp {
            while let Ok(length) = socket.recv(&mut buffer) {
                if let Some(packet) = Incoming::decode(&buffer[..length]) {
                    actions.extend(client.receive(packet, uptime::now()));
                }
            }
        }
        self.perform(requests, actions);
    }

    fn try_bring_up(&mut self, requests: &mut Netlink, host_name: &str) -> Result<()> {
        let (index, name) = (self.link.index, self.link.name.clone());
        if !self.link.up {
            if self.plan != Plan::Loopback {
                accept_router_advertisements(&name);
            }
            requests.set_up(index, &name, None)?;
            self.link.up = true;
        }
        match &self.plan {
            Plan::Loopback => {}
            Plan::Dhcp { .. } => {
                if let (None, Some(mac)) = (&self.dhcp, self.link.mac) {
                    let client = Client::new(mac, host_name, crate::random::u64() as u32, uptime::now());
                    self.dhcp = Some((client, dhcp_socket(&name)?));
                }
            }
            Plan::Static { addresses, gateways, .. } => {
                if self.addresses.is_empty() {
                    for address in addresses.iter() {
                        requests.add_address(index, address.address, address.prefix)?;
                    }
                    for gateway in gateways.iter().copied().flat_map(PerFamily::iter) {
                        let any = if gateway.is_ipv4() {
                            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
                        } else {
                            IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED)
                        };
                        requests.add_route(index, any, 0, gateway, METRIC + index)?;
                    }
                    self.addresses = addresses.iter().collect();
                    say!("network: {name} has {addresses}");
                }
            }
        }
        Ok(())
    }

    fn perform(&mut self, requests: &mut Netlink, actions: Vec<Action>) {
        for action in actions {
            let outcome = match action {
                Action::Send(packet, server) => self.send(&packet, server),
                Action::Configure(lease) => self.configure(requests, &lease),
                Action::Deconfigure => self.deconfigure(requests),
            };
            self.note(outcome);
        }
    }

    fn send(&self, packet: &[u8], server: Option<Ipv4Addr>) -> Result<()> {
        let Some((_, socket)) = &self.dhcp else {
            return Ok(());
        };
        let to = SocketAddrV4::new(server.unwrap_or(Ipv4Addr::BROADCAST), SERVER_PORT);
        socket.send_to(packet, to).map(|_| ()).map_err(|e| Error::io("send DHCP packets on", &self.link.name, e))
    }

    fn configure(&mut self, requests: &mut Netlink, lease: &Lease) -> Result<()> {
        let (index, name) = (self.link.index, self.link.name.clone());
        let new = Cidr { address: IpAddr::V4(lease.address), prefix: lease.prefix };
        if self.addresses.iter().any(|old| *old != new) {
            self.deconfigure(requests)?;
        }
        if lease.mtu.is_some() {
            requests.set_up(index, &name, lease.mtu)?;
        }
        requests.add_address(index, new.address, new.prefix)?;
        self.addresses = vec![new];
        say!("network: {name} has {new} from {}", lease.server);
        // Routes on the link come first, since others may go through them.
        let mut routes = lease.routes.clone();
        routes.sort_by_key(|(_, _, gateway)| !gateway.is_unspecified());
        for (destination, prefix, gateway) in routes {
            requests.add_route(index, IpAddr::V4(destination), prefix, IpAddr::V4(gateway), METRIC + index)?;
        }
        Ok(())
    }

    /// Takes the addresses off; the kernel drops their routes with them.
    fn deconfigure(&mut self, requests: &mut Netlink) -> Result<()> {
        for old in std::mem::take(&mut self.addresses) {
            say!("network: {} loses {old}", self.link.name);
            requests.remove_address(self.link.index, old.address, old.prefix)?;
        }
        Ok(())
    }

    /// Keeps a failure with its interface and prints it once.
    fn note(&mut self, outcome: Result<()>) {
        let failure = outcome.err().map(|e| e.to_string());
        if let Some(text) = failure.as_ref().filter(|text| self.failure.as_ref() != Some(*text)) {
            say!("network: {text}");
        }
        self.failure = failure;
    }

    /// Name servers: those of node.toml first.
    pub(super) fn resolvers(&self) -> Vec<IpAddr> {
        let mut servers = match &self.plan {
            Plan::Loopback => Vec::new(),
            Plan::Dhcp { dns } | Plan::Static { dns, .. } => dns.clone(),
        };
        if let Some(lease) = self.dhcp.as_ref().and_then(|(client, _)| client.lease()) {
            servers.extend(lease.dns.iter().copied().map(IpAddr::V4));
        }
        servers
    }

    /// What people and the boot may know; nothing about the loopback.
    pub(super) fn status(&self) -> Option<LinkStatus> {
        if self.plan == Plan::Loopback {
            return None;
        }
        let addresses: Vec<String> = self.addresses.iter().map(Cidr::to_string).collect();
        Some(match &self.failure {
            Some(failure) => LinkStatus::Failed(failure.clone()),
            None if !self.link.carrier => LinkStatus::NoCarrier,
            None if addresses.is_empty() => LinkStatus::Asking,
            None => LinkStatus::Configured(addresses.join(", ")),
        })
    }
}

/// What node.toml (or its silence) means for a link; `None`: not ours.
fn plan(config: &Network, link: &Link) -> Option<Plan> {
    if link.loopback {
        return Some(Plan::Loopback);
    }
    if config.interface.is_empty() {
        // Bridges, veths and tunnels are Ethernet by type too, but have no device behind them.
        let real = link.ethernet && std::path::Path::new("/sys/class/net").join(&link.name).join("device").exists();
        return real.then(|| Plan::Dhcp { dns: Vec::new() });
    }
    from_row(config.for_interface(&link.name, link.mac)?)
}

fn from_row(row: &Interface) -> Option<Plan> {
    match (row.method, row.address) {
        (Method::Dhcp, _) => Some(Plan::Dhcp { dns: row.dns.clone() }),
        (Method::Static, Some(addresses)) => {
            Some(Plan::Static { addresses, gateways: row.gateway, dns: row.dns.clone() })
        }
        // node-config lets no static row without an address through.
        (Method::Static, None) | (Method::None, _) => None,
    }
}

/// 2: also once the node forwards packets for its pods.
fn accept_router_advertisements(name: &str) {
    // A kernel without IPv6 has no such file, and nothing to accept.
    let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/accept_ra"), "2");
}

/// A socket that speaks and hears on one interface only, and may broadcast before there is an address.
fn dhcp_socket(interface: &str) -> Result<UdpSocket> {
    let failed = |e| Error::sys("open a DHCP socket on", interface, e);
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Inet, SockType::Datagram, flags, None).map_err(failed)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true).map_err(failed)?;
    setsockopt(&fd, sockopt::Broadcast, &true).map_err(failed)?;
    setsockopt(&fd, sockopt::BindToDevice, &interface.into()).map_err(failed)?;
    bind(fd.as_raw_fd(), &SockaddrIn::new(0, 0, 0, 0, CLIENT_PORT)).map_err(failed)?;
    Ok(UdpSocket::from(fd))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str) -> Link {
        Link {
            index: 2,
            name: name.into(),
            mac: Some([2, 0, 0, 0, 0, 1]),
            ethernet: true,
            loopback: false,
            up: false,
            carrier: false,
        }
    }

    fn config(rows: &str) -> Network {
        let text = format!("version = 1\n[node]\nname = \"n\"\nrole = \"server\"\n{rows}");
        kiln_node_config::NodeConfig::parse(&text, "node.toml").expect("valid").network
    }

    #[test]
    fn a_row_decides_and_an_unnamed_interface_is_left_alone() {
        let network = config(
            "[[network.interface]]\nmatch = \"eth0\"\nmethod = \"static\"\naddress = [\"192.168.7.3/24\", \"fd00::3/64\"]\ngateway = \"192.168.7.1\"\n",
        );
        let Some(Plan::Static { addresses, gateways, .. }) = plan(&network, &link("eth0")) else { panic!("static") };
        assert_eq!(
            (addresses.to_string(), gateways.map(|g| g.to_string())),
            ("192.168.7.3/24,fd00::3/64".into(), Some("192.168.7.1".into()))
        );
        assert_eq!(plan(&network, &link("eth1")), None);
    }

    #[test]
    fn without_rows_only_real_devices_are_ours() {
        assert_eq!(plan(&Network::default(), &link("no-such-device0")), None);
        assert_eq!(plan(&Network::default(), &Link { loopback: true, ..link("lo") }), Some(Plan::Loopback));
    }
}
