//! SCTP for the pods of clusters that use it. Kiln's own system loads the kernel's module only there: most never ask for it, and each
//! protocol that the kernel speaks is one more that it can be attacked by.

use std::io;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kiln_client::{Change, Object};
use tokio::sync::Notify;

use super::cluster::ClusterSettings;
use super::parts::Parts;

/// The module's name.
pub(super) const MODULE: &str = "sctp";
/// The protocol's name in the API.
const NAME: &str = "SCTP";

/// Has the module loaded by `load` once a Service or network policy speaks of SCTP, of those that the node mirrors anyway.
pub(super) fn add(
    parts: &mut Parts,
    cluster: &ClusterSettings,
    load: impl FnOnce() -> io::Result<()> + Send + 'static,
) {
    let asked = Arc::new(Notify::new());
    if cluster.disable_kube_proxy != "true" {
        parts.informers.of::<Service>().subscribe(look(&asked, serves));
    }
    if cluster.disable_network_policy != "true" {
        parts.informers.of::<NetworkPolicy>().subscribe(look(&asked, speaks));
    }
    let shutdown = parts.shutdown.clone();
    parts.add(async move {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = asked.notified() => {}
        }
        let loaded = tokio::task::spawn_blocking(load).await.map_err(io::Error::other).flatten();
        if let Err(error) = loaded {
            tracing::warn!(%error, "SCTP's module is not loaded");
        }
    });
}

/// Looks at each object for whether it uses SCTP.
fn look<T: Object>(asked: &Arc<Notify>, uses: fn(&T) -> bool) -> impl FnMut(&Change<T>) + Send + 'static {
    let asked = Arc::clone(asked);
    move |change| {
        if let Change::Applied { object, .. } = change
            && uses(object)
        {
            asked.notify_one();
        }
    }
}

fn serves(service: &Service) -> bool {
    let mut ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    ports.any(|port| port.protocol.as_deref() == Some(NAME))
}

fn speaks(policy: &NetworkPolicy) -> bool {
    let Some(spec) = &policy.spec else { return false };
    let incoming = spec.ingress.iter().flatten().flat_map(|rule| rule.ports.iter().flatten());
    let outgoing = spec.egress.iter().flatten().flat_map(|rule| rule.ports.iter().flatten());
    incoming.chain(outgoing).any(|port| port.protocol.as_deref() == Some(NAME))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kiln_client::testing::FakeApi;
    use serde_json::{Value, json};
    use tokio::sync::oneshot;
    use tokio_util::sync::CancellationToken;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    fn put(api: &FakeApi, path: &str, name: &str, spec: Value) {
        let meta = json!({"name": name, "namespace": "ns", "uid": name});
        api.put(&format!("{path}/{name}"), json!({"metadata": meta, "spec": spec}));
    }

    #[tokio::test]
    async fn the_module_is_loaded_when_something_speaks_of_sctp_and_not_before() {
        let ports = |protocol: &str| json!([{"port": 7, "protocol": protocol}]);
        let service = |protocol: &str| json!({"ports": ports(protocol)});
        let incoming = |protocol: &str| json!({"podSelector": {}, "ingress": [{"ports": ports(protocol)}]});
        let outgoing = |protocol: &str| json!({"podSelector": {}, "egress": [{}, {"ports": ports(protocol)}]});
        let (services, policies) =
            ("/api/v1/namespaces/ns/services", "/apis/networking.k8s.io/v1/namespaces/ns/networkpolicies");
        for (path, name, spec) in
            [(services, "a", service("SCTP")), (policies, "b", incoming("SCTP")), (policies, "c", outgoing("SCTP"))]
        {
            let api = FakeApi::new();
            put(&api, services, "tcp", service("TCP"));
            put(&api, policies, "tcp", incoming("TCP"));
            put(&api, policies, "udp", outgoing("UDP"));
            let shutdown = CancellationToken::new();
            let mut parts = Parts::new(api.client(), shutdown.clone());
            let (told, mut loaded) = oneshot::channel();
            add(&mut parts, &ClusterSettings::default(), move || {
                told.send(()).map_err(|()| io::ErrorKind::Other.into())
            });
            let (services, policies) =
                (parts.informers.of::<Service>().store(), parts.informers.of::<NetworkPolicy>().store());
            let running = tokio::spawn(parts.run());
            let seen = async {
                while services.list().is_empty() || policies.list().len() < 2 {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(LONG, seen).await.expect("the mirrors");
            assert!(loaded.try_recv().is_err(), "{name}: nothing has asked for it");
            put(&api, path, name, spec);
            tokio::time::timeout(LONG, loaded).await.expect("in time").expect("it is loaded");
            shutdown.cancel();
            running.await.expect("its end");
        }
    }
}
