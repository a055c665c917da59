//! Puts the server's parts together and runs them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use jiff::Timestamp;
use kiln_apiserver::{ApiServer, Config, UserInfo};
use kiln_client::{Client, Clock};
use kiln_controllers::csr::Reserved;
use kiln_controllers::{addons, charts, gateway_status, kubernetes_service, service_lb};
use kiln_join::{Progress as _, Step};
use kiln_node_config::ServerUrl;
use kiln_pki::{Authority, NODE_USER_PREFIX, NODES_GROUP, certificate_der, tls};
use kiln_storage::Storage;
use kiln_tunnel::Hub;
use rustls::RootCertStore;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::certificate::{Certificates, Kubeconfigs, Names};
use super::control::Control;
use super::flags::Settings;
use super::leader::Candidate;
use super::shared::Keys;
use super::snapshots::Saver;
use super::{
    admin, admin_kubeconfig, advert, apiserver_args, datastore, disable, front_proxy, in_process, make_folder,
    own_name, reach, role_label, shared, tokens,
};
use crate::exit::Failure;
use crate::node::cluster::ClusterSettings;
use crate::node::kubelet;
use crate::node::reach::{Reach, Way};
use crate::service::status::StorageStatus;
use crate::service::{Report, notify};

/// Where an image has manifests.
const IMAGE_MANIFESTS: &str = "/etc/kiln/manifests";
/// How often the storage's counters are noted in the status.
const COUNT: Duration = Duration::from_secs(60);

/// Serves until the shutdown.
pub(super) async fn serve(settings: Settings, shutdown: CancellationToken) -> anyhow::Result<()> {
    let folder = make_folder(&settings.data_dir)?;
    let is_shared = !settings.datastore.endpoints.is_empty();
    disable::check(&settings.disabled, &folder, &manifest_folders(&settings, &folder), is_shared)?;
    let report = Arc::new(Report::new(&settings.data_dir, "server", &settings.identity.name));
    report.step(Step::Ca, "starting the server");
    let storage = datastore::open(&settings.datastore, &folder).await?;
    let (cluster_dir, now) = (settings.cluster_dir.as_deref(), SystemTime::now());
    let Keys { authority, account_key } = match &settings.token {
        Some(token) if is_shared => shared::of_cluster(&*storage, token, &folder, cluster_dir, now).await?,
        _ => shared::own(&folder, cluster_dir, now)?,
    };
    let authority = Arc::new(authority);
    let listener = listen(settings.bind, settings.server.port).await?;
    let port = listener.local_addr().context("the listening socket")?.port();
    let url = local_url(settings.bind, port);

    let names = Names {
        node: settings.identity.name.clone(),
        extra: settings.server.tls_sans.clone(),
        service_cidr: settings.server.service_cidr.first(),
        domain: settings.domain.clone(),
    };
    let own_names = names.dns();
    let admin = Kubeconfigs { own: admin_kubeconfig(&settings.data_dir), copy: settings.kubeconfig.clone() };
    let certificates = Certificates::open(Arc::clone(&authority), names, folder.clone(), admin, url.clone(), now)?;
    let reserved =
        Reserved { names: own_names, addresses: certificates.addresses(), server_node: settings.identity.name.clone() };
    let own_endpoint = kubernetes_service::Config {
        addresses: certificates.addresses(),
        advertise: settings.advertise,
        service_ip: settings.server.service_cidr.first().nth(1),
        port,
        shared: is_shared,
    };
    report.change(|status| {
        status.server = Some(url.clone());
        status.certificates = certificates.status();
    });

    let hub = Hub::new();
    let mut config = api_config(&settings, port, &authority, account_key)?;
    config.front_proxy = Some(front_proxy::open(&folder, now)?);
    let (others, addresses) = watch::channel(BTreeSet::new());
    let peers = reach::Peers { addresses, authority: Arc::clone(&authority) };
    config.dialer = Arc::new(reach::Nodes::new(hub.clone(), kiln_pki::secret::random_text(16)?, peers));
    let scheduling = Arc::<kiln_scheduler::Metrics>::default();
    config.further_metrics.push({
        let scheduling = Arc::clone(&scheduling);
        Arc::new(move |out: &mut String| scheduling.write(out))
    });
    let api = ApiServer::build(config, Arc::clone(&storage)).await?;
    let system = in_process::client(&api, UserInfo::system("system:apiserver"));
    if settings.agent {
        own_name::bind(&system, &settings.identity, &authority.hash()).await?;
    }
    if let Some(dir) = &settings.cluster_dir {
        tokens::import(&system, dir).await?;
        // The CA's key and the tokens are on this disk now: init may remove them from the card.
        notify::send(&[("X_KILN_IMPORTED_CA", "1")]);
    }
    add_tokens(&system, &settings, &authority.hash()).await?;
    let cluster = cluster_settings(&settings);
    cluster.publish(&system).await?;

    let own_certificate = certificates.resolver();
    let tls = tls::server(roots(&authority)?, own_certificate.clone())?;
    let mut parts = JoinSet::new();
    let serving = CancellationToken::new();
    let api_task = tokio::spawn({
        let (api, serving) = (api.clone(), serving.clone());
        async move { api.serve(listener, tls, serving).await }
    });
    tracing::info!(url, ca = authority.hash(), "serving");
    println!("{url}");

    let controllers = kiln_controllers::Config {
        authority: Arc::clone(&authority),
        reserved,
        cluster_cidrs: settings
            .server
            .cluster_cidr
            .iter()
            .map(|range| range.to_string().parse())
            .collect::<Result<_, _>>()
            .map_err(|e| Failure::Input(format!("`cluster-cidr`: {e}")))?,
        server: own_endpoint.clone(),
        fill_token: in_process::fill_token(&api),
        service_lb: settings.service_lb.then(|| service_lb::Config {
            reserved: reserved_ports(&settings, port),
            pool: settings.load_balancer_pool.clone(),
        }),
        local_volumes: settings.data_dir.join("storage").display().to_string(),
        ingress: settings.ingress.then(|| {
            let [http, https] = settings.identity.ingress.ports();
            gateway_status::Ports { http, https, reserved: [port, kiln_kubelet::server::PORT].into() }
        }),
        acme: settings.acme.clone(),
        tuning: settings.tuning,
        addons: Some(addons::Config {
            client: system.clone(),
            folders: manifest_folders(&settings, &folder),
            disabled: settings.disabled.clone(),
        }),
        charts: settings.helm.then(|| charts::Config { client: system.clone() }),
        clock: Clock::system(),
    };
    let manager = in_process::client(&api, UserInfo::system("system:kube-controller-manager"));
    let scheduler = in_process::client(&api, UserInfo::new("system:kube-scheduler", &[]));
    let control = Control {
        manager: manager.clone(),
        controllers,
        scheduler: settings.scheduler.clone().map(|config| (scheduler, config.counting(scheduling))),
    };
    if is_shared {
        // Two processes on one machine are two candidates.
        let identity = format!("{}_{}", settings.identity.name, kiln_pki::secret::random_text(8)?);
        let own = kiln_pki::secret::random_text(16)?;
        let (client, ends, name) = (manager.clone(), shutdown.clone(), own.clone());
        parts.spawn(async move { kubernetes_service::others(client, &name, others, ends).await });
        let announced =
            kubernetes_service::announce(manager.clone(), own, own_endpoint, Clock::system(), shutdown.clone());
        parts.spawn(announced);
        let candidate = Candidate::new(manager, identity, Clock::system());
        let work = move |stop| control.clone().run(stop);
        parts.spawn(candidate.run(work, shutdown.clone()));
    } else {
        parts.spawn(control.run(shutdown.clone()));
    }
    let dns = if settings.dns { dns_addresses(&settings) } else { Vec::new() };
    parts.spawn(kiln_dns::addon::run(system.clone(), dns, shutdown.clone()));
    let saver =
        Saver::new(&settings.snapshots, &folder, &settings.identity.name, Arc::clone(&storage), Clock::system());
    match saver {
        Some(_) if is_shared => {
            tracing::warn!("the data are in etcd, which keeps its own snapshots; none is saved here")
        }
        Some(saver) => {
            parts.spawn(saver.run(shutdown.clone()));
        }
        None => {}
    }
    parts.spawn(admin::listen(&folder, Arc::clone(&storage), shutdown.clone())?);
    parts.spawn(certificates.maintain(Arc::clone(&report), shutdown.clone()));
    parts.spawn(count(Arc::clone(&storage), Arc::clone(&report), shutdown.clone()));
    if settings.mdns {
        parts.spawn(advert::run(settings.identity.name.clone(), authority.hash(), port, shutdown.clone()));
    }

    if settings.agent {
        report.step(Step::Register, "registering this node");
        let user = UserInfo::new(format!("{NODE_USER_PREFIX}{}", settings.identity.name), &[NODES_GROUP]);
        let client = in_process::client(&api, user);
        parts.spawn(role_label::run(system, settings.identity.name.clone(), shutdown.clone()));
        let (identity, shutdown) = (settings.identity.clone(), shutdown.clone());
        let data_dir = settings.data_dir.clone();
        let ca_pem = authority.certificate_pem().to_owned();
        let reach = Reach { server: url, way: Way::Here(hub), ca_pem, certificates: own_certificate };
        parts.spawn(async move {
            let kubelet = kubelet::run(client, &identity, &data_dir, cluster, reach, Arc::clone(&report), shutdown);
            if let Err(error) = kubelet.await {
                report.failing(&format!("{error:#}"));
            }
        });
    } else {
        report.joined(&url);
    }

    shutdown.cancelled().await;
    // The parts end while the API still answers them; then the API ends too.
    while parts.join_next().await.is_some() {}
    serving.cancel();
    let served = api_task.await.context("the API server");
    // Whoever still holds it: the file is whole and its log is in it when the process ends.
    storage.close().await;
    served
}

async fn listen(bind: Option<IpAddr>, port: u16) -> anyhow::Result<TcpListener> {
    let address = SocketAddr::new(bind.unwrap_or(Ipv6Addr::UNSPECIFIED.into()), port);
    let listener = match TcpListener::bind(address).await {
        // A kernel without IPv6.
        Err(e) if bind.is_none() && e.raw_os_error() == Some(nix::libc::EAFNOSUPPORT) => {
            TcpListener::bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port)).await
        }
        other => other,
    };
    listener.map_err(|e| {
        anyhow::anyhow!("can't listen on {address}: {e}; another server may be running, or choose --https-listen-port")
    })
}

/// The API's URL for programs on this machine.
fn local_url(bind: Option<IpAddr>, port: u16) -> String {
    let host = bind.filter(|a| !a.is_unspecified()).unwrap_or(Ipv4Addr::LOCALHOST.into());
    ServerUrl { host: host.to_string(), port }.to_string()
}

/// What the API server is told.
fn api_config(settings: &Settings, port: u16, authority: &Authority, account_key: String) -> anyhow::Result<Config> {
    let mut config = Config { ca_pem: authority.certificate_pem().to_owned(), port, ..Config::default() };
    let ranges: Result<_, _> = settings.server.service_cidr.iter().map(|range| range.to_string().parse()).collect();
    config.service_cidrs = ranges.map_err(|e| Failure::Input(format!("`service-cidr`: {e}")))?;
    config.node_ports = settings.node_ports.clone();
    config.service_accounts.issuers = vec![format!("https://kubernetes.default.svc.{}", settings.domain)];
    config.service_accounts.signing_key_pem = Some(account_key);
    Ok(apiserver_args::apply(config, &settings.apiserver)?)
}

/// Ports of nodes that no load balancer's Service gets.
fn reserved_ports(settings: &Settings, port: u16) -> BTreeSet<u16> {
    let ingress = settings.identity.ingress.ports().into_iter().filter(|_| settings.ingress);
    ingress.chain([port, kiln_kubelet::server::PORT]).collect()
}

/// Where manifests are that the server applies: in its own folder, in the image and on the card.
fn manifest_folders(settings: &Settings, folder: &Path) -> Vec<PathBuf> {
    let card = settings.cluster_dir.as_deref().and_then(Path::parent).map(|card| card.join("manifests"));
    [folder.join("manifests"), IMAGE_MANIFESTS.into()].into_iter().chain(card).collect()
}

/// What all nodes are told.
fn cluster_settings(settings: &Settings) -> ClusterSettings {
    ClusterSettings {
        cluster_cidr: settings.server.cluster_cidr.to_string(),
        service_cidr: settings.server.service_cidr.to_string(),
        cluster_domain: settings.domain.clone(),
        cluster_dns: dns_addresses(settings).iter().map(IpAddr::to_string).collect::<Vec<_>>().join(","),
        flannel_backend: settings.backend.to_string(),
        disable_kube_proxy: settings.disable_kube_proxy.to_string(),
        disable_network_policy: settings.disable_network_policy.to_string(),
        disable_ingress: (!settings.ingress).to_string(),
        load_balancer_pool: settings.load_balancer_pool.to_string(),
    }
}

/// Where the cluster's DNS is: the address that was given, or the tenth of each of services' ranges.
fn dns_addresses(settings: &Settings) -> Vec<IpAddr> {
    if let Some(given) = settings.cluster_dns {
        return vec![given];
    }
    settings.server.service_cidr.iter().filter_map(|range| range.nth(10)).collect()
}

/// Lets agents join with the tokens that flags gave.
async fn add_tokens(client: &Client, settings: &Settings, ca_hash: &str) -> anyhow::Result<()> {
    if let Some(token) = settings.token.as_deref().and_then(|text| tokens::parse(text, ca_hash)) {
        tokens::add(client, &token, "the servers' token").await?;
    }
    if let Some(text) = &settings.agent_token {
        let Some(token) = tokens::parse(text, ca_hash) else {
            return Err(Failure::Input(tokens::NO_TOKEN.to_owned()).into());
        };
        tokens::add(client, &token, "the agents' token").await?;
    }
    Ok(())
}

fn roots(authority: &Authority) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate_der(authority.certificate_pem())?).context("the cluster's CA")?;
    Ok(roots)
}

/// Notes what the storage wrote, now and then, if it wrote anything.
async fn count(storage: Arc<dyn Storage>, report: Arc<Report>, shutdown: CancellationToken) {
    let since = Timestamp::now();
    loop {
        let counters = storage.counters();
        let storage = StorageStatus { bytes_written: counters.bytes_written, commits: counters.commits, since };
        report.change(|status| status.storage = Some(storage));
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(COUNT) => {}
        }
    }
}
