//! The network thread: one poll over link events and DHCP sockets, one table of interfaces.

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use kiln_node_config::Network;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::interface::Managed;
use super::netlink::{LINK_GROUP, Netlink};
use super::resolv;
use super::status::NetworkStatus;
use crate::console::say;
use crate::error::Result;
use crate::sys::uptime;

/// After a failure that is not about one interface.
const RETRY: Duration = Duration::from_secs(5);

/// Runs for ever; comes back only when the thread must start over.
pub(super) fn run(config: &Network, host_name: &str, status: &NetworkStatus) {
    loop {
        let outcome = Manager::open(config, host_name, status).and_then(|mut manager| manager.follow());
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
        let clients = || self.links.iter().filter_map(|(index, link)| Some((*index, link.dhcp()?)));
        let due = clients().map(|(_, (client, _))| client.due()).min();
        let timeout = due.map_or(PollTimeout::NONE, |due| {
            // Rounded up: a poll that wakes a fraction of a millisecond early would turn round in vain.
            let patience = due.saturating_sub(now) + Duration::from_millis(1);
            PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX)
        });
        let sockets: Vec<(u32, &UdpSocket)> = clients().map(|(index, (_, socket))| (index, socket)).collect();
        let mut fds = vec![PollFd::new(self.events.as_fd(), PollFlags::POLLIN)];
        fds.extend(sockets.iter().map(|(_, socket)| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
        if poll(&mut fds, timeout).is_err() {
            return (false, Vec::new());
        }
        let ready = |fd: &PollFd<'_>| fd.any().unwrap_or(false);
        let packets = sockets.iter().zip(&fds[1..]).filter(|(_, fd)| ready(fd)).map(|((index, _), _)| *index).collect();
        (ready(&fds[0]), packets)
    }

    /// Compares the kernel's links with our table.
    fn refresh(&mut self) -> Result<()> {
        let links = self.requests.links()?;
        self.links.retain(|index, managed| {
            let kept = links.iter().any(|l| l.index == *index);
            if !kept {
                say!("network: {} is gone", managed.name());
            }
            kept
        });
        for link in links {
            let index = link.index;
            match self.links.get_mut(&index) {
                Some(managed) => managed.update(link),
                None => {
                    let Some(managed) = Managed::new(self.config, link) else {
                        continue;
                    };
                    self.links.insert(index, managed);
                }
            }
            if let Some(managed) = self.links.get_mut(&index) {
                managed.bring_up(&mut self.requests, self.host_name);
            }
        }
        Ok(())
    }

    fn tick(&mut self) {
        let now = uptime::now();
        for managed in self.links.values_mut() {
            managed.tick(&mut self.requests, now);
        }
    }

    fn receive(&mut self, index: u32) {
        if let Some(managed) = self.links.get_mut(&index) {
            managed.receive(&mut self.requests);
        }
    }

    /// Makes the present state known.
    fn publish(&mut self) {
        let leases = || self.links.values().filter_map(|l| l.dhcp()?.0.lease());
        let time_servers = leases().flat_map(|l| l.ntp.iter().copied()).collect();
        let resolvers: Vec<IpAddr> = self.links.values().flat_map(Managed::resolvers).collect();
        let links = self.links.values().filter_map(|l| Some((l.name().to_owned(), l.status()?))).collect();
        if self.resolvers.as_ref() != Some(&resolvers) {
            match resolv::write(&resolvers) {
                Ok(()) => self.resolvers = Some(resolvers),
                Err(error) => say!("network: {error}"),
            }
        }
        self.status.set(links, time_servers);
    }
}
