//! Whether the node can run pods: what the container runtime says of itself, in the words of upstream's kubelet.

use std::collections::BTreeMap;
use std::time::Duration;

use kiln_client::Backoff;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::cri::{
    CriError, Image, ListImagesRequest, Runtime, RuntimeCondition, RuntimeHandlerFeatures, StatusRequest,
    VersionRequest,
};

/// How often a runtime that is well is asked.
const LOOK: Duration = Duration::from_secs(30);
/// How often one is asked that is not.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// One that has not answered for this long is down.
const DOWN: Duration = Duration::from_secs(30);

/// The most images that the Node shows, and the most names of each: upstream's defaults.
const MAX_IMAGES: usize = 50;
const MAX_NAMES: usize = 5;

/// What is wrong with the runtime, and what it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Health {
    /// Why no pod can run.
    pub(crate) runtime: Option<String>,
    /// Why no pod can run outside of the host's network.
    pub(crate) network: Option<String>,
    /// The runtime's name, as `containerd`.
    pub(crate) name: String,
    /// Name and version, as `containerd://1.7.24`.
    pub(crate) version: String,
    /// What its handlers can do; the default's name is empty.
    pub(crate) handlers: BTreeMap<String, RuntimeHandlerFeatures>,
    /// Its images, as the Node shows them; null if there are none.
    pub(crate) images: Value,
}

impl Health {
    /// Nothing is known yet.
    pub(crate) fn unknown() -> Self {
        Self {
            runtime: Some("container runtime status check may not have completed yet".to_owned()),
            name: "containerd".to_owned(),
            ..Self::default()
        }
    }

    /// All that is wrong, as the Node's condition has it.
    pub(crate) fn message(&self) -> Option<String> {
        match (&self.runtime, &self.network) {
            (Some(runtime), Some(network)) => Some(format!("[{runtime}, {network}]")),
            (Some(one), None) | (None, Some(one)) => Some(one.clone()),
            (None, None) => None,
        }
    }
}

/// Asks the runtime without end. `poke` has it asked at once.
pub(crate) async fn watch(runtime: Runtime, health: watch::Sender<Health>, poke: std::sync::Arc<tokio::sync::Notify>) {
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    let mut answered: Option<Instant> = None;
    loop {
        let seen = ask(&runtime, &health).await;
        let wait = match seen {
            Ok(seen) => {
                answered = Some(Instant::now());
                let is_well = seen.message().is_none();
                health.send_if_modified(|known| std::mem::replace(known, seen.clone()) != seen);
                if is_well {
                    backoff.reset();
                    LOOK
                } else {
                    backoff.next_wait()
                }
            }
            Err(error) => {
                tracing::debug!(%error, "the container runtime does not answer");
                if answered.is_some_and(|at| at.elapsed() > DOWN) {
                    let why = Some("container runtime is down".to_owned());
                    health.send_if_modified(|known| std::mem::replace(&mut known.runtime, why.clone()) != why);
                }
                backoff.next_wait()
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = poke.notified() => backoff.reset(),
        }
    }
}

async fn ask(runtime: &Runtime, health: &watch::Sender<Health>) -> Result<Health, CriError> {
    let mut seen = Health { name: String::new(), version: String::new(), ..Health::default() };
    {
        let known = health.borrow();
        seen.name.clone_from(&known.name);
        seen.version.clone_from(&known.version);
    }
    let was_well = health.borrow().runtime.is_none();
    if seen.version.is_empty() || !was_well {
        let version = runtime.version(&VersionRequest { version: "0.1.0".to_owned() }).await?;
        seen.version = format!("{}://{}", version.runtime_name, version.runtime_version.trim_start_matches('v'));
        seen.name = version.runtime_name;
    }
    let answer = runtime.status(&StatusRequest { verbose: false }).await?;
    let handlers = answer.runtime_handlers.into_iter();
    seen.handlers = handlers.map(|handler| (handler.name, handler.features.unwrap_or_default())).collect();
    let status = answer.status.unwrap_or_default();
    seen.images = match runtime.list_images(&ListImagesRequest::default()).await {
        Ok(answer) => shown(answer.images),
        Err(_) => health.borrow().images.clone(),
    };
    let condition = |kind: &str| status.conditions.iter().find(|condition| condition.r#type == kind);
    seen.runtime = fault(condition("RuntimeReady"), "RuntimeReady", "container runtime not ready");
    seen.network = fault(condition("NetworkReady"), "NetworkReady", "container runtime network not ready");
    Ok(seen)
}

/// The largest images with some of their names: the scheduler prefers nodes that have a pod's.
fn shown(mut images: Vec<Image>) -> Value {
    // The API drops what is empty, and the Node would never be as it is wanted.
    images.retain(|image| image.size > 0 && !(image.repo_digests.is_empty() && image.repo_tags.is_empty()));
    images.sort_by_key(|image| std::cmp::Reverse(image.size));
    let row = |image: Image| {
        let names: Vec<String> = image.repo_digests.into_iter().chain(image.repo_tags).take(MAX_NAMES).collect();
        json!({"names": names, "sizeBytes": image.size})
    };
    let rows: Vec<Value> = images.into_iter().take(MAX_IMAGES).map(row).collect();
    if rows.is_empty() { Value::Null } else { Value::Array(rows) }
}

fn fault(condition: Option<&RuntimeCondition>, kind: &str, what: &str) -> Option<String> {
    match condition {
        Some(condition) if condition.status => None,
        Some(RuntimeCondition { reason, message, .. }) => {
            Some(format!("{what}: {kind}=false reason:{reason} message:{message}"))
        }
        None => Some(format!("{what}: <nil>")),
    }
}
