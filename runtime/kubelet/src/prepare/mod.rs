//! Where workers meet what makes configurations, volumes and cgroups: a pod's part of the machine is made ready, the
//! configurations of its sandbox and containers are made of its spec, and at its end all is cleared away ([`clear`]).

mod clear;
mod settings;

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Node as ApiNode, Pod};
use k8s_openapi::api::node::v1::RuntimeClass;
use kiln_apimachinery::quantity::Quantity;
use kiln_client::{Client, Clock, Informer, ListParams, ObjectRef, Store, path};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::allocation::Allocations;
use crate::cgroups::{self, Cgroups, Limits, Version};
use crate::claims::{Claims, Plugins};
use crate::containerd::view::{self, ViewError, Views};
use crate::cri::{ContainerConfig, LinuxContainerResources, PodSandboxConfig};
use crate::csi::Drivers;
use crate::devices::Devices;
use crate::health::Health;
use crate::images::Present;
use crate::machine::Facts;
use crate::metrics::Metrics;
use crate::node;
use crate::pods::events::{About, Recorder};
use crate::pods::{is_static, namespace, uid};
use crate::resources::Amounts;
use crate::spec::{self, ContainerContext, NodeContext, PodContext, ServiceLink};
use crate::users::Users;
use crate::volumes::{self, Dirs, InUse, Mounted, Place, Plugin, Volumes};

pub use settings::NodeSettings;

const SERVICES: &str = "/api/v1/services";
/// Where the cluster's DNS is in the range of services, counted from the API's own service, which is the first.
const DNS_OFFSET: u32 = 9;

/// What was made ready for a pod.
#[derive(Clone)]
pub(crate) struct Prepared {
    volumes: BTreeMap<String, Mounted>,
}

/// What is known of a container that is to be made.
pub(crate) struct ContainerPlan {
    pub(crate) attempt: u32,
    pub(crate) image: Present,
    pub(crate) pod_ips: Vec<String>,
    /// The container whose processes it is to see.
    pub(crate) target: Option<String>,
    /// The images of image volumes as the runtime knows them.
    pub(crate) image_volumes: BTreeMap<String, String>,
    /// Where those are that the kubelet has mounted itself.
    pub(crate) shown: BTreeMap<String, PathBuf>,
}

/// What the preparer is made of.
pub(crate) struct Parts<'a> {
    pub(crate) client: Client,
    pub(crate) node_name: String,
    pub(crate) settings: NodeSettings,
    pub(crate) root: PathBuf,
    pub(crate) logs: PathBuf,
    pub(crate) facts: &'a Facts,
    pub(crate) node_ips: watch::Receiver<Vec<IpAddr>>,
    pub(crate) node: watch::Receiver<Option<Arc<ApiNode>>>,
    pub(crate) drivers: Drivers,
    pub(crate) claims: Plugins,
    pub(crate) in_use: InUse,
    pub(crate) devices: Option<Devices>,
    pub(crate) health: watch::Receiver<Health>,
    pub(crate) views: Option<Views>,
    pub(crate) recorder: Recorder,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
}

/// Makes ready, and clears away.
pub(crate) struct Preparer {
    client: Client,
    volumes: Volumes,
    services: Store<ServiceLink>,
    /// None where the kernel has no cgroups that can be written to: the runtime will tell.
    cgroups: Option<Cgroups>,
    pod_pids: Option<i64>,
    /// Shows images as volumes, where the runtime is ours.
    views: Option<Views>,
    users: Users,
    allocations: Allocations,
    devices: Option<Devices>,
    claims: Claims,
    node: NodeContext,
    node_ips: watch::Receiver<Vec<IpAddr>>,
    health: watch::Receiver<Health>,
}

impl Preparer {
    /// Must be called within tokio. The second part of the answer keeps volumes fresh and services known.
    pub(crate) fn new(
        parts: Parts<'_>,
        shutdown: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + 'static + use<>) {
        let Parts { client, facts, settings, recorder, node: object, .. } = parts;
        let dirs = Dirs::new(parts.root);
        let allocatable = amounts(facts, &settings);
        let cgroup_root = cgroups::root_of(dirs.root());
        let cgroups = start_cgroups(&cgroup_root, &allocatable, parts.metrics);
        let (users, allocations) = (Users::restore(dirs.clone()), Allocations::new(dirs.clone()));
        let claims = Claims::restore(client.clone(), dirs.root().to_owned(), parts.claims);
        let config = volumes::Config {
            dirs: dirs.clone(),
            allocatable: {
                let allocatable = allocatable.clone();
                Arc::new(move || allocatable.clone())
            },
            node_name: parts.node_name.clone(),
            node: object.clone(),
            drivers: parts.drivers,
            in_use: parts.in_use,
            labels: Arc::new(move || {
                object.borrow().as_ref().and_then(|node| node.metadata.labels.clone()).unwrap_or_default()
            }),
            clock: parts.clock,
            report: Arc::new(move |pod, error| recorder.warning(pod, About::Pod, "FailedMount", error.to_string())),
        };
        let (volumes, keeping) = Volumes::new(client.clone(), config);
        let informer = Informer::<ServiceLink>::new(client.clone(), SERVICES, ListParams::default());
        let services = informer.store();
        let node = NodeContext {
            name: parts.node_name,
            addresses: Vec::new(),
            cluster_dns: settings.cluster_dns,
            cluster_domain: settings.cluster_domain,
            resolv_conf: settings.resolv_conf,
            dirs,
            pod_logs: parts.logs,
            allocatable,
            memory: facts.memory,
            cgroup_root,
            cgroup_v2: cgroups.as_ref().is_some_and(|cgroups| matches!(cgroups.version(), Version::V2)),
            counts_swap: cgroups.as_ref().is_some_and(Cgroups::counts_swap),
            huge_pages: facts.huge_pages.keys().copied().collect(),
            cpu_quota: settings.cpu_quota,
            seccomp_default: settings.seccomp_default,
            selinux: std::path::Path::new("/sys/fs/selinux/enforce").exists(),
            handlers: BTreeMap::new(),
        };
        let preparer = Self {
            client,
            volumes,
            services,
            cgroups,
            pod_pids: settings.pod_pids,
            views: parts.views,
            users,
            allocations,
            devices: parts.devices,
            claims,
            node,
            node_ips: parts.node_ips,
            health: parts.health,
        };
        let running = async move {
            tokio::join!(keeping, informer.run(shutdown, |_| {}));
        };
        (preparer, running)
    }

    /// Makes a pod's cgroup and volumes, waiting for what they need.
    pub(crate) async fn prepare(&self, pod: &Arc<Pod>) -> Result<Prepared, String> {
        if let Some(cgroups) = &self.cgroups {
            cgroups.make_pod(pod, self.node.cpu_quota, self.pod_pids).map_err(|error| error.to_string())?;
        }
        let volumes = self.volumes.mount(pod).await.map_err(|error| error.to_string())?;
        // Services are part of the environment: what a container is told must not depend on who was faster. A static pod
        // must run without the API too.
        if !is_static(pod) {
            self.services.synced().await;
        }
        Ok(Prepared { volumes })
    }

    /// The pod runs already when the kubelet starts.
    pub(crate) fn adopt(&self, pod: &Arc<Pod>) {
        self.volumes.adopt(pod);
    }

    /// The pod changed while it runs: its labels and annotations may be in its volumes.
    pub(crate) fn update(&self, pod: &Arc<Pod>) {
        self.volumes.update(pod);
    }

    /// The runtime handler that the pod's RuntimeClass names.
    pub(crate) async fn handler(&self, pod: &Pod) -> Result<String, String> {
        let Some(class) = pod.spec.as_ref().and_then(|spec| spec.runtime_class_name.as_ref()) else {
            return Ok(String::new());
        };
        match self.client.find::<RuntimeClass>(&path::<RuntimeClass>("", class)).await {
            Ok(Some(class)) => Ok(class.handler),
            Ok(None) => Err(format!("failed to get sandbox runtime: RuntimeClass.node.k8s.io \"{class}\" not found")),
            Err(error) => Err(format!("failed to get sandbox runtime: {error}")),
        }
    }

    async fn context(
        &self,
        pod: &Pod,
        prepared: &Prepared,
        attempt: u32,
        pod_ips: Vec<String>,
    ) -> Result<PodContext, String> {
        let mut node = self.node.clone();
        node.addresses.clone_from(&self.node_ips.borrow());
        node.handlers.clone_from(&self.health.borrow().handlers);
        if node.cluster_dns.is_empty() {
            node.cluster_dns = self.usual_dns().into_iter().collect();
        }
        let runtime_handler = self.handler(pod).await?;
        let features = node.handlers.get(&runtime_handler);
        let user_namespace = self.users.of(pod, &runtime_handler, features).map_err(|error| error.to_string())?;
        let links = pod.spec.as_ref().and_then(|spec| spec.enable_service_links) != Some(false);
        Ok(PodContext {
            node: Arc::new(node),
            attempt,
            pod_ips,
            volumes: prepared.volumes.clone(),
            services: spec::service_environment(&self.services.list(), namespace(pod), links),
            user_namespace: Some(user_namespace),
            runtime_handler,
        })
    }

    fn usual_dns(&self) -> Option<IpAddr> {
        let api = self.services.get(&ObjectRef::namespaced("default", "kubernetes"))?;
        match api.cluster_ip()? {
            IpAddr::V4(ip) => Some(Ipv4Addr::from(u32::from(ip).checked_add(DNS_OFFSET)?).into()),
            IpAddr::V6(ip) => Some(Ipv6Addr::from(u128::from(ip).checked_add(DNS_OFFSET.into())?).into()),
        }
    }

    pub(crate) async fn sandbox(
        &self,
        pod: &Pod,
        prepared: &Prepared,
        attempt: u32,
    ) -> Result<PodSandboxConfig, String> {
        let context = self.context(pod, prepared, attempt, Vec::new()).await?;
        spec::sandbox_config(pod, &context).map_err(|error| error.to_string())
    }

    pub(crate) async fn container(
        &self,
        pod: &Pod,
        container: &Container,
        prepared: &Prepared,
        plan: &ContainerPlan,
    ) -> Result<ContainerConfig, String> {
        let mut context = self.context(pod, prepared, 0, plan.pod_ips.clone()).await?;
        for (name, path) in &plan.shown {
            if let Some(mounted) = context.volumes.get_mut(name) {
                mounted.place = volumes::sealed(path.clone());
            }
        }
        let sources = spec::env_sources(self.volumes.sources(), pod, container).await;
        let own = ContainerContext {
            attempt: plan.attempt,
            image: plan.image.id.clone(),
            image_uid: plan.image.uid,
            image_username: plan.image.username.clone(),
            sources: sources.map_err(|error| error.to_string())?,
            target: plan.target.clone(),
            image_volumes: plan.image_volumes.clone(),
        };
        // Files are written and mounts are made: quick, but not to be done on a thread that others wait for.
        let config = tokio::task::block_in_place(|| spec::container_config(pod, container, &context, &own));
        let mut config = config.map_err(|error| error.to_string())?;
        config.cdi_devices = self.claims.devices(pod, container)?;
        if let Some(devices) = &self.devices {
            devices.add(pod, &container.name, &mut config).await?;
        }
        Ok(config)
    }

    /// The devices that plugins offer.
    pub(crate) fn devices(&self) -> Option<&Devices> {
        self.devices.as_ref()
    }

    /// Gives a pod the devices that it asks for; what the pods `over` have is free.
    pub(crate) async fn allocate_devices(&self, pod: &Pod, over: &HashSet<String>) -> Result<(), String> {
        match &self.devices {
            Some(devices) => devices.allocate(pod, over).await,
            None => Ok(()),
        }
    }

    /// The images of a pod's image volumes, by the volumes' names: references and policies.
    pub(crate) fn image_volumes(prepared: &Prepared) -> impl Iterator<Item = (&String, &str, &str)> {
        prepared.volumes.iter().filter_map(|(name, mounted)| match &mounted.place {
            Place::Image { reference, pull_policy } => Some((name, reference.as_str(), pull_policy.as_str())),
            _ => None,
        })
    }

    /// Where an image is shown as a volume of a pod, if the runtime cannot do that itself.
    pub(crate) async fn show_image(&self, pod: &Pod, volume: &str, image: &str) -> Result<Option<PathBuf>, ViewError> {
        let Some(views) = self.views.as_ref().filter(|_| !view::mounts_images(&self.health.borrow().version)) else {
            return Ok(None);
        };
        let path = self.node.dirs.volume(uid(pod), Plugin::Image, volume);
        views.mount(image, uid(pod), volume, &path).await?;
        Ok(Some(path))
    }

    /// The devices that pods' claims get.
    pub(crate) fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The pods' volumes.
    pub(crate) fn volumes(&self) -> Volumes {
        self.volumes.clone()
    }

    /// The tree of pods' cgroups, if there is one.
    pub(crate) fn cgroups(&self) -> Option<&Cgroups> {
        self.cgroups.as_ref()
    }

    /// Shares processor time among the classes of these pods, which are all that the node has taken.
    pub(crate) fn share(&self, pods: &[Arc<Pod>]) {
        let Some(cgroups) = &self.cgroups else { return };
        if let Err(error) = cgroups.share(pods.iter().map(|pod| &**pod)) {
            tracing::warn!(%error, "processor time is not shared as pods request it");
        }
    }

    /// What the pods have been given.
    pub(crate) fn allocations(&self) -> &Allocations {
        &self.allocations
    }

    /// What a container is to have.
    pub(crate) fn resources(&self, pod: &Pod, container: &Container) -> LinuxContainerResources {
        spec::container_resources(pod, container, &self.node)
    }

    /// The limits that a pod's cgroup has, if there is one, and those that it is to have.
    pub(crate) fn pod_limits(&self, pod: &Pod) -> (Option<Limits>, Limits) {
        let current = self.cgroups.as_ref().and_then(|cgroups| cgroups.pod_limits(pod).ok());
        (current, cgroups::pod_limits(pod, self.node.cpu_quota))
    }

    /// Sets some of the limits of a pod's cgroup.
    pub(crate) fn set_pod_limits(&self, pod: &Pod, limits: &Limits) -> Result<(), String> {
        let Some(cgroups) = &self.cgroups else { return Ok(()) };
        let used = cgroups.working_set(&cgroups::pod_path(cgroups.root(), pod)).unwrap_or(0);
        match limits.memory {
            Some(memory) if memory > 0 && u64::try_from(memory).is_ok_and(|memory| memory < used) => {
                Err(format!("attempting to set pod memory limit ({memory}) below current usage ({used})"))
            }
            _ => cgroups.set_pod(pod, limits).map_err(|error| error.to_string()),
        }
    }
}

fn amounts(facts: &Facts, settings: &NodeSettings) -> Amounts {
    let parse = |(name, text): (String, serde_json::Value)| Some((name, Quantity::parse(text.as_str()?).ok()?));
    node::allocatable(facts, &settings.reserve, &settings.eviction).into_iter().filter_map(parse).collect()
}

fn start_cgroups(root: &str, allocatable: &Amounts, metrics: Metrics) -> Option<Cgroups> {
    let found = Cgroups::here(root).map(|cgroups| cgroups.counted(metrics));
    let started = found.and_then(|cgroups| cgroups.start(allocatable).map(|()| cgroups));
    match started {
        Ok(cgroups) => Some(cgroups),
        Err(error) => {
            tracing::warn!(%error, "pods have no cgroups of their own");
            None
        }
    }
}
