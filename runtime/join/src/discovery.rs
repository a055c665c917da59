//! Finding the server on the LAN: DNS-SD over multicast DNS (RFC 6762, RFC 6763).
//!
//! A server advertises `_kiln._tcp.local.` with its CA's hash in TXT. An agent takes adverts with its token's hash only; that
//! keeps clusters apart and proves nothing, so the CA is verified afterwards all the same.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use mdns_sd::{IfKind, Receiver, ResolvedService, ScopedIp, ServiceDaemon, ServiceEvent, ServiceInfo};
use tokio::time::{Instant, timeout_at};

use crate::{Endpoint, JoinError};

/// The service type.
pub const SERVICE: &str = "_kiln._tcp.local.";
/// TXT key of the CA's hash.
const CA_KEY: &str = "ca";
/// TXT key of the protocol's version, and the version.
const VERSION: (&str, &str) = ("v", "1");

/// How often a search looks for interfaces that have come up since it began, in seconds.
const SEARCH_CHECK: u32 = 1;
/// The same for an advert, which is started anew when addresses change, so that this is rarely of use.
const ADVERT_CHECK: u32 = 60;

/// How long a routable address is waited for once a link-local one is known; the two come in separate messages.
const SETTLE: Duration = Duration::from_secs(2);

/// A server's advert; it ends when this is dropped.
pub struct Advert {
    daemon: ServiceDaemon,
}

impl Advert {
    /// Advertises a server of this name, CA hash and port on all interfaces, with the addresses they have. When those change
    /// it must be dropped and another started: the groups it is a member of are those of the old addresses.
    ///
    /// # Errors
    /// [`JoinError::Discovery`].
    pub fn start(node_name: &str, ca_hash: &str, port: u16) -> Result<Self, JoinError> {
        let daemon = daemon(ADVERT_CHECK)?;
        // One label: a dot would start a new one.
        let host = format!("{}.local.", node_name.replace('.', "-"));
        let properties = [(CA_KEY, ca_hash), VERSION];
        let info =
            ServiceInfo::new(SERVICE, node_name, &host, (), port, &properties[..]).map_err(failed)?.enable_addr_auto();
        daemon.register(info).map_err(failed)?;
        Ok(Advert { daemon })
    }
}

impl Drop for Advert {
    fn drop(&mut self) {
        // The daemon says goodbye to the network as it ends; if it is gone already there is nothing to end.
        let _ = self.daemon.shutdown();
    }
}

/// A server that was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The name it goes by.
    pub name: String,
    /// Where it may be reached, the likeliest first: IPv4, then IPv6, then what is out of use or link-local.
    pub endpoints: Vec<Endpoint>,
}

/// Listens until a server with this CA hash is heard.
///
/// # Errors
/// [`JoinError::NoServer`] after `patience`, or [`JoinError::Discovery`].
pub async fn find(ca_hash: &str, patience: Duration) -> Result<Found, JoinError> {
    let daemon = daemon(SEARCH_CHECK)?;
    let events = daemon.browse(SERVICE).map_err(failed)?;
    let found = listen(&events, ca_hash, patience).await;
    // Only listening ends here; whether the daemon could be told so changes nothing.
    let _ = daemon.shutdown();
    found
}

async fn listen(events: &Receiver<ServiceEvent>, ca_hash: &str, patience: Duration) -> Result<Found, JoinError> {
    let mut others = HashSet::new();
    let mut best = None;
    let mut deadline = Instant::now() + patience;
    loop {
        let service = match timeout_at(deadline, events.recv_async()).await {
            Ok(Ok(ServiceEvent::ServiceResolved(service))) => service,
            Ok(Ok(_)) => continue,
            Ok(Err(_)) => return Err(JoinError::Discovery("the mDNS service ended".to_owned())),
            Err(_) => break,
        };
        let Some(found) = judge(&service, ca_hash) else {
            others.insert(service.fullname.clone());
            continue;
        };
        match found.endpoints.first() {
            // Its addresses are still to come.
            None => {}
            Some(first) if first.host.parse().is_ok_and(|ip| rank(ip) <= ROUTABLE) => return Ok(found),
            Some(_) => {
                // Good enough if nothing better follows.
                deadline = deadline.min(Instant::now() + SETTLE);
                best = Some(found);
            }
        }
    }
    best.ok_or(JoinError::NoServer { waited: patience, other_clusters: others.len() })
}

/// The server of an advert, with the addresses known so far, if it is of this cluster.
fn judge(service: &ResolvedService, ca_hash: &str) -> Option<Found> {
    let txt = |key| service.get_property_val_str(key);
    if txt(CA_KEY) != Some(ca_hash) || txt(VERSION.0) != Some(VERSION.1) {
        return None;
    }
    let mut addresses: Vec<SocketAddr> =
        service.addresses.iter().filter_map(|a| socket_address(a, service.port)).collect();
    addresses.sort_by_key(|a| (rank(a.ip()), *a));
    // The instance's name comes with its dots escaped.
    let instance = service.fullname.strip_suffix(SERVICE).unwrap_or(&service.fullname);
    let name = instance.trim_end_matches('.').replace('\\', "");
    Some(Found { name, endpoints: addresses.into_iter().map(Endpoint::of).collect() })
}

fn socket_address(address: &ScopedIp, port: u16) -> Option<SocketAddr> {
    match (address.to_ip_addr(), address) {
        (IpAddr::V6(ip), ScopedIp::V6(scoped)) if is_link_local(ip.into()) => {
            Some(SocketAddrV6::new(ip, port, 0, scoped.scope_id().index).into())
        }
        (ip, _) if ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() => None,
        (ip, _) => Some(SocketAddr::new(ip, port)),
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(a) if a.segments()[0] & 0xffc0 == 0xfe80)
}

/// The last rank of the addresses that are worth no further wait.
const ROUTABLE: u8 = 1;

/// Order of trying. Site-local IPv6 (fec0::/10) is out of use; where it is all there is, it may still lead somewhere.
fn rank(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(v4) if !v4.is_link_local() => 0,
        IpAddr::V6(_) if is_link_local(address) => 3,
        IpAddr::V6(v6) if v6.segments()[0] & 0xffc0 != 0xfec0 => ROUTABLE,
        _ => 2,
    }
}

/// Loopback is left out: a server on this very machine needs no search.
fn daemon(check: u32) -> Result<ServiceDaemon, JoinError> {
    let daemon = ServiceDaemon::new().map_err(failed)?;
    daemon.set_ip_check_interval(check).map_err(failed)?;
    daemon.disable_interface([IfKind::LoopbackV4, IfKind::LoopbackV6].to_vec()).map_err(failed)?;
    Ok(daemon)
}

fn failed(error: mdns_sd::Error) -> JoinError {
    JoinError::Discovery(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advert(ca: &str, version: &str, addresses: &str) -> ResolvedService {
        let properties = [("ca", ca), ("v", version)];
        ServiceInfo::new(SERVICE, "pi.server", "pi-server.local.", addresses, 6443, &properties[..])
            .unwrap()
            .as_resolved_service()
    }

    #[test]
    fn only_adverts_with_the_tokens_hash_and_a_known_version_are_taken() {
        assert!(judge(&advert("aa", "1", "10.0.0.1"), "aa").is_some());
        assert!(judge(&advert("bb", "1", "10.0.0.1"), "aa").is_none());
        assert!(judge(&advert("aa", "2", "10.0.0.1"), "aa").is_none());
        assert!(judge(&advert("aa", "1", ""), "aa").is_some_and(|found| found.endpoints.is_empty()));
    }

    #[test]
    fn ipv4_is_tried_before_ipv6_and_loopback_never() {
        let found = judge(&advert("aa", "1", "fec0::1,fd00::1,127.0.0.1,169.254.0.1,10.0.0.1,fe80::1"), "aa").unwrap();
        let hosts: Vec<&str> = found.endpoints.iter().map(|e| e.host.as_str()).collect();
        assert_eq!(hosts, ["10.0.0.1", "fd00::1", "169.254.0.1", "fec0::1", "fe80::1"]);
        assert_eq!(found.name, "pi.server");
    }
}
