//! The machine's address in the cluster, and news of it from the kernel.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::{AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket};
use tokio::net::UnixDatagram;
use tokio::sync::watch;

/// Multicast groups of rtnetlink (linux/rtnetlink.h): addresses and routes of IPv4 and IPv6.
const GROUPS: u32 = 0x10 | 0x40 | 0x100 | 0x400;
/// News come in bursts; the addresses are read when a burst is over.
const SETTLE: Duration = Duration::from_millis(200);

/// Addresses that only the default route leads to. Nothing is ever sent to them.
const FAR_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const FAR_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// The addresses now and whenever they change.
pub(super) fn watch(towards: Option<IpAddr>) -> watch::Receiver<Vec<IpAddr>> {
    let (sender, receiver) = watch::channel(find(towards));
    tokio::spawn(async move {
        tokio::select! {
            () = sender.closed() => {}
            followed = follow(&sender, towards) => {
                let Err(error) = followed;
                tracing::error!(%error, "no more news of the machine's addresses; a change needs a restart");
                // The addresses known stay.
                sender.closed().await;
            }
        }
    });
    receiver
}

async fn follow(sender: &watch::Sender<Vec<IpAddr>>, towards: Option<IpAddr>) -> io::Result<std::convert::Infallible> {
    let news = open()?;
    loop {
        // What changed before the socket was open, or while the last burst was read.
        let found = find(towards);
        sender.send_if_modified(|known| {
            let changed = *known != found;
            if changed {
                tracing::info!(from = ?known, to = ?found, "the machine's address");
                *known = found;
            }
            changed
        });
        hear(&news).await?;
        while let Ok(heard) = tokio::time::timeout(SETTLE, hear(&news)).await {
            heard?;
        }
    }
}

/// Waits for a message. What it says does not matter, since the addresses are read anew.
async fn hear(news: &UnixDatagram) -> io::Result<()> {
    match news.recv(&mut [0; 8192]).await {
        Ok(_) => Ok(()),
        // Messages were lost, which says the same.
        Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => Ok(()),
        Err(error) => Err(error),
    }
}

fn open() -> io::Result<UnixDatagram> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let netlink = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    bind(netlink.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
    // Of the sockets that tokio reads datagrams from, this kind asks nothing of the address family.
    UnixDatagram::from_std(netlink.into())
}

/// The best address: of the route to the server, of the default route, or any global one; IPv4 first.
fn find(towards: Option<IpAddr>) -> Vec<IpAddr> {
    let routes = towards.into_iter().chain([IpAddr::V4(FAR_V4), IpAddr::V6(FAR_V6)]);
    let best = routes.filter_map(source).find(|address| is_usable(*address)).or_else(first_global);
    best.into_iter().collect()
}

/// The address that packets to `destination` would come from, as the kernel's routes say; none are sent.
fn source(destination: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = match destination {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let probe = UdpSocket::bind((any, 0)).ok()?;
    probe.connect((destination, 9)).ok()?;
    Some(probe.local_addr().ok()?.ip())
}

fn first_global() -> Option<IpAddr> {
    let interfaces = getifaddrs().ok()?.filter(|interface| interface.flags.contains(InterfaceFlags::IFF_UP));
    let addresses = interfaces.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    });
    let mut usable: Vec<IpAddr> = addresses.filter(|address| is_usable(*address)).collect();
    usable.sort_by_key(IpAddr::is_ipv6);
    usable.first().copied()
}

/// Whether others can reach it.
fn is_usable(address: IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(address.is_loopback() || address.is_unspecified() || address.is_multicast() || is_link_local)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_link_local_addresses_are_of_no_use_to_others() {
        let usable = |text: &str| is_usable(text.parse().expect("an address"));
        assert!(usable("192.168.77.3") && usable("fd00::2"));
        for address in ["127.0.0.1", "::1", "169.254.1.2", "fe80::1", "0.0.0.0", "ff02::1"] {
            assert!(!usable(address), "{address}");
        }
    }

    #[test]
    fn a_server_on_this_machine_says_nothing_of_the_machines_address() {
        assert_eq!(source(Ipv4Addr::LOCALHOST.into()), Some(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(find(Some(Ipv4Addr::LOCALHOST.into())), find(None));
    }
}
