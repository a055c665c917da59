//! The kubelet, with what this binary knows about the node.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Context as _;
use kiln_client::{Client, Clock};
use kiln_join::AddressWatch;
use kiln_kubelet::cri::Runtime;
use kiln_kubelet::pods::{self, MachineEnd, Pods};
use kiln_kubelet::server::{self, Server};
use kiln_kubelet::{Config, Machine, PodConfig, Progress};
use kiln_network::overlay::Backend;
use kiln_node_config::validate::Taint;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Identity;
use super::cluster::ClusterSettings;
use super::containers::ContainerOptions;
use super::parts::Parts;
use super::reach::Reach;
use super::{announce, dns, ingress, overlay, policy, sctp, services};
use crate::exit::Failure;
use crate::service::{self, Report};

/// What the imager wrote about the image; not there on any other Linux.
const IMAGE: &str = "/etc/kiln/image.json";
/// Where containers' logs lie: collectors of logs look there.
const POD_LOGS: &str = "/var/log/pods";

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Image {
    board: Option<String>,
}

/// Keeps other nodes away from the data of this one for as long as it is held.
fn lock(data_dir: &Path) -> anyhow::Result<Flock<File>> {
    let folder = data_dir.join("agent");
    kiln_pki::files::private_folder(&folder)?;
    let path = folder.join("lock");
    let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.with_context(|| path.display().to_string())?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| {
        let text = match error {
            Errno::EWOULDBLOCK => "another node runs with this data; end it, or give --data-dir".to_owned(),
            other => other.to_string(),
        };
        Failure::File(format!("{}: {text}", path.display())).into()
    })
}

/// Registers this machine, keeps its Node fresh and runs its pods until the shutdown. `client` is the node; `cluster` is what
/// all nodes agree on; `reach` says how it is reached.
///
/// # Errors
/// When the machine can't be read, or another node runs with the same data.
pub(crate) async fn run(
    client: Client,
    identity: &Identity,
    data_dir: &Path,
    cluster: ClusterSettings,
    reach: Reach,
    report: Arc<Report>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let _lock = lock(data_dir)?;
    let (image, server) = (image(Path::new(IMAGE))?, reach.server.clone());
    let machine = Machine::here(data_dir, remote(&server), address_news()).context("reading this machine")?;
    let containers = &identity.containers;
    let settings = containers.node_settings(cluster.node_settings());
    settings.reserve.check(&machine.facts).map_err(|error| Failure::Input(error.to_string()))?;
    let addresses = match identity.addresses.as_slice() {
        [] => machine.addresses.clone(),
        given => watch::channel(given.to_vec()).1,
    };
    let mut parts = Parts::new(client.clone(), shutdown.clone());
    let (mtu, packet_size) = watch::channel(None);
    let (runtime, network) = containers.runtime(data_dir, packet_size);
    if network.is_some() || containers.was_given() {
        services::add(&mut parts, identity, &cluster);
        announce::add(&mut parts, identity, &cluster);
        dns::add(&mut parts, &cluster)?;
        ingress::add(&mut parts, identity, &cluster, &client);
    }
    let network = network.filter(|_| cluster.backend() != Backend::None);
    if network.is_some() {
        overlay::add(&mut parts, identity, &cluster, data_dir, addresses.clone(), mtu)?;
        policy::add(&mut parts, identity, &cluster);
        sctp::add(&mut parts, &cluster, || kiln_init::load_module(sctp::MODULE));
    }
    let end = MachineEnd { periods: containers.end_periods(), ..MachineEnd::default() };
    follow_power(&end, shutdown.clone())?;
    let table = Pods::new(Path::new(POD_LOGS));
    let service = Server::new(server::Config {
        host: Arc::new(table.clone()),
        runtime: Runtime::counted(runtime.socket(), table.metrics().clone()),
        metrics: table.metrics().clone(),
        client: client.clone(),
        node_name: identity.name.clone(),
        root: containers.root(data_dir),
        logs: POD_LOGS.into(),
        clock: Clock::system(),
        shutdown: shutdown.clone(),
    });
    let reached = reach.serve(service, client.clone(), &identity.name, addresses.clone(), shutdown.clone());
    let pods = PodConfig {
        runtime,
        network,
        table,
        pods: pods::Config {
            root: containers.root(data_dir),
            logs: POD_LOGS.into(),
            manifests: Some(containers.manifests(data_dir)),
            node_ips: addresses,
            sysctls: containers.sysctls().with_safe(&machine.facts.kernel_version),
            rotation: containers.rotation(),
        },
        end: end.clone(),
        archives: ContainerOptions::archives(data_dir),
        collection: containers.collection()?,
        parallel_pulls: containers.parallel_pulls(),
        settings,
    };
    let config = Config {
        node_name: identity.name.clone(),
        labels: identity.labels.clone(),
        taints: identity.taints.iter().map(taint).collect(),
        node_ips: identity.addresses.clone(),
        board: image.board,
        pods: Some(pods),
        clock: Clock::system(),
    };
    let tell = |progress| match progress {
        Progress::WaitingForAddress => report.working("waiting for a network address"),
        Progress::Failing(why) => report.failing(&why),
        Progress::Registered => report.joined(&server),
    };
    let kubelet = kiln_kubelet::run(client, config, machine, Box::new(tell), shutdown.clone());
    tokio::join!(kubelet, Box::pin(reached), Box::pin(parts.run()));
    Ok(())
}

/// Ends pods, and then this process, when PID 1 says that the machine ends: by SIGPWR. A SIGTERM ends the process alone, and pods
/// go on.
fn follow_power(end: &MachineEnd, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut power = signal(SignalKind::from_raw(nix::libc::SIGPWR)).context("listening for SIGPWR")?;
    service::ENDS_PODS.store(true, Ordering::Relaxed);
    let end = end.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = power.recv() => tracing::info!("SIGPWR: the machine ends"),
        }
        end.begins.cancel();
        end.done.cancelled().await;
        shutdown.cancel();
    });
    Ok(())
}

/// As a Node has it.
fn taint(taint: &Taint) -> Value {
    match taint.value.as_str() {
        "" => json!({ "key": taint.key, "effect": taint.effect }),
        value => json!({ "key": taint.key, "value": value, "effect": taint.effect }),
    }
}

/// Says when the machine's addresses may have changed, for as long as anyone listens.
fn address_news() -> watch::Receiver<()> {
    let mut kernel = AddressWatch::start();
    let (sender, receiver) = watch::channel(());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = sender.closed() => return,
                () = kernel.changed() => sender.send_replace(()),
            }
        }
    });
    receiver
}

fn image(path: &Path) -> anyhow::Result<Image> {
    match kiln_pki::files::read(path)? {
        None => Ok(Image::default()),
        Some(text) => serde_json::from_str(&text).with_context(|| path.display().to_string()),
    }
}

/// The server's address, if it is one and on another machine; of a link-local one the interface matters too.
fn remote(server: &str) -> Option<SocketAddr> {
    let address: SocketAddr = server.strip_prefix("https://")?.trim_end_matches('/').parse().ok()?;
    (!address.ip().is_loopback()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_tells_the_board_and_another_linux_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image.json");
        assert_eq!(image(&path).unwrap().board, None);
        std::fs::write(&path, r#"{"schema":1,"board":"rpi4","containerRuntime":"containerd://1.7.24"}"#).unwrap();
        let image = image(&path).unwrap();
        assert_eq!(image.board.as_deref(), Some("rpi4"));
    }

    #[test]
    fn only_a_server_elsewhere_says_which_address_leads_to_it() {
        assert_eq!(remote("https://10.0.2.2:6443"), Some(([10, 0, 2, 2], 6443).into()));
        assert_eq!(remote("https://[fe80::1%2]:6443"), "[fe80::1%2]:6443".parse().ok());
        assert_eq!(remote("https://127.0.0.1:6443"), None);
        assert_eq!(remote("https://pi.local:6443"), None);
    }
}
