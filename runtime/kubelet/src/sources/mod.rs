//! The ConfigMaps and Secrets that this node's pods name, mirrored one by one: each is watched from the first pod that names it
//! to the last, and no other is ever asked for, as the node authorizer demands. In flow pods, out flow objects and the news
//! that one of them changed. An immutable object is not watched further once it has been seen.

mod references;
mod watched;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kiln_client::{Client, ObjectRef};

use self::watched::{Source, Watched};

/// How long the API may take to show an object for the first time.
const SYNC: Duration = Duration::from_secs(5);

/// A ConfigMap or Secret cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// There is none of that name.
    #[error("{kind} \"{name}\" not found")]
    NotFound {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The API has not shown it in time.
    #[error("failed to sync {kind} cache: timed out waiting for the condition")]
    Timeout {
        /// `configmap` or `secret`.
        kind: &'static str,
    },
}

/// The objects. Cloning it is cheap and shares them.
#[derive(Clone)]
pub struct Sources {
    config_maps: Watched<ConfigMap>,
    secrets: Watched<Secret>,
}

/// Which object changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
}

/// Is told which object came, changed or went, and the uids of the pods that name it.
pub type Tell = Arc<dyn Fn(SourceKind, &ObjectRef, &HashSet<String>) + Send + Sync>;

impl Sources {
    /// No objects yet. `tell` is called for each change. Must be used within tokio.
    pub fn new(client: &Client, tell: Tell) -> Self {
        Self { config_maps: Watched::new(client.clone(), tell.clone()), secrets: Watched::new(client.clone(), tell) }
    }

    /// Holds what a pod names, in place of what it held before.
    pub fn hold(&self, pod: &Pod) {
        let names = references::of(pod);
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        self.config_maps.hold(uid, namespace, &names.config_maps);
        self.secrets.hold(uid, namespace, &names.secrets);
    }

    /// Lets go what the pod of a uid held.
    pub fn release(&self, uid: &str) {
        self.config_maps.release(uid);
        self.secrets.release(uid);
    }

    /// A ConfigMap that some pod holds, once the API has shown it.
    ///
    /// # Errors
    /// If there is none, or the API does not answer.
    pub async fn config_map(&self, namespace: &str, name: &str) -> Result<Arc<ConfigMap>, SourceError> {
        self.config_maps.get(namespace, name).await
    }

    /// A Secret that some pod holds, likewise.
    ///
    /// # Errors
    /// If there is none, or the API does not answer.
    pub async fn secret(&self, namespace: &str, name: &str) -> Result<Arc<Secret>, SourceError> {
        self.secrets.get(namespace, name).await
    }
}

impl Source for ConfigMap {
    const SOURCE: SourceKind = SourceKind::ConfigMap;
    const WORD: &'static str = "configmap";

    fn is_immutable(&self) -> bool {
        self.immutable == Some(true)
    }
}

impl Source for Secret {
    const SOURCE: SourceKind = SourceKind::Secret;
    const WORD: &'static str = "secret";

    fn is_immutable(&self) -> bool {
        self.immutable == Some(true)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use kiln_client::testing::FakeApi;
    use serde_json::json;

    use super::*;

    const PATH: &str = "/api/v1/namespaces/ns/configmaps/one";

    fn pod(uid: &str) -> Pod {
        let pod = json!({
            "metadata": {"name": uid, "namespace": "ns", "uid": uid},
            "spec": {"containers": [{"name": "c", "envFrom": [{"configMapRef": {"name": "one"}}]}]},
        });
        serde_json::from_value(pod).expect("a pod")
    }

    fn config_map(value: &str, immutable: bool) -> serde_json::Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"key": value}, "immutable": immutable})
    }

    /// Sources of an API, and a channel with the pods of each change.
    fn sources(api: &FakeApi) -> (Sources, tokio::sync::mpsc::UnboundedReceiver<Vec<String>>) {
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        let sender = Mutex::new(sender);
        let tell: Tell = Arc::new(move |_, _, pods| {
            let mut pods: Vec<String> = pods.iter().cloned().collect();
            pods.sort();
            _ = sender.lock().map(|sender| sender.send(pods));
        });
        (Sources::new(&api.client(), tell), receiver)
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_is_asked_for_once_however_many_pods_name_it_and_their_changes_are_told() {
        let api = FakeApi::new();
        api.put(PATH, config_map("a", false));
        let (sources, mut told) = sources(&api);
        sources.hold(&pod("p1"));
        sources.hold(&pod("p2"));
        let found = sources.config_map("ns", "one").await.expect("it is there");
        assert_eq!(found.data.as_ref().map(|data| data["key"].as_str()), Some("a"));
        assert_eq!(told.recv().await, Some(vec!["p1".to_owned(), "p2".to_owned()]));
        api.put(PATH, config_map("b", false));
        assert_eq!(told.recv().await, Some(vec!["p1".to_owned(), "p2".to_owned()]));
        let asked = api.requests();
        assert_eq!(asked.iter().filter(|line| line.contains("limit=")).count(), 1, "{asked:?}");
        assert!(asked.iter().all(|line| line.contains("metadata.name%3Done")), "{asked:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_missing_object_is_told_apart_from_a_silent_api() {
        let api = FakeApi::new();
        let (sources, _told) = sources(&api);
        sources.hold(&pod("p1"));
        let error = sources.config_map("ns", "one").await.expect_err("there is none");
        assert_eq!(error.to_string(), "configmap \"one\" not found");
        let (silent, _told) = self::sources(&api);
        api.set_offline(true);
        silent.hold(&pod("p1"));
        let error = silent.config_map("ns", "one").await.expect_err("nobody answers");
        assert_eq!(error.to_string(), "failed to sync configmap cache: timed out waiting for the condition");
    }

    #[tokio::test(start_paused = true)]
    async fn an_immutable_object_is_not_watched_further() {
        let api = FakeApi::new();
        api.put(PATH, config_map("a", true));
        let (sources, mut told) = sources(&api);
        sources.hold(&pod("p1"));
        told.recv().await.expect("it came");
        tokio::time::sleep(Duration::from_secs(60)).await;
        api.requests();
        api.put(PATH, config_map("b", true));
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(api.requests(), Vec::<String>::new());
        let found = sources.config_map("ns", "one").await.expect("it is still here");
        assert_eq!(found.data.as_ref().map(|data| data["key"].as_str()), Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_is_let_go_with_its_last_pod() {
        let api = FakeApi::new();
        api.put(PATH, config_map("a", false));
        let (sources, _told) = sources(&api);
        sources.hold(&pod("p1"));
        sources.hold(&pod("p2"));
        sources.config_map("ns", "one").await.expect("it is there");
        sources.release("p1");
        sources.config_map("ns", "one").await.expect("p2 still holds it");
        sources.release("p2");
        sources.config_map("ns", "one").await.expect_err("nobody holds it");
    }
}
