//! Waits until the kernel has nf_tables, once for all parts of a node that need it. Kiln's own system loads these modules only when
//! the node has joined; elsewhere the kernel fetches them as they are asked for, or an administrator loads them at any time. The
//! kernel tells of each module that is ready to be used, so that nobody asks again and again.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket};
use tokio::net::UnixDatagram;
use tokio::sync::OnceCell;

use super::{Base, Batch, Family, Field, Hook, Kind, NftError, Reject, Rule, Socket, Table, ct_state, fib_type};

/// When to look again though the kernel has told of nothing: it tells nobody within a user namespace.
const LOOK: Duration = Duration::from_secs(30);
/// The multicast group of the kernel's own events.
const KERNEL: u32 = 1;
/// What the event of a module of netfilter begins with.
const MODULE: &[u8] = b"add@/module/nf";
/// The number of TCP among protocols.
const TCP: u8 = 6;
/// A table that is never there for a packet to see.
const TABLE: &str = "kiln-presence";

/// What is there once stays: one look is enough for the whole process.
static PRESENT: OnceCell<()> = OnceCell::const_new();

/// Waits until the kernel has all of nf_tables that Services, network policies and the firewall are made of.
pub(crate) async fn present() {
    PRESENT.get_or_init(|| wait(look, Modules::listen())).await;
}

/// Looks until what is looked for is there, each time that there is news.
async fn wait<F: Future<Output = Result<(), NftError>>>(mut look: impl FnMut() -> F, mut news: impl News) {
    let mut told = false;
    while let Err(error) = look().await {
        if !told {
            tracing::warn!(%error, "Services and network policies wait for the kernel's nf_tables");
            told = true;
        }
        tokio::select! {
            () = news.next() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
    if told {
        tracing::info!("the kernel has nf_tables now");
    }
}

/// Has the kernel judge a table with a rule of each kind, which is gone with the transaction that makes it.
async fn look() -> Result<(), NftError> {
    let looking = tokio::task::spawn_blocking(|| {
        let mut socket = Socket::open()?;
        socket.apply(&sample(Family::Ip, Ipv4Addr::LOCALHOST.into()))?;
        let mut empty = Batch::new();
        empty.remove_table(&Table::new(Family::Ip6, TABLE));
        match socket.apply(&empty) {
            Ok(()) => socket.apply(&sample(Family::Ip6, Ipv6Addr::LOCALHOST.into())),
            // A kernel without IPv6 never has it.
            Err(_) => Ok(()),
        }
    });
    looking.await.unwrap_or_else(|error| Err(NftError::Io(io::Error::other(error))))
}

/// Makes what Services and policies are made of, each kind of it by another module of the kernel, and removes it again.
fn sample(family: Family, address: IpAddr) -> Batch {
    let table = Table::new(family, TABLE);
    let new = Rule::new().has_any(Field::CtState, ct_state::NEW);
    let local = Rule::new().is(Field::DestinationType, fib_type::LOCAL).is(Field::Random(2), 0).protocol(TCP);
    let chains = [
        ("nat-prerouting", Kind::Nat, Hook::Prerouting, -100, local.dnat(family, address, 1)),
        ("nat-postrouting", Kind::Nat, Hook::Postrouting, 100, Rule::new().masquerade()),
        ("filter-forward", Kind::Filter, Hook::Forward, 0, new.reject(Reject::port_unreachable(family))),
    ];
    let mut batch = Batch::new();
    batch.recreate_table(&table);
    for (name, kind, hook, priority, rule) in chains {
        batch.add_base_chain(&table, name, &Base { kind, hook, priority });
        batch.add_rule(&table, name, &rule);
    }
    batch.delete_table(&table);
    batch
}

/// What calls for another look.
trait News {
    /// Waits for the next.
    fn next(&mut self) -> impl Future<Output = ()>;
}

/// The kernel's events of modules.
struct Modules {
    /// None if the kernel tells nothing.
    socket: Option<UnixDatagram>,
}

impl Modules {
    /// Hears of all modules that are loaded from now on. Must be called within tokio.
    fn listen() -> Self {
        let open = || -> io::Result<UnixDatagram> {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let fd = socket(AddressFamily::Netlink, SockType::Datagram, flags, SockProtocol::NetlinkKObjectUEvent)?;
            bind(fd.as_raw_fd(), &NetlinkAddr::new(0, KERNEL))?;
            // Of the types that tokio reads datagrams from, this one asks nothing of the address family.
            UnixDatagram::from_std(fd.into())
        };
        let socket = open().inspect_err(|error| tracing::debug!(%error, "no news of modules"));
        Self { socket: socket.ok() }
    }
}

impl News for Modules {
    async fn next(&mut self) {
        let mut event = [0; MODULE.len()];
        let Some(socket) = &self.socket else { return std::future::pending().await };
        loop {
            match socket.recv(&mut event).await {
                Ok(length) if event[..length] == *MODULE => return,
                Ok(_) => {}
                // More was told than was listened to.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return,
                Err(_) => return std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::future::ready;

    use nix::errno::Errno;
    use tokio::time::Instant;

    use super::*;

    /// News that come after such times, and then no more.
    struct After(VecDeque<Duration>);

    impl News for After {
        async fn next(&mut self) {
            match self.0.pop_front() {
                Some(time) => tokio::time::sleep(time).await,
                None => std::future::pending().await,
            }
        }
    }

    /// How long it takes if so many looks find nothing.
    async fn taken(failures: usize, news: &[u64]) -> Duration {
        let mut left = failures;
        let look = || {
            let found = if left == 0 { Ok(()) } else { Err(Errno::EINVAL.into()) };
            left = left.saturating_sub(1);
            ready(found)
        };
        let began = Instant::now();
        wait(look, After(news.iter().copied().map(Duration::from_millis).collect())).await;
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_there_is_found_at_once_and_else_with_the_news_of_it() {
        let rows = [
            (0, &[5][..], Duration::ZERO),
            (1, &[5], Duration::from_millis(5)),
            (2, &[5, 7], Duration::from_millis(12)),
            (2, &[5], Duration::from_millis(5) + LOOK),
            (1, &[], LOOK),
        ];
        for (failures, news, expected) in rows {
            assert_eq!(taken(failures, news).await, expected, "{failures} {news:?}");
        }
    }
}
