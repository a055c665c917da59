//! Carries out a [`Plan`]: the sandbox, then ephemeral, init and other containers, in this order.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::time::Instant;

use super::backoff;
use super::events::About;
use super::plan::{Cause, Kill, Plan, Reset, is_sidecar};
use super::status::Waiting;
use super::view::State;
use super::worker::{RETRY, Worker, not_found_is_fine};
use super::{containers, ephemeral_containers, full_name, hash, init_containers, is_host_network, logs};
use crate::cri::{
    CreateContainerRequest, PodSandboxConfig, RemoveContainerRequest, RunPodSandboxRequest, StartContainerRequest,
    StopContainerRequest,
};
use crate::hooks::{self, Hook};
use crate::prepare::{ContainerPlan, Prepared, Preparer};

/// What kind of container one is: they are told apart in events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Ephemeral,
    Init,
    Regular,
}

impl Kind {
    pub(super) fn about(self, name: &str) -> About<'_> {
        match self {
            Self::Ephemeral => About::EphemeralContainer(name),
            Self::Init => About::InitContainer(name),
            Self::Regular => About::Container(name),
        }
    }

    /// As metrics have it.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Ephemeral => "ephemeral_container",
            Self::Init => "init_container",
            Self::Regular => "container",
        }
    }

    pub(super) fn of(pod: &Pod, name: &str) -> Self {
        let is_in = |list: &[Container]| list.iter().any(|container| container.name == name);
        if is_in(containers(pod)) {
            Self::Regular
        } else if is_in(init_containers(pod)) {
            Self::Init
        } else {
            Self::Ephemeral
        }
    }
}

impl Worker {
    /// Does what is to be done, as far as nothing has to wait. Answers whether something was done, and when to try again what
    /// was not.
    pub(super) async fn act(&mut self, pod: &Pod, plan: Plan) -> (bool, Option<Instant>) {
        if !plan.reset.is_empty() {
            return self.reset(pod, &plan.reset).await;
        }
        let mut progress = false;
        if plan.kill_pod {
            progress |= self.kill_pod(pod).await;
            if !plan.create_sandbox {
                return (progress, None);
            }
        }
        for kill in &plan.kill {
            progress |= self.kill(pod, kill).await;
        }
        if let Some(until) = self.is_held("") {
            return (progress, Some(until));
        }
        if plan.create_sandbox && self.view.sandbox(pod).is_none() {
            if let Err(message) = self.node.preparer.claims().prepare(pod).await {
                let message = format!("Failed to prepare dynamic resources: {message}");
                self.node.recorder.warning(pod, About::Pod, "FailedPrepareDynamicResources", message);
                return (progress, Some(self.hold("", RETRY)));
            }
            let made = self.make_sandbox(pod).await;
            self.node.pods.metrics().sandbox(made.is_err());
            if let Err(message) = made {
                let message = format!("Failed to create pod sandbox: {message}");
                self.node.recorder.warning(pod, About::Pod, "FailedCreatePodSandBox", message);
                return (progress, Some(self.hold("", RETRY)));
            }
            if self.look().await.is_err() {
                return (false, Some(Instant::now()));
            }
            let status = self.make(&self.slot.current(), false);
            self.publish(status);
            progress = true;
        }
        let ephemeral = ephemeral_containers(pod);
        let ephemeral = plan.ephemeral.iter().filter_map(|index| Some((Kind::Ephemeral, ephemeral.get(*index)?)));
        let init = plan.init.iter().filter_map(|index| Some((Kind::Init, init_containers(pod).get(*index)?)));
        let regular = plan.containers.iter().filter_map(|index| Some((Kind::Regular, containers(pod).get(*index)?)));
        let mut retry: Option<Instant> = None;
        for (kind, spec) in ephemeral.chain(init).chain(regular) {
            match self.start_if_due(pod, spec, kind).await {
                Ok(()) => progress = true,
                Err(until) => {
                    retry = Some(retry.map_or(until, |retry| retry.min(until)));
                    // The next one needs this one's success.
                    if kind == Kind::Init && !is_sidecar(spec) {
                        break;
                    }
                }
            }
        }
        (progress, retry)
    }

    /// Removes containers, one after the other; what they wrote stays. Those that run have no grace, as with upstream's kubelet.
    async fn reset(&mut self, pod: &Pod, list: &[Reset]) -> (bool, Option<Instant>) {
        for one in list {
            if one.runs {
                self.node.recorder.normal(pod, Kind::of(pod, &one.name).about(&one.name), "Killing", "killing");
                let request = StopContainerRequest { container_id: one.id.clone(), timeout: 0 };
                if let Err(error) = not_found_is_fine(self.node.runtime.stop_container(&request).await) {
                    tracing::warn!(container = one.name, %error, "a container does not end");
                    return (false, Some(Instant::now() + RETRY));
                }
            }
            let request = RemoveContainerRequest { container_id: one.id.clone() };
            if let Err(error) = not_found_is_fine(self.node.runtime.remove_container(&request).await) {
                tracing::warn!(container = one.name, %error, "a container cannot be removed");
                return (false, Some(Instant::now() + RETRY));
            }
        }
        (true, None)
    }

    pub(super) fn is_held(&self, name: &str) -> Option<Instant> {
        self.held.get(name).copied().filter(|until| *until > Instant::now())
    }

    fn hold(&mut self, name: &str, wait: std::time::Duration) -> Instant {
        let until = Instant::now() + wait;
        self.held.insert(name.to_owned(), until);
        until
    }

    /// Starts a container, unless it has to wait: until when, if so or if it failed.
    async fn start_if_due(&mut self, pod: &Pod, spec: &Container, kind: Kind) -> Result<(), Instant> {
        let name = spec.name.as_str();
        if let Some(until) = self.is_held(name) {
            return Err(until);
        }
        let now = self.node.clock.now();
        let key = format!("{name}/{}", hash(spec));
        let last = self.view.containers.iter().find(|last| last.name == *name && last.state == State::Exited);
        if let Some(finished) = last.and_then(|last| last.finished) {
            if let Some((until, wait)) = self.backoffs.until(&key, finished, now) {
                let (recorder, pod_name) = (&self.node.recorder, full_name(pod));
                let message = format!("Back-off restarting failed container {name} in pod {pod_name}");
                recorder.warning(pod, kind.about(name), "BackOff", message);
                let wait = backoff::text(wait);
                let message = format!("back-off {wait} restarting failed container={name} pod={pod_name}");
                self.waiting.insert(name.to_owned(), Waiting { reason: "CrashLoopBackOff", message });
                let left = until.duration_since(now);
                return Err(self.hold(name, left.try_into().unwrap_or(RETRY)));
            }
            self.backoffs.next(&key, finished, now);
        }
        let started = self.start(pod, spec, kind).await;
        let failed = started.as_ref().err().map(|(waiting, _)| waiting.reason);
        self.node.pods.metrics().container(kind.text(), failed);
        match started {
            Ok(()) => {
                self.waiting.remove(name);
                self.held.remove(name);
                Ok(())
            }
            Err((waiting, wait)) => {
                self.waiting.insert(name.to_owned(), waiting);
                Err(self.hold(name, wait))
            }
        }
    }

    async fn prepared(&mut self) -> Result<(Prepared, PodSandboxConfig), String> {
        let pod = self.slot.pod();
        let prepared = match &self.prepared {
            Some(prepared) => prepared.clone(),
            None => self.node.preparer.prepare(&pod).await?,
        };
        self.prepared = Some(prepared.clone());
        let attempt = match self.view.sandbox(&pod) {
            Some(sandbox) => sandbox.attempt,
            None => self.view.next_attempt(),
        };
        let config = self.node.preparer.sandbox(&pod, &prepared, attempt).await?;
        Ok((prepared, config))
    }

    async fn make_sandbox(&mut self, pod: &Pod) -> Result<(), String> {
        let (_, config) = self.prepared().await?;
        let folder = Path::new(&config.log_directory);
        std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let runtime_handler = self.node.preparer.handler(pod).await?;
        let request = RunPodSandboxRequest { config: Some(config), runtime_handler };
        let _making = self.slot.making.lock().await;
        let made = self.node.runtime.run_pod_sandbox(&request).await.map_err(|error| error.to_string())?;
        self.node.pods.own(&made.pod_sandbox_id, &self.slot);
        Ok(())
    }

    /// Pulls the image, makes and starts the container, and runs its postStart hook. A failure comes with the wait after it.
    async fn start(&mut self, pod: &Pod, spec: &Container, kind: Kind) -> Result<(), (Waiting, std::time::Duration)> {
        let (node, name) = (self.node.clone(), spec.name.as_str());
        let about = kind.about(name);
        let fail = |reason, message: String| (Waiting { reason, message }, RETRY);
        let config_error = |message: String| {
            node.recorder.warning(pod, about, "Failed", format!("Error: {message}"));
            fail("CreateContainerConfigError", message)
        };
        let (prepared, sandbox_config) = self.prepared().await.map_err(config_error)?;
        let image = node.images.ensure(pod, spec, about, &sandbox_config).await;
        let image = image.map_err(|refused| {
            node.recorder.warning(pod, about, "Failed", format!("Error: {}", refused.reason));
            (Waiting { reason: refused.reason, message: refused.message }, refused.wait)
        })?;
        let sandbox = match self.view.sandbox(pod) {
            Some(sandbox) => sandbox.clone(),
            None => return Err(config_error("the pod's sandbox has ended".to_owned())),
        };
        let folder = logs::folder(&node.config.logs, pod);
        let attempt = match self.view.container(name) {
            Some(last) => last.attempt + 1,
            None => logs::next_attempt(&folder.join(name)),
        };
        let target = self.target(pod, name);
        let (image_volumes, shown) = self.image_volumes(pod, spec, about, &prepared, &sandbox_config).await?;
        let plan = ContainerPlan {
            attempt,
            image,
            pod_ips: if is_host_network(pod) { self.host_ips() } else { sandbox.ips.clone() },
            target,
            image_volumes,
            shown,
        };
        let config = node.preparer.container(pod, spec, &prepared, &plan).await.map_err(config_error)?;
        let log_folder = folder.join(name);
        if let Err(error) = std::fs::create_dir_all(&log_folder) {
            return Err(fail("CreateContainerError", format!("{}: {error}", log_folder.display())));
        }
        let resources = config.linux.as_ref().and_then(|linux| linux.resources.clone());
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.id.clone(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        let making = self.slot.making.lock().await;
        let id = match node.runtime.create_container(&request).await {
            Ok(answer) => answer.container_id,
            Err(error) => {
                node.recorder.warning(pod, about, "Failed", format!("Error: {}", error.message()));
                return Err(fail("CreateContainerError", error.message()));
            }
        };
        node.pods.own(&id, &self.slot);
        self.resizing.made(&id, resources);
        node.recorder.normal(pod, about, "Created", "Container created");
        if let Err(error) = node.runtime.start_container(&StartContainerRequest { container_id: id.clone() }).await {
            node.recorder.warning(pod, about, "Failed", format!("Error: {}", error.message()));
            return Err(fail("RunContainerError", error.message()));
        }
        drop(making);
        node.recorder.normal(pod, about, "Started", "Container started");
        if let Some(handler) = spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref()) {
            let hook =
                Hook { runtime: &node.runtime, container: &id, spec, ip: plan.pod_ips.first().map(String::as_str) };
            if let Err(error) = hooks::run(&hook, handler).await {
                // Without the message: it may hold secrets.
                node.recorder.warning(pod, about, "FailedPostStartHook", "PostStartHook failed");
                let message = "FailedPostStartHook".to_owned();
                let kill = Kill { id, name: name.to_owned(), message, cause: Cause::Other };
                self.kill(pod, &kill).await;
                return Err(fail("PostStartHookError", error));
            }
        }
        Ok(())
    }

    /// Pulls the images of the container's image volumes; answers the runtime's names of them, and where those are that the
    /// kubelet shows itself.
    async fn image_volumes(
        &self,
        pod: &Pod,
        spec: &Container,
        about: About<'_>,
        prepared: &Prepared,
        sandbox: &PodSandboxConfig,
    ) -> Result<(BTreeMap<String, String>, BTreeMap<String, PathBuf>), (Waiting, std::time::Duration)> {
        let (mut images, mut shown) = (BTreeMap::new(), BTreeMap::new());
        for (volume, reference, policy) in Preparer::image_volumes(prepared) {
            let is_mounted = spec.volume_mounts.iter().flatten().any(|mount| mount.name == *volume);
            if !is_mounted {
                continue;
            }
            let image = Container {
                image: Some(reference.to_owned()),
                image_pull_policy: Some(policy.to_owned()),
                ..Container::default()
            };
            let present = self.node.images.ensure(pod, &image, about, sandbox).await;
            let present = present
                .map_err(|refused| (Waiting { reason: refused.reason, message: refused.message }, refused.wait))?;
            let place = self.node.preparer.show_image(pod, volume, &present.id).await.map_err(|error| {
                self.node.recorder.warning(pod, about, "Failed", format!("Error: {error}"));
                (Waiting { reason: "CreateContainerError", message: error.to_string() }, RETRY)
            })?;
            shown.extend(place.map(|place| (volume.clone(), place)));
            images.insert(volume.clone(), present.id);
        }
        Ok((images, shown))
    }

    /// The container whose processes an ephemeral one is to see.
    fn target(&self, pod: &Pod, name: &str) -> Option<String> {
        let list = pod.spec.as_ref()?.ephemeral_containers.as_ref()?;
        let target = list.iter().find(|ephemeral| ephemeral.name == name)?.target_container_name.as_ref()?;
        self.view.container(target).map(|container| container.id.clone())
    }

    fn host_ips(&self) -> Vec<String> {
        self.node.config.node_ips.borrow().iter().take(2).map(ToString::to_string).collect()
    }
}
