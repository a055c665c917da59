//! Devices that were given and are not in the mirror yet.

use std::collections::{HashMap, HashSet};

use k8s_openapi::api::resource::v1::AllocationResult;

use super::{DeviceId, Reservation};
use crate::model::Name;

/// By the pod for which they were given: claims by uid, with their devices.
#[derive(Default)]
pub(crate) struct AssumedDevices(HashMap<Name, Vec<(String, Vec<DeviceId>)>>);

/// The devices of an allocation, without those that are only looked at.
pub(super) fn devices(allocation: &AllocationResult) -> impl Iterator<Item = DeviceId> {
    let results = allocation.devices.as_ref().and_then(|devices| devices.results.as_ref());
    let exclusive = results.into_iter().flatten().filter(|result| result.admin_access != Some(true));
    exclusive.map(|result| (result.driver.clone(), result.pool.clone(), result.device.clone()))
}

impl AssumedDevices {
    /// Notes what a pod's claims get.
    pub(crate) fn assume(&mut self, pod: &Name, reservation: &Reservation) {
        let new = reservation.iter().filter_map(|(claim, allocation)| {
            Some((claim.metadata.uid.clone()?, devices(allocation.as_ref()?).collect()))
        });
        self.0.insert(pod.clone(), new.collect());
    }

    /// The mirror shows what a claim has.
    pub(crate) fn written(&mut self, claim: Option<&str>) {
        for claims in self.0.values_mut() {
            claims.retain(|(uid, _)| Some(&**uid) != claim);
        }
        self.0.retain(|_, claims| !claims.is_empty());
    }

    /// It is given up, or the pod is gone.
    pub(crate) fn forget(&mut self, pod: &str) {
        self.0.remove(pod);
    }

    /// Whether a claim is being given devices.
    pub(crate) fn is_pending(&self, claim: Option<&str>) -> bool {
        self.0.values().flatten().any(|(uid, _)| Some(&**uid) == claim)
    }

    /// The devices.
    pub(super) fn taken(&self) -> HashSet<DeviceId> {
        self.0.values().flatten().flat_map(|(_, devices)| devices).cloned().collect()
    }
}
