//! What the runtime has of one pod: its sandboxes and containers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerUser, LinuxContainerUser, Pod};

use super::message;
use crate::cri::{
    self, ContainerFilter, ContainerState, ContainerStatusRequest, CriError, ListContainersRequest,
    ListPodSandboxRequest, PodSandboxFilter, PodSandboxState, PodSandboxStatusRequest, Runtime,
};

/// Labels of sandboxes and containers, by which a kubelet knows them again.
pub(crate) mod label {
    pub(crate) const POD_UID: &str = "io.kubernetes.pod.uid";
    pub(crate) const CONTAINER_NAME: &str = "io.kubernetes.container.name";
}

/// Annotations of containers.
pub(crate) mod annotation {
    pub(crate) const HASH: &str = "io.kubernetes.container.hash";
    pub(crate) const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
    pub(crate) const MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
    pub(crate) const MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
    pub(crate) const GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";
}

/// Whether a container runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It was made and not started.
    Created,
    /// It runs.
    Running,
    /// It ran.
    Exited,
    /// The runtime does not know.
    Unknown,
}

/// A container as the runtime has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    /// The runtime's id.
    pub id: String,
    /// The sandbox that it is in.
    pub sandbox: String,
    /// The name in the pod's spec.
    pub name: String,
    /// How often a container of this name was started again before.
    pub attempt: u32,
    /// Whether it runs.
    pub state: State,
    /// Its exit code, once it has exited.
    pub exit_code: i32,
    /// Its log, as the runtime has it.
    pub log_path: String,
    pub(crate) created: Timestamp,
    pub(crate) started: Option<Timestamp>,
    pub(crate) finished: Option<Timestamp>,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) image: String,
    pub(crate) image_ref: String,
    pub(crate) hash: String,
    pub(crate) user: Option<ContainerUser>,
    pub(crate) stop_signal: Option<String>,
}

/// A pod sandbox as the runtime has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// The runtime's id.
    pub id: String,
    /// Whether it runs.
    pub ready: bool,
    /// Its addresses; none in the host's network.
    pub ips: Vec<String>,
    pub(crate) attempt: u32,
    pub(crate) created: i64,
}

/// Sandboxes and containers of a pod, the newest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct View {
    pub(crate) sandboxes: Vec<Sandbox>,
    pub(crate) containers: Vec<Container>,
    /// How many processes the kernel had ended for want of memory by then, on the whole machine, and when that was seen to rise.
    pub(crate) oom_kills: (u64, Option<Instant>),
}

/// What a container ends with that SIGKILL ended.
const KILLED: i32 = 128 + 9;
/// How long after a container's end the runtime may take to hear that it was for its memory, two seconds, in looks that are each
/// twice as late as the one before.
const OUT_OF_MEMORY_TOLD: (Duration, u32) = (Duration::from_millis(8), 8);
/// How long after a process was ended for want of memory the runtime may take to tell of its container's end.
const END_FOLLOWS: Duration = Duration::from_secs(10);
/// The kernel's counters, `oom_kill` among them: limits of groups count too (since Linux 4.13).
const COUNTERS: &str = "/proc/vmstat";

impl View {
    /// Asks the runtime; what cannot have changed is taken from the last view.
    pub(crate) async fn fetch(runtime: &Runtime, uid: &str, old: &Self) -> Result<Self, CriError> {
        let labels = BTreeMap::from([(label::POD_UID.to_owned(), uid.to_owned())]);
        let sandboxes = ListPodSandboxRequest {
            filter: Some(PodSandboxFilter { label_selector: labels.clone(), ..PodSandboxFilter::default() }),
        };
        let containers = ListContainersRequest {
            filter: Some(ContainerFilter { label_selector: labels, ..ContainerFilter::default() }),
        };
        let (sandboxes, containers) =
            tokio::try_join!(runtime.list_pod_sandbox(&sandboxes), runtime.list_containers(&containers))?;
        let (before, rise) = old.oom_kills;
        let kills = oom_kills();
        let rise = if kills == before { rise } else { Some(Instant::now()) };
        let mut view = Self { oom_kills: (kills, rise), ..Self::default() };
        // Without it SIGKILL came from somebody else, and there is nothing to wait for.
        let was_short = rise.is_some_and(|rise| rise.elapsed() < END_FOLLOWS);
        for item in sandboxes.items {
            view.sandboxes.push(Sandbox {
                ready: item.state == PodSandboxState::Ready as i32,
                ips: Vec::new(),
                attempt: item.metadata.as_ref().map_or(0, |metadata| metadata.attempt),
                created: item.created_at,
                id: item.id,
            });
        }
        view.sandboxes.sort_by_key(|sandbox| std::cmp::Reverse(sandbox.created));
        if let Some(newest) = view.sandboxes.first_mut() {
            match old.sandboxes.iter().find(|known| known.id == newest.id && !known.ips.is_empty()) {
                Some(known) => newest.ips.clone_from(&known.ips),
                None => newest.ips = addresses(runtime, &newest.id).await?,
            }
        }
        for item in containers.containers {
            let known = old.containers.iter().find(|known| known.id == item.id);
            let state = state(item.state);
            if let Some(known) = known.filter(|known| known.state == state && state != State::Unknown) {
                view.containers.push(known.clone());
                continue;
            }
            let request = ContainerStatusRequest { container_id: item.id.clone(), verbose: false };
            let mut answer = runtime.container_status(&request).await;
            let (mut wait, looks) = OUT_OF_MEMORY_TOLD;
            for _ in 0..looks {
                let is_told = !answer.as_ref().is_ok_and(|a| a.status.as_ref().is_some_and(may_lack_its_reason));
                if is_told || !was_short {
                    break;
                }
                tokio::time::sleep(wait).await;
                wait *= 2;
                answer = runtime.container_status(&request).await;
            }
            match answer {
                Ok(answer) => {
                    view.containers.extend(answer.status.map(|status| container(item.pod_sandbox_id, status)))
                }
                // It was removed meanwhile.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        view.containers.sort_by_key(|container| std::cmp::Reverse(container.created));
        Ok(view)
    }

    /// The newest container of this name.
    pub(crate) fn container(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// The containers that run, or may.
    pub(crate) fn running(&self) -> impl Iterator<Item = &Container> {
        self.containers.iter().filter(|container| matches!(container.state, State::Running | State::Unknown))
    }

    /// The pod's sandbox, if it has one that can be used: the newest, which is ready, alone, and has an address unless the pod is
    /// in the host's network.
    pub(crate) fn sandbox(&self, pod: &Pod) -> Option<&Sandbox> {
        let newest = self.sandboxes.first()?;
        let is_alone = self.sandboxes.iter().filter(|sandbox| sandbox.ready).count() == 1;
        let has_network = super::is_host_network(pod) || !newest.ips.is_empty();
        (newest.ready && is_alone && has_network).then_some(newest)
    }

    /// The attempt of the next sandbox.
    pub(crate) fn next_attempt(&self) -> u32 {
        self.sandboxes.first().map_or(0, |sandbox| sandbox.attempt + 1)
    }

    /// The pod's addresses, in the order of the runtime.
    pub(crate) fn ips(&self) -> &[String] {
        self.sandboxes.first().map_or(&[], |sandbox| &sandbox.ips)
    }
}

/// A view that others can hold.
pub(crate) type Shared = Arc<View>;

async fn addresses(runtime: &Runtime, id: &str) -> Result<Vec<String>, CriError> {
    let request = PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
    let answer = match runtime.pod_sandbox_status(&request).await {
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        answer => answer?,
    };
    let Some(network) = answer.status.and_then(|status| status.network) else { return Ok(Vec::new()) };
    let all = std::iter::once(network.ip).chain(network.additional_ips.into_iter().map(|more| more.ip));
    Ok(all.filter(|ip| !ip.is_empty()).collect())
}

fn state(state: i32) -> State {
    match ContainerState::try_from(state) {
        Ok(ContainerState::Created) => State::Created,
        Ok(ContainerState::Running) => State::Running,
        Ok(ContainerState::Exited) => State::Exited,
        _ => State::Unknown,
    }
}

/// Whether the kernel may have killed the container for its memory: containerd hears of that and of the end from two sources, and
/// for a moment may know of the end only.
fn may_lack_its_reason(status: &cri::ContainerStatus) -> bool {
    state(status.state) == State::Exited && status.exit_code == KILLED && status.reason == "Error"
}

/// How many processes the kernel has ended for want of memory since it started.
fn oom_kills() -> u64 {
    std::fs::read_to_string(COUNTERS).map_or(0, |counters| oom_kills_of(&counters))
}

fn oom_kills_of(counters: &str) -> u64 {
    let found = counters.lines().find_map(|line| line.strip_prefix("oom_kill "));
    found.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

fn container(sandbox: String, status: cri::ContainerStatus) -> Container {
    let text = |map: &BTreeMap<String, String>, key: &str| map.get(key).cloned().unwrap_or_default();
    let time = |nanoseconds: i64| Timestamp::from_nanosecond(i128::from(nanoseconds)).ok().filter(|_| nanoseconds != 0);
    let state = state(status.state);
    let message = if state == State::Exited { message::of(&status) } else { String::new() };
    let user = status.user.and_then(|user| user.linux).map(|linux| ContainerUser {
        linux: Some(LinuxContainerUser {
            uid: linux.uid,
            gid: linux.gid,
            supplemental_groups: Some(linux.supplemental_groups).filter(|groups| !groups.is_empty()),
        }),
    });
    Container {
        sandbox,
        name: text(&status.labels, label::CONTAINER_NAME),
        attempt: text(&status.annotations, annotation::RESTART_COUNT).parse().unwrap_or_default(),
        state,
        exit_code: status.exit_code,
        created: time(status.created_at).unwrap_or_default(),
        started: time(status.started_at),
        finished: time(status.finished_at),
        reason: status.reason,
        message,
        image: status.image.map(|image| image.image).unwrap_or_default(),
        image_ref: status.image_ref,
        hash: text(&status.annotations, annotation::HASH),
        log_path: status.log_path,
        user,
        stop_signal: cri::signal_name(status.stop_signal),
        id: status.id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_counts_what_it_ended_for_want_of_memory() {
        assert_eq!(oom_kills_of("pgfault 7\noom_kill_disable 3\noom_kill 12\nnuma_hit 5\n"), 12);
        assert_eq!(oom_kills_of("pgfault 7\n"), 0);
    }
}
