//! Which custom resources the server serves: a mirror of the definitions with just that.

use std::time::Duration;

use k8s_openapi::Resource;
use kiln_client::{Change, Informers, Object, ObjectRef, Store};
use serde::Deserialize;
use tokio::sync::watch;

use crate::reconcile::Failure;

/// How long a definition may take until the server serves it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Just what is read of a CustomResourceDefinition.
#[derive(Debug, Deserialize)]
pub(crate) struct Definition {
    metadata: Meta,
    #[serde(default)]
    status: Status,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    name: String,
    #[serde(default)]
    uid: String,
    #[serde(default)]
    resource_version: String,
}

#[derive(Debug, Default, Deserialize)]
struct Status {
    /// Null in a definition that is new.
    #[serde(default)]
    conditions: Option<Vec<Condition>>,
}

#[derive(Debug, Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

impl Object for Definition {
    fn key(&self) -> ObjectRef {
        ObjectRef::cluster(self.metadata.name.as_str())
    }

    fn uid(&self) -> &str {
        &self.metadata.uid
    }

    fn resource_version(&self) -> &str {
        &self.metadata.resource_version
    }

    fn prune(&mut self) {
        self.status.conditions.iter_mut().for_each(|all| all.retain(|condition| condition.kind == "Established"));
    }
}

impl Resource for Definition {
    const API_VERSION: &'static str = "apiextensions.k8s.io/v1";
    const GROUP: &'static str = "apiextensions.k8s.io";
    const KIND: &'static str = "CustomResourceDefinition";
    const VERSION: &'static str = "v1";
    const URL_PATH_SEGMENT: &'static str = "customresourcedefinitions";
    type Scope = k8s_openapi::ClusterResourceScope;
}

impl Definition {
    fn is_established(&self) -> bool {
        self.status
            .conditions
            .iter()
            .flatten()
            .any(|condition| condition.kind == "Established" && condition.status == "True")
    }
}

/// The mirror, and news of what became served.
pub(crate) struct Definitions {
    store: Store<Definition>,
    news: watch::Receiver<u64>,
}

impl Definitions {
    pub(crate) fn new(informers: &mut Informers) -> Self {
        let (tell, news) = watch::channel(0);
        let informer = informers.of::<Definition>();
        informer.subscribe(move |change| {
            if let Change::Applied { object, previous, .. } = change
                && object.is_established()
                && !previous.as_ref().is_some_and(|previous| previous.is_established())
            {
                tell.send_modify(|count| *count += 1);
            }
        });
        Self { store: informer.store(), news }
    }

    /// Waits until the server serves what a definition says.
    pub(crate) async fn established(&self, name: &str) -> Result<(), Failure> {
        let key = ObjectRef::cluster(name);
        let mut news = self.news.clone();
        let waiting = async {
            while !self.store.get(&key).is_some_and(|definition| definition.is_established()) {
                if news.changed().await.is_err() {
                    break;
                }
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        waited.map_err(|_| Failure::Waiting(format!("the definition {name} is not established")))
    }

    /// Tells each time that another definition became served.
    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.news.clone()
    }
}
