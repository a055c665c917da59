//! A pod's sandbox: the namespaces that its containers share.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, Pod};

use super::{PodContext, SpecError, dns, host_network, hostname, identity, name, namespace, resources, security, uid};
use crate::cgroups;
use crate::cri::{LinuxPodSandboxConfig, PodSandboxConfig, PodSandboxMetadata, PortMapping, Protocol};

/// What the runtime is to make the sandbox of.
///
/// # Errors
/// If the pod's names or the node's settings of name resolution are no good.
pub fn sandbox_config(pod: &Pod, context: &PodContext) -> Result<PodSandboxConfig, SpecError> {
    let mut labels = pod.metadata.labels.clone().unwrap_or_default();
    labels.extend(identity::pod_labels(pod));
    // A pod in the node's network has the node's name.
    let hostname = if host_network(pod) {
        String::new()
    } else {
        let (host, domain) = hostname::of(pod, &context.node.cluster_domain)?;
        hostname::for_kernel(pod, host, &domain)?
    };
    let sysctls = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref()?.sysctls.as_ref());
    let (all, overhead) = resources::sandbox_resources(pod, &context.node);
    let linux = LinuxPodSandboxConfig {
        cgroup_parent: cgroups::pod_path(&context.node.cgroup_root, pod),
        security_context: Some(security::sandbox(pod, context)?),
        sysctls: sysctls.into_iter().flatten().map(|sysctl| (sysctl.name.clone(), sysctl.value.clone())).collect(),
        overhead: Some(overhead),
        resources: Some(all),
    };
    Ok(PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: name(pod).to_owned(),
            uid: uid(pod).to_owned(),
            namespace: namespace(pod).to_owned(),
            attempt: context.attempt,
        }),
        hostname,
        log_directory: identity::log_directory(&context.node.pod_logs, pod).to_string_lossy().into_owned(),
        dns_config: Some(dns::of(pod, context)?),
        port_mappings: ports(pod),
        labels,
        annotations: pod.metadata.annotations.clone().unwrap_or_default(),
        linux: Some(linux),
    })
}

fn ports(pod: &Pod) -> Vec<PortMapping> {
    pod.spec.iter().flat_map(|spec| &spec.containers).flat_map(of_container).collect()
}

/// Each named port of a container once.
fn of_container(container: &Container) -> Vec<PortMapping> {
    let mut seen = BTreeSet::new();
    let ports = container.ports.iter().flatten().filter_map(|port| {
        let protocol = match port.protocol.as_deref() {
            Some("UDP") => Protocol::Udp,
            Some("SCTP") => Protocol::Sctp,
            _ => Protocol::Tcp,
        };
        let host_ip = port.host_ip.clone().unwrap_or_default();
        let host_port = port.host_port.unwrap_or(0);
        let name = port.name.clone().filter(|name| !name.is_empty());
        let name = name.unwrap_or_else(|| format!("{protocol:?}-{host_ip}:{}:{host_port}", port.container_port));
        let mapping =
            PortMapping { protocol: protocol as i32, container_port: port.container_port, host_port, host_ip };
        seen.insert(name).then_some(mapping)
    });
    ports.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing;
    use super::*;

    #[test]
    fn a_sandbox_tells_whose_it_is_and_what_it_shares() {
        let mut pod = testing::pod(json!({
            "hostname": "h", "subdomain": "s", "dnsPolicy": "ClusterFirst",
            "securityContext": {"sysctls": [{"name": "kernel.shm_rmid_forced", "value": "1"}], "runAsUser": 5},
            "containers": [{"name": "c", "ports": [
                {"containerPort": 80, "hostPort": 8080, "hostIP": "127.0.0.1", "protocol": "TCP", "name": "web"},
                {"containerPort": 81, "name": "web"},
                {"containerPort": 53, "protocol": "UDP"},
            ]}],
        }));
        pod.metadata.labels = Some([("app".to_owned(), "x".to_owned())].into());
        let mut context = testing::context();
        context.attempt = 3;
        let config = sandbox_config(&pod, &context).expect("a configuration");
        let metadata = config.metadata.expect("metadata");
        assert_eq!(
            (metadata.name.as_str(), metadata.namespace.as_str(), metadata.uid.as_str(), metadata.attempt),
            ("p", "ns", "u", 3)
        );
        assert_eq!((config.hostname.as_str(), config.log_directory.as_str()), ("h", "/var/log/pods/ns_p_u"));
        assert_eq!((config.labels["app"].as_str(), config.labels["io.kubernetes.pod.uid"].as_str()), ("x", "u"));
        let ports: Vec<_> = config.port_mappings.iter().map(|p| (p.container_port, p.host_port, p.protocol)).collect();
        assert_eq!(ports, [(80, 8080, Protocol::Tcp as i32), (53, 0, Protocol::Udp as i32)]);
        let linux = config.linux.expect("Linux");
        assert_eq!(linux.cgroup_parent, "/kubepods/besteffort/podu");
        assert_eq!(linux.sysctls["kernel.shm_rmid_forced"], "1");
        assert_eq!(linux.security_context.and_then(|security| security.run_as_user).map(|user| user.value), Some(5));
        assert_eq!(config.dns_config.expect("DNS").servers, ["10.43.0.10"]);
    }

    #[test]
    fn a_pod_in_the_nodes_network_has_no_name_of_its_own() {
        let config = sandbox_config(&testing::pod(json!({"hostNetwork": true})), &testing::context());
        assert_eq!(config.expect("a configuration").hostname, "");
    }
}
