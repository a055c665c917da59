//! One mirror of each collection for all that read it.

use std::any::{Any, TypeId};
use std::collections::HashMap;

use k8s_openapi::Resource;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Informer, Object};
use crate::client::{Client, ListParams};
use crate::transport::BoxFuture;

/// The mirrors that parts of one process share. Each part takes the [`Informer`]s that it reads from here, subscribes to them
/// and keeps their stores; then all run together, so that a collection is watched and held once however many read it.
pub struct Informers {
    client: Client,
    mirrors: HashMap<TypeId, Box<dyn Mirror>>,
}

/// An informer of some type.
trait Mirror: Send {
    fn as_any(&mut self) -> &mut dyn Any;
    fn run(self: Box<Self>, shutdown: CancellationToken) -> BoxFuture<'static, ()>;
}

impl<T: Object> Mirror for Informer<T> {
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }

    fn run(self: Box<Self>, shutdown: CancellationToken) -> BoxFuture<'static, ()> {
        Box::pin(Informer::run(*self, shutdown, |_| {}))
    }
}

impl Informers {
    /// No mirrors yet.
    pub fn new(client: Client) -> Self {
        Self { client, mirrors: HashMap::new() }
    }

    /// The client that the mirrors use.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The mirror of all objects of a type.
    pub fn of<T: Object + Resource>(&mut self) -> &mut Informer<T> {
        let new = || Box::new(Informer::<T>::new(self.client.clone(), collection::<T>(), ListParams::default()));
        let mirror = self.mirrors.entry(TypeId::of::<T>()).or_insert_with(|| new());
        #[allow(clippy::expect_used, reason = "an entry is made under the id of its own type, just above")]
        mirror.as_any().downcast_mut().expect("a mirror of this type")
    }

    /// Runs all mirrors until the shutdown.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut running = JoinSet::new();
        for mirror in self.mirrors.into_values() {
            running.spawn(mirror.run(shutdown.clone()));
        }
        while let Some(ended) = running.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a mirror ended by a panic");
            }
        }
    }
}

/// The path of the collection of all objects of a type, as `/apis/apps/v1/deployments`.
pub fn collection<T: Resource>() -> String {
    let root = if T::GROUP.is_empty() { "/api" } else { "/apis" };
    format!("{root}/{}/{}", T::API_VERSION, T::URL_PATH_SEGMENT)
}

/// The path of an object of a type, or of a namespace's collection if `name` is empty.
pub fn path<T: Resource>(namespace: &str, name: &str) -> String {
    let mut path = collection::<T>();
    if !namespace.is_empty() {
        path.truncate(path.len() - T::URL_PATH_SEGMENT.len());
        path = format!("{path}namespaces/{namespace}/{}", T::URL_PATH_SEGMENT);
    }
    if !name.is_empty() {
        path.push('/');
        path.push_str(name);
    }
    path
}

impl std::fmt::Debug for Informers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Informers").field("mirrors", &self.mirrors.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};

    #[test]
    fn paths_are_those_of_the_api() {
        assert_eq!(collection::<Pod>(), "/api/v1/pods");
        assert_eq!(path::<Pod>("ns", "a"), "/api/v1/namespaces/ns/pods/a");
        assert_eq!(path::<Deployment>("ns", ""), "/apis/apps/v1/namespaces/ns/deployments");
        assert_eq!(path::<k8s_openapi::api::core::v1::Node>("", "n"), "/api/v1/nodes/n");
    }
}
