//! Which steps of admission are taken: each is a plugin by Kubernetes' name that a server's flags can switch on or off
//! (<https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/>).

use std::fmt;
use std::str::FromStr;

macro_rules! plugins {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A plugin of admission.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Plugin {
            $($(#[$doc])* $name,)*
        }

        impl Plugin {
            /// All that there are.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

plugins! {
    /// Nothing is made in a namespace that is not there or is going; some namespaces are not deleted.
    NamespaceLifecycle,
    /// Pods run as a ServiceAccount, and have its token.
    ServiceAccount,
    /// Nodes write what is theirs.
    NodeRestriction,
    /// Who sets an owner reference may delete the object.
    OwnerReferencesPermissionEnforcement,
    /// Pods have the priority of their class.
    Priority,
    /// Pods and claims keep to a namespace's LimitRanges.
    LimitRanger,
    /// Namespaces keep to their ResourceQuotas.
    ResourceQuota,
    /// Pods bear a node's failure for five minutes.
    DefaultTolerationSeconds,
    /// Pods bear the taints that are named as the extended resources that they ask for.
    ExtendedResourceToleration,
    /// Pods keep to the Pod Security Standard that their namespace asks for.
    PodSecurity,
    /// Claims have a StorageClass.
    DefaultStorageClass,
    /// Ingresses have an IngressClass.
    DefaultIngressClass,
    /// Pods have the overhead of their RuntimeClass, and go where it runs.
    RuntimeClass,
    /// Who approves a certificate may do so for its signer.
    CertificateApproval,
    /// Who signs a certificate may do so for its signer.
    CertificateSigning,
    /// No certificate makes its holder one of `system:masters`.
    CertificateSubjectRestriction,
    /// New nodes are tainted until they are ready.
    TaintNodesByCondition,
    /// Claims and volumes that are in use are not deleted.
    StorageObjectInUseProtection,
    /// Claims grow where their class allows it.
    PersistentVolumeClaimResize,
    /// Webhooks that change objects.
    MutatingAdmissionWebhook,
    /// Webhooks that refuse objects.
    ValidatingAdmissionWebhook,
    /// Policies that change objects.
    MutatingAdmissionPolicy,
    /// Policies that refuse objects.
    ValidatingAdmissionPolicy,
}

impl fmt::Display for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl FromStr for Plugin {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.iter().copied().find(|plugin| plugin.to_string() == name).ok_or_else(|| {
            let all: Vec<String> = Self::ALL.iter().map(ToString::to_string).collect();
            format!("there is no admission plugin `{name}`; there are {}", all.join(", "))
        })
    }
}

/// The plugins that are on: by default all but two that Kubernetes, too, has as options.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Plugins(u32);

impl Plugins {
    /// Whether a plugin is on.
    pub fn has(self, plugin: Plugin) -> bool {
        self.0 & Self::bit(plugin) != 0
    }

    /// Switches a plugin on or off.
    pub fn set(&mut self, plugin: Plugin, on: bool) {
        if on {
            self.0 |= Self::bit(plugin);
        } else {
            self.0 &= !Self::bit(plugin);
        }
    }

    const fn bit(plugin: Plugin) -> u32 {
        1 << plugin as u32
    }
}

impl Default for Plugins {
    fn default() -> Self {
        let mut plugins = Self(0);
        Plugin::ALL.iter().for_each(|plugin| plugins.set(*plugin, true));
        for option in [Plugin::OwnerReferencesPermissionEnforcement, Plugin::ExtendedResourceToleration] {
            plugins.set(option, false);
        }
        plugins
    }
}

impl fmt::Debug for Plugins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(Plugin::ALL.iter().filter(|plugin| self.has(**plugin))).finish()
    }
}
