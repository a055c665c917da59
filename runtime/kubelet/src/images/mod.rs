//! Images: what a container's policy asks for, pulled with the pod's secrets, a few at a time, and with waits after failures.
//!
//! In flow names and policies of containers; out flow the runtime's ids of images that are there. `reference` knows names,
//! `secrets` the credentials of registries. Preloaded archives are [`crate::containerd`]'s.

pub(crate) mod collect;
pub(crate) mod reference;
mod secrets;

pub use collect::Collection;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use kiln_apimachinery::duration;
use kiln_client::Client;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::containerd::registries::Registries;
use crate::cri::{
    self, CriError, ImageSpec, ImageStatusRequest, PodSandboxConfig, PullImageRequest, Runtime, VersionRequest,
};
use crate::pods::events::{About, Recorder};
use crate::pods::uid;

/// The wait after the first failure to pull, which doubles with each, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));
/// How long the failure itself is shown, before the wait is.
const SHOWN: Duration = Duration::from_secs(3);
/// How often, and how many times at most, the runtime is looked for while it starts again.
const RESTART: (Duration, u32) = (Duration::from_millis(250), 40);
const RETRY: Duration = Duration::from_secs(10);

/// An image that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Present {
    /// The runtime's id.
    pub(crate) id: String,
    /// The user that the image names, by number or by name.
    pub(crate) uid: Option<i64>,
    pub(crate) username: String,
}

/// An image that a container cannot have now.
#[derive(Debug, Clone)]
pub(crate) struct Refused {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    /// When to ask again.
    pub(crate) wait: Duration,
}

struct Failed {
    until: Instant,
    wait: Duration,
    why: String,
}

/// The images of this node. Cloning it is cheap and shares the waits.
#[derive(Clone)]
pub(crate) struct Images(Arc<Shared>);

struct Shared {
    runtime: Runtime,
    client: Client,
    recorder: Recorder,
    /// Settings of registries, where the runtime is ours.
    registries: Option<Registries>,
    /// Pulls that may run at the same time.
    pulls: Semaphore,
    /// Failures by pod and image.
    failed: Mutex<HashMap<String, Failed>>,
}

impl Images {
    pub(crate) fn new(
        runtime: Runtime,
        client: Client,
        recorder: Recorder,
        parallel: usize,
        registries: Option<Registries>,
    ) -> Self {
        let pulls = Semaphore::new(parallel.max(1));
        Self(Arc::new(Shared { runtime, client, recorder, registries, pulls, failed: Mutex::default() }))
    }

    fn failed(&self) -> MutexGuard<'_, HashMap<String, Failed>> {
        self.0.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The image of a container, pulled if its policy wants that.
    pub(crate) async fn ensure(
        &self,
        pod: &Pod,
        spec: &Container,
        about: About<'_>,
        sandbox: &PodSandboxConfig,
    ) -> Result<Present, Refused> {
        let recorder = &self.0.recorder;
        let asked = spec.image.as_deref().unwrap_or_default();
        let image = reference::with_tag(asked).map_err(|error| {
            let message =
                format!("Failed to apply default image tag {asked:?}: couldn't parse image name {asked:?}: {error}");
            recorder.warning(pod, about, "InspectFailed", message.clone());
            Refused { reason: "InvalidImageName", message, wait: RETRY }
        })?;
        let policy = spec.image_pull_policy.as_deref().unwrap_or("IfNotPresent");
        if policy != "Always" {
            let found = self.find(&image).await.map_err(|error| {
                let message = format!("Failed to inspect image {image:?}: {error}");
                recorder.warning(pod, about, "InspectFailed", message.clone());
                Refused { reason: "ImageInspectError", message, wait: RETRY }
            })?;
            if let Some(found) = found {
                let message =
                    format!("Container image {asked:?} already present on machine and can be accessed by the pod");
                recorder.normal(pod, about, "Pulled", message);
                return Ok(found);
            }
            if policy == "Never" {
                let message = format!("Container image {asked:?} is not present with pull policy of Never");
                recorder.warning(pod, about, "ErrImageNeverPull", message.clone());
                return Err(Refused { reason: "ErrImageNeverPull", message, wait: RETRY });
            }
        }
        self.pull(pod, asked, &image, about, sandbox).await
    }

    /// The image as the runtime has it.
    pub(crate) async fn find(&self, image: &str) -> Result<Option<Present>, CriError> {
        let image = Some(ImageSpec { image: image.to_owned(), ..ImageSpec::default() });
        let answer = self.0.runtime.image_status(&ImageStatusRequest { image, verbose: false }).await?;
        Ok(answer.image.map(|image| Present {
            id: image.id,
            uid: image.uid.map(|uid| uid.value),
            username: image.username,
        }))
    }

    async fn pull(
        &self,
        pod: &Pod,
        asked: &str,
        image: &str,
        about: About<'_>,
        sandbox: &PodSandboxConfig,
    ) -> Result<Present, Refused> {
        let recorder = &self.0.recorder;
        let key = format!("{}_{image}", uid(pod));
        let waiting = self.failed().get(&key).map(|failed| (failed.until, failed.why.clone()));
        if let Some((until, why)) = waiting.filter(|(until, _)| *until > Instant::now()) {
            recorder.normal(pod, about, "BackOff", format!("Back-off pulling image {asked:?}"));
            let message = format!("Back-off pulling image {asked:?}: {why}");
            return Err(Refused { reason: "ImagePullBackOff", message, wait: until.duration_since(Instant::now()) });
        }
        recorder.normal(pod, about, "Pulling", format!("Pulling image {asked:?}"));
        let began = Instant::now();
        let (pulled, pulling) = self.pull_in_turn(pod, image, sandbox).await;
        let present = match pulled {
            Ok(reference) => self.find(&reference).await.ok().flatten().unwrap_or(Present {
                id: reference,
                uid: None,
                username: String::new(),
            }),
            Err(error) => {
                let message = format!("Failed to pull image {asked:?}: {error}");
                recorder.warning(pod, about, "Failed", message);
                let (reason, message) = refusal(asked, &error);
                let wait = self.fail(key, format!("{reason}: {message}"));
                return Err(Refused { reason, message, wait: wait.min(SHOWN) });
            }
        };
        self.failed().remove(&key);
        let (took, all) = (shown(pulling), shown(began.elapsed()));
        let size = self.size(image).await;
        let message = format!(
            "Successfully pulled image {asked:?} in {took} ({all} including waiting). Image size: {size} bytes."
        );
        recorder.normal(pod, about, "Pulled", message);
        Ok(present)
    }

    async fn size(&self, image: &str) -> u64 {
        let image = Some(ImageSpec { image: image.to_owned(), ..ImageSpec::default() });
        let answer = self.0.runtime.image_status(&ImageStatusRequest { image, verbose: false }).await;
        answer.ok().and_then(|answer| answer.image).map_or(0, |image| image.size)
    }

    /// Heeds a change of the registries' settings. After one of credentials the runtime is waited for, which starts again.
    async fn look_at_registries(&self) {
        let Some(registries) = &self.0.registries else { return };
        match registries.refresh() {
            Ok(false) => {}
            Ok(true) => {
                tokio::time::sleep(RESTART.0).await;
                for _ in 0..RESTART.1 {
                    if self.0.runtime.version(&VersionRequest { version: "0.1.0".to_owned() }).await.is_ok() {
                        return;
                    }
                    tokio::time::sleep(RESTART.0).await;
                }
            }
            Err(error) => tracing::error!("{error}; what held for registries before holds"),
        }
    }

    /// Takes note of a failure; answers the wait after it.
    fn fail(&self, key: String, why: String) -> Duration {
        let now = Instant::now();
        let mut failed = self.failed();
        // A failure that is long over is as if it had not been.
        failed.retain(|_, failed| now.duration_since(failed.until) < BACKOFF.1 * 2);
        let wait = failed.get(&key).map_or(BACKOFF.0, |failed| (failed.wait * 2).min(BACKOFF.1));
        failed.insert(key, Failed { until: now + wait, wait, why });
        wait
    }

    /// Pulls when it is its turn, with each of the pod's credentials until one will do. Answers how long that took without the
    /// waiting, too.
    async fn pull_in_turn(
        &self,
        pod: &Pod,
        image: &str,
        sandbox: &PodSandboxConfig,
    ) -> (Result<String, CriError>, Duration) {
        // It is never closed.
        let _turn = self.0.pulls.acquire().await;
        let began = Instant::now();
        self.look_at_registries().await;
        let credentials = secrets::of(&self.0.client, pod, image).await;
        let some = credentials.into_iter().map(Some);
        let tries: Vec<Option<cri::AuthConfig>> = if some.len() == 0 { vec![None] } else { some.collect() };
        let mut result = Err(CriError::Unavailable("no credentials".to_owned()));
        for auth in tries {
            let request = PullImageRequest {
                image: Some(ImageSpec { image: image.to_owned(), ..ImageSpec::default() }),
                auth,
                sandbox_config: Some(sandbox.clone()),
            };
            result = self.0.runtime.pull_image(&request).await.map(|answer| answer.image_ref);
            if result.is_ok() {
                break;
            }
        }
        (result, began.elapsed())
    }
}

/// Reason and message of a failed pull.
fn refusal(image: &str, error: &CriError) -> (&'static str, String) {
    let text = error.message();
    let kinds = [
        ("RegistryUnavailable", "the registry is unavailable"),
        ("SignatureValidationFailed", "the signature validation failed"),
    ];
    for (reason, what) in kinds {
        if let Some(more) = text.strip_prefix(reason) {
            return (reason, format!("image pull failed for {image} because {what}{more}"));
        }
    }
    ("ErrImagePull", error.to_string())
}

/// A time as Go writes it, in whole milliseconds.
fn shown(time: Duration) -> String {
    duration::format(i64::try_from(time.as_millis()).unwrap_or(i64::MAX).saturating_mul(1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_whole_milliseconds() {
        let rows = [(999, "0s"), (812_345, "812ms"), (1_500_999, "1.5s"), (2_000_000, "2s"), (62_003_000, "1m2.003s")];
        for (microseconds, text) in rows {
            assert_eq!(shown(Duration::from_micros(microseconds)), text);
        }
    }
}
