//! Which certificate requests are decided without a person.
//!
//! | signer | who asks | for what | verdict |
//! |---|---|---|---|
//! | kube-apiserver-client-kubelet | a bootstrapper | any node's user | approved |
//! | kube-apiserver-client-kubelet | a node | its own user | approved |
//! | kubelet-serving | a node | its own user and name, any addresses | approved |
//! | kubelet-serving | a node | another name | denied |
//! | any | anyone else | | left to a person |
//!
//! That a bootstrapper may only ask for a name that is not another board's is checked when the request is created. A
//! node says itself what its addresses are, and nodes behind different routers may have the same, so addresses are
//! no reason to refuse; but the API server's own are left out of what is signed.

use std::collections::BTreeSet;
use std::net::IpAddr;

use kiln_pki::{Csr, NODE_USER_PREFIX, NODES_GROUP, Signer};
use tokio::sync::watch;

const BOOTSTRAPPERS: &str = "system:bootstrappers";

/// Names and addresses of the API server. A node that could serve under them could pass itself off as the API, since
/// its certificate is of the same CA.
#[derive(Debug, Clone)]
pub struct Reserved {
    /// DNS names of the API server's certificate.
    pub names: BTreeSet<String>,
    /// Addresses of the API server's certificate, which may change.
    pub addresses: watch::Receiver<BTreeSet<IpAddr>>,
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
    /// A person decides.
    Undecided,
}

impl Reserved {
    pub(super) fn judge(&self, signer: Signer, csr: &Csr, usages: &[String], requester: &Requester<'_>) -> Verdict {
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
        let node = node_name(csr);
        match csr.dns_names.iter().find(|name| signer == Signer::KubeletServing && !self.may_serve_as(node, name)) {
            Some(other) => Verdict::Denied(format!("node {node:?} may not serve as {other}: that is not its name")),
            None => Verdict::Approved(why.to_owned()),
        }
    }

    fn may_serve_as(&self, node: &str, name: &str) -> bool {
        let is_own = name == node || name.strip_suffix(".local") == Some(node);
        is_own && !self.names.contains(name) || node == self.server_node && self.names.contains(name)
    }

    /// The request without the addresses that the node must not have in its serving certificate.
    pub(super) fn narrow(&self, mut csr: Csr) -> Csr {
        if node_name(&csr) != self.server_node {
            let reserved = self.addresses.borrow();
            let is_nodes = |address: &IpAddr| {
                let special = address.is_loopback() || address.is_unspecified() || address.is_multicast();
                !special && !reserved.contains(address)
            };
            csr.ip_addresses.retain(is_nodes);
        }
        csr
    }
}

fn node_name(csr: &Csr) -> &str {
    csr.common_name.strip_prefix(NODE_USER_PREFIX).unwrap_or_default()
}
