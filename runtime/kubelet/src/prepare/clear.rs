//! Clears away what was made for a pod.

use std::collections::HashSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kiln_client::Backoff;

use super::Preparer;
use crate::pods::{name, uid};

/// Waits between tries to clear away what a pod had.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

impl Preparer {
    /// Gives back the pod's devices, unmounts what it has, and removes its cgroup: nothing of it runs any more.
    pub(crate) async fn release(&self, pod: &Pod) {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        while let Err(error) = self.claims.unprepare(pod).await {
            tracing::warn!(pod = name(pod), error, "will try again");
            tokio::time::sleep(backoff.next_wait()).await;
        }
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        while let Err(error) = self.volumes.unmount(uid(pod)).await {
            tracing::warn!(pod = name(pod), %error, "will try again");
            tokio::time::sleep(backoff.next_wait()).await;
        }
        for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            if let (Some(views), true) = (&self.views, volume.image.is_some())
                && let Err(error) = views.remove(uid(pod), &volume.name).await
            {
                tracing::warn!(pod = name(pod), %error, "the view of an image is left until the next start");
            }
        }
        let Some(cgroups) = &self.cgroups else { return };
        while let Err(error) = cgroups.remove_pod(uid(pod)).await {
            tracing::debug!(pod = name(pod), %error, "will try again");
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }

    /// Removes the pod's folders.
    pub(crate) async fn remove(&self, pod: &Pod) {
        self.users.release(uid(pod));
        self.allocations.release(uid(pod));
        if let Some(devices) = &self.devices {
            devices.release(uid(pod));
        }
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        while let Err(error) = self.volumes.remove(uid(pod)).await {
            tracing::warn!(pod = name(pod), %error, "will try again");
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }

    /// Removes what is left of pods that are not these.
    pub(crate) async fn remove_others(&self, wanted: &HashSet<String>) {
        // Drivers may come later than this kubelet: nothing else waits for them.
        let (claims, wanted_claims) = (self.claims.clone(), wanted.clone());
        tokio::spawn(async move { claims.keep_only(&wanted_claims).await });
        if let Some(devices) = &self.devices {
            devices.retain(wanted);
        }
        self.volumes.restore(wanted).await;
        if let Some(views) = &self.views
            && let Err(error) = views.sweep(wanted).await
        {
            tracing::warn!(%error, "views of images may be left of pods that are gone");
        }
        let Some(cgroups) = &self.cgroups else { return };
        for uid in cgroups.pods().into_keys().filter(|uid| !wanted.contains(uid)) {
            if let Err(error) = cgroups.remove_pod(&uid).await {
                tracing::warn!(uid, %error, "the cgroup of a pod that is gone is left");
            }
        }
    }
}
