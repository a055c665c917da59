//! What stands behind the Service `kubernetes`: an EndpointSlice and an Endpoints object with this server's address,
//! kept right when the address changes or someone else writes them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use kiln_client::{Client, Informer, ListParams, ObjectRef, Store, WorkQueue};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::reconcile::{Failure, Next, work};

const NAME: &str = "kubernetes";
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
    let by_name = || ListParams { fields: format!("metadata.name={NAME}"), ..ListParams::default() };
    let endpoints = Informer::new(client.clone(), ENDPOINTS, by_name());
    let slices = Informer::new(client.clone(), SLICES, by_name());
    let queue = WorkQueue::<ObjectRef>::default();
    let key = ObjectRef::namespaced("default", NAME);
    let controller =
        Controller { client, config: config.clone(), endpoints: endpoints.store(), slices: slices.store() };
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
    tokio::join!(
        endpoints.run(shutdown.clone(), |_| queue.add(key.clone())),
        slices.run(shutdown.clone(), |_| queue.add(key.clone())),
        address_changes,
        work("kubernetes-service", &queue, &shutdown, |_| controller.reconcile()),
    );
}

struct Controller {
    client: Client,
    config: Config,
    endpoints: Store,
    slices: Store,
}

impl Controller {
    async fn reconcile(&self) -> Result<Next, Failure> {
        self.endpoints.synced().await;
        self.slices.synced().await;
        let Some(address) = self.config.address() else { return Ok(Next::Settled) };
        let port = json!({"name": "https", "port": self.config.port, "protocol": "TCP"});
        let endpoints = json!({
            // Another controller mirrors Endpoints to slices; this one has its slice.
            "metadata": {"name": NAME, "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
            "subsets": [{"addresses": [{"ip": address.to_string()}], "ports": [port]}],
        });
        let slice = json!({
            "metadata": {"name": NAME, "labels": {"kubernetes.io/service-name": NAME}},
            "addressType": if address.is_ipv4() { "IPv4" } else { "IPv6" },
            "endpoints": [{"addresses": [address.to_string()], "conditions": {"ready": true}}],
            "ports": [port],
        });
        self.keep(ENDPOINTS, &self.endpoints, endpoints, &["subsets"]).await?;
        self.keep(SLICES, &self.slices, slice, &["addressType", "endpoints", "ports"]).await?;
        Ok(Next::Settled)
    }

    /// Makes an object what it should be.
    async fn keep(&self, path: &str, store: &Store, wanted: Value, fields: &[&str]) -> Result<(), Failure> {
        let Some(found) = store.get(&ObjectRef::namespaced("default", NAME)) else {
            self.client.create::<Value>(path, &wanted).await?;
            return Ok(());
        };
        if fields.iter().all(|field| found[*field] == wanted[*field]) {
            return Ok(());
        }
        let object = format!("{path}/{NAME}");
        if found["addressType"] != wanted["addressType"] {
            // The type of a slice's addresses can't be changed: what the delete leads to makes it anew.
            self.client.delete(&object, &Value::Null).await?;
            return Ok(());
        }
        let mut whole = (*found).clone();
        for field in fields {
            whole[*field] = wanted[*field].clone();
        }
        self.client.update::<Value>(&object, &whole).await?;
        Ok(())
    }
}
