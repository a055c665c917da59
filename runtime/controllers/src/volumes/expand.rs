//! Claims that ask for more room than they have: who gives it to them is a program of the driver's (external-resizer), and the claim
//! is told that it waits for that one. No volume that is built in can grow.

use std::future::Future;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kiln_apimachinery::quantity::Quantity;
use kiln_client::{Change, Informers, Object as _, ObjectRef, Store, WorkQueue};

use super::binder::requested;
use crate::owned::{is_going, namespace};
use crate::reconcile::{Failure, Next, work};
use crate::{Context, Recorder};

/// Adds the controller to the mirrors; what is returned runs it until the shutdown.
pub fn build(informers: &mut Informers, context: &Context) -> impl Future<Output = ()> + use<> {
    let queue = WorkQueue::<ObjectRef>::default();
    let claims = informers.of::<PersistentVolumeClaim>();
    claims.subscribe({
        let queue = queue.clone();
        move |change| {
            if let Change::Applied { key, object, previous } = change
                && wants_more(object)
                && previous.as_ref().is_none_or(|previous| requested(previous) < requested(object))
            {
                queue.add(key.clone());
            }
        }
    });
    let (claims, volumes) = (claims.store(), informers.of::<PersistentVolume>().store());
    let (recorder, shutdown) = (context.events.recorder("volume_expand"), context.shutdown.clone());
    async move {
        work("volume-expand", &queue, &shutdown, |key| reconcile(&recorder, &claims, &volumes, key)).await;
    }
}

/// Whether a bound claim asks for more than it has.
fn wants_more(claim: &PersistentVolumeClaim) -> bool {
    let Some(status) = claim.status.as_ref().filter(|status| status.phase.as_deref() == Some("Bound")) else {
        return false;
    };
    let has = status.capacity.as_ref().and_then(|capacity| Quantity::parse(&capacity.get("storage")?.0).ok());
    requested(claim).is_some_and(|wanted| has.is_none_or(|has| wanted > has))
}

async fn reconcile(
    recorder: &Recorder,
    claims: &Store<PersistentVolumeClaim>,
    volumes: &Store<PersistentVolume>,
    key: ObjectRef,
) -> Result<Next, Failure> {
    volumes.synced().await;
    let Some(claim) = claims.get(&key).filter(|claim| !is_going(&**claim) && wants_more(claim)) else {
        return Ok(Next::Settled);
    };
    let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
    let Some(volume) = volumes.get(&ObjectRef::cluster(volume)) else { return Ok(Next::Settled) };
    let holder = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    let is_ours = holder.is_some_and(|holder| {
        holder.namespace.as_deref() == Some(namespace(&*claim)) && holder.uid.as_deref() == Some(claim.uid())
    });
    if is_ours {
        recorder.normal(&*claim, "ExternalExpanding", "waiting for an external controller to expand this PVC");
    }
    Ok(Next::Settled)
}
