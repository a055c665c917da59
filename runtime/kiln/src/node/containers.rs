//! How this node runs containers: where the runtime is, and the folders of what it and the kubelet keep.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use kiln_kubelet::admission::Sysctls;
use kiln_kubelet::containerd::registries::Registries;
use kiln_kubelet::containerd::{self, find_plugins, find_program};
use kiln_kubelet::pods::{Periods, Rotation};
use kiln_kubelet::{Collection, NodeSettings, RuntimeChoice, network};
use nix::unistd::geteuid;
use tokio::sync::watch;

use super::kubelet_settings::Setting;
use crate::exit::Failure;

const RESOLV_CONF: &str = "/etc/resolv.conf";
const CLUSTER_DOMAIN: &str = "cluster.local";
const CONTAINERS: &str = "Containers";
const PAUSE: &str = "kiln.local/pause:1";
/// Where the sockets and the like of the one node of a machine are.
const STATE: &str = "/run/kiln";
const DATA_DIR: &str = "/var/lib/kiln";
const KUBELET: &str = "/var/lib/kubelet";
/// The CONFIG partition of a card.
const CARD: &str = "/config";
/// Settings of a machine.
const ETC: &str = "/etc/kiln";
/// Image archives that came with the system.
const SYSTEM_IMAGES: [&str; 2] = ["/usr/share/kiln/images", "/usr/local/lib/kiln/images"];

/// How long all pods have, and of that critical ones, when the machine is switched off.
const END_PERIODS: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));

/// Flags about containers.
#[derive(Debug, Clone, Args)]
pub(crate) struct ContainerOptions {
    /// Socket of a container runtime that runs already, in place of a containerd that Kiln runs
    #[arg(long, value_name = "SOCKET", value_parser = socket, env = "KILN_CONTAINER_RUNTIME_ENDPOINT", help_heading = CONTAINERS)]
    container_runtime_endpoint: Option<PathBuf>,
    /// Image of pods' sandboxes
    #[arg(long, value_name = "IMAGE", default_value = PAUSE, help_heading = CONTAINERS)]
    pause_image: String,
    /// Folder for containerd's sockets; one for each node, if several run on this machine
    #[arg(long, value_name = "DIR", help_heading = CONTAINERS)]
    containerd_state_dir: Option<PathBuf>,
    /// File with mirrors and credentials of registries, registries.toml or K3s' registries.yaml; without it the first
    /// that is in the CONFIG partition, in /etc/kiln or in the data folder's agent/
    #[arg(long, value_name = "FILE", value_parser = registries_file, env = "KILN_PRIVATE_REGISTRY", help_heading = CONTAINERS)]
    private_registry: Option<PathBuf>,
    #[arg(skip)]
    settings: Vec<Setting>,
}

impl Default for ContainerOptions {
    fn default() -> Self {
        Self {
            container_runtime_endpoint: None,
            pause_image: PAUSE.to_owned(),
            containerd_state_dir: None,
            private_registry: None,
            settings: Vec::new(),
        }
    }
}

/// The format is known by the ending.
fn registries_file(text: &str) -> Result<PathBuf, String> {
    match Path::new(text).extension().and_then(|extension| extension.to_str()) {
        Some("toml" | "yaml" | "yml") => Ok(text.into()),
        _ => Err(format!("`{text}` ends neither in .toml nor in .yaml")),
    }
}

fn socket(text: &str) -> Result<PathBuf, String> {
    let path = text.strip_prefix("unix://").unwrap_or(text);
    if path.starts_with('/') {
        Ok(path.into())
    } else {
        Err(format!("`{text}` is no socket; write it as unix:///run/containerd/containerd.sock"))
    }
}

impl ContainerOptions {
    pub(super) fn set(&mut self, setting: &Setting) {
        self.settings.push(setting.clone());
    }

    /// The kubelet's folder.
    pub(super) fn root(&self, data_dir: &Path) -> PathBuf {
        let given = self.settings.iter().rev().find_map(|setting| match setting {
            Setting::Root(root) => Some(root.clone()),
            _ => None,
        });
        given.unwrap_or_else(|| Self::usual_root(data_dir))
    }

    /// The kubelet's folder of a node whose settings are not known: Kubernetes' own, as charts of storage drivers and device plugins
    /// mount it by that name.
    pub(crate) fn usual_root(data_dir: &Path) -> PathBuf {
        let own = data_dir.join("kubelet");
        // A node from before goes on where the volumes of its pods are.
        if data_dir == Path::new(DATA_DIR) && !own.exists() { KUBELET.into() } else { own }
    }

    /// The folder of static pods' manifests.
    pub(super) fn manifests(&self, data_dir: &Path) -> PathBuf {
        let given = self.settings.iter().rev().find_map(|setting| match setting {
            Setting::Manifests(folder) => Some(folder.clone()),
            _ => None,
        });
        given.unwrap_or_else(|| data_dir.join("agent/pod-manifests"))
    }

    pub(super) fn parallel_pulls(&self) -> usize {
        let given = self.settings.iter().rev().find_map(|setting| match setting {
            Setting::Pulls(pulls) => Some(*pulls),
            _ => None,
        });
        given.unwrap_or(1)
    }

    /// What pods' configurations have in common: these settings, over what the cluster says.
    pub(super) fn node_settings(&self, cluster: NodeSettings) -> NodeSettings {
        let mut settings = cluster;
        settings.resolv_conf.get_or_insert_with(|| RESOLV_CONF.into());
        if settings.cluster_domain.is_empty() {
            CLUSTER_DOMAIN.clone_into(&mut settings.cluster_domain);
        }
        for setting in &self.settings {
            match setting {
                Setting::ClusterDns(addresses) => settings.cluster_dns.clone_from(addresses),
                Setting::ClusterDomain(domain) => settings.cluster_domain.clone_from(domain),
                Setting::ResolvConf(path) => {
                    settings.resolv_conf = Some(path.clone()).filter(|path| !path.as_os_str().is_empty());
                }
                Setting::MaxPids(most) => settings.pod_pids = Some(*most).filter(|most| *most > 0),
                Setting::MaxPods(most) => settings.reserve.pods = *most,
                Setting::KubeReserved(amounts) => settings.reserve.kube.clone_from(amounts),
                Setting::SystemReserved(amounts) => settings.reserve.system.clone_from(amounts),
                Setting::SeccompDefault(on) => settings.seccomp_default = *on,
                Setting::CpuQuota(on) => settings.cpu_quota = *on,
                Setting::Eviction(flag, value) => {
                    // It was read once already.
                    _ = settings.eviction.set(flag, value);
                }
                // Others ask for these.
                Setting::Root(_)
                | Setting::Manifests(_)
                | Setting::Pulls(_)
                | Setting::ImagesHigh(_)
                | Setting::ImagesLow(_)
                | Setting::ImagesYoung(_)
                | Setting::LogSize(_)
                | Setting::LogFiles(_)
                | Setting::Sysctls(_)
                | Setting::EndPeriod(_)
                | Setting::CriticalEndPeriod(_)
                | Setting::EndPeriods(_) => {}
            }
        }
        settings
    }

    /// When images are removed.
    ///
    /// # Errors
    /// If they are to be removed down to more than from what they are.
    pub(super) fn collection(&self) -> Result<Collection, Failure> {
        let mut collection = Collection::default();
        for setting in &self.settings {
            match setting {
                Setting::ImagesHigh(percent) => collection.high = *percent,
                Setting::ImagesLow(percent) => collection.low = *percent,
                Setting::ImagesYoung(age) => collection.young = *age,
                _ => {}
            }
        }
        if collection.low >= collection.high {
            return Err(Failure::Input(format!(
                "--kubelet-arg: image-gc-low-threshold {} must be less than image-gc-high-threshold {}",
                collection.low, collection.high
            )));
        }
        Ok(collection)
    }

    /// When logs are begun anew.
    pub(super) fn rotation(&self) -> Rotation {
        let mut rotation = Rotation::default();
        for setting in &self.settings {
            match setting {
                Setting::LogSize(bytes) => rotation.size = *bytes,
                Setting::LogFiles(files) => rotation.files = *files,
                _ => {}
            }
        }
        rotation
    }

    /// The kernel's settings that pods may have, beside those that are safe.
    pub(super) fn sysctls(&self) -> Sysctls {
        let given = self.settings.iter().rev().find_map(|setting| match setting {
            Setting::Sysctls(sysctls) => Some(sysctls.clone()),
            _ => None,
        });
        given.unwrap_or_default()
    }

    /// Where settings of registries may be.
    fn registries(&self, data_dir: &Path) -> Vec<PathBuf> {
        match &self.private_registry {
            Some(file) => vec![file.clone()],
            None => vec![CARD.into(), ETC.into(), data_dir.join("agent")],
        }
    }

    /// How long pods have to end when the machine ends.
    pub(super) fn end_periods(&self) -> Periods {
        let (mut all, mut critical) = END_PERIODS;
        let mut by_priority = None;
        for setting in &self.settings {
            match setting {
                Setting::EndPeriod(period) => all = *period,
                Setting::CriticalEndPeriod(period) => critical = *period,
                Setting::EndPeriods(periods) => by_priority = Some(periods.clone()),
                _ => {}
            }
        }
        by_priority.map_or_else(|| Periods::new(all, critical.min(all)), Periods::by_priority)
    }

    /// Folders of image archives.
    pub(super) fn archives(data_dir: &Path) -> Vec<PathBuf> {
        let of_system = SYSTEM_IMAGES.iter().map(PathBuf::from);
        std::iter::once(data_dir.join("agent/images")).chain(of_system).collect()
    }

    /// The folder for the sockets of a node whose settings are not known.
    pub(crate) fn usual_state(data_dir: &Path) -> PathBuf {
        Self::default().state(data_dir)
    }

    /// The folder for sockets.
    fn state(&self, data_dir: &Path) -> PathBuf {
        match &self.containerd_state_dir {
            Some(folder) => folder.clone(),
            None if data_dir == Path::new(DATA_DIR) => Path::new(STATE).join("containerd"),
            None => data_dir.join("containerd-state"),
        }
    }

    /// Whether a container runtime was given, that runs already.
    pub(super) fn was_given(&self) -> bool {
        self.container_runtime_endpoint.is_some()
    }

    /// The runtime, and the network that it is to be given if it is ours, with packets of a size that will be told.
    pub(super) fn runtime(
        &self,
        data_dir: &Path,
        mtu: watch::Receiver<Option<u32>>,
    ) -> (RuntimeChoice, Option<network::Config>) {
        if let Some(socket) = &self.container_runtime_endpoint {
            return (RuntimeChoice::Socket(socket.clone()), None);
        }
        let (root, state) = (data_dir.join("containerd"), self.state(data_dir));
        let plugins = find_plugins();
        let folder = data_dir.join("agent/cni/net.d");
        let network = network::Config {
            folder: folder.clone(),
            addresses: data_dir.join("agent/cni/networks"),
            plugins: plugins.clone(),
            mtu,
        };
        let missing = |why: &str| {
            tracing::warn!("{why}; this node runs no pods");
            (RuntimeChoice::Socket(state.join("containerd.sock")), None)
        };
        if !geteuid().is_root() {
            return missing("containers are run by root only");
        }
        let Some(program) = find_program("containerd") else {
            return missing(
                "there is no containerd on this machine (Debian's packages: containerd runc containernetworking-plugins)",
            );
        };
        let options = containerd::Options {
            log: root.join("containerd.log"),
            root,
            state,
            cni_conf: folder,
            cni_bin: plugins,
            pause_image: self.pause_image.clone(),
            registries: Registries::new(&self.registries(data_dir), data_dir.join("agent/registries.d")),
            program,
        };
        (RuntimeChoice::Containerd(options), Some(network))
    }
}

#[cfg(test)]
mod tests {
    use super::super::kubelet_settings::setting;
    use super::*;

    #[test]
    fn an_endpoint_is_a_path_or_a_url_of_one() {
        assert_eq!(socket("unix:///run/x.sock"), Ok("/run/x.sock".into()));
        assert_eq!(socket("/run/x.sock"), Ok("/run/x.sock".into()));
        assert!(socket("tcp://127.0.0.1:1").is_err());
    }

    #[test]
    fn settings_of_a_kubelet_are_understood_and_the_last_one_counts() {
        let mut options = ContainerOptions::default();
        assert_eq!(options.root(Path::new("/d")), Path::new("/d/kubelet"));
        assert_eq!(options.root(Path::new(DATA_DIR)), Path::new(KUBELET));
        for (name, value) in [("root-dir", "/a"), ("root-dir", "/b"), ("max-parallel-image-pulls", "3")] {
            options.set(&setting(name, value).unwrap().unwrap());
        }
        assert_eq!((options.root(Path::new("/d")).as_path(), options.parallel_pulls()), (Path::new("/b"), 3));
        options.set(&setting("image-gc-low-threshold", "90").unwrap().unwrap());
        assert!(options.collection().is_err());
        options.set(&setting("image-gc-high-threshold", "95").unwrap().unwrap());
        assert_eq!(options.collection().unwrap().high, 95);
    }
}
