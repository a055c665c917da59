//! What a cluster has from its first start beside namespaces and roles: classes, flow schemas, the groups that are served,
//! the range of Services' addresses and the Service of the API itself.

use kiln_apimachinery::Status;
use kiln_apimachinery::status::Reason;
use serde_json::{Value, json};

use crate::allocate;
use crate::registry::{extension, flow};
use crate::server::ApiServer;

/// Classes of pods that the cluster itself needs, with their priorities.
const PRIORITIES: [(&str, i64, &str); 2] = [
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
];
/// What was a process of its own once.
const COMPONENTS: [&str; 3] = ["controller-manager", "etcd-0", "scheduler"];

type Wanted = Vec<(&'static str, &'static str, Value)>;

/// Creates what is missing. What is there stays as it is, so an operator's changes hold.
pub(crate) async fn run(server: &ApiServer) -> Result<(), Status> {
    let store = server.store();
    let mut wanted: Wanted = Vec::new();
    wanted.extend(flow::defaults::levels().into_iter().map(|l| (flow::GROUP, "prioritylevelconfigurations", l)));
    wanted.extend(flow::defaults::schemas().into_iter().map(|s| (flow::GROUP, "flowschemas", s)));
    for (group, versions) in server.registry().groups() {
        let local = versions.iter().filter_map(|version| extension::local(&group, version));
        wanted.extend(local.map(|object| (extension::GROUP, "apiservices", object)));
    }
    for (name, value, description) in PRIORITIES {
        let class = json!({"metadata": {"name": name}, "value": value, "description": description});
        wanted.push(("scheduling.k8s.io", "priorityclasses", class));
    }
    for name in COMPONENTS {
        let healthy = json!([{"type": "Healthy", "status": "True", "message": "ok"}]);
        wanted.push(("", "componentstatuses", json!({"metadata": {"name": name}, "conditions": healthy})));
    }
    wanted.extend(services(server));
    let writes = wanted.into_iter().map(|(group, plural, object)| async move {
        match store.create(group, plural, object).await {
            Err(status) if !status.is(Reason::AlreadyExists) => Err(status),
            _ => Ok(()),
        }
    });
    // Together, so that they share commits.
    futures_util::future::join_all(writes).await.into_iter().collect::<Result<(), Status>>()?;
    allocate::start(server).await
}

/// The range of Services' addresses, and the first Service.
fn services(server: &ApiServer) -> Wanted {
    let config = server.config();
    let Some(first) = config.service_cidrs.first() else { return Vec::new() };
    let cidrs: Vec<String> = config.service_cidrs.iter().map(ToString::to_string).collect();
    let address = first.at(1).to_string();
    let family = if first.is_v6() { "IPv6" } else { "IPv4" };
    let service = json!({
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "type": "ClusterIP", "clusterIP": address, "clusterIPs": [address],
            "ipFamilies": [family], "ipFamilyPolicy": "SingleStack", "sessionAffinity": "None",
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": config.port}],
        },
    });
    let range = json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": cidrs}});
    vec![("networking.k8s.io", "servicecidrs", range), ("", "services", service)]
}
