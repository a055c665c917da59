//! The ingress, with what this binary knows about the node.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use kiln_apimachinery::net::Cidr;
use kiln_client::{Backoff, Client, PatchKind};
use kiln_ingress::{Config, ExternalNames, Listening};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Identity;
use super::cluster::ClusterSettings;
use super::parts::Parts;

const INGRESS: &str = "Ingress";
const HTTP: u16 = 80;
const HTTPS: u16 = 443;
/// Enough for any board, and its memory.
const CONNECTIONS: usize = 20_000;
/// Says on the Node that it serves Ingresses, and on which ports.
const ANNOTATION: &str = "kiln.dev/ingress";
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Flags about the ingress.
#[derive(Debug, Clone, Args)]
pub(crate) struct IngressOptions {
    /// Port of Ingresses' HTTP; 0: any that is free
    #[arg(long, value_name = "PORT", default_value_t = HTTP, help_heading = INGRESS)]
    ingress_http_port: u16,
    /// Port of Ingresses' HTTPS; 0: any that is free
    #[arg(long, value_name = "PORT", default_value_t = HTTPS, help_heading = INGRESS)]
    ingress_https_port: u16,
    /// Address to serve Ingresses at; without it all, IPv6 and IPv4
    #[arg(long, value_name = "ADDRESS", help_heading = INGRESS)]
    ingress_address: Option<IpAddr>,
    /// The most connections to Ingresses at a time
    #[arg(long, value_name = "NUMBER", default_value_t = CONNECTIONS, help_heading = INGRESS)]
    ingress_connections: usize,
    /// Networks of proxies in front, whose X-Forwarded-For and the like are believed
    #[arg(long, value_name = "NETWORK", value_delimiter = ',', help_heading = INGRESS)]
    ingress_trusted_proxies: Vec<Cidr>,
    /// Serve Services of the type ExternalName too: who may write Services then publishes what this node reaches
    #[arg(long, help_heading = INGRESS)]
    ingress_external_names: bool,
    /// Log each request to an Ingress
    #[arg(long, help_heading = INGRESS)]
    ingress_access_log: bool,
    /// Where the ingress' figures are served for Prometheus, as 127.0.0.1:9180
    #[arg(long, value_name = "ADDRESS:PORT", help_heading = INGRESS)]
    ingress_metrics_address: Option<SocketAddr>,
}

impl IngressOptions {
    /// The ports of nodes that the ingress has.
    pub(crate) fn ports(&self) -> [u16; 2] {
        [self.ingress_http_port, self.ingress_https_port]
    }
}

impl Default for IngressOptions {
    fn default() -> Self {
        Self {
            ingress_http_port: HTTP,
            ingress_https_port: HTTPS,
            ingress_address: None,
            ingress_connections: CONNECTIONS,
            ingress_trusted_proxies: Vec::new(),
            ingress_external_names: false,
            ingress_access_log: false,
            ingress_metrics_address: None,
        }
    }
}

/// Adds the ingress to a node's parts, unless the cluster has none. `client` is the node.
pub(super) fn add(parts: &mut Parts, identity: &Identity, cluster: &ClusterSettings, client: &Client) {
    let (ports, told) = mpsc::unbounded_channel();
    let announcing = announce(client.clone(), identity.name.clone(), told, parts.shutdown.clone());
    if cluster.disable_ingress == "true" {
        // What an earlier start said is taken back.
        drop(ports);
        return parts.add(announcing);
    }
    let options = identity.ingress.clone();
    let config = Config {
        node: identity.name.clone(),
        address: options.ingress_address,
        http_port: options.ingress_http_port,
        https_port: options.ingress_https_port,
        connections: options.ingress_connections,
        trusted: options.ingress_trusted_proxies,
        external_names: if options.ingress_external_names { ExternalNames::Elsewhere } else { ExternalNames::No },
        access_log: options.ingress_access_log,
        metrics: options.ingress_metrics_address,
        tell: Arc::new(move |port| match port {
            Listening::Http(address) | Listening::Https(address) => {
                tracing::info!("Ingresses are served on port {}", address.port());
                // Nobody listens at the shutdown.
                _ = ports.send(address.port());
            }
            Listening::Failed(error) => tracing::error!("the ingress {error}"),
        }),
    };
    match kiln_ingress::build(&mut parts.informers, config, parts.shutdown.clone()) {
        Ok(ingress) => {
            parts.add(ingress);
            parts.add(announcing);
        }
        Err(error) => tracing::error!(%error, "this node serves no Ingresses"),
    }
}

/// Keeps the node's annotation: the ports that are served, as they are told; none if nothing will be told.
async fn announce(client: Client, node: String, mut told: mpsc::UnboundedReceiver<u16>, shutdown: CancellationToken) {
    let mut ports: Vec<u16> = Vec::new();
    loop {
        let next = tokio::select! {
            () = shutdown.cancelled() => return,
            next = told.recv() => next,
        };
        ports.extend(next);
        ports.sort_unstable();
        let value = match ports.as_slice() {
            [] => Value::Null,
            ports => json!(ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",")),
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = annotate(&client, &node, value) => {}
        }
        if next.is_none() {
            return;
        }
    }
}

/// Writes the annotation, once there is a Node to write it to.
async fn annotate(client: &Client, node: &str, value: Value) {
    let patch = json!({"metadata": {"annotations": {ANNOTATION: value}}});
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    loop {
        match client.patch::<Value>(&format!("/api/v1/nodes/{node}"), PatchKind::Merge, &patch).await {
            Ok(_) => return,
            Err(error) => tracing::debug!(%error, "the node does not say yet that it serves Ingresses"),
        }
        tokio::time::sleep(backoff.next_wait()).await;
    }
}

#[cfg(test)]
mod tests {
    use kiln_client::testing::FakeApi;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_node_says_which_ports_it_serves_once_it_is_registered() {
        let api = FakeApi::new();
        let (ports, told) = mpsc::unbounded_channel();
        let saying = tokio::spawn(announce(api.client(), "n".to_owned(), told, CancellationToken::new()));
        ports.send(443).unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        api.put("/api/v1/nodes/n", json!({"metadata": {"name": "n"}}));
        ports.send(80).unwrap();
        drop(ports);
        saying.await.unwrap();
        let annotation = || api.object("/api/v1/nodes/n").unwrap()["metadata"]["annotations"][ANNOTATION].clone();
        assert_eq!(annotation(), json!("80,443"));
        let (_, told) = mpsc::unbounded_channel();
        announce(api.client(), "n".to_owned(), told, CancellationToken::new()).await;
        assert_eq!(annotation(), Value::Null);
    }
}
