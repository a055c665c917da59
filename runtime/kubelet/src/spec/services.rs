//! Variables that tell of services (`enableServiceLinks`).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use kiln_client::{Object, ObjectRef};
use serde::Deserialize;

/// What of a Service becomes variables. A mirror of these costs little for each service of the cluster.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct ServiceLink {
    metadata: Meta,
    #[serde(default)]
    spec: Spec,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    name: String,
    namespace: String,
    uid: String,
    resource_version: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Spec {
    #[serde(rename = "clusterIP")]
    cluster_ip: String,
    ports: Vec<Port>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Port {
    name: String,
    protocol: String,
    port: u16,
}

impl ServiceLink {
    /// Its address in the cluster, if it has one.
    pub(crate) fn cluster_ip(&self) -> Option<IpAddr> {
        self.spec.cluster_ip.parse().ok()
    }
}

impl Object for ServiceLink {
    fn key(&self) -> ObjectRef {
        ObjectRef::namespaced(self.metadata.namespace.as_str(), self.metadata.name.as_str())
    }

    fn uid(&self) -> &str {
        &self.metadata.uid
    }

    fn resource_version(&self) -> &str {
        &self.metadata.resource_version
    }
}

/// The variables of a pod: those of the services in its namespace, if it wants them, and always of the API itself.
pub fn service_environment(services: &[Arc<ServiceLink>], namespace: &str, links: bool) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    let is_api =
        |service: &ServiceLink| service.metadata.namespace == "default" && service.metadata.name == "kubernetes";
    let has_ip = |service: &&Arc<ServiceLink>| !matches!(service.spec.cluster_ip.as_str(), "" | "None");
    // A service of that name in the pod's own namespace comes after the API's, and so in its place.
    let (api, others): (Vec<_>, Vec<_>) = services.iter().filter(has_ip).partition(|service| is_api(service));
    let own = others.into_iter().filter(|service| links && service.metadata.namespace == namespace);
    for service in api.into_iter().chain(own) {
        add(&mut variables, service);
    }
    variables
}

fn add(variables: &mut BTreeMap<String, String>, service: &ServiceLink) {
    let name = as_variable(&service.metadata.name);
    let ip = &service.spec.cluster_ip;
    let mut set = |name: String, value: String| variables.insert(name, value);
    set(format!("{name}_SERVICE_HOST"), ip.clone());
    for (index, port) in service.spec.ports.iter().enumerate() {
        let number = port.port;
        if index == 0 {
            set(format!("{name}_SERVICE_PORT"), number.to_string());
        }
        if !port.name.is_empty() {
            set(format!("{name}_SERVICE_PORT_{}", as_variable(&port.name)), number.to_string());
        }
        let protocol = if port.protocol.is_empty() { "TCP" } else { &port.protocol };
        let lower = protocol.to_lowercase();
        let host = if ip.contains(':') { format!("[{ip}]") } else { ip.clone() };
        let url = format!("{lower}://{host}:{number}");
        if index == 0 {
            set(format!("{name}_PORT"), url.clone());
        }
        let prefix = format!("{name}_PORT_{number}_{}", protocol.to_uppercase());
        set(format!("{prefix}_PROTO"), lower);
        set(format!("{prefix}_PORT"), number.to_string());
        set(format!("{prefix}_ADDR"), ip.clone());
        set(prefix, url);
    }
}

fn as_variable(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(namespace: &str, name: &str, ip: &str, ports: Value) -> Arc<ServiceLink> {
        let service = json!({
            "metadata": {"name": name, "namespace": namespace, "uid": "u", "resourceVersion": "1"},
            "spec": {"clusterIP": ip, "ports": ports},
        });
        Arc::new(serde_json::from_value(service).expect("a service"))
    }

    #[test]
    fn services_of_the_namespace_and_the_api_become_variables() {
        let services = [
            service("default", "kubernetes", "10.43.0.1", json!([{"name": "https", "port": 443, "protocol": "TCP"}])),
            service("ns", "my-db", "fd00::5", json!([{"port": 53, "protocol": "UDP"}, {"name": "web-ui", "port": 80}])),
            service("ns", "headless", "None", json!([{"port": 1}])),
            service("other", "far", "10.43.0.9", json!([{"port": 1}])),
        ];
        let found = service_environment(&services, "ns", true);
        let expected: BTreeMap<String, String> = [
            ("KUBERNETES_SERVICE_HOST", "10.43.0.1"),
            ("KUBERNETES_SERVICE_PORT", "443"),
            ("KUBERNETES_SERVICE_PORT_HTTPS", "443"),
            ("KUBERNETES_PORT", "tcp://10.43.0.1:443"),
            ("KUBERNETES_PORT_443_TCP", "tcp://10.43.0.1:443"),
            ("KUBERNETES_PORT_443_TCP_PROTO", "tcp"),
            ("KUBERNETES_PORT_443_TCP_PORT", "443"),
            ("KUBERNETES_PORT_443_TCP_ADDR", "10.43.0.1"),
            ("MY_DB_SERVICE_HOST", "fd00::5"),
            ("MY_DB_SERVICE_PORT", "53"),
            ("MY_DB_SERVICE_PORT_WEB_UI", "80"),
            ("MY_DB_PORT", "udp://[fd00::5]:53"),
            ("MY_DB_PORT_53_UDP", "udp://[fd00::5]:53"),
            ("MY_DB_PORT_53_UDP_PROTO", "udp"),
            ("MY_DB_PORT_53_UDP_PORT", "53"),
            ("MY_DB_PORT_53_UDP_ADDR", "fd00::5"),
            ("MY_DB_PORT_80_TCP", "tcp://[fd00::5]:80"),
            ("MY_DB_PORT_80_TCP_PROTO", "tcp"),
            ("MY_DB_PORT_80_TCP_PORT", "80"),
            ("MY_DB_PORT_80_TCP_ADDR", "fd00::5"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        assert_eq!(found, expected);
        let without = service_environment(&services, "ns", false);
        assert!(without.keys().all(|name| name.starts_with("KUBERNETES_")) && without.len() == 8, "{without:?}");
    }
}
