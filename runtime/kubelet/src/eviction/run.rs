//! The loop: look, clear up, end one pod, wait for it to be gone.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kiln_client::BoxFuture;
use tokio::sync::watch;
use tokio::time::Instant;

use super::manager::Pressures;
use super::observe::{self, Observations};
use super::threshold::Threshold;
use super::usage::Meter;
use super::{local, message, rank, uid};
use crate::cgroups::Cgroups;
use crate::cri::Runtime;
use crate::machine::Pressure;
use crate::resources::is_critical;
use crate::volumes::Dirs;

/// How often the machine is looked at.
const LOOK: Duration = Duration::from_secs(10);
/// How long a pod that must end at once is given, in seconds.
const AT_ONCE: i64 = 1;

/// A pod that is to be ended.
#[derive(Debug, Clone)]
pub struct Evicted {
    /// Which.
    pub pod: Arc<Pod>,
    /// The message of its status and of the event, both of reason [`super::EVICTED`].
    pub message: String,
    /// What it is ended for, as metrics have it: `memory.available`, say.
    pub signal: &'static str,
    /// Seconds that it is given.
    pub grace: i64,
    /// It gets the condition `DisruptionTarget` of reason `TerminationByKubelet` with the same message.
    pub disruption: bool,
}

/// What the loop needs others for.
#[derive(Clone)]
pub struct Hooks {
    /// The pods that run, or are to.
    pub pods: Arc<dyn Fn() -> Vec<Arc<Pod>> + Send + Sync>,
    /// Ends a pod and answers when its containers are gone.
    pub evict: Arc<dyn Fn(Evicted) -> BoxFuture<'static, ()> + Send + Sync>,
    /// Removes containers that are over and images that nobody uses.
    pub clear_up: Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>,
    /// Records a warning event `EvictionThresholdMet` of the Node with this message.
    pub tell: Arc<dyn Fn(String) + Send + Sync>,
}

/// The watch over the machine.
pub struct Eviction {
    pressures: Pressures,
    meter: Meter,
    image_fs: PathBuf,
    /// The longest time that a pod is given where there is time (`evictionMaxPodGracePeriod`).
    most_grace: i64,
    hooks: Hooks,
    shown: watch::Sender<Pressure>,
}

impl Eviction {
    /// Not looking yet. `image_fs` is a folder on the disk of images; `runtime` and `cgroups` tell what pods use.
    pub fn new(
        pressures: Pressures,
        (runtime, cgroups): (Runtime, Option<Cgroups>),
        (dirs, pod_logs, image_fs): (Dirs, PathBuf, PathBuf),
        most_grace: i64,
        hooks: Hooks,
    ) -> Self {
        let meter = Meter { runtime, cgroups, dirs, pod_logs };
        Self { pressures, meter, image_fs, most_grace, hooks, shown: watch::Sender::new(Pressure::default()) }
    }

    /// The conditions to be shown, as they change.
    pub fn pressure(&self) -> watch::Receiver<Pressure> {
        self.shown.subscribe()
    }

    /// Looks, without end.
    pub async fn run(mut self) {
        loop {
            if !self.look().await {
                tokio::time::sleep(LOOK).await;
            }
        }
    }

    /// Answers whether a pod was ended, so that it is worth looking again at once.
    async fn look(&mut self) -> bool {
        let seen = self.observe();
        let (shown, due) = self.pressures.see(Instant::now(), &seen);
        self.shown.send_if_modified(|known| std::mem::replace(known, shown) != shown);
        let pods = (self.hooks.pods)();
        if self.end_local(&pods).await {
            return true;
        }
        match due {
            Some(threshold) => self.reclaim(threshold, &seen, pods).await,
            None => false,
        }
    }

    fn observe(&self) -> Observations {
        let root = std::path::Path::new("/");
        observe::look(root, self.meter.dirs.root(), &self.image_fs, self.meter.cgroups.as_ref())
    }

    /// Ends pods that have gone beyond limits of their own.
    async fn end_local(&self, pods: &[Arc<Pod>]) -> bool {
        let limited: Vec<Arc<Pod>> = pods.iter().filter(|pod| local::is_limited(pod)).cloned().collect();
        if limited.is_empty() {
            return false;
        }
        let usage = self.meter.measure(&limited, true).await;
        let mut any = false;
        for pod in limited {
            let breach = usage.get(uid(&pod)).and_then(|usage| local::breach(&pod, usage, false));
            if let Some((signal, message)) = breach
                && !is_critical(&pod)
            {
                (self.hooks.evict)(Evicted { pod, message, signal, grace: AT_ONCE, disruption: false }).await;
                any = true;
            }
        }
        any
    }

    async fn reclaim(&self, threshold: Threshold, seen: &Observations, mut pods: Vec<Arc<Pod>>) -> bool {
        let resource = threshold.signal.resource();
        (self.hooks.tell)(format!("Attempting to reclaim {resource}"));
        let is_disk = matches!(resource, "ephemeral-storage" | "inodes");
        if is_disk {
            (self.hooks.clear_up)().await;
            if self.pressures.is_relieved(&self.observe()) {
                return false;
            }
        }
        let usage = self.meter.measure(&pods, is_disk).await;
        rank::rank(&mut pods, &usage, threshold.signal);
        let Some(pod) = pods.into_iter().find(|pod| !is_critical(pod)) else {
            tracing::warn!(resource, "the machine runs short, and there is no pod that may be ended");
            return false;
        };
        let message = message::of(&pod, &threshold, seen, usage.get(uid(&pod)));
        let own = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(i64::MAX);
        let grace = if threshold.grace.is_zero() { AT_ONCE } else { own.min(self.most_grace) };
        (self.hooks.evict)(Evicted { pod, message, signal: threshold.signal.name(), grace, disruption: true }).await;
        true
    }
}
