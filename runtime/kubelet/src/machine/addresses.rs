//! The machine's address in the cluster.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use tokio::sync::watch;

/// News come in bursts; the addresses are read when a burst is over.
const SETTLE: Duration = Duration::from_millis(200);

/// Addresses that only the default route leads to. Nothing is ever sent to them.
const FAR_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const FAR_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// The addresses now, and whenever there are `news` of a change, which may come more often than that.
pub(super) fn watch(towards: Option<SocketAddr>, news: watch::Receiver<()>) -> watch::Receiver<Vec<IpAddr>> {
    follow(news, move || find(towards))
}

fn follow(
    mut news: watch::Receiver<()>,
    find: impl Fn() -> Vec<IpAddr> + Send + 'static,
) -> watch::Receiver<Vec<IpAddr>> {
    let (sender, receiver) = watch::channel(find());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = sender.closed() => return,
                heard = news.changed() => if heard.is_err() {
                    // No more news. The addresses known stay.
                    return sender.closed().await;
                },
            }
            tokio::time::sleep(SETTLE).await;
            news.mark_unchanged();
            let found = find();
            sender.send_if_modified(|known| {
                let changed = *known != found;
                if changed {
                    tracing::info!(from = ?known, to = ?found, "the machine's address");
                    *known = found;
                }
                changed
            });
        }
    });
    receiver
}

/// The best address: of the route to the server, of the interface that it is reached through, of the default route, or any
/// that others can reach; IPv4 first.
fn find(towards: Option<SocketAddr>) -> Vec<IpAddr> {
    let mut interfaces = interfaces();
    interfaces.sort_by_key(|(_, address)| address.is_ipv6());
    let routes = [IpAddr::V4(FAR_V4), IpAddr::V6(FAR_V6)].map(source);
    choose(towards, towards.and_then(|server| source(server.ip())), &interfaces, routes).into_iter().collect()
}

/// `near` is where packets to the server would come from; `far` yields the same of the default routes, best first.
fn choose(
    towards: Option<SocketAddr>,
    near: Option<IpAddr>,
    interfaces: &[(u32, IpAddr)],
    far: impl IntoIterator<Item = Option<IpAddr>>,
) -> Option<IpAddr> {
    let usable = |address: &IpAddr| is_usable(*address);
    // A server that is reached at a link-local address tells which interface counts, and nothing of its other addresses.
    let scope = match towards {
        Some(SocketAddr::V6(server)) => server.scope_id(),
        _ => 0,
    };
    let beside = interfaces.iter().filter(|(index, _)| *index == scope && scope != 0).map(|(_, address)| *address);
    let any = interfaces.iter().map(|(_, address)| *address);
    near.into_iter().chain(beside).chain(far.into_iter().flatten()).chain(any).find(usable)
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

/// The addresses of all interfaces that are up, each with its interface's index. What loopback has besides its own address is of
/// services that answer on this machine, the cluster's DNS among them.
fn interfaces() -> Vec<(u32, IpAddr)> {
    // The pods' network leads nobody to this machine.
    let is_of_pods = |name: &str| name == "cni0" || name.starts_with("kiln");
    let leads_here =
        |flags: InterfaceFlags| flags.contains(InterfaceFlags::IFF_UP) && !flags.contains(InterfaceFlags::IFF_LOOPBACK);
    let up = getifaddrs()
        .into_iter()
        .flatten()
        .filter(|interface| leads_here(interface.flags) && !is_of_pods(&interface.interface_name));
    let addresses = up.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        let ip = v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))?;
        Some((if_nametoindex(interface.interface_name.as_str()).ok()?, ip))
    });
    addresses.collect()
}

/// Whether others can reach it. Site-local IPv6 (RFC 3879 took it out of use) is as ambiguous as link-local.
fn is_usable(address: IpAddr) -> bool {
    let is_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.segments()[0] & 0xffc0 == 0xfec0,
    };
    !(address.is_loopback() || address.is_unspecified() || address.is_multicast() || is_local)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_link_local_addresses_are_of_no_use_to_others() {
        let usable = |text: &str| is_usable(text.parse().expect("an address"));
        assert!(usable("192.168.77.3") && usable("fd00::2"));
        for address in ["127.0.0.1", "::1", "169.254.1.2", "fe80::1", "fec0::5", "0.0.0.0", "ff02::1"] {
            assert!(!usable(address), "{address}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_of_news_is_one_look_at_the_addresses() {
        let looks = std::sync::Arc::new(std::sync::atomic::AtomicU8::new(0));
        let (news, heard) = watch::channel(());
        let counter = looks.clone();
        let mut addresses = follow(heard, move || {
            let looks = counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            vec![Ipv4Addr::new(192, 168, 1, looks).into()]
        });
        for _ in 0..5 {
            news.send_replace(());
        }
        addresses.changed().await.expect("it follows");
        assert_eq!(*addresses.borrow(), [IpAddr::from([192, 168, 1, 1])]);
        drop(news);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(looks.load(std::sync::atomic::Ordering::Relaxed), 2);
    }

    #[test]
    fn a_server_on_this_machine_says_nothing_of_the_machines_address() {
        assert_eq!(source(Ipv4Addr::LOCALHOST.into()), Some(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(find(Some((Ipv4Addr::LOCALHOST, 6443).into())), find(None));
    }

    #[test]
    fn a_server_behind_a_link_local_address_is_reached_through_an_interface_whose_other_address_counts() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let server = "[fe80::1%3]:6443".parse().ok();
        let near = Some(ip("fe80::2"));
        let interfaces = [(2, ip("10.0.2.15")), (3, ip("192.168.77.3")), (2, ip("fec0::5")), (3, ip("fe80::2"))];
        let routes = || [Some(ip("10.0.2.15")), Some(ip("fec0::5"))];
        assert_eq!(choose(server, near, &interfaces, routes()), Some(ip("192.168.77.3")));
        // Before that interface has one: the default route's, and never a local one.
        assert_eq!(choose(server, near, &[interfaces[0]], routes()), Some(ip("10.0.2.15")));
        assert_eq!(choose(server, near, &interfaces[2..], [None, Some(ip("fec0::5"))]), None);
        assert_eq!(choose(None, None, &[(2, ip("2001:db8::5"))], [None, None]), Some(ip("2001:db8::5")));
    }
}
