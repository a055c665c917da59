//! Makes and deletes pods, and tells their owner's events of it.

use std::future::Future;

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kiln_client::{Client, ClientError, path};
use serde_json::json;

use crate::Recorder;
use crate::owned::Owned;
use crate::reconcile::is_namespace_going;

/// The longest name of a pod.
const MAX_NAME: usize = 253;

/// Makes and deletes the pods of one kind of controller.
#[derive(Debug, Clone)]
pub(crate) struct PodControl {
    client: Client,
    recorder: Recorder,
}

/// A pod after a template, to be named by the server after its owner.
pub(crate) fn from_template(template: &PodTemplateSpec, owner: OwnerReference) -> Pod {
    let from = template.metadata.as_ref();
    let mut prefix = format!("{}-", owner.name);
    if prefix.len() > MAX_NAME {
        prefix.pop();
    }
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(prefix),
            labels: from.and_then(|meta| meta.labels.clone()),
            annotations: from.and_then(|meta| meta.annotations.clone()),
            finalizers: from.and_then(|meta| meta.finalizers.clone()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

impl PodControl {
    pub(crate) fn new(client: Client, recorder: Recorder) -> Self {
        Self { client, recorder }
    }

    /// Makes a pod. A namespace that is being deleted takes none, which is no news to tell.
    pub(crate) async fn create<O: Owned>(&self, namespace: &str, pod: &Pod, owner: &O) -> Result<Pod, ClientError> {
        match self.client.create::<Pod>(&path::<Pod>(namespace, ""), pod).await {
            Ok(made) => {
                let name = made.metadata.name.as_deref().unwrap_or_default();
                self.recorder.normal(owner, "SuccessfulCreate", format!("Created pod: {name}"));
                Ok(made)
            }
            Err(error) => {
                if !is_namespace_going(&error) {
                    self.recorder.warning(owner, "FailedCreate", format!("Error creating: {error}"));
                }
                Err(error)
            }
        }
    }

    /// Deletes a pod, if it is the one of this uid.
    pub(crate) async fn delete<O: Owned>(&self, pod: &Pod, owner: &O) -> Result<(), ClientError> {
        let meta = &pod.metadata;
        let name = meta.name.as_deref().unwrap_or_default();
        let path = path::<Pod>(meta.namespace.as_deref().unwrap_or_default(), name);
        let options = json!({"preconditions": {"uid": meta.uid}});
        match self.client.delete(&path, &options).await {
            Ok(_) => {
                self.recorder.normal(owner, "SuccessfulDelete", format!("Deleted pod: {name}"));
                Ok(())
            }
            Err(error) => {
                if !error.is_not_found() {
                    self.recorder.warning(owner, "FailedDelete", format!("Error deleting: {error}"));
                }
                Err(error)
            }
        }
    }
}

/// Does something `count` times, in batches that double from one while all goes well, each batch at once. Answers how often it
/// went well, and the first failure, after whose batch nothing more is tried.
pub(crate) async fn slow_start<F: Future<Output = Result<(), ClientError>>>(
    count: usize,
    mut act: impl FnMut() -> F,
) -> (usize, Option<ClientError>) {
    let (mut done, mut batch) = (0, count.min(1));
    while batch > 0 {
        let results = join_all((0..batch).map(|_| act())).await;
        let mut failure = None;
        for result in results {
            match result {
                Ok(()) => done += 1,
                Err(error) => _ = failure.get_or_insert(error),
            }
        }
        if failure.is_some() {
            return (done, failure);
        }
        batch = (2 * batch).min(count - done);
    }
    (done, None)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[tokio::test]
    async fn batches_double_and_stop_after_the_one_that_fails() {
        for (count, fails_at, expected) in [(0, 99, (0, 0)), (10, 99, (10, 10)), (10, 5, (6, 7)), (10, 0, (0, 1))] {
            let tried = RefCell::new(0);
            let (done, failure) = slow_start(count, || {
                let nth = *tried.borrow();
                *tried.borrow_mut() += 1;
                async move { if nth == fails_at { Err(ClientError::Config("no".to_owned())) } else { Ok(()) } }
            })
            .await;
            assert_eq!((done, *tried.borrow()), expected, "{count} {fails_at}");
            assert_eq!(failure.is_some(), fails_at < count);
        }
    }
}
