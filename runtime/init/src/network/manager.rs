//! The network thread: one poll over link events and DHCP sockets, one table of interfaces.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use kiln_node_config::{Interface, Method, Network};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket, sockopt,
};

use super::dhcp::client::{Action, Client, Lease};
use super::dhcp::packet::Incoming;
use super::netlink::{LINK_GROUP, Link, Netlink};
use super::resolv;
use super::status::{LinkStatus, NetworkStatus};
use crate::console::say;
use crate::error::{Error, Result};
use crate::sys::uptime;

const CLIENT_PORT: u16 = 68;
const SERVER_PORT: u16 = 67;
/// After a failure that is not about one interface.
const RETRY: Duration = Duration::from_secs(5);
/// Routes of an interface get this plus its index, so that the first interface's default route counts.
const METRIC: u32 = 100;

/// How an interface gets its address.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Plan {
    Loopback,
    Dhcp {
        dns: Vec<IpAddr>,
    },
    Static {
        address: IpAddr,
        prefix: u8,
        gateway: Option<IpAddr>,
        dns: Vec<IpAddr>,
    },
}

/// An interface in our care.
#[derive(Debug)]
struct Managed {
    link: Link,
    plan: Plan,
    dhcp: Option<(Client, UdpSocket)>,
    /// Address on the interface.
    address: Option<(IpAddr, u8)>,
    failure: Option<String>,
}

/// Runs for ever; comes back only when the thread must start over.
pub(super) fn run(config: &Network, host_name: &str, status: &NetworkStatus) {
    loop {
        let outcome =
            Manager::open(config, host_name, status).and_then(|mut manager| manager.follow());
        if let Err(error) = outcome {
            say!("network: {error}");
        }
        std::thread::sleep(RETRY);
    }
}

struct Manager<'a> {
    config: &'a Network,
    host_name: &'a str,
    status: &'a NetworkStatus,
    requests: Netlink,
    events: Netlink,
    links: BTreeMap<u32, Managed>,
    resolvers: Option<Vec<IpAddr>>,
}

impl<'a> Manager<'a> {
    fn open(config: &'a Network, host_name: &'a str, status: &'a NetworkStatus) -> Result<Self> {
        // Events first: what changes after the first dump must not be missed.
        let events = Netlink::open(LINK_GROUP)?;
        Ok(Self {
            config,
            host_name,
            status,
            requests: Netlink::open(0)?,
            events,
            links: BTreeMap::new(),
            resolvers: None,
        })
    }

    fn follow(&mut self) -> Result<()> {
        self.refresh()?;
        loop {
            self.tick();
            self.publish();
            let (link_event, packets) = self.wait();
            if link_event {
                self.events.discard_events();
                self.refresh()?;
            }
            for index in packets {
                self.receive(index);
            }
        }
    }

    /// Waits for the next event, packet or timer.
    fn wait(&self) -> (bool, Vec<u32>) {
        let now = uptime::now();
        let due = self
            .links
            .values()
            .filter_map(|l| l.dhcp.as_ref())
            .map(|(client, _)| client.due())
            .min();
        let timeout = due.map_or(PollTimeout::NONE, |due| {
            // Rounded up: a poll that wakes a fraction of a millisecond early would turn round in vain.
            PollTimeout::try_from(due.saturating_sub(now) + Duration::from_millis(1))
                .unwrap_or(PollTimeout::MAX)
        });
        let sockets: Vec<(u32, &UdpSocket)> = self
            .links
            .iter()
            .filter_map(|(index, l)| Some((*index, &l.dhcp.as_ref()?.1)))
            .collect();
        let mut fds = vec![PollFd::new(self.events.as_fd(), PollFlags::POLLIN)];
        fds.extend(
            sockets
                .iter()
                .map(|(_, socket)| PollFd::new(socket.as_fd(), PollFlags::POLLIN)),
        );
        if poll(&mut fds, timeout).is_err() {
            return (false, Vec::new());
        }
        let ready = |fd: &PollFd<'_>| fd.any().unwrap_or(false);
        let packets = sockets
            .iter()
            .zip(&fds[1..])
            .filter(|(_, fd)| ready(fd))
            .map(|((index, _), _)| *index)
            .collect();
        (ready(&fds[0]), packets)
    }

    /// Compares the kernel's links with our table.
    fn refresh(&mut self) -> Result<()> {
        let links = self.requests.links()?;
        self.links.retain(|index, managed| {
            let kept = links.iter().any(|l| l.index == *index);
            if !kept {
                say!("network: {} is gone", managed.link.name);
            }
            kept
        });
        for link in links {
            let index = link.index;
            match self.links.get_mut(&link.index) {
                Some(managed) => {
                    let restored = link.carrier && !managed.link.carrier;
                    managed.link = link;
                    if let (true, Some((client, _))) = (restored, &mut managed.dhcp) {
                        client.link_restored(uptime::now());
                    }
                }
                None => {
                    let Some(plan) = plan(self.config, &link) else {
                        continue;
                    };
                    self.links.insert(
                        index,
                        Managed {
                            link,
                            plan,
                            dhcp: None,
                            address: None,
                            failure: None,
                        },
                    );
                }
            }
            self.bring_up(index);
        }
        Ok(())
    }

    /// Does the next thing that the interface needs; a failure stays with the interface.
    fn bring_up(&mut self, index: u32) {
        let Some(managed) = self.links.get_mut(&index) else {
            return;
        };
        let outcome = bring_up(managed, &mut self.requests, self.host_name);
        note(managed, outcome);
    }

    fn tick(&mut self) {
        let now = uptime::now();
        for managed in self.links.values_mut() {
            if !managed.link.carrier {
                // Nobody would hear; the carrier's return wakes the client.
                if let Some((client, _)) = &mut managed.dhcp {
                    client.postpone(now + Duration::from_secs(3600));
                }
                continue;
            }
            let actions = managed
                .dhcp
                .as_mut()
                .map(|(client, _)| client.tick(now))
                .unwrap_or_default();
            perform(managed, &mut self.requests, actions);
        }
    }

    fn receive(&mut self, index: u32) {
        let Some(managed) = self.links.get_mut(&index) else {
            return;
        };
        let mut buffer = [0u8; 2048];
        let mut actions = Vec::new();
        if let Some((client, socket)) = &mut managed.dhcp {
            while let Ok(length) = socket.recv(&mut buffer) {
                if let Some(packet) = Incoming::decode(&buffer[..length]) {
                    actions.extend(client.receive(packet, uptime::now()));
                }
            }
        }
        perform(managed, &mut self.requests, actions);
    }

    /// Makes the present state known.
    fn publish(&mut self) {
        let leases = || {
            self.links
                .values()
                .filter_map(|l| l.dhcp.as_ref()?.0.lease())
        };
        let time_servers = leases().flat_map(|l| l.ntp.iter().copied()).collect();
        let resolvers: Vec<IpAddr> = self.links.values().flat_map(resolvers).collect();
        let links = self
            .links
            .values()
            .filter_map(|l| Some((l.link.name.clone(), link_status(l)?)))
            .collect();
        if self.resolvers.as_ref() != Some(&resolvers) {
            match resolv::write(&resolvers) {
                Ok(()) => self.resolvers = Some(resolvers),
                Err(error) => say!("network: {error}"),
            }
        }
        self.status.set(links, time_servers);
    }
}

/// What node.toml (or its silence) means for a link; `None`: not ours.
fn plan(config: &Network, link: &Link) -> Option<Plan> {
    if link.loopback {
        return Some(Plan::Loopback);
    }
    if config.interface.is_empty() {
        // Bridges, veths and tunnels are Ethernet by type too, but have no device behind them.
        let real = link.ethernet
            && std::path::Path::new("/sys/class/net")
                .join(&link.name)
                .join("device")
                .exists();
        return real.then(|| Plan::Dhcp { dns: Vec::new() });
    }
    from_row(config.for_interface(&link.name, link.mac)?)
}

fn from_row(row: &Interface) -> Option<Plan> {
    match (row.method, row.address) {
        (Method::Dhcp, _) => Some(Plan::Dhcp {
            dns: row.dns.clone(),
        }),
        (Method::Static, Some(cidr)) => Some(Plan::Static {
            address: cidr.address,
            prefix: cidr.prefix,
            gateway: row.gateway,
            dns: row.dns.clone(),
        }),
        // node-config lets no static row without an address through.
        (Method::Static, None) | (Method::None, _) => None,
    }
}

fn bring_up(managed: &mut Managed, requests: &mut Netlink, host_name: &str) -> Result<()> {
    let (index, name) = (managed.link.index, managed.link.name.clone());
    if !managed.link.up {
        if managed.plan != Plan::Loopback {
            accept_router_advertisements(&name);
        }
        requests.set_up(index, &name, None)?;
        managed.link.up = true;
    }
    match &managed.plan {
        Plan::Loopback => {}
        Plan::Dhcp { .. } => {
            if let (None, Some(mac)) = (&managed.dhcp, managed.link.mac) {
                let client =
                    Client::new(mac, host_name, crate::random::u64() as u32, uptime::now());
                managed.dhcp = Some((client, dhcp_socket(&name)?));
            }
        }
        Plan::Static {
            address,
            prefix,
            gateway,
            ..
        } => {
            if managed.address.is_none() {
                requests.add_address(index, *address, *prefix)?;
                if let Some(gateway) = gateway {
                    let any = if gateway.is_ipv4() {
                        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
                    } else {
                        IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED)
                    };
                    requests.add_route(index, any, 0, *gateway, METRIC + index)?;
                }
                managed.address = Some((*address, *prefix));
                say!("network: {name} has {address}/{prefix}");
            }
        }
    }
    Ok(())
}

/// 2: also once the node forwards packets for its pods.
fn accept_router_advertisements(name: &str) {
    // A kernel without IPv6 has no such file, and nothing to accept.
    let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/accept_ra"), "2");
}

fn perform(managed: &mut Managed, requests: &mut Netlink, actions: Vec<Action>) {
    for action in actions {
        let outcome = match action {
            Action::Send(packet, server) => send(managed, &packet, server),
            Action::Configure(lease) => configure(managed, requests, &lease),
            Action::Deconfigure => deconfigure(managed, requests),
        };
        note(managed, outcome);
    }
}

fn send(managed: &Managed, packet: &[u8], server: Option<Ipv4Addr>) -> Result<()> {
    let Some((_, socket)) = &managed.dhcp else {
        return Ok(());
    };
    let to = SocketAddrV4::new(server.unwrap_or(Ipv4Addr::BROADCAST), SERVER_PORT);
    socket
        .send_to(packet, to)
        .map(|_| ())
        .map_err(|e| Error::io("send DHCP packets on", &managed.link.name, e))
}

fn configure(managed: &mut Managed, requests: &mut Netlink, lease: &Lease) -> Result<()> {
    let (index, name) = (managed.link.index, managed.link.name.clone());
    let new = (IpAddr::V4(lease.address), lease.prefix);
    if managed.address.is_some_and(|old| old != new) {
        deconfigure(managed, requests)?;
    }
    if lease.mtu.is_some() {
        requests.set_up(index, &name, lease.mtu)?;
    }
    requests.add_address(index, new.0, new.1)?;
    managed.address = Some(new);
    say!(
        "network: {name} has {}/{} from {}",
        lease.address,
        lease.prefix,
        lease.server
    );
    // Routes on the link come first, since others may go through them.
    let mut routes = lease.routes.clone();
    routes.sort_by_key(|(_, _, gateway)| !gateway.is_unspecified());
    for (destination, prefix, gateway) in routes {
        requests.add_route(
            index,
            IpAddr::V4(destination),
            prefix,
            IpAddr::V4(gateway),
            METRIC + index,
        )?;
    }
    Ok(())
}

/// Takes the address off; the kernel drops its routes with it.
fn deconfigure(managed: &mut Managed, requests: &mut Netlink) -> Result<()> {
    let Some((address, prefix)) = managed.address.take() else {
        return Ok(());
    };
    say!("network: {} loses {address}/{prefix}", managed.link.name);
    requests.remove_address(managed.link.index, address, prefix)
}

/// Keeps a failure with its interface and prints it once.
fn note(managed: &mut Managed, outcome: Result<()>) {
    let failure = outcome.err().map(|e| e.to_string());
    if let Some(text) = failure
        .as_ref()
        .filter(|text| managed.failure.as_ref() != Some(*text))
    {
        say!("network: {text}");
    }
    managed.failure = failure;
}

fn resolvers(managed: &Managed) -> Vec<IpAddr> {
    let mut servers = match &managed.plan {
        Plan::Loopback => Vec::new(),
        Plan::Dhcp { dns } | Plan::Static { dns, .. } => dns.clone(),
    };
    if let Some(lease) = managed.dhcp.as_ref().and_then(|(client, _)| client.lease()) {
        servers.extend(lease.dns.iter().copied().map(IpAddr::V4));
    }
    servers
}

fn link_status(managed: &Managed) -> Option<LinkStatus> {
    if managed.plan == Plan::Loopback {
        return None;
    }
    Some(match (&managed.address, &managed.failure) {
        (_, Some(failure)) => LinkStatus::Failed(failure.clone()),
        (_, None) if !managed.link.carrier => LinkStatus::NoCarrier,
        (Some((address, prefix)), None) => LinkStatus::Configured(format!("{address}/{prefix}")),
        (None, None) => LinkStatus::Asking,
    })
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
        kiln_node_config::NodeConfig::parse(&text, "node.toml")
            .expect("valid")
            .network
    }

    #[test]
    fn a_row_decides_and_an_unnamed_interface_is_left_alone() {
        let network = config(
            "[[network.interface]]\nmatch = \"eth0\"\nmethod = \"static\"\naddress = \"192.168.7.3/24\"\ngateway = \"192.168.7.1\"\n",
        );
        let Some(Plan::Static {
            address,
            prefix,
            gateway,
            ..
        }) = plan(&network, &link("eth0"))
        else {
            panic!("static")
        };
        assert_eq!(
            (address.to_string(), prefix, gateway.map(|g| g.to_string())),
            ("192.168.7.3".into(), 24, Some("192.168.7.1".into()))
        );
        assert_eq!(plan(&network, &link("eth1")), None);
    }

    #[test]
    fn without_rows_only_real_devices_are_ours() {
        assert_eq!(plan(&Network::default(), &link("no-such-device0")), None);
        assert_eq!(
            plan(
                &Network::default(),
                &Link {
                    loopback: true,
                    ..link("lo")
                }
            ),
            Some(Plan::Loopback)
        );
    }
}
