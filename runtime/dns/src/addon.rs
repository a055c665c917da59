//! The Service of the cluster's DNS, as tools know it: `kube-system/kube-dns`. A server keeps it. Its label keeps proxies away from
//! it: each node answers at its addresses itself. For those who look all the same there is an EndpointSlice that says so.

use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use kiln_client::{Backoff, BoxFuture, Client, ClientError, Informer, ListParams, PatchKind};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The Service's namespace.
pub const NAMESPACE: &str = "kube-system";
/// The Service's name.
pub const NAME: &str = "kube-dns";
/// The port of DNS.
pub const PORT: u16 = 53;

const SERVICES: &str = "/api/v1/namespaces/kube-system/services";
const SERVICE: &str = "/api/v1/namespaces/kube-system/services/kube-dns";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices";
/// Says who serves a Service in place of the nodes' proxies.
const SERVED_BY: (&str, &str) = ("service.kubernetes.io/service-proxy-name", "kiln-dns");
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// Keeps the Service until the shutdown, at these addresses. With none it is taken away, if it is this one's: then the administrator
/// brings a DNS of his own.
pub fn run(client: Client, addresses: Vec<IpAddr>, shutdown: CancellationToken) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let by_name = ListParams { fields: format!("metadata.name={NAME}"), ..ListParams::default() };
        let informer = Informer::<Service>::new(client.clone(), SERVICES, by_name);
        let (store, changed) = (informer.store(), Notify::new());
        let keep = async {
            store.synced().await;
            let mut backoff = Backoff::new(RETRY.0, RETRY.1);
            loop {
                let found = store.list().into_iter().next();
                match keep(&client, found.as_deref(), &addresses).await {
                    Ok(()) => {
                        backoff.reset();
                        changed.notified().await;
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot keep the Service {NAMESPACE}/{NAME}; will try again");
                        tokio::time::sleep(backoff.next_wait()).await;
                    }
                }
            }
        };
        tokio::select! {
            () = informer.run(shutdown.clone(), |_| changed.notify_one()) => {}
            () = keep => {}
        }
    })
}

/// The addresses at which nodes serve it; none if it is another's Service.
pub(crate) fn addresses_of(service: &Service) -> Vec<IpAddr> {
    if !is_ours(service) {
        return Vec::new();
    }
    let spec = service.spec.as_ref();
    let ips = spec.and_then(|spec| spec.cluster_ips.as_deref()).unwrap_or_default();
    ips.iter().filter_map(|ip| ip.parse().ok()).collect()
}

fn is_ours(service: &Service) -> bool {
    let labels = service.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(SERVED_BY.0)).is_some_and(|by| by == SERVED_BY.1)
}

async fn keep(client: &Client, found: Option<&Service>, addresses: &[IpAddr]) -> Result<(), ClientError> {
    match found {
        Some(service) if !is_ours(service) => {
            if !addresses.is_empty() {
                tracing::warn!("the Service {NAMESPACE}/{NAME} is another's: the cluster's DNS is left to it");
            }
            return Ok(());
        }
        Some(service) if addresses_of(service) == addresses => {}
        // Addresses can't be changed.
        Some(_) => gone(client.delete(SERVICE, &Value::Null).await)?,
        None => {}
    }
    if addresses.is_empty() {
        return gone(client.delete(&format!("{SLICES}/{NAME}-ipv4"), &Value::Null).await)
            .and(gone(client.delete(&format!("{SLICES}/{NAME}-ipv6"), &Value::Null).await));
    }
    if found.is_none_or(|service| addresses_of(service) != addresses) {
        client.create::<Value>(SERVICES, &service(addresses)).await?;
        tracing::info!(?addresses, "the Service {NAMESPACE}/{NAME} is there");
    }
    for address in addresses {
        let slice = slice(*address);
        match client.create::<Value>(SLICES, &slice).await {
            Err(error) if error.is_already_exists() => {
                let name = slice["metadata"]["name"].as_str().unwrap_or_default();
                client.patch::<Value>(&format!("{SLICES}/{name}"), PatchKind::Merge, &slice).await?;
            }
            created => drop(created?),
        }
    }
    Ok(())
}

fn gone(deleted: Result<impl Sized, ClientError>) -> Result<(), ClientError> {
    match deleted {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

/// What the Service and its EndpointSlices are labelled with.
fn labels() -> Value {
    json!({
        "k8s-app": "kube-dns",
        "kubernetes.io/cluster-service": "true",
        "kubernetes.io/name": "CoreDNS",
        SERVED_BY.0: SERVED_BY.1,
    })
}

fn service(addresses: &[IpAddr]) -> Value {
    let families: Vec<&str> = addresses.iter().map(|address| if address.is_ipv4() { "IPv4" } else { "IPv6" }).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": NAMESPACE, "name": NAME, "labels": labels()},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": addresses.first().map(IpAddr::to_string),
            "clusterIPs": addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>(),
            "ipFamilies": families,
            "ipFamilyPolicy": if families.len() > 1 { "RequireDualStack" } else { "SingleStack" },
            "ports": [
                {"name": "dns", "port": PORT, "protocol": "UDP", "targetPort": PORT},
                {"name": "dns-tcp", "port": PORT, "protocol": "TCP", "targetPort": PORT},
            ],
        },
    })
}

fn slice(address: IpAddr) -> Value {
    let (family, suffix) = if address.is_ipv4() { ("IPv4", "ipv4") } else { ("IPv6", "ipv6") };
    let mut labels = labels();
    labels["kubernetes.io/service-name"] = json!(NAME);
    labels[MANAGED_BY] = json!("kiln-dns");
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"namespace": NAMESPACE, "name": format!("{NAME}-{suffix}"), "labels": labels},
        "addressType": family,
        "endpoints": [{"addresses": [address.to_string()], "conditions": {"ready": true, "serving": true, "terminating": false}}],
        "ports": [
            {"name": "dns", "port": PORT, "protocol": "UDP"},
            {"name": "dns-tcp", "port": PORT, "protocol": "TCP"},
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_client::testing::FakeApi;

    async fn until(what: impl Fn() -> bool) {
        while !what() {
            // The clock stands still and goes on when all others wait.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn started(api: &FakeApi, addresses: &[&str]) -> CancellationToken {
        let shutdown = CancellationToken::new();
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        tokio::spawn(run(api.client(), addresses, shutdown.clone()));
        shutdown
    }

    #[tokio::test(start_paused = true)]
    async fn the_service_comes_back_at_its_addresses_when_someone_deletes_it() {
        let api = FakeApi::new();
        let _shutdown = started(&api, &["10.43.0.10", "fd00::a"]).drop_guard();
        let slices =
            || ["kube-dns-ipv4", "kube-dns-ipv6"].map(|name| api.object(&format!("{SLICES}/{name}")).is_some());
        until(|| slices() == [true, true]).await;
        let service = api.object(SERVICE).unwrap();
        assert_eq!(service["spec"]["clusterIPs"], json!(["10.43.0.10", "fd00::a"]));
        api.remove(SERVICE);
        until(|| api.object(SERVICE).is_some()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn anothers_service_is_left_alone_and_our_own_goes_when_it_is_not_wanted() {
        let api = FakeApi::new();
        api.put(
            SERVICE,
            json!({"metadata": {"namespace": NAMESPACE, "name": NAME}, "spec": {"clusterIPs": ["10.43.0.10"]}}),
        );
        let shutdown = started(&api, &["10.43.0.11"]);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(api.object(SERVICE).unwrap()["spec"]["clusterIPs"], json!(["10.43.0.10"]));
        shutdown.cancel();
        api.put(SERVICE, service(&["10.43.0.10".parse().unwrap()]));
        let _shutdown = started(&api, &[]).drop_guard();
        until(|| api.object(SERVICE).is_none()).await;
    }
}
