//! All that runs pods, put together: the runtime, its events and health, images that come with the node, and the workers.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node as ApiNode;
use kiln_client::{Backoff, Client, Clock};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::claims::Plugins;
use crate::containerd::import::{Folder, ImportError, Importer};
use crate::containerd::{self, pause};
use crate::cri::{ImageSpec, ImageStatusRequest, Runtime};
use crate::csi::{self, Drivers, Registry};
use crate::devices::Devices;
use crate::eviction::{self, Eviction};
use crate::health::{self, Health};
use crate::images::{Collection, Images, collect};
use crate::machine::{Facts, Pressure};
use crate::pods::events::Recorder;
use crate::pods::{self, MachineEnd, Node, Pods};
pub use crate::prepare::NodeSettings;
use crate::prepare::{Parts, Preparer};
use crate::volumes::{self, Dirs, InUse};
use crate::{network, pleg};

const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// How long the CRI may take to see an image that was loaded.
const SEEN: (Duration, u32) = (Duration::from_millis(10), 9);
/// The file beside containerd's data that says which archives are loaded.
const LOADED: &str = "kiln-loaded.json";

/// The container runtime of the node.
#[derive(Debug, Clone)]
pub enum RuntimeChoice {
    /// A containerd that the kubelet runs.
    Containerd(containerd::Options),
    /// Whatever listens at this socket; somebody else runs it.
    Socket(PathBuf),
}

impl RuntimeChoice {
    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        match self {
            Self::Containerd(options) => options.socket(),
            Self::Socket(socket) => socket.clone(),
        }
    }
}

/// How a node runs pods.
#[derive(Clone)]
pub struct PodConfig {
    /// What runs containers.
    pub runtime: RuntimeChoice,
    /// Folders, and the node's addresses.
    pub pods: pods::Config,
    /// The table that shows them to others.
    pub table: Pods,
    /// The network that is written for the Node's range of addresses, unless it is somebody else's matter.
    pub network: Option<network::Config>,
    /// Folders with image archives (`*.tar`) that are loaded at the start.
    pub archives: Vec<PathBuf>,
    /// When the machine ends, and how pods end then.
    pub end: MachineEnd,
    /// When images that nobody uses are removed.
    pub collection: Collection,
    /// How many images are pulled at a time.
    pub parallel_pulls: usize,
    /// What the configurations of all pods have in common.
    pub settings: NodeSettings,
}

/// What the rest of the kubelet knows of the runtime.
#[derive(Clone)]
pub(crate) struct Signals {
    pub(crate) health: watch::Receiver<Health>,
    sender: watch::Sender<Health>,
    /// Has the runtime asked at once how it is.
    pub(crate) poke: Arc<Notify>,
    /// The Node as the API has it.
    pub(crate) node: watch::Receiver<Option<Arc<ApiNode>>>,
    pub(crate) node_sender: watch::Sender<Option<Arc<ApiNode>>>,
    /// What the machine is short of, once somebody looks.
    pub(crate) pressure: watch::Receiver<Option<Pressure>>,
    pressure_sender: watch::Sender<Option<Pressure>>,
    /// Volumes that the Node says it uses.
    pub(crate) in_use: InUse,
    /// Devices that plugins offer, where pods run.
    pub(crate) devices: Option<Devices>,
}

impl Signals {
    pub(crate) fn new(first: Health, devices: Option<Devices>) -> Self {
        let (sender, health) = watch::channel(first);
        let (node_sender, node) = watch::channel(None);
        let (pressure_sender, pressure) = watch::channel(None);
        Self {
            health,
            sender,
            poke: Arc::default(),
            node,
            node_sender,
            pressure,
            pressure_sender,
            in_use: InUse::default(),
            devices,
        }
    }
}

/// Runs the runtime and all pods until the shutdown. What runs side by side is boxed: the frames of all would lie on one stack.
pub(crate) async fn run(
    client: Client,
    node_name: String,
    clock: Clock,
    facts: &Facts,
    config: PodConfig,
    signals: Signals,
    shutdown: CancellationToken,
) {
    let runtime = Runtime::counted(config.runtime.socket(), config.table.metrics().clone());
    let (recorder, events) = Recorder::new(client.clone(), node_name.clone(), clock.clone(), shutdown.clone());
    let drivers = Drivers::default();
    let claims = Plugins::new(client.clone(), node_name.clone(), shutdown.clone());
    let registry = Registry {
        client: client.clone(),
        node_name: node_name.clone(),
        dirs: Dirs::new(config.pods.root.clone()),
        drivers: drivers.clone(),
        claims: claims.clone(),
        node: signals.node.clone(),
    };
    let parts = Parts {
        client: client.clone(),
        node_name: node_name.clone(),
        settings: config.settings.clone(),
        root: config.pods.root.clone(),
        logs: config.pods.logs.clone(),
        facts,
        node_ips: config.pods.node_ips.clone(),
        node: signals.node.clone(),
        drivers: drivers.clone(),
        claims: claims.clone(),
        in_use: signals.in_use.clone(),
        devices: signals.devices.clone(),
        views: match &config.runtime {
            RuntimeChoice::Containerd(options) => Some(options.views()),
            RuntimeChoice::Socket(_) => None,
        },
        health: signals.health.clone(),
        recorder: recorder.clone(),
        clock: clock.clone(),
        metrics: config.table.metrics().clone(),
    };
    let registries = match &config.runtime {
        RuntimeChoice::Containerd(options) => Some(options.registries.clone()),
        RuntimeChoice::Socket(_) => None,
    };
    let (preparer, preparing) = Preparer::new(parts, shutdown.clone());
    config.table.show_volumes(preparer.volumes());
    let node = Arc::new(Node {
        name: node_name,
        client: client.clone(),
        runtime: runtime.clone(),
        health: signals.health.clone(),
        object: signals.node.clone(),
        pressure: signals.pressure.clone(),
        admission: tokio::sync::Mutex::default(),
        images: Images::new(runtime.clone(), client, recorder.clone(), config.parallel_pulls, registries),
        recorder,
        preparer,
        pods: config.table.clone(),
        end: config.end.clone(),
        started: clock.now(),
        clock,
        config: config.pods.clone(),
    });
    let supervised = async {
        match &config.runtime {
            RuntimeChoice::Containerd(options) => {
                let failing = |why| tracing::warn!("{why}");
                containerd::run(options.clone(), failing, shutdown.clone()).await;
            }
            RuntimeChoice::Socket(_) => shutdown.cancelled().await,
        }
    };
    let watched = async {
        if let RuntimeChoice::Containerd(options) = &config.runtime {
            load(&runtime, options, &config.archives).await;
        }
        health::watch(runtime.clone(), signals.sender.clone(), signals.poke.clone()).await;
    };
    let collecting = async {
        match &config.runtime {
            RuntimeChoice::Containerd(options) => {
                collect::run(runtime.clone(), options.root.clone(), options.pause_image.clone(), config.collection)
                    .await;
            }
            // Where its images are is not known.
            RuntimeChoice::Socket(_) => std::future::pending().await,
        }
    };
    let evicting = evict(&node, &config, signals.pressure_sender.clone());
    let others = async {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = Box::pin(watched) => {}
            () = Box::pin(preparing) => {}
            () = Box::pin(csi::run(registry)) => {}
            () = Box::pin(withdraw_devices(&claims, signals.node.clone())) => {}
            () = Box::pin(offer(signals.devices.as_ref(), &config.table)) => {}
            () = Box::pin(end_pods(&node)) => {}
            () = Box::pin(collecting) => {}
            () = Box::pin(evicting) => {}
            () = Box::pin(volumes::local_path::run(node.client.clone(), &node.name, shutdown.clone())) => {}
            () = Box::pin(pleg::run(runtime.clone(), config.table.clone(), signals.poke.clone())) => {}
        }
    };
    let working = pods::run(node.clone(), shutdown.clone());
    tokio::join!(Box::pin(supervised), Box::pin(others), Box::pin(events), Box::pin(working));
}

/// Lets plugins offer devices, without end. How they are is shown in the statuses of pods that have some.
async fn offer(devices: Option<&Devices>, pods: &Pods) {
    let Some(devices) = devices else { return std::future::pending().await };
    let mut changes = devices.subscribe();
    let showing = async {
        // The sender is in the devices.
        while changes.changed().await.is_ok() {
            devices.owners().iter().for_each(|uid| pods.wake(uid));
        }
    };
    tokio::join!(devices.run(), showing);
}

/// Ends pods when the machine ends, and then waits: whoever ends it goes on.
async fn end_pods(node: &Node) {
    pods::machine_end::run(node, &node.end).await;
    std::future::pending().await
}

/// Deletes what drivers of a kubelet before this one offered on the node, and waits: none has registered yet, and those that come
/// back offer it again.
async fn withdraw_devices(claims: &Plugins, mut node: watch::Receiver<Option<Arc<ApiNode>>>) {
    if node.wait_for(Option::is_some).await.is_ok() {
        claims.wipe(None).await;
    }
    std::future::pending().await
}

/// Watches over the machine's memory and disk, without end.
async fn evict(node: &Arc<Node>, config: &PodConfig, shown: watch::Sender<Option<Pressure>>) {
    let settings = &config.settings.eviction;
    let pressures = match settings.thresholds() {
        Ok(thresholds) => eviction::Pressures::new(thresholds, settings.transition),
        Err(error) => {
            tracing::error!(%error, "no pod will be ended when the machine runs short");
            return std::future::pending().await;
        }
    };
    let images = match &config.runtime {
        RuntimeChoice::Containerd(options) => options.root.clone(),
        RuntimeChoice::Socket(_) => config.pods.root.clone(),
    };
    let (dirs, logs) = (Dirs::new(config.pods.root.clone()), config.pods.logs.clone());
    let measured = (node.runtime.clone(), node.preparer.cgroups().cloned());
    let hooks = pods::evict::hooks(node);
    let eviction = Eviction::new(pressures, measured, (dirs, logs, images), settings.most_grace, hooks);
    let mut pressure = eviction.pressure();
    let show = async {
        loop {
            shown.send_replace(Some(*pressure.borrow_and_update()));
            if pressure.changed().await.is_err() {
                return;
            }
        }
    };
    tokio::join!(eviction.run(), show);
}

/// Puts the images into containerd's store that come with the node: what no pod can do without first.
async fn load(runtime: &Runtime, options: &containerd::Options, archives: &[PathBuf]) {
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    while let Err(error) = load_pause(runtime, options).await {
        tracing::debug!(%error, "the image of sandboxes cannot be loaded yet");
        tokio::time::sleep(backoff.next_wait()).await;
    }
    let mut folder = Folder::new(options.root.join(LOADED));
    for archive in folder.new_archives(archives) {
        match load_archive(runtime, options, &archive).await {
            Ok(names) => {
                tracing::info!("{}: loaded {}", archive.display(), names.join(", "));
                folder.add(&archive);
            }
            Err(error) => tracing::warn!("{}: {error}; its images are not loaded", archive.display()),
        }
    }
}

async fn load_pause(runtime: &Runtime, options: &containerd::Options) -> Result<(), ImportError> {
    if options.pause_image != pause::NAME || is_there(runtime, pause::NAME).await {
        return Ok(());
    }
    let importer = Importer::connect(&options.socket()).await?;
    importer.image(&pause::image(pause::NAME)).await?;
    importer.finish().await;
    seen(runtime, pause::NAME).await;
    Ok(())
}

async fn load_archive(
    runtime: &Runtime,
    options: &containerd::Options,
    archive: &std::path::Path,
) -> Result<Vec<String>, ImportError> {
    let importer = Importer::connect(&options.socket()).await?;
    let names = importer.archive(archive).await?;
    importer.finish().await;
    for name in &names {
        seen(runtime, name).await;
    }
    Ok(names)
}

async fn is_there(runtime: &Runtime, name: &str) -> bool {
    let image = Some(ImageSpec { image: name.to_owned(), ..ImageSpec::default() });
    let answer = runtime.image_status(&ImageStatusRequest { image, verbose: false }).await;
    answer.is_ok_and(|answer| answer.image.is_some())
}

/// Waits until the CRI has heard of an image.
async fn seen(runtime: &Runtime, name: &str) {
    let mut wait = SEEN.0;
    for _ in 0..SEEN.1 {
        if is_there(runtime, name).await {
            return;
        }
        tokio::time::sleep(wait).await;
        wait *= 2;
    }
}
