//! Devices of this node that plugins offer: sticks, cameras, accelerators, as extended resources of the Node
//! (<https://kubernetes.io/docs/concepts/extend-kubernetes/compute-storage-net/device-plugins/>).
//!
//! In flow plugins that present themselves at a socket (`server`) and what each tells of its devices (`plugin`), and pods that the
//! node takes; out flow the Node's amounts, and what a container needs to use its devices. `table` decides who has what; it is kept
//! in a file (`checkpoint`), so that a kubelet after this one does not give away a device twice.

mod checkpoint;
pub(crate) mod messages;
mod plugin;
mod server;
mod table;
#[cfg(test)]
#[allow(dead_code, reason = "a scenario's program uses more of it")]
mod testing;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::{Container, Pod, PodStatus, ResourceHealth, ResourceStatus};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::cri::{CdiDevice, ContainerConfig, Device, KeyValue, Mount};
use crate::pods::{containers, init_containers, uid};
use crate::resources;
use checkpoint::Checkpoint;
use table::{Given, Plan, Table};

/// The folder of plugins' sockets, below the kubelet's.
pub(crate) const FOLDER: &str = "device-plugins";

/// The node's devices. Cloning it is cheap and shares them.
#[derive(Clone, Debug)]
pub(crate) struct Devices(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    table: Mutex<Table>,
    /// Counts what changed about the Node's amounts.
    changed: watch::Sender<u64>,
}

impl Devices {
    /// With what a kubelet before this one gave away, if the folder tells.
    pub(crate) fn new(folder: PathBuf) -> Self {
        let table = match Checkpoint::load(&folder) {
            Ok(found) => found.map_or_else(Table::default, |found| Table::restore(found.resources, found.given)),
            Err(error) => {
                tracing::warn!(%error, "what pods have of devices is not known any more");
                Table::default()
            }
        };
        Self(Arc::new(Inner { folder, table: Mutex::new(table), changed: watch::Sender::new(0) }))
    }

    /// No code panics while it holds the lock, so a poisoned lock still guards a whole table.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets plugins present themselves, without end.
    pub(crate) async fn run(&self) {
        if let Err(error) = server::run(self).await {
            tracing::error!("{}: {error}; no device plugin is found", self.0.folder.display());
        }
        std::future::pending().await
    }

    /// Tells when amounts change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    fn tell(&self) {
        self.0.changed.send_modify(|count| *count += 1);
    }

    /// How many devices of each resource there are, and how many of them are healthy.
    pub(crate) fn capacity(&self) -> BTreeMap<String, (usize, usize)> {
        self.table().capacity(Instant::now())
    }

    fn save(&self) {
        let checkpoint = {
            let table = self.table();
            Checkpoint { resources: table.names(), given: table.given.clone() }
        };
        if let Err(error) = checkpoint.save(&self.0.folder) {
            tracing::warn!(
                "{}: {error}; a kubelet after this one does not know who has which device",
                self.0.folder.display()
            );
        }
    }

    /// Gives a pod's containers the devices that they ask for. What the pods `over` have is free. Others keep what they have, known or
    /// not: after a start of the kubelet not all that run are known yet. To be called for one pod at a time.
    ///
    /// # Errors
    /// Why it cannot have them.
    pub(crate) async fn allocate(&self, pod: &Pod, over: &HashSet<String>) -> Result<(), String> {
        let asked: Vec<_> = init_containers(pod).iter().map(|container| (container, true)).collect();
        let asked = asked.into_iter().chain(containers(pod).iter().map(|container| (container, false)));
        let asked: Vec<_> = asked.flat_map(|(container, is_init)| self.asked(container, is_init)).collect();
        if asked.is_empty() {
            return Ok(());
        }
        let mut is_changed = self.table().free(over);
        let mut reusable: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut outcome = Ok(());
        for Asked { container, resource, wanted, lends } in asked {
            let key = (uid(pod), container.as_str());
            let of_init = reusable.entry(resource.clone()).or_default();
            let planned = self.table().plan(key, &resource, wanted, of_init);
            let given = match planned {
                Ok(None) => None,
                Ok(Some(plan)) => match self.ask(&resource, plan, wanted).await {
                    Ok(given) => Some(given),
                    Err(why) => {
                        outcome = Err(why);
                        break;
                    }
                },
                Err(why) => {
                    outcome = Err(why);
                    break;
                }
            };
            if let Some(given) = given {
                is_changed = true;
                self.table().give(key, &resource, given);
            }
            let ids = self.table().of(key.0, key.1, &resource).map(|given| given.ids.clone()).unwrap_or_default();
            if lends {
                of_init.extend(ids);
            } else {
                of_init.retain(|id| !ids.contains(id));
            }
        }
        if is_changed {
            self.save();
        }
        outcome
    }

    /// The uids of all pods that have devices.
    pub(crate) fn owners(&self) -> Vec<String> {
        self.table().given.keys().cloned().collect()
    }

    /// Takes back what a pod has that is gone.
    pub(crate) fn release(&self, uid: &str) {
        let is_changed = self.table().free(&HashSet::from([uid.to_owned()]));
        if is_changed {
            self.save();
        }
    }

    /// Takes back what is not of these pods, once all pods of the node are known.
    pub(crate) fn retain(&self, wanted: &HashSet<String>) {
        let others = self.owners().into_iter().filter(|uid| !wanted.contains(uid)).collect();
        let is_changed = self.table().free(&others);
        if is_changed {
            self.save();
        }
    }

    /// Shows in a pod's status how the devices of its containers are (KEP-4680).
    pub(crate) fn show_health(&self, uid: &str, status: &mut PodStatus) {
        let table = self.table();
        let Some(pod) = table.given.get(uid) else { return };
        for status in status.container_statuses.iter_mut().flatten() {
            let given = pod.get(&status.name).into_iter().flatten();
            let list = given.map(|(resource, given)| {
                // What is not known yet is taken to be well, as with upstream's kubelet.
                let is_healthy = |id: &String| table.is_healthy(resource, id).unwrap_or(true);
                let devices = given.ids.iter().map(|id| ResourceHealth {
                    health: Some(if is_healthy(id) { "Healthy" } else { "Unhealthy" }.to_owned()),
                    resource_id: id.clone(),
                    ..ResourceHealth::default()
                });
                ResourceStatus { name: resource.clone(), resources: Some(devices.collect()) }
            });
            let list: Vec<ResourceStatus> = list.collect();
            if !list.is_empty() {
                status.allocated_resources_status.get_or_insert_default().extend(list);
            }
        }
    }

    /// What a container asks for of the resources that are devices. Limits say it: of such a resource nothing is lent.
    fn asked(&self, container: &Container, is_init: bool) -> Vec<Asked> {
        let table = self.table();
        let limits = resources::limits(container).into_iter().flatten();
        let limits = limits.filter(|(resource, _)| table.knows(resource));
        let asked = limits.filter_map(|(resource, amount)| {
            let wanted = usize::try_from(resources::read(amount).value()).ok().filter(|wanted| *wanted > 0)?;
            // What starts before others and goes on keeps what it has.
            let lends = is_init && container.restart_policy.as_deref() != Some("Always");
            Some(Asked { container: container.name.clone(), resource: resource.clone(), wanted, lends })
        });
        asked.collect()
    }

    /// Asks the plugin: which devices it would rather give, and what a container needs to use them.
    async fn ask(&self, resource: &str, plan: Plan, wanted: usize) -> Result<Given, String> {
        let found = self.table().get(resource).and_then(|known| Some((known.socket.clone()?, known.options)));
        let Some((socket, options)) = found else { return Err(format!("unknown Device Plugin {resource}")) };
        let is_open = plan.missing > 0 && plan.missing < plan.available.len();
        let preferred = if is_open && options.get_preferred_allocation_available {
            plugin::preferred(&socket, &plan, wanted).await?
        } else {
            Vec::new()
        };
        let ids = plan.take(&preferred);
        let allocation = plugin::allocate(&socket, &ids).await?;
        Ok(Given { ids, allocation })
    }

    /// Adds what a container needs to use its devices to its configuration, once the plugins that want to know it have been told that
    /// it starts.
    ///
    /// # Errors
    /// What a plugin says against the start.
    pub(crate) async fn add(&self, pod: &Pod, container: &str, config: &mut ContainerConfig) -> Result<(), String> {
        let given = {
            let table = self.table();
            let containers = table.given.get(uid(pod)).and_then(|containers| containers.get(container));
            let with_plugin = |(resource, given): (&String, &Given)| {
                let known = table.get(resource).filter(|known| known.options.pre_start_required);
                (given.clone(), known.and_then(|known| known.socket.clone()))
            };
            containers.into_iter().flatten().map(with_plugin).collect::<Vec<_>>()
        };
        for (Given { ids, allocation }, wants_to_know) in given {
            if let Some(socket) = wants_to_know {
                plugin::starts(&socket, &ids).await?;
            }
            // What the pod says of its environment holds.
            let known: HashSet<String> = config.envs.iter().map(|env| env.key.clone()).collect();
            let envs = allocation.envs.into_iter().filter(|(key, _)| !known.contains(key));
            config.envs.extend(envs.map(|(key, value)| KeyValue { key, value: value.into_bytes() }));
            config.mounts.extend(allocation.mounts.into_iter().map(|mount| Mount {
                container_path: mount.container_path,
                host_path: mount.host_path,
                readonly: mount.read_only,
                ..Mount::default()
            }));
            config.devices.extend(allocation.devices.into_iter().map(|device| Device {
                container_path: device.container_path,
                host_path: device.host_path,
                permissions: device.permissions,
            }));
            config.annotations.extend(allocation.annotations);
            config.cdi_devices.extend(allocation.cdi_devices.into_iter().map(|cdi| CdiDevice { name: cdi.name }));
        }
        Ok(())
    }
}

/// Devices that a container asks for.
struct Asked {
    container: String,
    resource: String,
    wanted: usize,
    /// Whether it is over before others start, which may have them then.
    lends: bool,
}
