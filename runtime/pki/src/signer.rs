//! What each Kubernetes signer lets through.
//!
//! The rules are those of the built-in signers as the Kubernetes reference (certificate signing requests) states them.

use crate::authority::{NODE_USER_PREFIX, NODES_GROUP};
use crate::{Csr, PkiError};

/// A built-in signer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signer {
    /// `kubernetes.io/kube-apiserver-client-kubelet`: a node's client certificate.
    KubeletClient,
    /// `kubernetes.io/kubelet-serving`: a node's serving certificate.
    KubeletServing,
    /// `kubernetes.io/kube-apiserver-client`: any other client's certificate.
    ApiClient,
}

/// A signer's rules as a row.
struct Rules {
    name: &'static str,
    required: &'static str,
}

const OPTIONAL_USAGES: [&str; 2] = ["digital signature", "key encipherment"];

impl Signer {
    /// All of them.
    pub const ALL: [Signer; 3] = [Signer::KubeletClient, Signer::KubeletServing, Signer::ApiClient];

    fn rules(self) -> Rules {
        match self {
            Signer::KubeletClient => {
                Rules { name: "kubernetes.io/kube-apiserver-client-kubelet", required: "client auth" }
            }
            Signer::KubeletServing => Rules { name: "kubernetes.io/kubelet-serving", required: "server auth" },
            Signer::ApiClient => Rules { name: "kubernetes.io/kube-apiserver-client", required: "client auth" },
        }
    }

    /// The signer of a `spec.signerName`; `None` for one that others serve.
    pub fn from_name(name: &str) -> Option<Self> {
        Signer::ALL.into_iter().find(|s| s.name() == name)
    }

    /// Its `spec.signerName`.
    pub fn name(self) -> &'static str {
        self.rules().name
    }

    /// The usages that Kiln's own agents ask for.
    pub fn usages(self) -> [&'static str; 2] {
        ["digital signature", self.rules().required]
    }

    /// Whether this signer would sign `csr` for `usages` (as in `spec.usages`).
    ///
    /// # Errors
    /// [`PkiError::Refused`] with the rule that is broken.
    pub fn check(self, csr: &Csr, usages: &[String]) -> Result<(), PkiError> {
        let refuse = |why: String| Err(PkiError::Refused(format!("{}: {why}", self.name())));
        let required = self.rules().required;
        if !usages.iter().any(|u| u == required) {
            return refuse(format!("the usage `{required}` is needed"));
        }
        if let Some(other) = usages.iter().find(|u| *u != required && !OPTIONAL_USAGES.contains(&u.as_str())) {
            return refuse(format!("the usage `{other}` is not allowed"));
        }
        if csr.wants_ca {
            return refuse("a certificate of a CA is not given out".to_owned());
        }
        if csr.common_name.is_empty() {
            return refuse("the subject has no common name".to_owned());
        }
        // The encoder keeps one value of a kind in a name; refusing is better than dropping a group.
        if csr.organizations.len() > 1 {
            return refuse("more than one organization is not supported".to_owned());
        }
        match self {
            Signer::KubeletClient | Signer::KubeletServing => {
                if node_name(csr).is_none() {
                    return refuse(format!("the common name `{}` is not {NODE_USER_PREFIX}<name>", csr.common_name));
                }
                if csr.organizations != [NODES_GROUP] {
                    return refuse(format!("the organization is not {NODES_GROUP}"));
                }
            }
            Signer::ApiClient => {
                if csr.organizations.iter().any(|o| o == "system:masters") {
                    return refuse("the organization system:masters is not given out".to_owned());
                }
            }
        }
        let names = csr.dns_names.len() + csr.ip_addresses.len();
        match self {
            Signer::KubeletClient if names + csr.other_names > 0 => {
                refuse("a client certificate has no DNS names and no addresses".to_owned())
            }
            Signer::KubeletServing if names == 0 => refuse("a DNS name or an address is needed".to_owned()),
            Signer::KubeletServing if csr.other_names > 0 => {
                refuse("only DNS names and addresses are allowed".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// The node that a request's common name stands for.
fn node_name(csr: &Csr) -> Option<&str> {
    csr.common_name.strip_prefix(NODE_USER_PREFIX).filter(|n| !n.is_empty())
}
