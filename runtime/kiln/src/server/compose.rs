//! Puts the server's parts together and runs them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use jiff::Timestamp;
use kiln_apiserver::{ApiServer, Config, UserInfo, tls_config};
use kiln_client::Clock;
use kiln_controllers::csr::Reserved;
use kiln_controllers::kubernetes_service;
use kiln_join::{Progress as _, Step};
use kiln_node_config::ServerUrl;
use kiln_pki::{Authority, NODE_USER_PREFIX, NODES_GROUP, certificate_der};
use kiln_storage::{Storage, sqlite};
use rustls::RootCertStore;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::certificate::{Certificates, Names};
use super::{Settings, advert, authority, in_process, make_folder, own_name, role_label, tokens};
use crate::exit::Failure;
use crate::node::kubelet;
use crate::service::status::StorageStatus;
use crate::service::{Report, notify};

/// How often the storage's counters are noted in the status.
const COUNT: Duration = Duration::from_secs(60);

/// Serves until the shutdown.
pub(super) async fn serve(settings: Settings, shutdown: CancellationToken) -> anyhow::Result<()> {
    let folder = make_folder(&settings.data_dir)?;
    let report = Arc::new(Report::new(&settings.data_dir, "server", &settings.identity.name));
    report.step(Step::Ca, "starting the server");
    let authority = authority::load_or_make(&folder, settings.cluster_dir.as_deref(), SystemTime::now())?;
    let authority = Arc::new(authority);
    let listener = listen(settings.bind, settings.server.port).await?;
    let port = listener.local_addr().context("the listening socket")?.port();
    let url = local_url(settings.bind, port);

    let names = Names {
        node: settings.identity.name.clone(),
        extra: settings.server.tls_sans.clone(),
        service_cidr: settings.server.service_cidr,
    };
    let own_names = names.dns();
    let certificates =
        Certificates::open(Arc::clone(&authority), names, &settings.data_dir, url.clone(), SystemTime::now())?;
    let reserved =
        Reserved { names: own_names, addresses: certificates.addresses(), server_node: settings.identity.name.clone() };
    let own_endpoint = kubernetes_service::Config {
        addresses: certificates.addresses(),
        advertise: None,
        service_ip: settings.server.service_cidr.nth(1),
        port,
    };
    report.change(|status| {
        status.server = Some(url.clone());
        status.certificates = certificates.status();
    });

    let storage = open_storage(&folder.join("kiln.db")).await?;
    let config = Config { ca_pem: authority.certificate_pem().to_owned(), ..Config::default() };
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

    let tls = tls_config(roots(&authority)?, certificates.resolver())?;
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
        cluster_cidr: settings
            .server
            .cluster_cidr
            .to_string()
            .parse()
            .map_err(|e| Failure::Input(format!("`server.cluster-cidr`: {e}")))?,
        server: own_endpoint,
        clock: Clock::system(),
    };
    let manager = in_process::client(&api, UserInfo::system("system:kube-controller-manager"));
    parts.spawn(kiln_controllers::run(manager, controllers, shutdown.clone()));
    parts.spawn(certificates.maintain(Arc::clone(&report), shutdown.clone()));
    parts.spawn(count(storage, Arc::clone(&report), shutdown.clone()));
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
        parts.spawn(async move {
            let kubelet = kubelet::run(client, &identity, &data_dir, url, Arc::clone(&report), shutdown);
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
    api_task.await.context("the API server")?;
    Ok(())
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
    listener
        .map_err(|e| anyhow::anyhow!("can't listen on {address}: {e}; another server may be running, or choose --port"))
}

/// The API's URL for programs on this machine.
fn local_url(bind: Option<IpAddr>, port: u16) -> String {
    let host = bind.filter(|a| !a.is_unspecified()).unwrap_or(Ipv4Addr::LOCALHOST.into());
    ServerUrl { host: host.to_string(), port }.to_string()
}

async fn open_storage(path: &std::path::Path) -> anyhow::Result<Arc<dyn Storage>> {
    let owned = path.to_owned();
    let options = sqlite::Options { volatile: kiln_apiserver::volatile(), ..sqlite::Options::default() };
    let opened =
        tokio::task::spawn_blocking(move || sqlite::open(&owned, options)).await.context("opening the storage")?;
    opened.with_context(|| format!("the storage {}", path.display()))
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
