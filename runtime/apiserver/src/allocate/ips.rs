//! Cluster IPs out of the ServiceCIDRs: each that is taken is an IPAddress.

use std::collections::HashSet;
use std::net::IpAddr;

use kiln_apimachinery::net::Cidr;
use kiln_apimachinery::{Reason, Status, meta, random, time};
use kiln_storage::ListOptions;
use serde_json::{Value, json};

use super::families::family_of;
use crate::server::ApiServer;
use crate::verbs::errors;

const GROUP: &str = "networking.k8s.io";
/// Keys of the IPAddresses.
const PREFIX: &str = "/registry/networking.k8s.io/ipaddresses/";
/// Keys of the ServiceCIDRs.
const CIDRS: &str = "/registry/networking.k8s.io/servicecidrs/";
/// How many addresses are tried at random before all that are taken are looked at.
const GUESSES: usize = 4;
/// Seconds after which an address whose Service is not there is no longer one that is about to be.
const GRACE: i64 = 60;

/// Why there is no address.
#[derive(Debug)]
pub(super) enum Refused {
    /// The complaint about the address that was asked for.
    Because(String),
    /// Every address is taken.
    Full,
    /// The store failed.
    Store(Status),
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        Self::Store(status)
    }
}

/// The key that takes an address.
pub(super) fn key(address: IpAddr) -> String {
    format!("{PREFIX}{address}")
}

/// The networks that addresses are given from: those of the ServiceCIDRs that stay, or else those of the settings.
pub(super) async fn networks(server: &ApiServer) -> Result<Vec<Cidr>, Status> {
    let page = server.storage().list(CIDRS, ListOptions::default()).await.map_err(errors::storage)?;
    let objects = page.records.iter().filter_map(|r| serde_json::from_slice::<Value>(&r.value).ok());
    let mut all: Vec<Cidr> = Vec::new();
    for object in objects.filter(|o| !meta::is_terminating(o)) {
        let cidrs = meta::strings(meta::at(&object, &["spec", "cidrs"]));
        all.extend(cidrs.iter().filter_map(|c| c.parse::<Cidr>().ok()));
    }
    // The configured ones come first, as long as they are there.
    let configured = &server.config().service_cidrs;
    all.sort_by_key(|c| configured.iter().position(|own| own == c).unwrap_or(usize::MAX));
    Ok(if all.is_empty() { configured.clone() } else { all })
}

/// Addresses of a network that may be given: not the first one, nor the last one of IPv4.
fn usable(network: Cidr) -> std::ops::RangeInclusive<u128> {
    1..=network.last_index().saturating_sub(u128::from(!network.is_v6()))
}

/// How many addresses at the beginning are left to those who ask for one of them.
fn reserved(network: Cidr) -> u128 {
    let size = usable(network).end().saturating_add(2);
    if size <= 16 { 0 } else { (size / 16).clamp(16, 256) }
}

/// Takes an address that was asked for.
pub(super) async fn take(server: &ApiServer, service: &Value, address: IpAddr, dry_run: bool) -> Result<(), Refused> {
    let Some(network) = networks(server).await?.into_iter().find(|n| n.contains(address)) else {
        return Err(Refused::Because("the provided network does not match the current range".into()));
    };
    if !network.index_of(address).is_some_and(|i| usable(network).contains(&i)) {
        let network = network.masked();
        let why = format!("the provided IP ({address}) is not in the valid range. The range of valid IPs is {network}");
        return Err(Refused::Because(why));
    }
    if dry_run || create(server, service, address).await? || take_over(server, service, address).await? {
        return Ok(());
    }
    Err(Refused::Because("provided IP is already allocated".into()))
}

/// Takes any address of a family.
pub(super) async fn take_any(
    server: &ApiServer,
    service: &Value,
    family: &str,
    dry_run: bool,
) -> Result<IpAddr, Refused> {
    for network in networks(server).await?.into_iter().filter(|n| family_of(n.address()) == family) {
        if dry_run {
            return Ok(network.at(0));
        }
        if let Some(address) = take_from(server, service, network).await? {
            return Ok(address);
        }
    }
    Err(Refused::Full)
}

async fn take_from(server: &ApiServer, service: &Value, network: Cidr) -> Result<Option<IpAddr>, Refused> {
    let all = usable(network);
    let first = (all.start() + reserved(network)).min(*all.end());
    let span = all.end().saturating_sub(first).saturating_add(1);
    if all.is_empty() {
        return Ok(None);
    }
    let random = || random::bytes::<16>().map(u128::from_ne_bytes).map_err(Status::internal);
    for _ in 0..GUESSES {
        let address = network.at(first + random()? % span);
        if create(server, service, address).await? {
            return Ok(Some(address));
        }
    }
    // It is crowded: look at all, those beyond the reserve first.
    let mut taken = taken(server).await?;
    let start = random()? % span;
    let beyond = (0..span).map(|i| first + (start + i) % span);
    for index in beyond.chain(*all.start()..first) {
        let address = network.at(index);
        if taken.insert(address) && create(server, service, address).await? {
            return Ok(Some(address));
        }
    }
    Ok(None)
}

async fn taken(server: &ApiServer) -> Result<HashSet<IpAddr>, Status> {
    let page = server.storage().list(PREFIX, ListOptions::default()).await.map_err(errors::storage)?;
    Ok(page.records.iter().filter_map(|r| r.key.strip_prefix(PREFIX)?.parse().ok()).collect())
}

/// The IPAddress of a Service.
fn object(service: &Value, address: IpAddr) -> Value {
    json!({
        "metadata": {
            "name": address.to_string(),
            "labels": {
                "ipaddress.kubernetes.io/ip-family": family_of(address),
                "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
            },
        },
        "spec": {
            "parentRef": {
                "group": "", "resource": "services", "namespace": meta::namespace(service), "name": meta::name(service),
            },
        },
    })
}

/// Creates the IPAddress; false if there is one.
async fn create(server: &ApiServer, service: &Value, address: IpAddr) -> Result<bool, Status> {
    match server.store().create(GROUP, "ipaddresses", object(service, address)).await {
        Ok(()) => Ok(true),
        Err(status) if status.is(Reason::AlreadyExists) => Ok(false),
        Err(status) => Err(status),
    }
}

/// Takes the address of a Service that is not there, as one whose writer was cut off leaves it; false if it is in use.
async fn take_over(server: &ApiServer, service: &Value, address: IpAddr) -> Result<bool, Status> {
    let Some(found) = server.store().read(GROUP, "ipaddresses", "", &address.to_string()).await? else {
        return create(server, service, address).await;
    };
    let parent = |key: &str| meta::text(&found.object, &["spec", "parentRef", key]);
    let made = time::parse(meta::text(&found.object, &["metadata", "creationTimestamp"]));
    let is_fresh = made.is_none_or(|t| server.now().as_second() - t.as_second() < GRACE);
    if is_fresh || parent("resource") != "services" || !parent("group").is_empty() {
        return Ok(false);
    }
    let owner = server.store().read("", "services", parent("namespace"), parent("name")).await?;
    let text = address.to_string();
    if owner.is_some_and(|o| meta::strings(meta::at(&o.object, &["spec", "clusterIPs"])).contains(&text.as_str())) {
        return Ok(false);
    }
    let mut new = found.object.clone();
    new["spec"] = object(service, address)["spec"].take();
    match server.store().replace(GROUP, "ipaddresses", &found, &new).await {
        Ok(()) => Ok(true),
        // Someone else took it over first.
        Err(status) if status.is(Reason::Conflict) || status.is(Reason::NotFound) => Ok(false),
        Err(status) => Err(status),
    }
}

/// The IPAddress of an address that a stored Service has already, if there is none.
pub(super) async fn adopt(server: &ApiServer, service: &Value, address: IpAddr) -> Result<(), Status> {
    let exists = server.storage().get(&key(address)).await.map_err(errors::storage)?.is_some();
    if !exists {
        // If it is there after all, another server made it for the same Service.
        create(server, service, address).await?;
    }
    Ok(())
}
