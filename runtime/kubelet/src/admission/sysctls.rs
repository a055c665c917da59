//! Which settings of the kernel a pod may have: those that only it feels, and those that the node's settings allow beside them
//! (<https://kubernetes.io/docs/tasks/administer-cluster/sysctl-cluster/>).

use k8s_openapi::api::core::v1::Pod;

use super::{Rejection, rejection};

/// The reason of pods that are refused for them.
pub(crate) const FORBIDDEN: &str = "SysctlForbidden";
/// Settings that are safe, with the kernel's version since which each is a namespace's own.
const SAFE: [(&str, (u32, u32)); 12] = [
    ("kernel.shm_rmid_forced", (0, 0)),
    ("net.ipv4.ip_local_port_range", (0, 0)),
    ("net.ipv4.tcp_syncookies", (0, 0)),
    ("net.ipv4.ping_group_range", (0, 0)),
    ("net.ipv4.ip_unprivileged_port_start", (0, 0)),
    ("net.ipv4.ip_local_reserved_ports", (3, 16)),
    ("net.ipv4.tcp_keepalive_time", (4, 5)),
    ("net.ipv4.tcp_fin_timeout", (4, 6)),
    ("net.ipv4.tcp_keepalive_intvl", (4, 5)),
    ("net.ipv4.tcp_keepalive_probes", (4, 5)),
    ("net.ipv4.tcp_rmem", (4, 15)),
    ("net.ipv4.tcp_wmem", (4, 15)),
];
/// Settings of IPC namespaces, beside those below `fs.mqueue.`; those of network namespaces are below `net.`.
const IPC: [&str; 11] = [
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    // What patterns for all of them begin with.
    "kernel.shm",
    "kernel.msg",
    "fs.mqueue.",
];

/// A kind of namespace that has settings of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Namespace {
    Ipc,
    Net,
}

impl Namespace {
    fn of(name: &str) -> Option<Self> {
        if name.starts_with("net.") {
            return Some(Self::Net);
        }
        (IPC.contains(&name) || name.starts_with("fs.mqueue.")).then_some(Self::Ipc)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ipc => "IPC",
            Self::Net => "Net",
        }
    }
}

/// A setting, or what the names of several begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    name: String,
    is_prefix: bool,
    namespace: Namespace,
}

impl Pattern {
    fn matches(&self, name: &str) -> bool {
        if self.is_prefix { name.starts_with(&self.name) } else { name == self.name }
    }
}

/// The settings that pods of this node may have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sysctls(Vec<Pattern>);

impl Sysctls {
    /// Reads `kernel.msg*,net.core.somaxconn`, the settings that are allowed beside the safe ones (`allowedUnsafeSysctls`).
    ///
    /// # Errors
    /// A name that is none, or a setting that is the whole machine's.
    pub fn parse(text: &str) -> Result<Self, String> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        names.map(pattern).collect::<Result<_, _>>().map(Self)
    }

    /// With those that are safe on a kernel of this version added.
    #[must_use]
    pub fn with_safe(mut self, kernel: &str) -> Self {
        let kernel = version(kernel);
        let safe = SAFE.into_iter().filter(|(_, since)| kernel >= *since);
        self.0.extend(safe.filter_map(|(name, _)| pattern(name).ok()));
        self
    }

    /// Why a pod is not taken, if it has a setting that it may not have.
    pub(crate) fn judge(&self, pod: &Pod) -> Result<(), Rejection> {
        let Some(spec) = &pod.spec else { return Ok(()) };
        let (host_network, host_ipc) = (spec.host_network == Some(true), spec.host_ipc == Some(true));
        let sysctls = spec.security_context.as_ref().and_then(|security| security.sysctls.as_ref());
        for sysctl in sysctls.into_iter().flatten() {
            let name = normal(&sysctl.name);
            let why = match self.0.iter().find(|pattern| pattern.matches(&name)) {
                None => format!("{name:?} not allowlisted"),
                Some(Pattern { namespace, .. }) => {
                    let is_host = match namespace {
                        Namespace::Ipc => host_ipc,
                        Namespace::Net => host_network,
                    };
                    if !is_host {
                        continue;
                    }
                    format!("{name:?} not allowed with host {} enabled", namespace.name())
                }
            };
            return Err(rejection(FORBIDDEN, format!("forbidden sysctl: {why}")));
        }
        Ok(())
    }
}

fn pattern(text: &str) -> Result<Pattern, String> {
    let name = normal(text);
    let is_prefix = name.ends_with('*');
    let stem = name.strip_suffix('*').unwrap_or(&name);
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_./".contains(c);
    if stem.is_empty() || !stem.starts_with(|c: char| c.is_ascii_alphanumeric()) || !stem.chars().all(is_word) {
        return Err(format!("`{text}` is no name of a sysctl, as net.core.somaxconn or kernel.msg*"));
    }
    match Namespace::of(stem) {
        Some(namespace) => Ok(Pattern { name: stem.to_owned(), is_prefix, namespace }),
        None => Err(format!("the sysctls \"{stem}\" are not known to be namespaced")),
    }
}

/// A name with dots between its parts. With slashes a part may have a dot in it: `net/ipv4/conf/eth0.1/rp_filter`.
fn normal(name: &str) -> String {
    let Some(first) = name.find(['.', '/']) else { return name.to_owned() };
    if name[first..].starts_with('.') {
        return name.to_owned();
    }
    let swapped = |c| match c {
        '/' => '.',
        '.' => '/',
        other => other,
    };
    name.chars().map(swapped).collect()
}

/// Major and minor number of a kernel's version, `6.12.57+deb13-arm64`.
fn version(text: &str) -> (u32, u32) {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(sysctls: &Sysctls, name: &str, host: &str) -> Option<String> {
        let pod = json!({"spec": {
            host: true, "containers": [{"name": "c"}], "securityContext": {"sysctls": [{"name": name, "value": "1"}]},
        }});
        sysctls.judge(&serde_json::from_value(pod).expect("a pod")).err().map(|rejection| rejection.message)
    }

    #[test]
    fn safe_settings_are_taken_and_others_only_if_allowed() {
        let safe = Sysctls::default().with_safe("6.12.57+deb13-arm64");
        let more = Sysctls::parse("kernel.msg*, net.core.somaxconn").expect("patterns").with_safe("6.12");
        let refused = |name: &str| Some(format!("forbidden sysctl: \"{name}\" not allowlisted"));
        for (sysctls, name, expected) in [
            (&safe, "kernel.shm_rmid_forced", None),
            (&safe, "net/ipv4/tcp_rmem", None),
            (&safe, "net.core.somaxconn", refused("net.core.somaxconn")),
            (&safe, "kernel.msgmax", refused("kernel.msgmax")),
            (&safe, "kernel.panic", refused("kernel.panic")),
            (&more, "kernel.msgmax", None),
            (&more, "net.core.somaxconn", None),
            (&more, "net.core.rmem_max", refused("net.core.rmem_max")),
        ] {
            assert_eq!(told(sysctls, name, "shareProcessNamespace"), expected, "{name}");
        }
    }

    #[test]
    fn an_old_kernel_has_fewer_that_are_safe() {
        let old = Sysctls::default().with_safe("4.9.0-8-armmp");
        assert_eq!(told(&old, "net.ipv4.tcp_fin_timeout", "hostPID"), None);
        assert!(told(&old, "net.ipv4.tcp_wmem", "hostPID").is_some());
    }

    #[test]
    fn the_hosts_namespaces_keep_their_settings() {
        let all = Sysctls::parse("net.*,fs.mqueue.*").expect("patterns").with_safe("6.1");
        let why =
            |name: &str, host: &str| Some(format!("forbidden sysctl: \"{name}\" not allowed with host {host} enabled"));
        for (name, host, expected) in [
            ("net.core.somaxconn", "hostNetwork", why("net.core.somaxconn", "Net")),
            ("net.core.somaxconn", "hostIPC", None),
            ("fs.mqueue.msg_max", "hostIPC", why("fs.mqueue.msg_max", "IPC")),
            ("kernel.shm_rmid_forced", "hostIPC", why("kernel.shm_rmid_forced", "IPC")),
        ] {
            assert_eq!(told(&all, name, host), expected, "{name} {host}");
        }
    }

    #[test]
    fn what_is_the_machines_own_cannot_be_allowed() {
        for (text, why) in [
            ("kernel.panic", "the sysctls \"kernel.panic\" are not known to be namespaced"),
            ("vm.*", "the sysctls \"vm.\" are not known to be namespaced"),
            ("net core", "`net core` is no name of a sysctl, as net.core.somaxconn or kernel.msg*"),
            ("*", "`*` is no name of a sysctl, as net.core.somaxconn or kernel.msg*"),
        ] {
            assert_eq!(Sysctls::parse(text), Err(why.to_owned()));
        }
    }
}
