//! Ends containers and sandboxes: preStop hook, the wait for those that must end before, SIGTERM, and SIGKILL after the grace.

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::{Container as Spec, Pod};
use tokio::sync::watch;
use tokio::time::Instant;

use super::plan::{Cause, Kill, is_sidecar};
use super::slot::{Current, grace};
use super::start::Kind;
use super::view::Container;
use super::worker::{Worker, not_found_is_fine};
use super::{containers, find_container, init_containers};
use crate::cri::{CriError, StopContainerRequest, StopPodSandboxRequest};
use crate::hooks::{self, Hook};

/// Every container has this many seconds to end by itself.
const LEAST_GRACE: i64 = 2;

/// Whom a container waits for: sidecars end after all others, in reverse order.
struct Order {
    /// The names of containers that have ended.
    ended: watch::Sender<BTreeSet<String>>,
}

impl Order {
    fn before(&self, pod: &Pod, name: &str, running: &[String]) -> BTreeSet<String> {
        let inits = init_containers(pod);
        let Some(at) = inits.iter().position(|spec| spec.name == name && is_sidecar(spec)) else {
            return BTreeSet::new();
        };
        let later = inits[at + 1..].iter().filter(|spec| is_sidecar(spec)).chain(containers(pod));
        later.map(|spec| spec.name.clone()).filter(|name| running.contains(name)).collect()
    }

    async fn turn(&self, before: &BTreeSet<String>, most: Duration) {
        let mut ended = self.ended.subscribe();
        _ = tokio::time::timeout(most, ended.wait_for(|ended| before.is_subset(ended))).await;
    }

    fn done(&self, name: &str) {
        self.ended.send_modify(|ended| _ = ended.insert(name.to_owned()));
    }
}

impl Worker {
    /// Ends all containers of the pod, and then its sandboxes. Answers whether nothing is left that may run.
    pub(super) async fn stop_all(&mut self, current: &Current) -> bool {
        let grace = grace(current);
        let running: Vec<Container> = self.view.running().cloned().collect();
        let names: Vec<String> = running.iter().map(|container| container.name.clone()).collect();
        let order = Order { ended: watch::Sender::new(BTreeSet::new()) };
        let hooked = self.hooked.clone();
        // A hook that was begun is not run again should the grace become shorter.
        self.hooked.extend(running.iter().map(|container| container.id.clone()));
        let ends = running.iter().map(|container| {
            let spec = find_container(&current.pod, &container.name);
            let before = order.before(&current.pod, &container.name, &names);
            let (this, order, hooked) = (&*self, &order, &hooked);
            async move {
                let spec = spec.unwrap_or_else(|| Spec { name: container.name.clone(), ..Spec::default() });
                let message = format!("Stopping container {}", container.name);
                let runs_hook = !hooked.contains(&container.id);
                let ended =
                    this.end_container(&current.pod, &spec, &container.id, &message, grace, runs_hook, |left| {
                        order.turn(&before, left)
                    });
                if let Err(error) = ended.await {
                    tracing::warn!(container = container.name, %error, "a container does not end");
                    return false;
                }
                order.done(&container.name);
                true
            }
        });
        let all = self.showing(join_all(ends)).await.into_iter().all(|ended| ended);
        if !all || self.look().await.is_err() || self.view.running().next().is_some() {
            return false;
        }
        for sandbox in &self.view.sandboxes {
            if let Err(error) = self.stop_sandbox(&sandbox.id).await {
                tracing::warn!(%error, "a sandbox does not end");
                return false;
            }
        }
        true
    }

    /// Ends all of a pod that goes on, or is over: there is no grace but the pod's own. Answers whether something ended.
    pub(super) async fn kill_pod(&mut self, pod: &Pod) -> bool {
        let kills: Vec<Kill> = self
            .view
            .running()
            .map(|container| Kill {
                id: container.id.clone(),
                name: container.name.clone(),
                message: String::new(),
                cause: Cause::Other,
            })
            .collect();
        let ready: Vec<String> =
            self.view.sandboxes.iter().filter(|sandbox| sandbox.ready).map(|sandbox| sandbox.id.clone()).collect();
        for kill in &kills {
            self.kill(pod, kill).await;
        }
        for sandbox in &ready {
            if let Err(error) = self.stop_sandbox(sandbox).await {
                tracing::warn!(%error, "a sandbox does not end");
            }
        }
        !kills.is_empty() || !ready.is_empty()
    }

    /// Ends one container of a pod that goes on. Answers whether it did.
    pub(super) async fn kill(&mut self, pod: &Pod, kill: &Kill) -> bool {
        let Some(spec) = find_container(pod, &kill.name) else { return false };
        let of_probe = |probe: &Option<k8s_openapi::api::core::v1::Probe>| {
            probe.as_ref().and_then(|probe| probe.termination_grace_period_seconds)
        };
        let own = match kill.cause {
            Cause::StartupProbe => of_probe(&spec.startup_probe),
            Cause::LivenessProbe => of_probe(&spec.liveness_probe),
            Cause::Other => None,
        };
        let deletion = pod.metadata.deletion_grace_period_seconds;
        let pods = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
        let grace = deletion.or(own).or(pods).unwrap_or(LEAST_GRACE);
        let message =
            if kill.message.is_empty() { format!("Stopping container {}", kill.name) } else { kill.message.clone() };
        let ended = self.end_container(pod, &spec, &kill.id, &message, grace, true, |_| std::future::ready(()));
        match self.showing(ended).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(container = kill.name, %error, "a container does not end");
                false
            }
        }
    }

    /// Awaits the end of containers. Probes go on meanwhile, and who is no longer ready is shown so at once: an end takes as long
    /// as the grace, and nobody should connect to it for that long.
    async fn showing<T>(&self, end: impl Future<Output = T>) -> T {
        let mut end = pin!(end);
        let mut woken = false;
        let done = loop {
            tokio::select! {
                done = &mut end => break done,
                () = self.slot.wake.notified() => {
                    woken = true;
                    self.publish(self.make(&self.slot.current(), false));
                }
            }
        };
        if woken {
            // What else it was woken for is still to be done.
            self.slot.wake.notify_one();
        }
        done
    }

    #[allow(clippy::too_many_arguments, reason = "each is one fact about one end")]
    async fn end_container<F: Future<Output = ()>>(
        &self,
        pod: &Pod,
        spec: &Spec,
        id: &str,
        message: &str,
        grace: i64,
        runs_hook: bool,
        turn: impl FnOnce(Duration) -> F,
    ) -> Result<(), CriError> {
        let about = Kind::of(pod, &spec.name).about(&spec.name);
        self.node.recorder.normal(pod, about, "Killing", message);
        let began = Instant::now();
        let whole = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
        let left = || whole.saturating_sub(began.elapsed());
        let handler = spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref());
        if let Some(handler) = handler.filter(|_| runs_hook && grace > 0) {
            let ip = self.view.ips().first().map(String::as_str);
            let hook = Hook { runtime: &self.node.runtime, container: id, spec, ip };
            if let Ok(Err(error)) = tokio::time::timeout(whole, hooks::run(&hook, handler)).await {
                tracing::debug!(container = spec.name, error, "the preStop hook failed");
                self.node.recorder.warning(pod, about, "FailedPreStopHook", "PreStopHook failed");
            }
        }
        if !left().is_zero() {
            turn(left()).await;
        }
        let seconds = i64::try_from(left().as_secs_f64().ceil() as u64).unwrap_or(grace);
        let request = StopContainerRequest { container_id: id.to_owned(), timeout: seconds.max(LEAST_GRACE) };
        not_found_is_fine(self.node.runtime.stop_container(&request).await)
    }

    pub(super) async fn stop_sandbox(&self, id: &str) -> Result<(), CriError> {
        let request = StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        not_found_is_fine(self.node.runtime.stop_pod_sandbox(&request).await)
    }
}
