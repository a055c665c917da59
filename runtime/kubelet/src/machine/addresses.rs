//! The machine's address in the cluster.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use tokio::sync::watch;

/// News come in bursts; the addresses are read when a burst is over.
const SETTLE: Duration = Duration::from_millis(200);

/// Addresses that only the default route leads to. Nothing is ever sent to them.
const FAR_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const FAR_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// The addresses now, and whenever there are `news` of a change, which may come more often than that.
pub(super) fn watch(towards: Option<IpAddr>, news: watch::Receiver<()>) -> watch::Receiver<Vec<IpAddr>> {
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
        assert_eq!(find(Some(Ipv4Addr::LOCALHOST.into())), find(None));
    }
}
