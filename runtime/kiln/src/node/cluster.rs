//! What all nodes of a cluster must agree on. Servers write it into a ConfigMap by their flags; agents read it, and keep what
//! they read for a start without a server.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use kiln_client::{Backoff, Client, ClientError, PatchKind};
use kiln_kubelet::NodeSettings;
use kiln_network::Cidr;
use kiln_network::overlay::Backend;
use kiln_pki::files;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The ConfigMap; a Role lets nodes read it.
const PATH: &str = "/api/v1/namespaces/kube-system/configmaps/kiln-cluster";
/// What an agent keeps of it, in the folder with the cluster's files.
const FILE: &str = "agent/cluster.json";
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// How long a server may take to answer before what is known of it is taken.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The settings. Lists are separated by commas, as in flags.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct ClusterSettings {
    /// Ranges of pods' addresses.
    pub(crate) cluster_cidr: String,
    /// Ranges of services' addresses.
    pub(crate) service_cidr: String,
    /// The cluster's DNS domain.
    pub(crate) cluster_domain: String,
    /// Addresses of the cluster's DNS.
    pub(crate) cluster_dns: String,
    /// The way between nodes' pods.
    pub(crate) flannel_backend: String,
    /// `true` if another program leads Services' traffic.
    pub(crate) disable_kube_proxy: String,
    /// `true` where nodes do not see to network policies.
    pub(crate) disable_network_policy: String,
    /// `true` if nodes don't serve Ingresses.
    pub(crate) disable_ingress: String,
    /// Addresses that load balancers have on the nodes' network.
    pub(crate) load_balancer_pool: String,
}

impl ClusterSettings {
    /// Shows these settings to all nodes.
    ///
    /// # Errors
    /// When the API doesn't take them.
    pub(crate) async fn publish(&self, client: &Client) -> anyhow::Result<()> {
        let object = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"namespace": "kube-system", "name": "kiln-cluster"},
            "data": self,
        });
        let written = client.patch::<Value>(PATH, PatchKind::Apply("kiln"), &object).await;
        written.map(|_| ()).context("writing the cluster's settings")
    }

    /// The cluster's settings as a node sees them. At the first start they are waited for; later a server that does not answer
    /// leaves those that were seen last.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) async fn read(client: &Client, data_dir: &Path) -> anyhow::Result<Self> {
        let (client, path) = (client.clone().with_timeout(TIMEOUT), data_dir.join(FILE));
        let kept = files::read(&path)?.and_then(|text| serde_json::from_str::<Self>(&text).ok());
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            match (Self::find(&client).await, &kept) {
                (Ok(Some(settings)), _) => {
                    if kept.as_ref() != Some(&settings) {
                        files::write_public(&path, &serde_json::to_string(&settings)?)?;
                    }
                    return Ok(settings);
                }
                (Ok(None), None) => return Ok(Self::default()),
                (_, Some(kept)) => return Ok(kept.clone()),
                (Err(error), None) => tracing::warn!(%error, "cannot read the cluster's settings; will try again"),
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }

    /// The cluster's settings as they are now, if a server has written them.
    ///
    /// # Errors
    /// When the API does not show them.
    pub(crate) async fn find(client: &Client) -> Result<Option<Self>, ClientError> {
        Ok(client.find::<ConfigMap>(PATH).await?.map(|found| Self::from_data(found.data)))
    }

    fn from_data(mut data: BTreeMap<String, String>) -> Self {
        let mut take = |name: &str| data.remove(name).unwrap_or_default();
        Self {
            cluster_cidr: take("cluster-cidr"),
            service_cidr: take("service-cidr"),
            cluster_domain: take("cluster-domain"),
            cluster_dns: take("cluster-dns"),
            flannel_backend: take("flannel-backend"),
            disable_kube_proxy: take("disable-kube-proxy"),
            disable_network_policy: take("disable-network-policy"),
            disable_ingress: take("disable-ingress"),
            load_balancer_pool: take("load-balancer-pool"),
        }
    }

    /// What pods' configurations take from it.
    pub(crate) fn node_settings(&self) -> NodeSettings {
        NodeSettings {
            cluster_dns: addresses(&self.cluster_dns),
            cluster_domain: self.cluster_domain.clone(),
            ..NodeSettings::default()
        }
    }

    /// The way between nodes' pods; what a newer server may say is logged and taken for the default.
    pub(crate) fn backend(&self) -> Backend {
        if self.flannel_backend.is_empty() {
            return Backend::default();
        }
        self.flannel_backend.parse().unwrap_or_else(|error| {
            tracing::warn!("{error}");
            Backend::default()
        })
    }
}

#[derive(Deserialize)]
struct ConfigMap {
    #[serde(default)]
    data: BTreeMap<String, String>,
}

/// The ranges in a list; what is none is passed over.
pub(super) fn ranges(text: &str) -> Vec<Cidr> {
    text.split(',').filter_map(|range| range.parse().ok()).collect()
}

fn addresses(text: &str) -> Vec<IpAddr> {
    text.split(',').filter_map(|address| address.trim().parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_client::testing::FakeApi;

    #[tokio::test]
    async fn a_node_starts_with_the_settings_that_it_saw_last() {
        let (api, folder) = (FakeApi::new(), tempfile::tempdir().unwrap());
        std::fs::create_dir(folder.path().join("agent")).unwrap();
        let wanted = ClusterSettings {
            cluster_cidr: "10.42.0.0/16".to_owned(),
            cluster_dns: "10.43.0.10,fd00::a".to_owned(),
            flannel_backend: "host-gw".to_owned(),
            ..ClusterSettings::default()
        };
        api.put(PATH, json!({"kind": "ConfigMap", "data": wanted}));
        assert_eq!(ClusterSettings::read(&api.client(), folder.path()).await.unwrap(), wanted);
        api.set_offline(true);
        let kept = ClusterSettings::read(&api.client(), folder.path()).await.unwrap();
        assert_eq!((kept.backend(), kept.node_settings().cluster_dns.len()), (Backend::HostGw, 2));
        assert_eq!(ClusterSettings::default().backend(), Backend::Vxlan);
    }
}
