//! The DRA plugins that are registered. A driver may have several for a while, when a new one takes over from an old one.
//!
//! A connection to each is kept, so that its end is told at once. A driver without a connected plugin can prepare nothing: 30 s
//! later its ResourceSlices of this node are deleted, so that no more pods come here for its devices.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::resource::v1::ResourceSlice;
use kiln_client::{Backoff, Client, path};
use kiln_grpc::{Connection, Options};
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::csi::messages::PluginInfo;

/// The kind of plugin, as registrars tell it.
pub(crate) const KIND: &str = "DRAPlugin";
/// The services that are spoken.
const SERVICES: [&str; 2] = ["v1.DRAPlugin", "v1beta1.DRAPlugin"];
/// How long a driver may be away before its ResourceSlices go.
pub(super) const WIPING_DELAY: Duration = Duration::from_secs(30);
/// Waits before a plugin is connected to again.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// Waits before ResourceSlices are tried to be deleted again.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// Bytes in flight.
const WINDOW: u32 = 1 << 16;

/// A plugin, as it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plugin {
    pub(super) socket: PathBuf,
    /// The service that it offers and that is used.
    pub(super) service: &'static str,
}

/// One that is registered.
struct Registered {
    plugin: Plugin,
    connected: bool,
    /// Ends when it is registered no more.
    gone: CancellationToken,
}

/// All plugins. Cloning it is cheap and shares them.
#[derive(Clone)]
pub(crate) struct Plugins(Arc<Shared>);

struct Shared {
    client: Client,
    node: String,
    shutdown: CancellationToken,
    state: Mutex<State>,
    news: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    /// By the drivers' names, in the order in which they came.
    plugins: HashMap<String, Vec<Registered>>,
    /// Drivers whose ResourceSlices are to be deleted, unless this ends before.
    wipes: HashMap<String, CancellationToken>,
}

impl Plugins {
    /// None yet. `node` is the node's name.
    pub(crate) fn new(client: Client, node: String, shutdown: CancellationToken) -> Self {
        let news = watch::Sender::new(());
        Self(Arc::new(Shared { client, node, shutdown, state: Mutex::default(), news }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Told when one comes or goes, or when what a driver offered is deleted.
    pub(super) fn news(&self) -> watch::Receiver<()> {
        self.0.news.subscribe()
    }

    /// Waits for the kubelet's end.
    pub(super) async fn ended(&self) {
        self.0.shutdown.cancelled().await;
    }

    /// The plugin to ask for a driver: of those that are connected, the one that came last.
    ///
    /// # Errors
    /// In upstream's words, if there is none.
    pub(super) fn find(&self, driver: &str) -> Result<Plugin, String> {
        if driver.is_empty() {
            return Err("DRA driver name is empty".to_owned());
        }
        let state = self.state();
        let all = state.plugins.get(driver).map(Vec::as_slice).unwrap_or_default();
        let found = all.iter().rev().find(|one| one.connected).or(all.last());
        found.map(|one| one.plugin.clone()).ok_or_else(|| format!("DRA driver {driver} is not registered"))
    }

    /// Takes in a plugin. Must be called within tokio.
    ///
    /// # Errors
    /// In upstream's words, if it speaks nothing that is known, or another one is there already.
    pub(crate) fn register(&self, info: &PluginInfo, socket: &Path) -> Result<(), String> {
        let (driver, place) = (&info.name, socket.display());
        let service = service(&info.supported_versions).map_err(|why| {
            let why =
                format!("invalid supported gRPC versions of DRA driver plugin {driver} at endpoint {place}: {why}");
            format!("RegisterPlugin error -- plugin validation failed with err: {why}")
        })?;
        let plugin = Plugin { socket: socket.to_owned(), service };
        let gone = self.0.shutdown.child_token();
        {
            let mut state = self.state();
            let known = state.plugins.entry(driver.clone()).or_default();
            if known.iter().any(|one| one.plugin.socket == socket) {
                return Err(format!(
                    "RegisterPlugin error -- plugin registration failed with err: endpoint {place} already registered \
                     for DRA driver plugin {driver}"
                ));
            }
            known.push(Registered { plugin, connected: false, gone: gone.clone() });
            self.judge(&mut state, driver);
        }
        self.0.news.send_replace(());
        let (plugins, driver, socket) = (self.clone(), driver.clone(), socket.to_owned());
        tokio::spawn(async move {
            tokio::select! {
                () = gone.cancelled() => {}
                () = plugins.stay_connected(&driver, &socket) => {}
            }
        });
        Ok(())
    }

    /// Forgets a plugin.
    pub(crate) fn remove(&self, driver: &str, socket: &Path) {
        let mut state = self.state();
        let Some(known) = state.plugins.get_mut(driver) else { return };
        known.retain(|one| {
            let stays = one.plugin.socket != socket;
            if !stays {
                one.gone.cancel();
            }
            stays
        });
        if known.is_empty() {
            state.plugins.remove(driver);
        }
        self.judge(&mut state, driver);
        drop(state);
        self.0.news.send_replace(());
    }

    /// Keeps a connection, without end, and notes whether there is one.
    async fn stay_connected(&self, driver: &str, socket: &Path) {
        let mut backoff = Backoff::new(RECONNECT.0, RECONNECT.1);
        loop {
            if let Some(connection) = connect(socket).await {
                self.note(driver, socket, true);
                backoff = Backoff::new(RECONNECT.0, RECONNECT.1);
                connection.closed().await;
                self.note(driver, socket, false);
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }

    fn note(&self, driver: &str, socket: &Path, connected: bool) {
        let mut state = self.state();
        let all = state.plugins.get_mut(driver).into_iter().flatten();
        all.filter(|one| one.plugin.socket == socket).for_each(|one| one.connected = connected);
        self.judge(&mut state, driver);
        drop(state);
        self.0.news.send_replace(());
    }

    /// Has the ResourceSlices of a driver deleted in time, or not any more.
    fn judge(&self, state: &mut State, driver: &str) {
        if state.plugins.get(driver).is_some_and(|all| all.iter().any(|one| one.connected)) {
            if let Some(wipe) = state.wipes.remove(driver) {
                wipe.cancel();
            }
            return;
        }
        if state.wipes.contains_key(driver) {
            return;
        }
        let cancelled = self.0.shutdown.child_token();
        state.wipes.insert(driver.to_owned(), cancelled.clone());
        let (plugins, driver, at) = (self.clone(), driver.to_owned(), Instant::now() + WIPING_DELAY);
        tokio::spawn(async move {
            let wipe = async {
                tokio::time::sleep_until(at).await;
                plugins.wipe(Some(&driver)).await;
            };
            tokio::select! {
                () = cancelled.cancelled() => {}
                () = wipe => {
                    plugins.state().wipes.remove(&driver);
                    plugins.0.news.send_replace(());
                }
            }
        });
    }

    /// Deletes the ResourceSlices of this node: a driver's, or all.
    pub(crate) async fn wipe(&self, driver: Option<&str>) {
        let mut fields = format!("spec.nodeName%3D{}", self.0.node);
        if let Some(driver) = driver {
            fields = format!("{fields},spec.driver%3D{driver}");
        }
        let path = format!("{}?fieldSelector={fields}", path::<ResourceSlice>("", ""));
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            match self.0.client.delete(&path, &Value::Null).await {
                Ok(_) => return,
                Err(error) if error.is_not_found() => return,
                Err(error) => tracing::debug!(%error, "ResourceSlices of this node are not deleted yet"),
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }
}

#[cfg(test)]
impl Plugins {
    /// Waits until a driver can be used, or no more.
    pub(super) async fn until(&self, driver: &str, connected: bool) {
        let mut news = self.news();
        let is_so = || {
            let state = self.state();
            state.plugins.get(driver).is_some_and(|all| all.iter().any(|one| one.connected)) == connected
        };
        while !is_so() {
            news.changed().await.expect("the sender is here");
        }
    }
}

async fn connect(socket: &Path) -> Option<Connection> {
    let stream = UnixStream::connect(socket).await.ok()?;
    let options = Options { probe: None, window: WINDOW, headers: &[] };
    Connection::start(stream, "http://localhost".to_owned(), options).await.ok()
}

/// The first of a plugin's services that is spoken here.
fn service(offered: &[String]) -> Result<&'static str, String> {
    if offered.is_empty() {
        return Err("empty list of supported gRPC services (aka supported versions)".to_owned());
    }
    let quoted = |list: &mut dyn Iterator<Item = &str>| {
        let words: Vec<String> = list.map(|word| format!("{word:?}")).collect();
        words.join(" ")
    };
    offered.iter().find_map(|one| SERVICES.iter().find(|known| *known == one).copied()).ok_or_else(|| {
        let theirs = quoted(&mut offered.iter().map(String::as_str));
        let ours = quoted(&mut SERVICES.into_iter());
        format!("none of services supported by the plugin ([{theirs}]) are supported by the kubelet ([{ours}])")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_service_of_a_plugin_that_is_known_is_used() {
        let rows: [(&[&str], Result<&str, &str>); 5] = [
            (&["v1.DRAPlugin", "v1beta1.DRAPlugin"], Ok("v1.DRAPlugin")),
            (&["v1beta1.DRAPlugin", "v1.DRAPlugin"], Ok("v1beta1.DRAPlugin")),
            (&["v1alpha1.DRAResourceHealth", "v1.DRAPlugin"], Ok("v1.DRAPlugin")),
            (&[], Err("empty list of supported gRPC services (aka supported versions)")),
            (
                &["1.0.0"],
                Err("none of services supported by the plugin ([\"1.0.0\"]) are supported by the kubelet \
                     ([\"v1.DRAPlugin\" \"v1beta1.DRAPlugin\"])"),
            ),
        ];
        for (offered, expected) in rows {
            let offered: Vec<String> = offered.iter().map(|&one| one.to_owned()).collect();
            assert_eq!(service(&offered), expected.map_err(str::to_owned), "{offered:?}");
        }
    }
}
