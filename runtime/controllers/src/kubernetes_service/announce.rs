//! One of several servers tells the others that it is there: a Lease of its own, as Kubernetes' API servers have one, with the
//! address in it. The Lease is renewed while the server runs and goes with it; that of a server that died runs out.

use std::net::SocketAddr;
use std::time::Duration;

use kiln_client::{BoxFuture, Client, ClientError, Clock, PatchKind};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::Config;

/// Where the Leases are.
pub(super) const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
/// What all of them are labelled with.
pub(super) const LABEL: (&str, &str) = ("apiserver.kubernetes.io/identity", "kube-apiserver");
/// The annotation with the server's address and port.
pub(super) const ADDRESS: &str = "kiln.dev/address";
/// How long a Lease holds, how often it is renewed, and how soon it is tried again.
pub(super) const HOLDS: Duration = Duration::from_secs(30);
const RENEW: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(2);

/// Announces this server until the shutdown. `identity` is another for each server and each of its runs: lower-case letters,
/// digits, `-` and `.`.
pub fn announce(
    client: Client,
    identity: String,
    config: Config,
    clock: Clock,
    shutdown: CancellationToken,
) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let mut addresses = config.addresses.clone();
        let lease = Lease { client, name: lease_name(&identity), config, clock };
        loop {
            let wait = match lease.renew().await {
                Ok(()) => RENEW,
                Err(error) => {
                    tracing::warn!(%error, "this server can't tell the others that it is there; will try again");
                    RETRY
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep(wait) => {}
                // The sender is gone when the server ends.
                changed = addresses.changed() => if changed.is_err() { break },
            }
        }
        lease.give_up().await;
    })
}

/// The name of a server's Lease.
pub(super) fn lease_name(identity: &str) -> String {
    format!("apiserver-{identity}")
}

struct Lease {
    client: Client,
    name: String,
    config: Config,
    clock: Clock,
}

impl Lease {
    async fn renew(&self) -> Result<(), ClientError> {
        let Some(address) = self.config.address() else { return Ok(()) };
        let now = self.clock.now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
        let address = SocketAddr::new(address, self.config.port).to_string();
        let mut lease = json!({"metadata": {"annotations": {ADDRESS: address}}, "spec": {"renewTime": now}});
        let path = format!("{LEASES}/{}", self.name);
        match self.client.patch::<Value>(&path, PatchKind::Merge, &lease).await {
            Err(error) if error.is_not_found() => {}
            renewed => return renewed.map(drop),
        }
        lease["metadata"]["name"] = json!(self.name);
        lease["metadata"]["labels"] = json!({LABEL.0: LABEL.1});
        lease["spec"]["holderIdentity"] = json!(self.name);
        lease["spec"]["leaseDurationSeconds"] = json!(HOLDS.as_secs());
        self.client.create::<Value>(LEASES, &lease).await.map(drop)
    }

    async fn give_up(&self) {
        let path = format!("{LEASES}/{}", self.name);
        match tokio::time::timeout(RETRY, self.client.delete(&path, &Value::Null)).await {
            Ok(Err(error)) if !error.is_not_found() => {
                tracing::debug!(%error, "this server's lease is left to run out")
            }
            Err(_) => tracing::debug!("this server's lease is left to run out"),
            Ok(_) => {}
        }
    }
}
