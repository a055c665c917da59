//! Finds drivers, of volumes and of devices: a registrar puts a socket into the folder `plugins_registry` (KEP-595), is asked there what it stands for, and is
//! told how its registration went. When the socket goes, so does the driver.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kiln_client::{Backoff, Client, WorkQueue};
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use super::client::{self, PATIENCE};
use super::messages::{Empty, NodeGetInfoResponse, PluginInfo, RegistrationStatus};
use super::{Driver, Drivers, node_info};
use crate::claims::{self, Plugins};
use crate::volumes::Dirs;

/// How long a registrar may take to say what it is, and to hear how it went.
const QUICK: Duration = Duration::from_secs(5);
/// Waits before the CSINode is tried to be made again.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
const KIND: &str = "CSIPlugin";

/// What the registry needs.
pub(crate) struct Registry {
    /// Speaks as the node.
    pub(crate) client: Client,
    /// The node's name.
    pub(crate) node_name: String,
    /// The kubelet's folders.
    pub(crate) dirs: Dirs,
    /// The table that it fills.
    pub(crate) drivers: Drivers,
    /// The table of plugins for ResourceClaims, which it fills too.
    pub(crate) claims: Plugins,
    /// The Node, once it is registered.
    pub(crate) node: watch::Receiver<Option<std::sync::Arc<Node>>>,
}

/// A socket that was registered.
struct Known {
    /// Device, inode and time: a socket that was made anew is another one.
    identity: (u64, u64, i64, i64),
    driver: String,
    /// The socket of a plugin for ResourceClaims; none, if it is a CSI driver.
    claims: Option<PathBuf>,
}

struct Fd(Inotify);

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Registers drivers as they come and go, without end.
pub(crate) async fn run(registry: Registry) {
    let mut node = registry.node.clone();
    // Nothing can be told of a Node that is not there.
    if node.wait_for(Option::is_some).await.is_err() {
        return;
    }
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    while let Err(error) = node_info::initialize(&registry.client, &registry.node_name).await {
        tracing::warn!(error, "failed to initialize CSINode; will try again");
        tokio::time::sleep(backoff.next_wait()).await;
    }
    let folder = registry.dirs.plugins_registry();
    let queue = WorkQueue::<PathBuf>::default();
    let inotify = match listen(&folder, &registry.dirs.plugins()) {
        Ok(inotify) => inotify,
        Err(error) => {
            tracing::error!("{}: {error}; no CSI driver is found", folder.display());
            return std::future::pending().await;
        }
    };
    let watched = async {
        loop {
            rescan(&folder, &queue);
            if let Err(error) = changes(&inotify, &folder, &queue).await {
                tracing::warn!("{}: {error}", folder.display());
                tokio::time::sleep(RETRY.1).await;
            }
        }
    };
    let worked = async {
        let mut known = HashMap::new();
        while let Some(path) = queue.next().await {
            match registry.sync(&path, &mut known).await {
                Ok(()) => queue.forget(&path),
                Err(error) => {
                    tracing::warn!(socket = %path.display(), error, "a plugin is not registered; will try again");
                    queue.add_failed(path.clone());
                }
            }
        }
    };
    tokio::select! {
        () = watched => {}
        () = worked => {}
    }
}

fn listen(folder: &Path, plugins: &Path) -> io::Result<AsyncFd<Fd>> {
    std::fs::create_dir_all(folder)?;
    // Drivers' pods mount it.
    std::fs::create_dir_all(plugins)?;
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    inotify.add_watch(folder, AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVE | AddWatchFlags::IN_DELETE)?;
    // SAFETY: the descriptor is `Inotify`'s own, which is neither closed nor replaced as long as the `AsyncFd` holds it.
    #[allow(unsafe_code, reason = "tokio cannot know that the descriptor stays")]
    let inotify = unsafe { AsyncFd::register_with_interest(Fd(inotify), Interest::READABLE) };
    inotify.map_err(io::Error::from)
}

fn rescan(folder: &Path, queue: &WorkQueue<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        queue.add(entry.path());
    }
}

async fn changes(inotify: &AsyncFd<Fd>, folder: &Path, queue: &WorkQueue<PathBuf>) -> io::Result<()> {
    loop {
        let mut ready = inotify.readable().await?;
        match ready.get_inner().0.read_events() {
            Err(Errno::EAGAIN) => ready.clear_ready(),
            Err(error) => return Err(error.into()),
            Ok(events) => {
                for event in events {
                    match event.name {
                        Some(name) => queue.add(folder.join(name)),
                        // Too many at once.
                        None => rescan(folder, queue),
                    }
                }
            }
        }
    }
}

/// What a socket is recognised by; nothing, if there is none.
fn identity(path: &Path) -> Option<(u64, u64, i64, i64)> {
    let meta = std::fs::symlink_metadata(path).ok()?;
    let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    (meta.file_type().is_socket() && !hidden).then(|| (meta.dev(), meta.ino(), meta.ctime(), meta.ctime_nsec()))
}

impl Registry {
    async fn sync(&self, path: &Path, known: &mut HashMap<PathBuf, Known>) -> Result<(), String> {
        let now = identity(path);
        if let Some(before) = known.get(path) {
            if Some(before.identity) == now {
                return Ok(());
            }
            let (driver, claims) = (before.driver.clone(), before.claims.clone());
            known.remove(path);
            if let Some(socket) = claims {
                self.claims.remove(&driver, &socket);
                tracing::info!(driver, "the DRA plugin is gone");
                return self.meet(path, now, known).await;
            }
            self.drivers.remove(&driver);
            tracing::info!(driver, "the CSI driver is gone");
            if let Err(error) = node_info::uninstall(&self.client, &self.node_name, &driver).await {
                tracing::warn!(driver, error, "the cluster still has a driver that is gone");
            }
        }
        self.meet(path, now, known).await
    }

    /// Registers what listens at a socket, if there is one.
    async fn meet(
        &self,
        path: &Path,
        now: Option<(u64, u64, i64, i64)>,
        known: &mut HashMap<PathBuf, Known>,
    ) -> Result<(), String> {
        let Some(identity) = now else { return Ok(()) };
        let info: PluginInfo = client::call(path, "/pluginregistration.Registration/GetInfo", &Empty {}, QUICK)
            .await
            .map_err(|error| format!("failed to get plugin info using RPC GetInfo: {error}"))?;
        let socket = if info.endpoint.is_empty() { path.to_owned() } else { PathBuf::from(&info.endpoint) };
        let registered = self.register(path, &info, &socket).await;
        let status = RegistrationStatus {
            plugin_registered: registered.is_ok(),
            error: registered.as_ref().err().cloned().unwrap_or_default(),
        };
        let told: Result<Empty, _> =
            client::call(path, "/pluginregistration.Registration/NotifyRegistrationStatus", &status, QUICK).await;
        registered?;
        let claims = (info.kind == claims::KIND).then_some(socket);
        if let Err(error) = told {
            match claims {
                Some(socket) => self.claims.remove(&info.name, &socket),
                None => self.drivers.remove(&info.name),
            }
            return Err(format!("failed to send registration status: {error}"));
        }
        tracing::info!(driver = info.name, kind = info.kind, "the plugin is registered");
        known.insert(path.to_owned(), Known { identity, driver: info.name, claims });
        Ok(())
    }

    async fn register(&self, path: &Path, info: &PluginInfo, socket: &Path) -> Result<(), String> {
        if info.kind == claims::KIND {
            return self.claims.register(info, socket);
        }
        if info.kind != KIND {
            return Err(format!(
                "RegisterPlugin error -- no handler registered for plugin type: {} at socket {}",
                info.kind,
                path.display()
            ));
        }
        let version = self.validate(info).map_err(|why| {
            let why = format!("validation failed for CSI Driver {} at endpoint {}: {why}", info.name, socket.display());
            format!("RegisterPlugin error -- plugin validation failed with err: {why}")
        })?;
        self.drivers.set(&info.name, Driver { socket: socket.to_owned(), version });
        let done = async {
            let asked = client::call(socket, "/csi.v1.Node/NodeGetInfo", &Empty {}, PATIENCE);
            let node: NodeGetInfoResponse = asked.await.map_err(|error| error.to_string())?;
            node_info::install(&self.client, &self.node_name, &info.name, &node).await
        };
        let done = done.await;
        if done.is_err() {
            self.drivers.remove(&info.name);
        }
        done.map_err(|why| format!("RegisterPlugin error -- plugin registration failed with err: {why}"))
    }

    fn validate(&self, info: &PluginInfo) -> Result<Vec<u64>, String> {
        let failed =
            |why: String| format!("kubernetes.io/csi: ValidatePlugin for CSI driver {:?} failed. {why}", info.name);
        if info.supported_versions.is_empty() {
            return Err(failed("Plugin returned an empty list for supported versions".to_owned()));
        }
        let highest = highest(&info.supported_versions).map_err(|why| {
            failed(format!("None of the versions specified {:?} are supported. err={why}", info.supported_versions))
        })?;
        match self.drivers.get(&info.name) {
            Some(existing) if existing.version >= highest => Err(failed(format!(
                "Another driver with the same name is already registered with a higher supported version: {:?}",
                text(&existing.version)
            ))),
            _ => Ok(highest),
        }
    }
}

fn text(version: &[u64]) -> String {
    version.iter().map(u64::to_string).collect::<Vec<_>>().join(".")
}

/// The highest of the versions 1.x.
fn highest(versions: &[String]) -> Result<Vec<u64>, String> {
    let parse = |text: &String| -> Option<Vec<u64>> {
        let text = text.trim();
        let text = text.strip_prefix('v').unwrap_or(text);
        let digits = text.find(|c: char| c != '.' && !c.is_ascii_digit()).map_or(text, |end| &text[..end]);
        let parts: Vec<u64> = digits.split('.').map_while(|part| part.parse().ok()).collect();
        (parts.len() >= 2).then_some(parts)
    };
    let found = versions.iter().filter_map(parse).filter(|version| version[0] <= 1).max();
    match found {
        Some(version) if version[0] == 1 => Ok(version),
        Some(version) => Err(format!("highest supported version reported is {}, must be v1.x", text(&version))),
        None => Err(format!("could not find a highest supported version from versions ({versions:?})")),
    }
}

#[cfg(test)]
mod tests {
    use kiln_client::testing::FakeApi;
    use serde_json::json;

    use super::*;
    use crate::csi::testing::FakeDriver;

    #[test]
    fn the_highest_version_of_the_first_major_one_counts() {
        let rows: [(&[&str], Option<&[u64]>); 5] = [
            (&["1.0.0"], Some(&[1, 0, 0])),
            (&["1.0.0", "v1.10.1", "1.9.0", "2.0.0"], Some(&[1, 10, 1])),
            (&["0.3.0"], None),
            (&["2.0.0"], None),
            (&["one"], None),
        ];
        for (versions, expected) in rows {
            let versions: Vec<String> = versions.iter().map(|&version| version.to_owned()).collect();
            assert_eq!(highest(&versions).ok().as_deref(), expected, "{versions:?}");
        }
    }

    const CSI_NODE: &str = "/apis/storage.k8s.io/v1/csinodes/n";
    const NODE: &str = "/api/v1/nodes/n";

    async fn until(what: &str, is_so: impl Fn() -> bool) {
        for _ in 0..2_000 {
            if is_so() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("it never came to this: {what}");
    }

    #[tokio::test]
    async fn a_driver_is_known_to_the_cluster_as_long_as_its_socket_is_there() {
        let root = tempfile::tempdir().expect("a folder");
        let api = FakeApi::new();
        let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "uid": "u1"}});
        api.put(NODE, object.clone());
        let (_sender, node) = watch::channel(serde_json::from_value(object).ok().map(std::sync::Arc::new));
        let drivers = Drivers::default();
        let registry = Registry {
            client: api.client(),
            node_name: "n".to_owned(),
            dirs: Dirs::new(root.path()),
            drivers: drivers.clone(),
            claims: Plugins::new(api.client(), "n".to_owned(), tokio_util::sync::CancellationToken::new()),
            node,
        };
        let running = tokio::spawn(run(registry));
        until("the CSINode is there", || api.object(CSI_NODE).is_some()).await;
        let owners = &api.object(CSI_NODE).expect("it is there")["metadata"]["ownerReferences"];
        assert_eq!((&owners[0]["kind"], &owners[0]["uid"]), (&json!("Node"), &json!("u1")));
        let folder = root.path().join("plugins_registry");
        until("the folder is there", || folder.is_dir()).await;
        let socket = folder.join("fake-reg.sock");
        let driver = FakeDriver::start(&socket, root.path(), &[]);
        until("the driver is in the table", || drivers.socket("fake.csi.example.org").is_ok()).await;
        let shown = || api.object(CSI_NODE).unwrap_or_default()["spec"]["drivers"].clone();
        until("the cluster knows it", || shown().as_array().is_some_and(|drivers| !drivers.is_empty())).await;
        let expected = json!([{"name": "fake.csi.example.org", "nodeID": "machine-1", "topologyKeys": ["topology.fake/node"],
            "allocatable": {"count": 7}}]);
        assert_eq!(shown(), expected);
        let meta = api.object(NODE).expect("it is there")["metadata"].clone();
        let ids = json!({"csi.volume.kubernetes.io/nodeid": "{\"fake.csi.example.org\":\"machine-1\"}"});
        assert_eq!((&meta["annotations"], &meta["labels"]["topology.fake/node"]), (&ids, &json!("here")));
        let told = std::cell::RefCell::new(Vec::new());
        until("the registrar is told", || {
            told.borrow_mut().extend(driver.calls());
            !told.borrow().is_empty()
        })
        .await;
        assert_eq!(told.borrow()[0].1["registered"], "true");
        std::fs::remove_file(&socket).expect("removed");
        until("the cluster knows that it is gone", || shown().as_array().is_none_or(Vec::is_empty)).await;
        until("its id is gone", || {
            let ids = &api.object(NODE).unwrap_or_default()["metadata"]["annotations"];
            ids.get("csi.volume.kubernetes.io/nodeid").is_none()
        })
        .await;
        assert!(drivers.socket("fake.csi.example.org").is_err());
        running.abort();
    }
}
