//! Which certificate requests are decided without a person.
//!
//! | signer | who asks | for what | verdict |
//! |---|---|---|---|
//! | kube-apiserver-client-kubelet | a bootstrapper | any node's user | approved |
//! | kube-apiserver-client-kubelet | a node | its own user | approved |
//! | kubelet-serving | a node | its own user, its own names and addresses | approved |
//! | kubelet-serving | a node | a name or address of another, or of the API | denied |
//! | kubelet-serving | a node | an address that its Node does not show yet | waits for the Node |
//! | any | anyone else | | left to a person |
//!
//! That a bootstrapper may only ask for a name that is not another board's is checked when the request is created.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use kiln_apimachinery::meta;
use kiln_pki::{Csr, NODE_USER_PREFIX, NODES_GROUP, Signer};
use serde_json::Value;

const BOOTSTRAPPERS: &str = "system:bootstrappers";
/// Types of a Node's addresses that are DNS names.
const NAMES: [&str; 3] = ["Hostname", "InternalDNS", "ExternalDNS"];

/// Names and addresses of the API server. A node that could serve under them could pass itself off as the API, since
/// its certificate is of the same CA.
#[derive(Debug, Clone, Default)]
pub struct Reserved {
    /// DNS names of the API server's certificate.
    pub names: BTreeSet<String>,
    /// Addresses of the API server's certificate.
    pub addresses: BTreeSet<IpAddr>,
    /// The node that the API server runs on: its kubelet may serve under the same names and addresses.
    pub server_node: String,
}

/// Who made a request, as the API server saw it.
pub(super) struct Requester<'a> {
    pub(super) user: &'a str,
    pub(super) groups: Vec<&'a str>,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Approved(String),
    Denied(String),
    /// It may be approved when its Node has changed.
    Waiting(String),
    /// A person decides.
    Undecided,
}

impl Reserved {
    pub(super) fn judge(
        &self,
        signer: Signer,
        csr: &Csr,
        usages: &[String],
        requester: &Requester<'_>,
        nodes: &[Arc<Value>],
    ) -> Verdict {
        let in_group = |group: &str| requester.groups.contains(&group);
        let is_itself = requester.user == csr.common_name && in_group(NODES_GROUP);
        let why = match signer {
            Signer::KubeletClient if in_group(BOOTSTRAPPERS) => "a node that joins asks for its client certificate",
            Signer::KubeletClient if is_itself => "a node renews its client certificate",
            Signer::KubeletServing if is_itself => "a node asks for its serving certificate",
            _ => return Verdict::Undecided,
        };
        if let Err(refusal) = signer.check(csr, usages) {
            return Verdict::Denied(refusal.to_string());
        }
        if signer == Signer::KubeletServing
            && let Some(verdict) = self.objection(csr, nodes)
        {
            return verdict;
        }
        Verdict::Approved(why.to_owned())
    }

    /// What speaks against a node's serving certificate.
    fn objection(&self, csr: &Csr, nodes: &[Arc<Value>]) -> Option<Verdict> {
        let name = csr.common_name.strip_prefix(NODE_USER_PREFIX).unwrap_or_default();
        let denied = |what: &dyn std::fmt::Display, whose: &str| {
            Some(Verdict::Denied(format!("node {name:?} may not serve as {what}: that is {whose}")))
        };
        let itself = nodes.iter().find(|node| meta::name(node) == name);
        let is_server = name == self.server_node;
        for dns in &csr.dns_names {
            if self.names.contains(dns) && !is_server {
                return denied(dns, "a name of the API server");
            }
            let is_own = dns == name || itself.is_some_and(|node| names(node).any(|own| own == dns));
            let is_anothers = nodes.iter().any(|node| meta::name(node) != name && meta::name(node) == dns);
            if !(is_own || is_server && self.names.contains(dns)) || is_anothers {
                return denied(dns, "not its name");
            }
        }
        for address in &csr.ip_addresses {
            if self.addresses.contains(address) && !is_server {
                return denied(address, "an address of the API server");
            }
            if (address.is_loopback() && !is_server) || address.is_unspecified() || address.is_multicast() {
                return denied(address, "an address of no node");
            }
            let shows = |node: &Value| addresses(node).any(|own| own == *address);
            if let Some(other) = nodes.iter().find(|node| meta::name(node) != name && shows(node)) {
                return denied(address, &format!("an address of node {:?}", meta::name(other)));
            }
            // A node that joins asks before its Node is there.
            let is_known = itself.is_none_or(|node| shows(node)) || is_server && self.addresses.contains(address);
            if !is_known {
                return Some(Verdict::Waiting(format!("node {name:?} does not show the address {address} yet")));
            }
        }
        None
    }
}

fn status_addresses(node: &Value) -> impl Iterator<Item = (&str, &str)> {
    let all = meta::at(node, &["status", "addresses"]).and_then(Value::as_array);
    all.into_iter().flatten().map(|entry| (meta::text(entry, &["type"]), meta::text(entry, &["address"])))
}

fn names(node: &Value) -> impl Iterator<Item = &str> {
    status_addresses(node).filter(|(kind, _)| NAMES.contains(kind)).map(|(_, name)| name)
}

fn addresses(node: &Value) -> impl Iterator<Item = IpAddr> {
    status_addresses(node).filter_map(|(_, address)| address.parse().ok())
}
