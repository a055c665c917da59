//! Ways between the pods of different nodes, in the place of flannel.
//!
//! Each node tells by annotations of its Node where it is reached and what its end is; each makes the routes to all others, by
//! the mirror of Nodes: `Node objects -> Peer -> plan -> apply`. The plan knows nothing of the kernel, and what is applied is the
//! difference from what the kernel has, so that a start finds and corrects whatever an earlier run left. The kernel's news of
//! interfaces, addresses and routes, and the mirror's, lead to another look. What others have made in the kernel is not touched.

mod announce;
mod apply;
mod backend;
mod firewall;
mod peer;
mod plan;
mod sysctl;
mod tunnels;
mod uplink;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kiln_client::{Backoff, BoxFuture, Change, Client, ClientError, Clock, Informers, ObjectRef, Store};
use nix::errno::Errno;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

pub use self::backend::{Backend, UnknownBackend};
pub use crate::rtnetlink::NetlinkError;
pub use crate::wireguard::PrivateKey;

use self::announce::State;
use self::firewall::Firewall;
use self::peer::{Peer, mac_of};
use self::plan::{Plan, Problem};
use self::tunnels::Tunnels;
use self::uplink::{Seen, Uplink};
use crate::Cidr;
use crate::nft::{NftError, present};
use crate::rtnetlink::{Link, Netlink, News, Watch};

/// The number of the VXLAN.
const VNI: u32 = 1;
/// The UDP port of VXLAN: that of Linux before the standard's, which flannel has kept.
const PORT: u16 = 8472;
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// How often it is seen to that nobody else removed what is to be there.
const LOOK: Duration = Duration::from_secs(60);
/// How long news may go on coming before they are looked at together.
const SETTLE: Duration = Duration::from_millis(20);

/// What the overlay is told.
#[derive(Debug)]
pub struct Config {
    /// This node's name.
    pub node_name: String,
    /// The kind of way.
    pub backend: Backend,
    /// The key that its end of WireGuard keeps to itself; other kinds need none.
    pub private_key: Option<PrivateKey>,
    /// This node's addresses, the best first.
    pub addresses: watch::Receiver<Vec<IpAddr>>,
    /// The interface that leads to the other nodes, in place of the one with the node's address.
    pub interface: Option<String>,
    /// Addresses of all pods of the cluster.
    pub pod_networks: Vec<Cidr>,
    /// Whether what pods send to outside the cluster gets the node's address here, since no service proxy of ours sees to it.
    pub masquerade: bool,
    /// Is told the bytes of pods' largest packet, once they are known.
    pub mtu: watch::Sender<Option<u32>>,
    /// The time of day.
    pub clock: Clock,
}

/// Why the overlay is not as it should be; it is tried again.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Kernel(#[from] NetlinkError),
    #[error("{0}")]
    Setting(#[from] io::Error),
    /// Two would undo each other's work without end.
    #[error("another Kiln makes the ways to other nodes in this network namespace")]
    Taken,
    #[error("{0}")]
    Api(#[from] ClientError),
}

/// Makes the overlay: it reads Nodes from the shared mirror, and what it answers is to run beside the mirrors. `informers` speak as
/// the node.
pub fn build(informers: &mut Informers, config: Config, shutdown: CancellationToken) -> BoxFuture<'static, ()> {
    let (client, changed) = (informers.client(), Arc::new(Notify::new()));
    let informer = informers.of::<Node>();
    let nodes = informer.store();
    let own = config.node_name.clone();
    informer.subscribe({
        let changed = Arc::clone(&changed);
        move |change| {
            if is_news(change, &own) {
                changed.notify_one();
            }
        }
    });
    Box::pin(async move {
        let firewall = Firewall { networks: config.pod_networks.clone(), masquerades: config.masquerade };
        let running = async {
            if config.backend == Backend::None {
                present().await;
                keep(Firewall::default(), true).await;
                return;
            }
            let tunnels = config.private_key.clone().map(Tunnels::new);
            let overlay = Overlay { client, config, nodes, told: BTreeSet::new(), used: None, tunnels };
            tokio::join!(overlay.run(&changed), guard(firewall));
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = running => {}
        }
    })
}

/// Whether a change of a Node means anything to an overlay; most tell only that the node lives.
fn is_news(change: &Change<Node>, own: &str) -> bool {
    match change {
        Change::Applied { key, object, previous } => previous.as_ref().is_none_or(|previous| {
            // Of its own Node it also keeps a condition.
            Peer::of(previous) != Peer::of(object) || key.name == own && unavailable(previous) != unavailable(object)
        }),
        Change::Deleted { .. } | Change::Synced => true,
    }
}

fn unavailable(node: &Node) -> Option<&str> {
    let conditions = node.status.as_ref()?.conditions.as_deref()?;
    conditions
        .iter()
        .find(|condition| condition.type_ == "NetworkUnavailable")
        .map(|condition| condition.status.as_str())
}

struct Overlay {
    client: Client,
    config: Config,
    nodes: Store<Node>,
    /// The problems that were logged.
    told: BTreeSet<Problem>,
    /// The interface that was found, and what leads to it.
    used: Option<Uplink>,
    /// Its end of WireGuard.
    tunnels: Option<Tunnels>,
}

impl Overlay {
    async fn run(mut self, changed: &Notify) {
        // Before all nodes are known, nothing that an earlier run made is in vain.
        self.nodes.synced().await;
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            let (mut netlink, mut news, _lock) = match open() {
                Ok(open) => open,
                Err(error) => {
                    tracing::error!(%error, "no ways to other nodes");
                    tokio::time::sleep(backoff.next_wait()).await;
                    continue;
                }
            };
            loop {
                let wait = match self.look(&mut netlink).await {
                    Ok(()) => {
                        backoff.reset();
                        None
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the ways to other nodes are not as they should be; will try again");
                        Some(backoff.next_wait())
                    }
                };
                let uplink = self.used.as_ref().map(|uplink| uplink.index);
                let retry = async {
                    match wait {
                        Some(wait) => tokio::time::sleep(wait).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = changed.notified() => {}
                    // Whoever told the addresses may be gone: those known are the last then.
                    Ok(()) = self.config.addresses.changed() => {}
                    () = news.until(|news| matters(news, uplink)) => tokio::time::sleep(SETTLE).await,
                    () = retry => {}
                    // Not all is told.
                    () = tokio::time::sleep(LOOK) => {}
                }
            }
        }
    }

    /// Looks at everything, and changes what differs.
    async fn look(&mut self, netlink: &mut Netlink) -> Result<(), Failure> {
        let Some(node) = self.nodes.get(&ObjectRef::cluster(self.config.node_name.as_str())) else {
            // The kubelet registers it.
            return Ok(());
        };
        let ips = self.config.addresses.borrow_and_update().clone();
        let (links, addresses, routes) = (netlink.links()?, netlink.addresses()?, netlink.routes()?);
        let seen = Seen { links: &links, addresses: &addresses, routes: &routes };
        let Some((uplink, public)) = uplink::find(&seen, &ips, self.config.interface.as_deref()) else {
            // Without a cable nothing is reached, and with the cable all will be as before.
            if let Some(name) = &self.config.interface {
                tracing::warn!("there is no interface {name} with an address; pods do not reach other nodes");
            }
            self.used = None;
            return Ok(());
        };
        if self.used.as_ref() != Some(&uplink) {
            tracing::info!(interface = uplink.name, mtu = uplink.mtu, "nodes are reached");
            self.used = Some(uplink.clone());
        }
        let mut own = Peer::of(&node);
        own.backend = Some(self.config.backend);
        own.public = public;
        own.mac = (self.config.backend == Backend::Vxlan).then(|| mac_of(&own.name));
        own.key = own.key.filter(|_| self.config.backend == Backend::WireGuard);
        let mut peers: Vec<Peer> = self.nodes.list().iter().map(|node| Peer::of(node)).collect();
        let plan = plan::plan(&own, self.config.backend, &uplink, &mut peers);
        let done = self.apply(netlink, &plan, &own, &uplink);
        // Where it could not be asked of the kernel, the one that was told before is still the best.
        own.key = self.tunnels.as_ref().and_then(Tunnels::public).or(own.key);
        self.config.mtu.send_if_modified(|mtu| mtu.replace(plan.mtu) != Some(plan.mtu));
        let state = match (&done, &plan.taken) {
            // Nobody is there to be reached.
            (Err(_), _) if peers.len() < 2 => State::Up,
            (Err(error), _) => State::Down("OverlayFailed", error.to_string()),
            (Ok(()), Some((cidr, node))) => State::Down(
                "OverlappingPodCIDR",
                format!("node {node} has the pods' range {cidr}, which overlaps this node's and was given before"),
            ),
            (Ok(()), None) => State::Up,
        };
        announce::annotate(&self.client, &node, &own).await?;
        if !own.cidrs.is_empty() && announce::tell(&self.client, &node, &state, &self.config.clock).await? {
            announce::warn(&self.client, &node, &state, &self.config.clock).await;
        }
        done
    }

    fn apply(&mut self, netlink: &mut Netlink, plan: &Plan, own: &Peer, uplink: &Uplink) -> Result<(), Failure> {
        if own.cidrs.is_empty() {
            return Ok(());
        }
        sysctl::forward(&uplink.name, own.cidrs.iter().any(|cidr| !cidr.is_ipv4()))?;
        let tunnels = self.tunnels.as_mut();
        let problems = apply::apply(netlink, plan, &own.name, uplink, tunnels).map_err(|error| match error.cause {
            Errno::EOPNOTSUPP | Errno::ENOENT => NetlinkError::new(
                format!("use {} (does the kernel have the module?), {}", self.config.backend, error.what),
                error.cause,
            ),
            Errno::EEXIST if self.config.backend == Backend::Vxlan => {
                let other = format!(
                    "use VXLAN number {VNI} at port {PORT} (does another network, such as flannel, have it?), {}",
                    error.what
                );
                NetlinkError::new(other, error.cause)
            }
            _ => error,
        })?;
        for (slot, name, _) in apply::DEVICES {
            if plan.devices.contains_key(&slot) {
                sysctl::ignore_advertisements(name);
            }
        }
        let problems: BTreeSet<Problem> = plan.problems.iter().cloned().chain(problems).collect();
        for problem in problems.difference(&self.told) {
            tracing::error!("{problem}");
        }
        for problem in self.told.difference(&problems) {
            tracing::info!("no longer: {problem}");
        }
        self.told = problems;
        Ok(())
    }
}

/// Removes what the node's firewall has for pods.
pub(crate) fn remove_firewall() -> Result<(), NftError> {
    Firewall::default().keep(true)
}

/// Removes the overlay's interfaces, and the bridge of this name.
pub(crate) fn remove(bridge: &str) -> Result<(), NetlinkError> {
    let mut netlink = Netlink::route()?;
    let is_ours = |link: &Link| {
        let is_overlay = apply::DEVICES.iter().any(|(_, name, kind)| link.name == *name && link.kind == *kind);
        is_overlay || link.kind == "bridge" && link.name == bridge
    };
    for link in netlink.links()?.into_iter().filter(is_ours) {
        netlink.delete_link(link.index)?;
    }
    Ok(())
}

/// Sees to the firewall, once the kernel can have one.
async fn guard(firewall: Firewall) {
    present().await;
    keep(firewall.clone(), true).await;
    loop {
        tokio::time::sleep(LOOK).await;
        keep(firewall.clone(), false).await;
    }
}

/// Puts the firewall right on a thread that may block.
async fn keep(firewall: Firewall, anew: bool) {
    match tokio::task::spawn_blocking(move || firewall.keep(anew)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the node's firewall may drop what pods send to other nodes"),
        Err(error) => tracing::error!(%error, "nobody sees to the node's firewall"),
    }
}

fn open() -> Result<(Netlink, Watch, UnixListener), Failure> {
    // Abstract names of sockets belong to the network namespace, and end with their process.
    let lock = SocketAddr::from_abstract_name("kiln-overlay").and_then(|name| UnixListener::bind_addr(&name));
    let lock = lock.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => Failure::Taken,
        _ => Failure::Setting(error),
    })?;
    let netlink = Netlink::route()?;
    let news = Watch::start(netlink.port()?)?;
    Ok((netlink, news, lock))
}

/// Whether news of the kernel may change what is to be done. `uplink` is the interface in use.
fn matters(news: &News, uplink: Option<u32>) -> bool {
    match news {
        News::Link { index, name } => {
            Some(*index) == uplink || uplink.is_none() || apply::DEVICES.iter().any(|(_, own, _)| own == name)
        }
        News::Address { link } => uplink.is_none_or(|uplink| uplink == *link),
        News::Route { is_own, is_default } => *is_own || *is_default,
    }
}
