//! Announcing load balancers' addresses on the network that the node is on (layer 2), as MetalLB and kube-vip do.
//!
//! The controller of load balancers gives a Service an address out of a pool and names the node that announces it, by an annotation.
//! That node has the address on its loopback interface, where the kernel answers ARP for it (RFC 826) and, told to stand in for it,
//! neighbour discovery of IPv6 (RFC 4861); no port is listened on, and the service proxy leads connections on. When an address comes
//! to the node it tells its neighbours at once, so that they forget the node that had it before.
//!
//! Which node that is follows from what the controller sees of nodes, and not from Leases that nodes renew: these would be written to the
//! server's flash every few seconds for each address.

mod frames;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use kiln_client::{BoxFuture, Change, Informers, Store};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::Cidr;
use crate::rtnetlink::{Link, Netlink, NetlinkError};

/// Names the node that announces a Service's addresses.
pub const ANNOUNCER: &str = "kiln.dev/announced-by";
/// When neighbours are told again, should a message be lost: so long after the first.
const AGAIN: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(5)];
/// How often what others changed is put right.
const LOOK: Duration = Duration::from_secs(60);

/// What the announcer is told.
#[derive(Clone)]
pub struct Config {
    /// The node that this is.
    pub node: String,
    /// Whether an address is one that load balancers are given. Who may write Services could otherwise have the node take any.
    pub is_in_pool: Arc<dyn Fn(IpAddr) -> bool + Send + Sync>,
}

/// Adds it to the mirrors; what is returned runs it until the shutdown. The addresses then stay: Services go on without it.
pub fn build(informers: &mut Informers, config: Config, shutdown: CancellationToken) -> BoxFuture<'static, ()> {
    let changed = Arc::new(Notify::new());
    let services = informers.of::<Service>();
    services.subscribe({
        let (changed, config) = (changed.clone(), config.clone());
        move |change| {
            let (now, before) = match change {
                Change::Applied { object, previous, .. } => (Some(object), previous.as_ref()),
                Change::Deleted { object, .. } => (None, Some(object)),
                Change::Synced => (None, None),
            };
            let of = |service: Option<&Arc<Service>>| service.map(|service| announced(service, &config));
            if of(now).unwrap_or_default() != of(before).unwrap_or_default() {
                changed.notify_one();
            }
        }
    });
    let services = services.store();
    Box::pin(async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = run(&services, &config, &changed) => {}
        }
    })
}

/// Takes all addresses away.
pub(crate) fn remove() -> Result<(), NetlinkError> {
    keep(&BTreeSet::new()).map(|_| ())
}

async fn run(services: &Store<Service>, config: &Config, changed: &Notify) {
    services.synced().await;
    loop {
        let wanted: BTreeSet<IpAddr> = services.list().iter().flat_map(|service| announced(service, config)).collect();
        let keeping = tokio::task::spawn_blocking(move || keep(&wanted)).await;
        match keeping {
            Ok(Ok(new)) if !new.is_empty() => {
                tracing::info!(addresses = ?new, "this node announces load balancers' addresses");
                tokio::spawn(tell_again(new));
            }
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "load balancers' addresses are not announced"),
            Err(error) => tracing::error!(%error, "nobody announces load balancers' addresses"),
        }
        tokio::select! {
            () = changed.notified() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// The addresses of a Service that this node announces.
fn announced(service: &Arc<Service>, config: &Config) -> Vec<IpAddr> {
    let by = service.metadata.annotations.as_ref().and_then(|all| all.get(ANNOUNCER));
    if by != Some(&config.node) {
        return Vec::new();
    }
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let entries = balancer.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
    let addresses = entries.iter().filter_map(|entry| entry.ip.as_deref()?.parse().ok());
    addresses.filter(|address| (config.is_in_pool)(*address)).collect()
}

/// Puts addresses on the node and takes others of an earlier look away. Answers those that are new, of which neighbours were told.
fn keep(wanted: &BTreeSet<IpAddr>) -> Result<Vec<IpAddr>, NetlinkError> {
    let mut netlink = Netlink::route()?;
    let links = netlink.links()?;
    let Some(loopback) = links.iter().find(|link| link.name == "lo") else { return Ok(Vec::new()) };
    let present: BTreeSet<IpAddr> = netlink.announced(loopback.index)?.into_iter().collect();
    for gone in present.difference(wanted) {
        if let (IpAddr::V6(_), Some(link)) = (gone, neighbourhood(&mut netlink, &links, *gone)?) {
            netlink.delete_proxy(link.index, *gone)?;
        }
        netlink.delete_announced(loopback.index, *gone)?;
    }
    let mut new = Vec::new();
    for address in wanted {
        let link = neighbourhood(&mut netlink, &links, *address)?;
        if let (IpAddr::V6(_), Some(link)) = (address, &link) {
            stand_in(&link.name);
            netlink.add_proxy(link.index, *address)?;
        }
        if !present.contains(address) {
            netlink.add_announced(loopback.index, *address)?;
            if let Some(link) = link {
                tell(link, *address);
            }
            new.push(*address);
        }
    }
    Ok(new)
}

/// The interface whose neighbours an address is for: the one with a network that has it.
fn neighbourhood<'a>(
    netlink: &mut Netlink,
    links: &'a [Link],
    address: IpAddr,
) -> Result<Option<&'a Link>, NetlinkError> {
    let has = |own: &crate::rtnetlink::Address| {
        let length = if own.ip.is_ipv4() { 32 } else { 128 };
        own.prefix < length && Cidr::new(own.ip, own.prefix).is_some_and(|network| network.contains(address))
    };
    let found = netlink.addresses()?.into_iter().find(has);
    Ok(found.and_then(|own| links.iter().find(|link| link.index == own.link)))
}

/// Has the kernel answer neighbour discovery for addresses that are not the interface's own.
fn stand_in(link: &str) {
    let path = format!("/proc/sys/net/ipv6/conf/{link}/proxy_ndp");
    if let Err(error) = std::fs::write(&path, "1") {
        tracing::warn!(%error, path, "neighbours will not find load balancers' IPv6 addresses");
    }
}

/// Tells the neighbours once. One that does not hear it asks when what it knows has grown old.
fn tell(link: &Link, address: IpAddr) {
    let Some(mac) = link.mac else { return };
    for frame in frames::announcements(mac, address) {
        if let Err(error) = frames::send(link.index, &frame) {
            tracing::debug!(%error, %address, link = link.name, "neighbours are not told of an address");
        }
    }
}

async fn tell_again(addresses: Vec<IpAddr>) {
    for wait in AGAIN {
        tokio::time::sleep(wait).await;
        let addresses = addresses.clone();
        _ = tokio::task::spawn_blocking(move || -> Result<(), NetlinkError> {
            let mut netlink = Netlink::route()?;
            let links = netlink.links()?;
            let Some(loopback) = links.iter().find(|link| link.name == "lo") else { return Ok(()) };
            let still = netlink.announced(loopback.index)?;
            for address in addresses.into_iter().filter(|address| still.contains(address)) {
                if let Some(link) = neighbourhood(&mut netlink, &links, address)? {
                    tell(link, address);
                }
            }
            Ok(())
        })
        .await;
    }
}
