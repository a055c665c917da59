//! The heartbeat: a Lease that is renewed every ten seconds.

use std::time::Duration;

use kiln_apimachinery::time;
use kiln_client::{Backoff, ClientError};
use serde_json::{Value, json};

use crate::{Kubelet, Progress};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
/// How often the Lease is renewed.
const INTERVAL: Duration = Duration::from_secs(10);
/// For how long it is good.
const DURATION: Duration = Duration::from_secs(40);

impl<T: Fn(Progress) + Send + Sync> Kubelet<T> {
    /// Renews the Lease of the Node with this uid, without end.
    pub(super) async fn keep_lease(&self, uid: &str) {
        let mut backoff = Backoff::new(Duration::from_secs(1), INTERVAL);
        let mut lease = None;
        loop {
            match self.renew(lease.take(), uid).await {
                Ok(renewed) => {
                    lease = Some(renewed);
                    backoff.reset();
                    tokio::time::sleep(INTERVAL).await;
                }
                Err(error) => {
                    tracing::warn!(node = self.config.node_name, %error, "cannot renew the Lease; will try again");
                    tokio::time::sleep(backoff.next_wait()).await;
                }
            }
        }
    }

    /// Renews the Lease as it was last seen, or as it is, or makes it.
    async fn renew(&self, seen: Option<Value>, uid: &str) -> Result<Value, ClientError> {
        let path = format!("{LEASES}/{}", self.config.node_name);
        if let Some(seen) = seen {
            match self.client.update(&path, &self.renewed(seen, uid)).await {
                Err(error) if error.is_conflict() || error.is_not_found() => {}
                answered => return answered,
            }
        }
        match self.client.find::<Value>(&path).await? {
            Some(current) => self.client.update(&path, &self.renewed(current, uid)).await,
            None => {
                let lease = json!({
                    "apiVersion": "coordination.k8s.io/v1",
                    "kind": "Lease",
                    "metadata": {"name": self.config.node_name, "namespace": "kube-node-lease"},
                });
                self.client.create(LEASES, &self.renewed(lease, uid)).await
            }
        }
    }

    fn renewed(&self, mut lease: Value, uid: &str) -> Value {
        let name = &self.config.node_name;
        lease["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}]);
        lease["spec"]["holderIdentity"] = json!(name);
        lease["spec"]["leaseDurationSeconds"] = json!(DURATION.as_secs());
        lease["spec"]["renewTime"] = json!(time::rfc3339_micro(self.config.clock.now()));
        lease
    }
}
