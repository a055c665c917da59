//! A pod's `/etc/hosts`, which the kubelet writes for all containers that do not mount their own.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use k8s_openapi::api::core::v1::{HostAlias, Pod};

use super::host_network;

const HEADER: &str = "# Kubernetes-managed hosts file.\n";
const HOST_HEADER: &str = "# Kubernetes-managed hosts file (host network).\n";
const LOCAL: &str = "127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::0\tip6-localnet\n\
    fe00::0\tip6-mcastprefix\n\
    fe00::1\tip6-allnodes\n\
    fe00::2\tip6-allrouters\n";

/// Where it is, in containers and on the node.
pub(super) const PATH: &str = "/etc/hosts";

/// Writes a pod's file. A pod in the node's network has the node's names.
pub(super) fn write(file: &Path, pod: &Pod, pod_ips: &[String], host: &str, domain: &str) -> io::Result<()> {
    let aliases = pod.spec.as_ref().and_then(|spec| spec.host_aliases.as_deref()).unwrap_or_default();
    let text = if host_network(pod) {
        format!("{HOST_HEADER}{}{}", fs::read_to_string(PATH)?, of_aliases(aliases))
    } else {
        format!("{}{}", managed(pod_ips, host, domain), of_aliases(aliases))
    };
    fs::write(file, text)?;
    fs::set_permissions(file, Permissions::from_mode(0o644))
}

fn managed(pod_ips: &[String], host: &str, domain: &str) -> String {
    let mut text = format!("{HEADER}{LOCAL}");
    for ip in pod_ips {
        let line =
            if domain.is_empty() { format!("{ip}\t{host}\n") } else { format!("{ip}\t{host}.{domain}\t{host}\n") };
        text.push_str(&line);
    }
    text
}

fn of_aliases(aliases: &[HostAlias]) -> String {
    if aliases.is_empty() {
        return String::new();
    }
    let lines = aliases.iter().map(|alias| {
        let names = alias.hostnames.as_deref().unwrap_or_default();
        format!("{}\t{}\n", alias.ip, names.join("\t"))
    });
    format!("\n# Entries added by HostAliases.\n{}", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing;
    use super::*;

    #[test]
    fn the_file_has_the_pods_names_and_aliases() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("etc-hosts");
        let pod = testing::pod(json!({"hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]}));
        let ips = ["10.42.0.5".to_owned(), "fd00::5".to_owned()];
        write(&file, &pod, &ips, "p", "s.ns.svc.cluster.local").expect("written");
        let expected = format!(
            "# Kubernetes-managed hosts file.\n{LOCAL}\
             10.42.0.5\tp.s.ns.svc.cluster.local\tp\n\
             fd00::5\tp.s.ns.svc.cluster.local\tp\n\
             \n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"
        );
        assert_eq!(fs::read_to_string(&file).expect("a file"), expected);
        write(&file, &testing::pod(json!({})), &ips[..1], "p", "").expect("written");
        assert_eq!(fs::read_to_string(&file).expect("a file"), format!("{HEADER}{LOCAL}10.42.0.5\tp\n"));
        write(&file, &testing::pod(json!({"hostNetwork": true})), &[], "p", "").expect("written");
        let own = fs::read_to_string(PATH).expect("a file");
        assert_eq!(fs::read_to_string(&file).expect("a file"), format!("{HOST_HEADER}{own}"));
    }
}
