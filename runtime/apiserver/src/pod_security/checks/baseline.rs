//! What the level `baseline` looks at: known ways out of a pod.

use std::collections::BTreeSet;

use kiln_apimachinery::meta;
use serde_json::Value;

use super::{Finding, Pod, of_containers, plural, quoted};

const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP: &str = "container.seccomp.security.alpha.kubernetes.io/";
/// Profiles that confine.
const PROFILES: [&str; 2] = ["RuntimeDefault", "Localhost"];
/// What containers may do anyway.
const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// Sysctls that are the pod's alone, with the minor version that has them.
const SYSCTLS: [(&str, u64); 12] = [
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
];

/// Whether a profile is one that does not confine; it is noted then.
pub(super) fn is_unconfined(profile: &Value, values: &mut BTreeSet<String>) -> bool {
    let kind = meta::text(profile, &["type"]);
    let is_bad = !profile.is_null() && !PROFILES.contains(&kind);
    if is_bad {
        values.insert(kind.to_owned());
    }
    is_bad
}

pub(super) fn app_armor(pod: &Pod<'_>) -> Option<Finding> {
    let mut values = BTreeSet::new();
    let mut setters = pod.setters(|context| is_unconfined(&context["appArmorProfile"], &mut values));
    let annotations = meta::string_map(pod.metadata.get("annotations"));
    let is_allowed = |value: &str| value.is_empty() || value == "runtime/default" || value.starts_with("localhost/");
    let forbidden = annotations.iter().filter(|(key, value)| key.starts_with(APP_ARMOR) && !is_allowed(value));
    let forbidden: Vec<String> = forbidden.map(|(key, value)| format!("{key}={value:?}")).collect();
    if !forbidden.is_empty() {
        setters.push(plural(forbidden.len(), "annotation", "annotations").to_owned());
    }
    let values: Vec<String> = values.into_iter().chain(forbidden).collect();
    let reason = plural(values.len(), "forbidden AppArmor profile", "forbidden AppArmor profiles");
    let detail = || format!("{} must not set AppArmor profile type to {}", setters.join(" and "), quoted(&values));
    (!setters.is_empty()).then(|| Finding { reason, detail: detail() })
}

/// The containers that add capabilities beyond some, and what they add.
pub(super) fn added<'a>(pod: &Pod<'a>, allowed: &[&str]) -> (Vec<&'a str>, BTreeSet<&'a str>) {
    let mut beyond = BTreeSet::new();
    let containers = pod.of_contexts(|context| {
        let added = meta::strings(context["capabilities"].get("add"));
        let bad: Vec<&str> = added.into_iter().filter(|name| !allowed.contains(name)).collect();
        beyond.extend(bad.iter().copied());
        !bad.is_empty()
    });
    (containers, beyond)
}

pub(super) fn capabilities(pod: &Pod<'_>) -> Option<Finding> {
    let (containers, beyond) = added(pod, &CAPABILITIES);
    let what = || format!("must not include {} in securityContext.capabilities.add", quoted(&beyond));
    of_containers("non-default capabilities", &containers, what)
}

pub(super) fn host_namespaces(pod: &Pod<'_>) -> Option<Finding> {
    let shared = ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(|field| pod.spec[field] == true);
    let shared: Vec<String> = shared.map(|field| format!("{field}=true")).collect();
    (!shared.is_empty()).then(|| Finding { reason: "host namespaces", detail: shared.join(", ") })
}

pub(super) fn host_paths(pod: &Pod<'_>) -> Option<Finding> {
    let volumes = pod.spec["volumes"].as_array().into_iter().flatten().filter(|v| !v["hostPath"].is_null());
    let names: Vec<&str> = volumes.map(|volume| meta::text(volume, &["name"])).collect();
    let detail = || format!("{} {}", plural(names.len(), "volume", "volumes"), quoted(&names));
    (!names.is_empty()).then(|| Finding { reason: "hostPath volumes", detail: detail() })
}

pub(super) fn host_ports(pod: &Pod<'_>) -> Option<Finding> {
    let mut ports = BTreeSet::new();
    let containers = pod.of(|container| {
        let all = container["ports"].as_array().into_iter().flatten().filter_map(|port| port["hostPort"].as_i64());
        let bad: Vec<String> = all.filter(|port| *port != 0).map(|port| port.to_string()).collect();
        ports.extend(bad.iter().cloned());
        !bad.is_empty()
    });
    let what = || {
        let ports: Vec<String> = ports.into_iter().collect();
        let (uses, noun) = (plural(containers.len(), "uses", "use"), plural(ports.len(), "hostPort", "hostPorts"));
        format!("{uses} {noun} {}", ports.join(", "))
    };
    of_containers("hostPort", &containers, what)
}

/// Probes and lifecycle handlers that the kubelet would send anywhere.
pub(super) fn hosts(pod: &Pod<'_>) -> Option<Finding> {
    let mut hosts = BTreeSet::new();
    let containers = pod.of(|container| {
        let probes = ["livenessProbe", "readinessProbe", "startupProbe"].map(|probe| &container[probe]);
        let handlers = ["postStart", "preStop"].map(|handler| &container["lifecycle"][handler]);
        let all = probes.into_iter().chain(handlers);
        let named = all.flat_map(|at| ["httpGet", "tcpSocket"].map(|kind| meta::text(at, &[kind, "host"])));
        let bad: Vec<&str> = named.filter(|host| !host.is_empty()).collect();
        hosts.extend(bad.iter().copied());
        !bad.is_empty()
    });
    let containers: Vec<&str> = containers.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    let what = || {
        let noun = plural(hosts.len(), "probe or lifecycle host", "probe or lifecycle hosts");
        format!("{} {noun} {}", plural(containers.len(), "uses", "use"), quoted(&hosts))
    };
    of_containers("probe or lifecycle host", &containers, what)
}

pub(super) fn privileged(pod: &Pod<'_>) -> Option<Finding> {
    let containers = pod.of_contexts(|context| context["privileged"] == true);
    of_containers("privileged", &containers, || "must not set securityContext.privileged=true".to_owned())
}

pub(super) fn proc_mount(pod: &Pod<'_>) -> Option<Finding> {
    let mut kinds = BTreeSet::new();
    let containers = pod.of_contexts(|context| {
        let kind = context["procMount"].as_str().filter(|kind| *kind != "Default");
        kinds.extend(kind);
        kind.is_some()
    });
    of_containers("procMount", &containers, || format!("must not set securityContext.procMount to {}", quoted(&kinds)))
}

pub(super) fn proc_mount_of_host_users(pod: &Pod<'_>) -> Option<Finding> {
    if pod.has_own_users() { None } else { proc_mount(pod) }
}

pub(super) fn selinux(pod: &Pod<'_>) -> Option<Finding> {
    selinux_of(pod, &["", "container_t", "container_init_t", "container_kvm_t"])
}

pub(super) fn selinux_with_engines(pod: &Pod<'_>) -> Option<Finding> {
    selinux_of(pod, &["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"])
}

fn selinux_of(pod: &Pod<'_>, allowed: &[&str]) -> Option<Finding> {
    let (mut types, mut has_user, mut has_role) = (BTreeSet::new(), false, false);
    let setters = pod.setters(|context| {
        let [kind, user, role] = ["type", "user", "role"].map(|field| meta::text(context, &["seLinuxOptions", field]));
        let is_bad = !allowed.contains(&kind);
        types.extend(is_bad.then_some(kind));
        has_user |= !user.is_empty();
        has_role |= !role.is_empty();
        is_bad || !user.is_empty() || !role.is_empty()
    });
    let kinds = (!types.is_empty()).then(|| format!("{} {}", plural(types.len(), "type", "types"), quoted(&types)));
    let user = has_user.then(|| "user may not be set".to_owned());
    let role = has_role.then(|| "role may not be set".to_owned());
    let set: Vec<String> = kinds.into_iter().chain(user).chain(role).collect();
    let detail =
        || format!("{} set forbidden securityContext.seLinuxOptions: {}", setters.join(" and "), set.join("; "));
    (!setters.is_empty()).then(|| Finding { reason: "seLinuxOptions", detail: detail() })
}

/// As it was before there was a field.
pub(super) fn seccomp_annotations(pod: &Pod<'_>) -> Option<Finding> {
    let annotations = meta::string_map(pod.metadata.get("annotations"));
    let containers = pod.containers().map(|c| format!("{SECCOMP}{}", meta::text(c, &["name"])));
    let is_allowed =
        |value: &str| matches!(value, "runtime/default" | "docker/default") || value.starts_with("localhost/");
    let set = std::iter::once(SECCOMP_POD.to_owned()).chain(containers).filter_map(|key| {
        let value = annotations.get(key.as_str()).filter(|value| !is_allowed(value))?;
        Some(format!("{key}={value:?}"))
    });
    let set: Vec<String> = set.collect::<BTreeSet<_>>().into_iter().collect();
    let detail = || format!("forbidden {} {}", plural(set.len(), "annotation", "annotations"), set.join(", "));
    (!set.is_empty()).then(|| Finding { reason: "seccompProfile", detail: detail() })
}

pub(super) fn seccomp(pod: &Pod<'_>) -> Option<Finding> {
    let mut values = BTreeSet::new();
    let setters = pod.setters(|context| is_unconfined(&context["seccompProfile"], &mut values));
    let detail =
        || format!("{} must not set securityContext.seccompProfile.type to {}", setters.join(" and "), quoted(&values));
    (!setters.is_empty()).then(|| Finding { reason: "seccompProfile", detail: detail() })
}

/// Sysctls that are not safe by the list of a minor version.
pub(super) fn sysctls<const MINOR: u64>(pod: &Pod<'_>) -> Option<Finding> {
    let is_safe = |name: &str| SYSCTLS.iter().any(|(known, since)| *known == name && *since <= MINOR);
    let all = pod.context()["sysctls"].as_array().into_iter().flatten().map(|sysctl| meta::text(sysctl, &["name"]));
    let forbidden: Vec<&str> = all.filter(|name| !is_safe(name)).collect();
    (!forbidden.is_empty()).then(|| Finding { reason: "forbidden sysctls", detail: forbidden.join(", ") })
}

pub(super) fn host_process(pod: &Pod<'_>) -> Option<Finding> {
    let is_bad = |context: &Value| context["windowsOptions"]["hostProcess"] == true;
    let setters = pod.setters(is_bad);
    let detail = || format!("{} must not set securityContext.windowsOptions.hostProcess=true", setters.join(" and "));
    (!setters.is_empty()).then(|| Finding { reason: "hostProcess", detail: detail() })
}
