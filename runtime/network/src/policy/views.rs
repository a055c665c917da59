//! Pods and namespaces with just what policies ask of them: a cluster's Pods whole would be a hundred times as large.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope, Resource};
use kiln_client::{Object, ObjectRef};
use serde::Deserialize;

/// Which Pods are asked for: those that are over have no address any more, and those in the node's network are the node.
pub(super) const FIELDS: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// A Pod.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Raw")]
pub(super) struct PodView {
    key: ObjectRef,
    uid: String,
    resource_version: String,
    pub(super) labels: BTreeMap<String, String>,
    /// The node that it is on.
    pub(super) node: String,
    /// Its addresses; none in the node's network, and none once it is over.
    pub(super) ips: Vec<IpAddr>,
    /// Its ports that have names: protocol, name and number.
    pub(super) ports: Vec<(u8, String, u16)>,
}

/// A Namespace.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Raw")]
pub(super) struct NamespaceView {
    key: ObjectRef,
    uid: String,
    resource_version: String,
    pub(super) labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[derive(Default)]
struct Raw {
    metadata: Metadata,
    spec: Spec,
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    name: String,
    namespace: String,
    uid: String,
    resource_version: String,
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    node_name: String,
    host_network: bool,
    containers: Vec<Container>,
    init_containers: Vec<Container>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Container {
    ports: Vec<Port>,
    restart_policy: String,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Port {
    name: String,
    container_port: u16,
    protocol: String,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    phase: String,
    #[serde(rename = "podIPs")]
    pod_ips: Vec<PodIp>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PodIp {
    ip: String,
}

/// The number of a protocol by its name in the API.
pub(super) fn protocol(name: &str) -> u8 {
    match name {
        "UDP" => 17,
        "SCTP" => 132,
        _ => 6,
    }
}

impl From<Raw> for PodView {
    fn from(raw: Raw) -> Self {
        let has_network = !raw.spec.host_network && !matches!(raw.status.phase.as_str(), "Succeeded" | "Failed");
        let ips = raw.status.pod_ips.iter().filter(|_| has_network).filter_map(|ip| ip.ip.parse().ok()).collect();
        // Sidecars among the init containers serve as the others do.
        let sidecars = raw.spec.init_containers.into_iter().filter(|container| container.restart_policy == "Always");
        let ports = raw.spec.containers.into_iter().chain(sidecars).flat_map(|container| container.ports);
        let named = ports.filter(|port| !port.name.is_empty());
        Self {
            ips,
            ports: named.map(|port| (protocol(&port.protocol), port.name, port.container_port)).collect(),
            node: raw.spec.node_name,
            key: ObjectRef { namespace: raw.metadata.namespace, name: raw.metadata.name },
            uid: raw.metadata.uid,
            resource_version: raw.metadata.resource_version,
            labels: raw.metadata.labels,
        }
    }
}

impl From<Raw> for NamespaceView {
    fn from(raw: Raw) -> Self {
        Self {
            key: ObjectRef { namespace: String::new(), name: raw.metadata.name },
            uid: raw.metadata.uid,
            resource_version: raw.metadata.resource_version,
            labels: raw.metadata.labels,
        }
    }
}

macro_rules! views {
    ($($view:ty, $kind:literal, $plural:literal, $scope:ty;)*) => {
        $(impl Object for $view {
            fn key(&self) -> ObjectRef {
                self.key.clone()
            }

            fn uid(&self) -> &str {
                &self.uid
            }

            fn resource_version(&self) -> &str {
                &self.resource_version
            }
        }

        impl Resource for $view {
            type Scope = $scope;
            const API_VERSION: &'static str = "v1";
            const GROUP: &'static str = "";
            const KIND: &'static str = $kind;
            const VERSION: &'static str = "v1";
            const URL_PATH_SEGMENT: &'static str = $plural;
        })*
    };
}

views! {
    PodView, "Pod", "pods", NamespaceResourceScope;
    NamespaceView, "Namespace", "namespaces", ClusterResourceScope;
}
