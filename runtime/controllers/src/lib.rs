//! The cluster's controllers: loops that make what is like what should be.
//!
//! Each mirrors the collections that it looks at, puts the key of what changed into a queue, and reconciles one key at a
//! time against the current state. Nothing is polled; what depends on the time of day is queued for its time. All speak
//! to the API through the client alone. One server runs one set of them.
//!
#![doc = include_str!("conformance.md")]

pub mod account_tokens;
pub mod acme;
pub mod addons;
pub mod autoscaler;
pub mod charts;
mod children;
mod cidr;
pub mod cluster_roles;
pub mod cron_job;
pub mod csr;
pub mod daemon_set;
pub mod deployment;
mod discovery;
pub mod disruption;
pub mod endpoint_slice;
pub mod endpoint_slice_mirroring;
pub mod endpoints;
mod events;
mod expectations;
pub mod garbage;
pub mod gateway_status;
mod hash;
mod history;
pub mod ingress_status;
mod installed;
mod intstr;
pub mod job;
pub mod kubernetes_service;
mod labels;
mod mapper;
pub mod namespace;
mod node_events;
mod node_fit;
pub mod node_ipam;
pub mod node_lifecycle;
pub mod node_pods;
mod object_set;
mod owned;
pub mod per_namespace;
pub mod pod_gc;
mod pods;
mod reconcile;
pub mod replica_set;
pub mod resource_claims;
pub mod service_cidrs;
pub mod service_lb;
mod service_pods;
pub mod stateful_set;
mod status_patch;
pub mod taint_eviction;
pub mod token_cleaner;
pub mod ttl_after_finished;
mod tuning;
pub mod volumes;
mod written;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use kiln_client::{Client, Clock, Informers};
use kiln_pki::Authority;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use cidr::{Cidr, CidrError};
pub use events::{EventKind, Events, Recorder, Regarding};
pub use pods::trim as trim_pod;
pub use tuning::{Autoscaling, Tuning};

/// What the controllers need to know.
#[derive(Clone)]
pub struct Config {
    /// Signs certificate requests.
    pub authority: Arc<Authority>,
    /// What no node may serve as.
    pub reserved: csr::Reserved,
    /// The addresses of all pods, a range of each family; each node gets a part of each.
    pub cluster_cidrs: Vec<Cidr>,
    /// Where the API server is reached.
    pub server: kubernetes_service::Config,
    /// Fills Secrets that hold tokens.
    pub fill_token: account_tokens::Fill,
    /// Gives Services of the type LoadBalancer the addresses of nodes, unless it is left out.
    pub service_lb: Option<service_lb::Config>,
    /// Where nodes keep the volumes of the class `local-path`.
    pub local_volumes: String,
    /// The ports of nodes, if they serve Ingresses and Gateways.
    pub ingress: Option<gateway_status::Ports>,
    /// Where certificates of Ingresses come from, if they are to.
    pub acme: Option<acme::Server>,
    /// What is not as by default.
    pub tuning: Tuning,
    /// Applies what is in folders of manifests, unless it is left out.
    pub addons: Option<addons::Config>,
    /// Installs Helm's charts, unless it is left out.
    pub charts: Option<charts::Config>,
    /// The time of day.
    pub clock: Clock,
}

/// What every controller has at hand, besides the mirrors.
#[derive(Clone)]
pub struct Context {
    /// Speaks to the API.
    pub client: Client,
    /// The time of day.
    pub clock: Clock,
    /// Writes events.
    pub events: Events,
    /// Ends all.
    pub shutdown: CancellationToken,
}

/// A controller at work.
pub type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs all controllers until the shutdown, with mirrors of their own.
pub async fn run(client: Client, config: Config, shutdown: CancellationToken) {
    let clock = config.clock.clone();
    alone(client, clock, shutdown, |informers, context| build(informers, context, config)).await;
}

/// Runs what `build` makes until the shutdown, with mirrors and an event writer of its own. Ends before it if a part panicked and
/// ended the others by [`Context::shutdown`]: what it knew is no good any more, and all must begin anew.
pub async fn alone<F: Future<Output = ()>>(
    client: Client,
    clock: Clock,
    shutdown: CancellationToken,
    build: impl FnOnce(&mut Informers, &Context) -> F,
) {
    let shutdown = shutdown.child_token();
    let mut informers = Informers::new(client.clone());
    let (events, writer) = events::pair(client.clone(), clock.clone());
    let context = Context { client, clock, events, shutdown: shutdown.clone() };
    let running = build(&mut informers, &context);
    tokio::join!(informers.run(shutdown.clone()), writer.run(shutdown), running);
}

/// Makes all controllers. They begin to work when the answer is awaited and the mirrors run.
pub fn build(informers: &mut Informers, context: &Context, config: Config) -> Running {
    let Config {
        authority,
        reserved,
        cluster_cidrs,
        server,
        fill_token,
        service_lb,
        local_volumes,
        ingress,
        acme,
        addons,
        charts,
        tuning,
        clock,
    } = config;
    let (client, shutdown) = (context.client.clone(), context.shutdown.clone());
    let ca = authority.certificate_pem().to_owned();
    let mut all: Vec<Running> = vec![
        Box::pin(node_lifecycle::build(informers, context, tuning.node_grace)),
        Box::pin(node_ipam::build(informers, context, cluster_cidrs)),
        Box::pin(per_namespace::default_service_accounts(informers, context)),
        Box::pin(per_namespace::root_ca(informers, context, ca.clone())),
        Box::pin(namespace::build(informers, context)),
        Box::pin(deployment::build(informers, context)),
        Box::pin(replica_set::replica_sets(informers, context)),
        Box::pin(replica_set::replication_controllers(informers, context)),
        Box::pin(autoscaler::build(informers, context, tuning.autoscaler)),
        Box::pin(daemon_set::build(informers, context)),
        Box::pin(disruption::build(informers, context)),
        Box::pin(endpoint_slice::build(informers, context)),
        Box::pin(endpoint_slice_mirroring::build(informers, context)),
        Box::pin(endpoints::build(informers, context)),
        Box::pin(job::build(informers, context)),
        Box::pin(cron_job::build(informers, context)),
        Box::pin(ttl_after_finished::build(informers, context)),
        Box::pin(pod_gc::build(informers, context, tuning.ended_pods)),
        Box::pin(node_pods::build(informers, context)),
        Box::pin(taint_eviction::build(informers, context)),
        Box::pin(volumes::binder::build(informers, context)),
        Box::pin(volumes::local_path::build(informers, context, local_volumes)),
        Box::pin(volumes::protection::claims(informers, context)),
        Box::pin(volumes::protection::volumes(informers, context)),
        Box::pin(volumes::protection::attributes(informers, context)),
        Box::pin(volumes::ephemeral::build(informers, context)),
        Box::pin(volumes::attach::build(informers, context)),
        Box::pin(volumes::expand::build(informers, context)),
        Box::pin(service_cidrs::build(informers, context)),
        Box::pin(stateful_set::build(informers, context)),
        Box::pin(resource_claims::build(informers, context)),
    ];
    if let Some(config) = service_lb {
        all.push(Box::pin(service_lb::build(informers, context, config)));
    }
    if let Some(ports) = ingress {
        all.push(Box::pin(ingress_status::build(informers, context)));
        all.push(Box::pin(gateway_status::build(informers, context, ports)));
    }
    if let Some(server) = acme {
        all.push(Box::pin(acme::build(informers, context, server)));
    }
    if let Some(config) = addons {
        all.push(Box::pin(addons::build(informers, context, config)));
    }
    if let Some(config) = charts {
        all.push(Box::pin(charts::build(informers, context, config)));
    }
    let csr = csr::Config { authority, reserved, clock: clock.clone() };
    all.push(Box::pin(csr::run(client.clone(), csr, shutdown.clone())));
    all.push(Box::pin(token_cleaner::run(client.clone(), clock, shutdown.clone())));
    all.push(Box::pin(garbage::run(client.clone(), shutdown.clone())));
    all.push(Box::pin({
        let (client, shutdown) = (client.clone(), shutdown.clone());
        async move { account_tokens::run(client, fill_token, &ca, shutdown).await }
    }));
    all.push(Box::pin(cluster_roles::run(client.clone(), shutdown.clone())));
    all.push(Box::pin(kubernetes_service::run(client, server, shutdown.clone())));
    Box::pin(together(all, shutdown))
}

/// Runs each in a task of its own. A panic of one ends the others in order: a cluster without one of its controllers would
/// stand still where nobody looks.
async fn together(all: Vec<Running>, shutdown: CancellationToken) {
    let mut running: JoinSet<()> = all.into_iter().collect();
    while let Some(ended) = running.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a controller ended by a panic");
            shutdown.cancel();
        }
    }
}
