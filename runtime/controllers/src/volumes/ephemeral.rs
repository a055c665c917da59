//! Makes the claims of Pods that bring their own: a volume with `ephemeral` gets a claim `<pod>-<volume>`, which goes with its Pod.

use std::future::Future;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kiln_client::{Change, Client, Informers, Object as _, ObjectRef, Store, WorkQueue, path};
use serde::de::IgnoredAny;

use super::claim_of;
use crate::owned::{is_controlled_by, is_going, namespace, reference};
use crate::reconcile::{Failure, Next, is_namespace_going, work};
use crate::{Context, Recorder};

/// Adds the controller to the mirrors; what is returned runs it until the shutdown.
pub fn build(informers: &mut Informers, context: &Context) -> impl Future<Output = ()> + use<> {
    let queue = WorkQueue::<ObjectRef>::default();
    let pods = informers.of::<Pod>();
    let (claims_queue, pods_queue) = (queue.clone(), queue.clone());
    pods.subscribe(move |change| {
        if let Change::Applied { key, object, previous: None } = change
            && brings_own(object)
        {
            pods_queue.add(key.clone());
        }
    });
    let pods = pods.store();
    let claims = informers.of::<PersistentVolumeClaim>();
    claims.subscribe({
        let pods = pods.clone();
        move |change| {
            // A claim that is gone while its Pod stays is made again.
            if let Change::Deleted { object, .. } = change
                && let Some(owner) = crate::owned::controller(&object.metadata)
            {
                let key = ObjectRef::namespaced(namespace(&**object), &owner.name);
                if pods.get(&key).is_some_and(|pod| brings_own(&pod)) {
                    claims_queue.add(key);
                }
            }
        }
    });
    let claims = claims.store();
    let recorder = context.events.recorder("ephemeral_volume");
    let (client, shutdown) = (context.client.clone(), context.shutdown.clone());
    async move {
        work("ephemeral-volume", &queue, &shutdown, |key| reconcile(&client, &recorder, &pods, &claims, key)).await;
    }
}

fn brings_own(pod: &Pod) -> bool {
    !is_going(pod) && pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()).any(|v| v.ephemeral.is_some())
}

async fn reconcile(
    client: &Client,
    recorder: &Recorder,
    pods: &Store<Pod>,
    claims: &Store<PersistentVolumeClaim>,
    key: ObjectRef,
) -> Result<Next, Failure> {
    claims.synced().await;
    let Some(pod) = pods.get(&key).filter(|pod| brings_own(pod)) else { return Ok(Next::Settled) };
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        let template = volume.ephemeral.as_ref().and_then(|source| source.volume_claim_template.as_ref());
        let (Some(template), Some(name)) = (template, claim_of(&pod, volume)) else { continue };
        if let Some(claim) = claims.get(&ObjectRef::namespaced(&key.namespace, &*name)) {
            if !is_controlled_by(&claim.metadata, pod.uid()) {
                let message = format!("PVC {}/{name} was not created for pod {key} (pod is not owner)", key.namespace);
                recorder.warning(&*pod, "ClaimMisowned", message.clone());
                return Err(Failure::Waiting(message));
            }
            continue;
        }
        let meta = template.metadata.clone().unwrap_or_default();
        let claim = PersistentVolumeClaim {
            metadata: ObjectMeta {
                name: Some(name),
                annotations: meta.annotations,
                labels: meta.labels,
                owner_references: Some(vec![reference(&*pod)]),
                ..ObjectMeta::default()
            },
            spec: Some(template.spec.clone()),
            status: None,
        };
        let collection = path::<PersistentVolumeClaim>(&key.namespace, "");
        match client.create::<IgnoredAny>(&collection, &claim).await {
            Err(error) if error.is_already_exists() || is_namespace_going(&error) => {}
            Err(error) => {
                recorder.warning(&*pod, "FailedCreate", format!("ephemeral volume controller: create PVC: {error}"));
                return Err(error.into());
            }
            Ok(_) => {}
        }
    }
    Ok(Next::Settled)
}
