//! The client's states (RFC 2131, figure 5): selecting, requesting, bound, renewing, rebinding.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::packet::{Incoming, Kind, Outgoing, Route};

/// First wait for an answer; doubled up to [`LONGEST_WAIT`]. Short, since the first packets on a fresh link get lost.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(32);
/// Requests of an offer before starting over.
const TRIES: u32 = 4;
/// Shortest wait while renewing (RFC 2131, 4.4.5).
const RENEW_WAIT: Duration = Duration::from_secs(60);
/// How long an address is kept after the cable came back and nobody confirms it; longer than a switch needs to forward.
const UNCONFIRMED: Duration = Duration::from_secs(120);
/// A lease without a time, or an infinite one.
const FOREVER: u32 = u32::MAX;

/// What a server gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    /// Own address.
    pub(crate) address: Ipv4Addr,
    /// Its prefix length.
    pub(crate) prefix: u8,
    /// Routes: destination, prefix length, gateway.
    pub(crate) routes: Vec<Route>,
    /// Name servers.
    pub(crate) dns: Vec<Ipv4Addr>,
    /// Time servers.
    pub(crate) ntp: Vec<Ipv4Addr>,
    /// The link's MTU, if the server names one.
    pub(crate) mtu: Option<u16>,
    /// The server.
    pub(crate) server: Ipv4Addr,
}

/// What the owner of the socket and the interface must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Send to the server if an address is given, else to everybody.
    Send(Vec<u8>, Option<Ipv4Addr>),
    /// Use this lease.
    Configure(Lease),
    /// The lease is lost: take the address off.
    Deconfigure,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Selecting,
    Requesting { offer: Incoming, server: Ipv4Addr, tries: u32 },
    Bound { lease: Lease, times: Times },
}

/// Uptimes at which a lease changes state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Times {
    renew: Duration,
    rebind: Duration,
    expire: Duration,
}

/// A client for one interface. Times are uptimes, handed in.
#[derive(Debug)]
pub(crate) struct Client {
    mac: [u8; 6],
    host_name: String,
    state: State,
    xid: u32,
    began: Duration,
    wait: Duration,
    due: Duration,
}

impl Client {
    /// A client that has yet to send its first packet. `xid` is random.
    pub(crate) fn new(mac: [u8; 6], host_name: &str, xid: u32, now: Duration) -> Self {
        Self { mac, host_name: host_name.into(), state: State::Selecting, xid, began: now, wait: FIRST_WAIT, due: now }
    }

    /// When [`Client::tick`] must be called next.
    pub(crate) fn due(&self) -> Duration {
        self.due
    }

    /// The lease in use.
    pub(crate) fn lease(&self) -> Option<&Lease> {
        match &self.state {
            State::Bound { lease, .. } => Some(lease),
            _ => None,
        }
    }

    /// Does what is due at `now`.
    pub(crate) fn tick(&mut self, now: Duration) -> Vec<Action> {
        if now < self.due {
            return Vec::new();
        }
        match self.state.clone() {
            State::Selecting => self.discover(now),
            State::Requesting { tries, .. } if tries >= TRIES => self.start_over(now),
            State::Requesting { offer, server, tries } => {
                self.state = State::Requesting { offer: offer.clone(), server, tries: tries + 1 };
                self.request(&offer, server, now)
            }
            State::Bound { times, .. } if now >= times.expire => {
                let mut actions = vec![Action::Deconfigure];
                actions.extend(self.start_over(now));
                actions
            }
            State::Bound { lease, times } => self.renew(&lease, times, now),
        }
    }

    /// The cable was plugged in again, perhaps into another network: ask whether the lease still holds, soon.
    pub(crate) fn link_restored(&mut self, now: Duration) {
        if let State::Bound { times, .. } = &mut self.state {
            times.renew = now;
            times.rebind = now;
            times.expire = times.expire.min(now + UNCONFIRMED);
        }
        self.wait = FIRST_WAIT;
        self.due = now;
    }

    /// There is no cable: nothing is sent before `until`, unless the link is restored. A lease runs on meanwhile.
    pub(crate) fn postpone(&mut self, until: Duration) {
        self.due = self.due.max(until);
    }

    /// Takes a packet that came in.
    pub(crate) fn receive(&mut self, packet: Incoming, now: Duration) -> Vec<Action> {
        if packet.xid != self.xid || packet.mac != self.mac {
            return Vec::new();
        }
        match (&self.state, packet.kind) {
            (State::Selecting, Kind::Offer) => {
                // Some servers leave their id out of relayed offers; without it nobody could be asked.
                let Some(server) = packet.server else {
                    return Vec::new();
                };
                self.state = State::Requesting { offer: packet.clone(), server, tries: 1 };
                self.wait = FIRST_WAIT;
                self.request(&packet, server, now)
            }
            (State::Requesting { server, .. }, Kind::Ack) => {
                let server = packet.server.unwrap_or(*server);
                self.bind(packet, server, now)
            }
            (State::Requesting { .. }, Kind::Nak) => self.start_over(now),
            (State::Bound { times, lease }, Kind::Ack) if now >= times.renew => {
                let server = packet.server.unwrap_or(lease.server);
                self.bind(packet, server, now)
            }
            (State::Bound { times, .. }, Kind::Nak) if now >= times.renew => {
                let mut actions = vec![Action::Deconfigure];
                actions.extend(self.start_over(now));
                actions
            }
            _ => Vec::new(),
        }
    }

    fn start_over(&mut self, now: Duration) -> Vec<Action> {
        self.state = State::Selecting;
        self.xid = self.xid.wrapping_mul(0x9e37_79b1).wrapping_add(1);
        self.began = now;
        self.wait = FIRST_WAIT;
        self.discover(now)
    }

    fn discover(&mut self, now: Duration) -> Vec<Action> {
        self.back_off(now);
        vec![Action::Send(self.packet(Kind::Discover, now, None, None, Ipv4Addr::UNSPECIFIED), None)]
    }

    fn request(&mut self, offer: &Incoming, server: Ipv4Addr, now: Duration) -> Vec<Action> {
        self.back_off(now);
        vec![Action::Send(
            self.packet(Kind::Request, now, Some(offer.address), Some(server), Ipv4Addr::UNSPECIFIED),
            None,
        )]
    }

    /// Renewing asks the server that gave the lease; rebinding asks everybody.
    fn renew(&mut self, lease: &Lease, times: Times, now: Duration) -> Vec<Action> {
        let (limit, server) =
            if now < times.rebind { (times.rebind, Some(lease.server)) } else { (times.expire, None) };
        let half = (limit.saturating_sub(now) / 2).max(RENEW_WAIT);
        self.due = (now + half).min(limit);
        if server.is_none() && times.expire.saturating_sub(now) <= UNCONFIRMED {
            self.due = (now + FIRST_WAIT * 4).min(times.expire);
        }
        self.began = now;
        vec![Action::Send(self.packet(Kind::Request, now, None, None, lease.address), server)]
    }

    fn bind(&mut self, packet: Incoming, server: Ipv4Addr, now: Duration) -> Vec<Action> {
        let times = times(&packet, now);
        let lease = lease(packet, server);
        let actions = if self.lease() == Some(&lease) { Vec::new() } else { vec![Action::Configure(lease.clone())] };
        self.state = State::Bound { lease, times };
        self.wait = FIRST_WAIT;
        self.due = times.renew;
        actions
    }

    fn back_off(&mut self, now: Duration) {
        // A quarter of jitter from the transaction id, so that a rack that is switched on together spreads out.
        let jitter = self.wait / 4 * (self.xid & 0xff) / 256;
        self.due = now + self.wait + jitter;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
    }

    fn packet(
        &self,
        kind: Kind,
        now: Duration,
        requested: Option<Ipv4Addr>,
        server: Option<Ipv4Addr>,
        ciaddr: Ipv4Addr,
    ) -> Vec<u8> {
        let secs = u16::try_from(now.saturating_sub(self.began).as_secs()).unwrap_or(u16::MAX);
        Outgoing { kind, xid: self.xid, secs, mac: self.mac, ciaddr, requested, server, host_name: &self.host_name }
            .encode()
    }
}

fn times(packet: &Incoming, now: Duration) -> Times {
    let seconds = |s: u32| Duration::from_secs(u64::from(s));
    let lease = packet.lease.unwrap_or(FOREVER).max(60);
    // RFC 2131, 4.4.5: half and seven eighths, unless the server says otherwise and in the right order.
    let rebind = packet.rebind.filter(|t| *t < lease).unwrap_or(lease / 8 * 7);
    let renew = packet.renew.filter(|t| *t < rebind).unwrap_or((lease / 2).min(rebind));
    Times { renew: now + seconds(renew), rebind: now + seconds(rebind), expire: now + seconds(lease) }
}

fn lease(packet: Incoming, server: Ipv4Addr) -> Lease {
    let routes = if packet.routes.is_empty() {
        packet.routers.first().map(|router| (Ipv4Addr::UNSPECIFIED, 0, *router)).into_iter().collect()
    } else {
        packet.routes
    };
    Lease {
        address: packet.address,
        // Without a mask only a host route is certain.
        prefix: packet.prefix.unwrap_or(32),
        routes,
        dns: packet.dns,
        ntp: packet.ntp,
        mtu: packet.mtu,
        server,
    }
}

#[cfg(test)]
mod tests;
