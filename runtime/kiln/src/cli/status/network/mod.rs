//! `kiln status --network`: who is reached from this node. What there is to reach comes from the API; whether it is reached is
//! tried out, all at once, by what any client would do.

mod draw;
mod plan;
mod probe;

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kiln_client::https::{Auth, Https, HttpsConfig};
use kiln_client::{Client, ListParams, collection};
use kiln_join::Store;
use serde::Serialize;

pub(super) use self::draw::draw;
use self::plan::{Cluster, Target};
pub(super) use self::probe::Outcome;
use crate::cli::kubeconfig::Admin;
use crate::exit::Failure;
use crate::node::cluster::ClusterSettings;
use crate::service::status::Status;

/// How long anyone is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// What was found out.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Picture {
    /// The node that this was tried from.
    pub(super) from: String,
    /// The API.
    pub(super) api: Reached,
    /// The other nodes, in the order of their names.
    pub(super) nodes: Vec<OtherNode>,
    /// The cluster's DNS: for each of its addresses a name of the cluster, and one outside.
    pub(super) dns: Vec<Reached>,
    /// Services with a port of TCP.
    pub(super) services: Vec<Reached>,
}

/// Another node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct OtherNode {
    pub(super) name: String,
    /// The node itself, at its kubelet's port.
    pub(super) node: Reached,
    /// One of its pods.
    pub(super) pods: Reached,
}

/// One that was to be reached.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Reached {
    /// What it is, in words.
    pub(super) what: String,
    /// Where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) at: Option<String>,
    #[serde(flatten)]
    pub(super) outcome: Outcome,
}

/// Tries it out.
///
/// # Errors
/// When nothing says who this node is to the API. An API that can't be reached is part of the picture.
pub(super) async fn look(data_dir: &Path, status: &Status) -> anyhow::Result<Picture> {
    let https = access(data_dir, &status.node)?;
    let (server, from) = (https.server.clone(), status.node.clone());
    let client = Client::new(Https::new(https)?).with_timeout(PATIENCE);
    let began = tokio::time::Instant::now();
    let found = read(&client, &from).await;
    let outcome = match &found {
        Ok(_) => Outcome::reached(began.elapsed(), None),
        Err(error) => Outcome::failed(format!("{error:#}")),
    };
    let api = Reached { what: "API".to_owned(), at: Some(server), outcome };
    let Ok(cluster) = found else {
        return Ok(Picture { from, api, nodes: Vec::new(), dns: Vec::new(), services: Vec::new() });
    };
    let plan = plan::plan(&cluster);
    let (nodes, dns, services) = tokio::join!(
        futures_util::future::join_all(plan.nodes.into_iter().map(|(name, node, pods)| async move {
            let (node, pods) = tokio::join!(attempt(node), attempt(pods));
            OtherNode { name, pods: probe::explain(&node, pods), node }
        })),
        futures_util::future::join_all(plan.dns.into_iter().map(attempt)),
        futures_util::future::join_all(plan.services.into_iter().map(attempt)),
    );
    Ok(Picture { from, api, nodes, dns, services })
}

async fn attempt(target: Target) -> Reached {
    let Target { what, at, how } = target;
    let outcome = probe::run(how, PATIENCE).await;
    Reached { what, at, outcome }
}

/// As whom the API is read: as a server's administrator, or as the node that an agent is.
fn access(data_dir: &Path, node: &str) -> anyhow::Result<HttpsConfig> {
    if let Ok(admin) = Admin::load(data_dir, None) {
        return Ok(admin.https);
    }
    let folder = data_dir.join("agent");
    let Some(own) = Store::new(&folder).load(node, None).with_context(|| folder.display().to_string())? else {
        let text = format!(
            "{} has no credentials of this node; run this as root on a node that has joined",
            data_dir.display()
        );
        return Err(Failure::Input(text).into());
    };
    let auth = Auth::Certificate { certificate_pem: own.client.certificate_pem, key_pem: own.client.key_pem };
    Ok(HttpsConfig { server: own.server, ca_pem: own.ca_pem, auth, ..HttpsConfig::default() })
}

/// What there is to reach.
async fn read(client: &Client, node: &str) -> anyhow::Result<Cluster> {
    let all = ListParams::default();
    let (nodes, services, slices) = (collection::<Node>(), collection::<Service>(), collection::<EndpointSlice>());
    let (settings, nodes, services, slices) = tokio::try_join!(
        ClusterSettings::find(client),
        client.list::<Node>(&nodes, &all),
        client.list::<Service>(&services, &all),
        client.list::<EndpointSlice>(&slices, &all),
    )?;
    Ok(Cluster {
        own: node.to_owned(),
        settings: settings.unwrap_or_default(),
        nodes: nodes.items,
        services: services.items,
        slices: slices.items,
    })
}

/// An address with a port, as a URL has it.
fn place(address: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}
