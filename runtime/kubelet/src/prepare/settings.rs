//! What the configurations of all pods have in common, as the node's settings say.

use std::net::IpAddr;
use std::path::PathBuf;

use crate::eviction;
use crate::reserve::Reserve;

/// What the configurations of all pods have in common.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// Where the cluster's DNS listens; if it is not told, it is taken to be the tenth address of services.
    pub cluster_dns: Vec<IpAddr>,
    /// The cluster's DNS domain.
    pub cluster_domain: String,
    /// The node's own settings of name resolution.
    pub resolv_conf: Option<PathBuf>,
    /// How many processes and threads a pod may have; none for as many as the machine can.
    pub pod_pids: Option<i64>,
    /// When pods are ended for want of memory or disk.
    pub eviction: eviction::Settings,
    /// Whether limits of processor time are kept (`cpuCFSQuota`).
    pub cpu_quota: bool,
    /// Whether containers that ask for nothing else have the runtime's seccomp profile (`seccompDefault`).
    pub seccomp_default: bool,
    /// What of the machine is not for pods.
    pub reserve: Reserve,
}

impl Default for NodeSettings {
    /// Upstream's.
    fn default() -> Self {
        Self {
            cluster_dns: Vec::new(),
            cluster_domain: String::new(),
            resolv_conf: None,
            pod_pids: None,
            eviction: eviction::Settings::default(),
            cpu_quota: true,
            seccomp_default: false,
            reserve: Reserve::default(),
        }
    }
}
