//! What stands behind the Service `kubernetes`: EndpointSlices and an Endpoints object with the address of this server and,
//! if several share one datastore, of the others that are there; kept right when servers come, go or move, or someone else
//! writes them.

mod announce;
mod others;
mod peers;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use kiln_apimachinery::meta;
use kiln_client::{Client, Informer, ListParams, ObjectRef, Store, WorkQueue};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use self::announce::announce;
pub use self::others::others;
use self::peers::Peers;
use crate::reconcile::{Failure, Next, work};

const NAME: &str = "kubernetes";
/// What the names of further slices begin with: a slice has one family of addresses and one port.
const FURTHER: &str = "kubernetes-ipv";
const ENDPOINTS: &str = "/api/v1/namespaces/default/endpoints";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

/// Where the API server is reached.
#[derive(Debug, Clone)]
pub struct Config {
    /// The addresses of the machine, loopback ones and others that are no good among them.
    pub addresses: watch::Receiver<BTreeSet<IpAddr>>,
    /// The one to announce, if the administrator chose one.
    pub advertise: Option<IpAddr>,
    /// The Service's own address, which is no endpoint.
    pub service_ip: Option<IpAddr>,
    /// The port that the server listens on.
    pub port: u16,
    /// Whether other servers have the same datastore; each must [`announce`] itself then.
    pub shared: bool,
}

impl Config {
    /// The address to announce: the chosen one; else an IPv4 address before an IPv6 one.
    fn address(&self) -> Option<IpAddr> {
        let usable = |a: &&IpAddr| {
            let local = match a {
                IpAddr::V4(v4) => v4.is_link_local(),
                IpAddr::V6(v6) => v6.is_unicast_link_local(),
            };
            !(a.is_loopback() || a.is_unspecified() || local || Some(**a) == self.service_ip)
        };
        self.advertise.or_else(|| self.addresses.borrow().iter().filter(usable).min().copied())
    }
}

/// Runs the controller until the shutdown.
pub async fn run(client: Client, mut config: Config, shutdown: CancellationToken) {
    let by_name = ListParams { fields: format!("metadata.name={NAME}"), ..ListParams::default() };
    let labelled = |(key, value)| ListParams { labels: format!("{key}={value}"), ..ListParams::default() };
    let endpoints = Informer::new(client.clone(), ENDPOINTS, by_name);
    let slices = Informer::new(client.clone(), SLICES, labelled(("kubernetes.io/service-name", NAME)));
    let leases = config.shared.then(|| Informer::new(client.clone(), announce::LEASES, labelled(announce::LABEL)));
    let queue = WorkQueue::<ObjectRef>::default();
    let key = ObjectRef::namespaced("default", NAME);
    let controller = Controller {
        peers: leases.as_ref().map(|leases| Peers::new(client.clone(), leases.store())),
        client,
        config: config.clone(),
        endpoints: endpoints.store(),
        slices: slices.store(),
    };
    let address_changes = async {
        loop {
            queue.add(key.clone());
            tokio::select! {
                () = shutdown.cancelled() => return,
                // The sender is gone when the server ends.
                changed = config.addresses.changed() => if changed.is_err() { return },
            }
        }
    };
    let follow_leases = async {
        if let Some(leases) = leases {
            leases.run(shutdown.clone(), |_| queue.add(key.clone())).await;
        }
    };
    tokio::join!(
        endpoints.run(shutdown.clone(), |_| queue.add(key.clone())),
        slices.run(shutdown.clone(), |_| queue.add(key.clone())),
        follow_leases,
        address_changes,
        work("kubernetes-service", &queue, &shutdown, |_| controller.reconcile()),
    );
}

struct Controller {
    client: Client,
    config: Config,
    endpoints: Store,
    slices: Store,
    peers: Option<Peers>,
}

impl Controller {
    async fn reconcile(&self) -> Result<Next, Failure> {
        self.endpoints.synced().await;
        self.slices.synced().await;
        let (mut servers, holds) = match &self.peers {
            Some(peers) => peers.live().await?,
            None => (BTreeSet::new(), None),
        };
        servers.extend(self.config.address().map(|address| SocketAddr::new(address, self.config.port)));
        let next = holds.map_or(Next::Settled, Next::After);
        if servers.is_empty() {
            return Ok(next);
        }
        self.keep(ENDPOINTS, &self.endpoints, endpoints(&servers), &["subsets"]).await?;
        let slices = slices(&servers);
        let names: BTreeSet<&str> = slices.iter().map(meta::name).collect();
        for found in self.slices.list() {
            let name = meta::name(&found);
            if name.starts_with(FURTHER) && !names.contains(name) {
                self.delete(&format!("{SLICES}/{name}")).await?;
            }
        }
        for slice in slices.iter().cloned() {
            self.keep(SLICES, &self.slices, slice, &["addressType", "endpoints", "ports"]).await?;
        }
        Ok(next)
    }

    /// Makes an object what it should be.
    async fn keep(&self, path: &str, store: &Store, wanted: Value, fields: &[&str]) -> Result<(), Failure> {
        let name = meta::name(&wanted).to_owned();
        let Some(found) = store.get(&ObjectRef::namespaced("default", &name)) else {
            return match self.client.create::<Value>(path, &wanted).await {
                // The mirror does not have it yet: when it has, it is looked at again.
                Err(error) if !error.is_already_exists() => Err(error.into()),
                _ => Ok(()),
            };
        };
        if fields.iter().all(|field| found[*field] == wanted[*field]) {
            return Ok(());
        }
        let object = format!("{path}/{name}");
        if found["addressType"] != wanted["addressType"] {
            // The type of a slice's addresses can't be changed: what the delete leads to makes it anew.
            return self.delete(&object).await;
        }
        let mut whole = (*found).clone();
        for field in fields {
            whole[*field] = wanted[*field].clone();
        }
        match self.client.update::<Value>(&object, &whole).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }

    async fn delete(&self, path: &str) -> Result<(), Failure> {
        match self.client.delete(path, &Value::Null).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }
}

fn ports(port: u16) -> Value {
    json!([{"name": "https", "port": port, "protocol": "TCP"}])
}

/// The Endpoints object, with a subset for each port.
fn endpoints(servers: &BTreeSet<SocketAddr>) -> Value {
    let mut by_port: BTreeMap<u16, Vec<Value>> = BTreeMap::new();
    for server in servers {
        by_port.entry(server.port()).or_default().push(json!({"ip": server.ip().to_string()}));
    }
    let subsets = by_port.into_iter().map(|(port, addresses)| json!({"addresses": addresses, "ports": ports(port)}));
    json!({
        // Another controller mirrors Endpoints to slices; this one has its slices.
        "metadata": {"name": NAME, "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": subsets.collect::<Vec<_>>(),
    })
}

/// A slice for each family and port; the first has the Service's name.
fn slices(servers: &BTreeSet<SocketAddr>) -> Vec<Value> {
    let mut groups: BTreeMap<(bool, u16), Vec<Value>> = BTreeMap::new();
    for server in servers {
        let endpoint = json!({"addresses": [server.ip().to_string()], "conditions": {"ready": true}});
        groups.entry((server.is_ipv6(), server.port())).or_default().push(endpoint);
    }
    let slice = |(n, ((is_ipv6, port), endpoints)): (usize, ((bool, u16), Vec<Value>))| {
        let (digit, family) = if is_ipv6 { (6, "IPv6") } else { (4, "IPv4") };
        json!({
            "metadata": {
                "name": if n == 0 { NAME.to_owned() } else { format!("{FURTHER}{digit}-{port}") },
                "labels": {"kubernetes.io/service-name": NAME},
            },
            "addressType": family,
            "endpoints": endpoints,
            "ports": ports(port),
        })
    };
    groups.into_iter().enumerate().map(slice).collect()
}
