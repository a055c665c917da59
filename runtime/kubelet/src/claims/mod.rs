//! Devices of ResourceClaims on this node (dynamic resource allocation, KEP-4381).
//!
//! In flow pods and their claims as the API has them, and drivers' plugins that register ([`Plugins`]); out flow calls of plugins
//! ([`calls`]) and, for each container, the CDI devices that the runtime is to give to it. Which claim gets which device is the
//! scheduler's matter. What is prepared is on disk ([`checkpoint`]) before a plugin is asked.

mod calls;
mod checkpoint;
mod messages;
mod of_pod;
mod plugins;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::api::resource::v1::ResourceClaim;
use kiln_client::{Client, path};
use tokio::sync::OwnedMutexGuard;

pub(crate) use plugins::{KIND, Plugins};

use crate::cri::CdiDevice;
use crate::pods::{namespace, uid};
use checkpoint::{Info, Infos};
use messages::Claim;
use of_pod::Wanted;
use plugins::Plugin;

/// How long what could not be taken back waits for a plugin to come, before it is tried again all the same.
const PERIOD: Duration = Duration::from_secs(60);

type Key = (String, String);

/// The claims of this node's pods. Cloning it is cheap and shares them.
#[derive(Clone)]
pub(crate) struct Claims(Arc<Shared>);

struct Shared {
    client: Client,
    root: PathBuf,
    plugins: Plugins,
    /// Or why they are not known.
    infos: Result<Mutex<Infos>, String>,
    /// Held while a claim is prepared or taken back: pods that share one do not get into each other's way.
    turns: Mutex<HashMap<Key, Arc<tokio::sync::Mutex<()>>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wire(info: &Info) -> Claim {
    Claim { namespace: info.namespace.clone(), uid: info.uid.clone(), name: info.name.clone() }
}

impl Claims {
    /// The claims that were written down below the kubelet's root.
    pub(crate) fn restore(client: Client, root: PathBuf, plugins: Plugins) -> Self {
        let infos = checkpoint::load(&root).map(Mutex::new).map_err(|error| {
            tracing::error!(%error, "no pod with ResourceClaims will run");
            error.to_string()
        });
        Self(Arc::new(Shared { client, root, plugins, infos, turns: Mutex::default() }))
    }

    fn infos(&self) -> Result<MutexGuard<'_, Infos>, String> {
        self.0.infos.as_ref().map(lock).map_err(Clone::clone)
    }

    fn store(&self, infos: &Infos) -> Result<(), String> {
        checkpoint::store(&self.0.root, infos).map_err(|error| format!("checkpoint ResourceClaim state: {error}"))
    }

    /// Waits for the turn at all of these; taken in one order by all, so nobody waits for each other.
    async fn turns(&self, mut keys: Vec<Key>) -> Vec<OwnedMutexGuard<()>> {
        keys.sort();
        keys.dedup();
        let mut held = Vec::new();
        for key in keys {
            let turn = lock(&self.0.turns).entry(key).or_default().clone();
            held.push(turn.lock_owned().await);
        }
        held
    }

    /// Forgets the turns that nobody has or waits for.
    fn tidy(&self) {
        lock(&self.0.turns).retain(|_, turn| Arc::strong_count(turn) > 1);
    }

    /// Has drivers prepare a pod's claims, as far as they are not yet.
    ///
    /// # Errors
    /// In upstream's words: a claim is not there, not the pod's or not allocated, or a driver fails.
    pub(crate) async fn prepare(&self, pod: &Pod) -> Result<(), String> {
        let failed = |why: String| format!("prepare dynamic resources: {why}");
        let wanted = of_pod::wanted(pod).map_err(failed)?;
        if wanted.is_empty() {
            return Ok(());
        }
        let keys = wanted.iter().map(|one: &Wanted| (namespace(pod).to_owned(), one.name.clone())).collect();
        let held = self.turns(keys).await;
        let done = self.prepare_in_turn(pod, &wanted).await;
        drop(held);
        self.tidy();
        done.map_err(failed)
    }

    async fn prepare_in_turn(&self, pod: &Pod, wanted: &[Wanted]) -> Result<(), String> {
        // All is checked before anything is noted: what is noted must be taken back by a driver, which may not even be there.
        let mut checked = Vec::new();
        for one in wanted {
            checked.push(self.check(pod, one).await?);
        }
        let mut batches = BTreeMap::<String, (Plugin, Vec<Claim>)>::new();
        {
            let mut infos = self.infos()?;
            for (fresh, plugins) in checked {
                let key = (fresh.namespace.clone(), fresh.name.clone());
                let new = fresh.uid.clone();
                let info = infos.entry(key).or_insert(fresh);
                if info.uid != new {
                    return Err(format!(
                        "old ResourceClaim with same name {} and different UID {} still exists (previous pod \
                         force-deleted?!)",
                        info.name, info.uid
                    ));
                }
                info.pods.insert(uid(pod).to_owned());
                if !info.is_prepared {
                    for (driver, plugin) in plugins {
                        batches.entry(driver).or_insert((plugin, Vec::new())).1.push(wire(info));
                    }
                }
            }
            self.store(&infos)?;
        }
        if batches.is_empty() {
            return Ok(());
        }
        for (driver, (plugin, claims)) in batches {
            let answer = calls::prepare(&plugin, &claims).await?;
            let mut infos = self.infos()?;
            for (claim, devices) in answer {
                if let Some(info) = infos.get_mut(&(claim.namespace, claim.name)) {
                    info.drivers.insert(driver.clone(), devices);
                }
            }
        }
        let mut infos = self.infos()?;
        for one in wanted {
            if let Some(info) = infos.get_mut(&(namespace(pod).to_owned(), one.name.clone())) {
                info.is_prepared = true;
            }
        }
        self.store(&infos)
    }

    /// A claim of a pod, and the plugins that are to prepare it.
    async fn check(&self, pod: &Pod, wanted: &Wanted) -> Result<(Info, BTreeMap<String, Plugin>), String> {
        let name = &wanted.name;
        let claim: ResourceClaim = self
            .0
            .client
            .get(&path::<ResourceClaim>(namespace(pod), name))
            .await
            .map_err(|error| format!("fetch ResourceClaim {name}: {error}"))?;
        of_pod::check(pod, wanted, &claim)?;
        let allocation = claim.status.and_then(|status| status.allocation);
        let allocation = allocation.ok_or_else(|| format!("ResourceClaim {name}: not allocated"))?;
        let mut info = Info {
            uid: claim.metadata.uid.unwrap_or_default(),
            name: name.clone(),
            namespace: namespace(pod).to_owned(),
            ..Info::default()
        };
        let mut plugins = BTreeMap::new();
        for result in allocation.devices.into_iter().flat_map(|devices| devices.results.into_iter().flatten()) {
            let plugin = self.0.plugins.find(&result.driver)?;
            info.drivers.entry(result.driver.clone()).or_default();
            plugins.insert(result.driver, plugin);
        }
        Ok((info, plugins))
    }

    /// The devices of a container, by their CDI names.
    ///
    /// # Errors
    /// A claim of its was never prepared.
    pub(crate) fn devices(&self, pod: &Pod, container: &Container) -> Result<Vec<CdiDevice>, String> {
        let wanted = of_pod::of_container(pod, container)?;
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let infos = self.infos()?;
        let mut all = Vec::new();
        for (name, request) in wanted {
            let info = infos.get(&(namespace(pod).to_owned(), name.clone())).ok_or_else(|| {
                let namespace = namespace(pod);
                format!("internal error: unable to get claim info for ResourceClaim {name} in namespace {namespace}")
            })?;
            let is_meant = |device: &&checkpoint::Device| {
                request.is_empty() || device.requests.is_empty() || device.requests.contains(&request)
            };
            let names = info.drivers.values().flatten().filter(is_meant).flat_map(|device| &device.cdi);
            for name in names {
                let device = CdiDevice { name: name.clone() };
                // A claim may be named once for itself and once for a request of it.
                if !all.contains(&device) {
                    all.push(device);
                }
            }
        }
        Ok(all)
    }

    /// Has drivers take back what only this pod has used, which does not run any more.
    ///
    /// # Errors
    /// In upstream's words: a driver is not there, or fails.
    pub(crate) async fn unprepare(&self, pod: &Pod) -> Result<(), String> {
        self.unprepare_by_uid(uid(pod)).await.map_err(|why| format!("unprepare dynamic resources: {why}"))
    }

    async fn unprepare_by_uid(&self, pod: &str) -> Result<(), String> {
        // Which are the pod's is known here even if the API has forgotten it. Without that knowledge none was prepared.
        let used = |infos: &Infos| -> Vec<Key> {
            infos.iter().filter(|(_, info)| info.pods.contains(pod)).map(|(key, _)| key.clone()).collect()
        };
        let Ok(keys) = self.infos().map(|infos| used(&infos)) else { return Ok(()) };
        if keys.is_empty() {
            return Ok(());
        }
        let held = self.turns(keys.clone()).await;
        let done = self.unprepare_in_turn(pod, &keys).await;
        drop(held);
        self.tidy();
        done
    }

    async fn unprepare_in_turn(&self, pod: &str, keys: &[Key]) -> Result<(), String> {
        let mut batches = BTreeMap::<String, Vec<Claim>>::new();
        {
            let infos = self.infos()?;
            let last =
                keys.iter().filter_map(|key| infos.get(key)).filter(|info| info.pods.iter().all(|uid| uid == pod));
            for info in last {
                for driver in info.drivers.keys() {
                    batches.entry(driver.clone()).or_default().push(wire(info));
                }
            }
        }
        for (driver, claims) in batches {
            calls::unprepare(&self.0.plugins.find(&driver)?, &claims).await?;
        }
        let mut infos = self.infos()?;
        for key in keys {
            if let Some(info) = infos.get_mut(key) {
                info.pods.remove(pod);
            }
        }
        infos.retain(|_, info| !info.pods.is_empty());
        self.store(&infos)
    }

    /// Takes back what pods have left that are not these: they were deleted while no kubelet ran. Tries again when a plugin comes,
    /// as those of drivers may come later than this kubelet.
    pub(crate) async fn keep_only(&self, wanted: &HashSet<String>) {
        tokio::select! {
            () = self.0.plugins.ended() => {}
            () = self.take_others_back(wanted) => {}
        }
    }

    async fn take_others_back(&self, wanted: &HashSet<String>) {
        let mut news = self.0.plugins.news();
        loop {
            news.mark_unchanged();
            let gone: HashSet<String> = match self.infos() {
                Ok(infos) => {
                    let all = infos.values().flat_map(|info| &info.pods);
                    all.filter(|uid| !wanted.contains(*uid)).cloned().collect()
                }
                Err(_) => return,
            };
            let mut left = false;
            for pod in gone {
                if let Err(error) = self.unprepare_by_uid(&pod).await {
                    tracing::info!(pod, error, "devices of a pod that is gone are not given back yet; will try again");
                    left = true;
                }
            }
            if !left {
                return;
            }
            _ = tokio::time::timeout(PERIOD, news.changed()).await;
        }
    }
}
