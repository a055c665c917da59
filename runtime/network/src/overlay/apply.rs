//! Brings the kernel to what is planned: looks at what it has, and changes what differs. What is not ours stays.

use std::collections::BTreeMap;

use nix::errno::Errno;

use super::peer::mac_of;
use super::plan::{Plan, Problem, Slot};
use super::tunnels::Tunnels;
use super::uplink::Uplink;
use super::{PORT, VNI};
use crate::rtnetlink::{Forwarding, Mac, Neighbour, Netlink, NetlinkError, Route, Vxlan};

/// The interfaces of the overlay: their names, and what the kernel calls their kind.
pub(super) const DEVICES: [(Slot, &str, &str); 3] =
    [(Slot::V4, "kiln.1", "vxlan"), (Slot::V6, "kiln-v6.1", "vxlan"), (Slot::WireGuard, "kiln-wg", "wireguard")];

/// Routes of IPv6 that name no metric have this one.
const V6_METRIC: u32 = 1024;

/// Changes the kernel to the plan. Answers what stood against it.
///
/// # Errors
/// The first thing that the kernel refused; what was done until then stays, and another try goes on from there.
pub(super) fn apply(
    netlink: &mut Netlink,
    plan: &Plan,
    own: &str,
    uplink: &Uplink,
    tunnels: Option<&mut Tunnels>,
) -> Result<Vec<Problem>, NetlinkError> {
    let mac = mac_of(own);
    let mut indices = devices(netlink, plan, mac)?;
    addresses(netlink, plan, &indices)?;
    forwarding(netlink, plan, &indices)?;
    neighbours(netlink, plan, &indices)?;
    if let Some((tunnels, link)) = tunnels.zip(indices.get(&Slot::WireGuard)) {
        tunnels.apply(*link, &plan.tunnels)?;
    }
    indices.insert(Slot::Uplink, uplink.index);
    routes(netlink, plan, &indices)
}

/// Makes, corrects and removes interfaces. Answers the numbers of those that are there.
fn devices(netlink: &mut Netlink, plan: &Plan, mac: Mac) -> Result<BTreeMap<Slot, u32>, NetlinkError> {
    let links = netlink.links()?;
    let mut missing = false;
    for (slot, name, kind) in DEVICES {
        let vxlan = Vxlan { vni: VNI, port: PORT, over_v6: slot == Slot::V6, learns: false };
        let vxlan = (slot != Slot::WireGuard).then_some(vxlan);
        let link = links.iter().find(|link| link.name == name);
        let Some(&mtu) = plan.devices.get(&slot) else {
            if let Some(link) = link.filter(|link| link.kind == kind) {
                netlink.delete_link(link.index)?;
            }
            continue;
        };
        match link {
            Some(link) if link.kind == kind && link.vxlan == vxlan => {
                let mac = vxlan.map(|_| mac);
                if !link.is_up || link.mtu != mtu || link.mac != mac {
                    netlink.set_link(link.index, mac, mtu)?;
                }
                continue;
            }
            // Of an earlier run with other settings; anything else of this name is refused by the kernel below.
            Some(link) if link.kind == kind => netlink.delete_link(link.index)?,
            _ => {}
        }
        missing = true;
        match vxlan {
            Some(vxlan) => netlink.add_vxlan(name, mac, mtu, vxlan)?,
            None => netlink.add_wireguard(name, mtu)?,
        }
    }
    let links = if missing { netlink.links()? } else { links };
    let number = |(slot, name, _): &(Slot, &str, &str)| {
        plan.devices.get(slot)?;
        links.iter().find(|link| link.name == *name).map(|link| (*slot, link.index))
    };
    Ok(DEVICES.iter().filter_map(number).collect())
}

fn addresses(netlink: &mut Netlink, plan: &Plan, indices: &BTreeMap<Slot, u32>) -> Result<(), NetlinkError> {
    if indices.is_empty() {
        return Ok(());
    }
    let present = netlink.addresses()?;
    for &link in indices.values() {
        let on = || present.iter().filter(move |address| address.link == link && address.is_global);
        for stale in on().filter(|address| !plan.hosts.contains(&address.ip)) {
            netlink.delete_address(*stale)?;
        }
        for host in plan.hosts.iter().filter(|host| !on().any(|address| address.ip == **host)) {
            match netlink.add_host(link, *host) {
                // A kernel without IPv6, or with it switched off: what is of IPv4 works.
                Err(error) if host.is_ipv6() && matches!(error.cause, Errno::EOPNOTSUPP | Errno::EACCES) => {}
                added => added?,
            }
        }
    }
    Ok(())
}

fn forwarding(netlink: &mut Netlink, plan: &Plan, indices: &BTreeMap<Slot, u32>) -> Result<(), NetlinkError> {
    let slots = by_link(indices);
    let present = if slots.is_empty() { Vec::new() } else { netlink.forwarding()? };
    let mut known = BTreeMap::new();
    for entry in present {
        let Some(&slot) = slots.get(&entry.link) else { continue };
        if plan.forwarding.contains_key(&(slot, entry.mac)) {
            known.insert((slot, entry.mac), entry.to);
        } else {
            netlink.delete_forwarding(&entry)?;
        }
    }
    for (&(slot, mac), &to) in &plan.forwarding {
        if let Some(&link) = indices.get(&slot).filter(|_| known.get(&(slot, mac)) != Some(&to)) {
            netlink.set_forwarding(&Forwarding { link, mac, to })?;
        }
    }
    Ok(())
}

fn neighbours(netlink: &mut Netlink, plan: &Plan, indices: &BTreeMap<Slot, u32>) -> Result<(), NetlinkError> {
    let slots = by_link(indices);
    let present = if slots.is_empty() { Vec::new() } else { netlink.neighbours()? };
    let mut known = BTreeMap::new();
    for neighbour in present {
        let Some(&slot) = slots.get(&neighbour.link) else { continue };
        if plan.neighbours.contains_key(&(slot, neighbour.ip)) {
            known.insert((slot, neighbour.ip), neighbour.mac);
        } else {
            netlink.delete_neighbour(&neighbour)?;
        }
    }
    for (&(slot, ip), &mac) in &plan.neighbours {
        if let Some(&link) = indices.get(&slot).filter(|_| known.get(&(slot, ip)) != Some(&mac)) {
            netlink.set_neighbour(&Neighbour { link, ip, mac })?;
        }
    }
    Ok(())
}

fn by_link(indices: &BTreeMap<Slot, u32>) -> BTreeMap<u32, Slot> {
    indices.iter().map(|(slot, link)| (*link, *slot)).collect()
}

fn routes(netlink: &mut Netlink, plan: &Plan, indices: &BTreeMap<Slot, u32>) -> Result<Vec<Problem>, NetlinkError> {
    let wanted = |route: &Route| {
        let via = plan.routes.get(&route.to)?;
        (indices.get(&via.slot) == Some(&route.link) && via.gateway == route.gateway).then_some(())
    };
    let (mut problems, mut right) = (Vec::new(), Vec::new());
    let (own, foreign): (Vec<Route>, Vec<Route>) = netlink.routes()?.into_iter().partition(|route| route.is_own);
    for route in &own {
        if wanted(route).is_some() {
            right.push(route.to);
        } else if let Some(link) = plan.routes.get(&route.to).and_then(|via| indices.get(&via.slot))
            && *link == route.link
        {
            // Only its next hop changes, which is done in one step below.
        } else {
            netlink.delete_route(route)?;
        }
    }
    right.sort_unstable();
    for (&to, via) in &plan.routes {
        let Some(&link) = indices.get(&via.slot).filter(|_| right.binary_search(&to).is_err()) else { continue };
        let metric = if to.is_ipv4() { 0 } else { V6_METRIC };
        if foreign.iter().any(|route| route.to == to && route.metric == metric) {
            problems.push(Problem::Foreign { cidr: to });
            continue;
        }
        let replace = own.iter().any(|route| route.to == to && route.link == link);
        let route = Route { to, gateway: via.gateway, link, on_link: via.gateway.is_some(), is_own: true, metric };
        match netlink.add_route(&route, replace) {
            // It came in between, and will be seen at the next look.
            Err(error) if error.cause == Errno::EEXIST => problems.push(Problem::Foreign { cidr: to }),
            added => added?,
        }
    }
    Ok(problems)
}
