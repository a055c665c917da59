//! Keeping files fresh: when a ConfigMap or Secret changes, when a pod's own labels do, and when a token is due.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::time::MissedTickBehavior;

use super::tokens::LOOK;
use super::{VolumeError, Volumes, claims, gather, uid};

/// How often volumes are looked at of which no watch tells: about as often as upstream's kubelet does.
const CHECK: Duration = Duration::from_secs(90);

impl Volumes {
    /// Brings pods up to date as they become stale, without end.
    pub(super) async fn keep_fresh(&self) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let uid = tokio::select! {
                next = self.0.stale.next() => match next {
                    Some(uid) => uid,
                    None => return,
                },
                _ = look.tick() => {
                    self.look_at_clock();
                    continue;
                }
            };
            let pod = self.0.pods().get(uid.as_str()).filter(|entry| entry.is_kept).map(|e| e.pod.clone());
            let Some(pod) = pod else {
                self.0.stale.forget(&uid);
                continue;
            };
            match self.refresh(&pod).await {
                Ok(()) => {
                    self.0.stale.forget(&uid);
                    self.await_tokens(&uid);
                    self.await_check(&uid);
                }
                Err(error) => {
                    (self.0.config.report)(&pod, &error);
                    self.0.stale.add_failed(uid.clone());
                }
            }
        }
    }

    async fn refresh(&self, pod: &Arc<Pod>) -> Result<(), VolumeError> {
        let mut fault = None;
        let checks = {
            let mut pods = self.0.pods();
            pods.get_mut(uid(pod)).is_some_and(|entry| std::mem::take(&mut entry.checks))
        };
        for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            if gather::plugin(volume).is_some() {
                fault = fault.or(self.set_up_files(pod, volume).await.err());
            } else if checks && (volume.csi.is_some() || claims::named(pod, volume).is_some()) {
                let checked = self.set_up_one(pod, volume).await;
                match checked {
                    Ok(mounted) => {
                        if let Some(entry) = self.0.pods().get_mut(uid(pod)) {
                            entry.mounted.get_or_insert_default().insert(volume.name.clone(), mounted);
                        }
                    }
                    Err(error) => {
                        self.check_again(uid(pod));
                        fault = fault.or(Some(error));
                    }
                }
            }
        }
        fault.map_or(Ok(()), Err)
    }

    pub(super) fn await_check(&self, uid: &str) {
        if self.0.pods().get(uid).is_some_and(|entry| entry.checks) {
            self.0.stale.add_after(uid.to_owned(), CHECK);
        }
    }

    /// Has a pod's volumes looked at again after a while: they may have grown, or are to be published anew.
    pub(super) fn check_again(&self, uid: &str) {
        if let Some(entry) = self.0.pods().get_mut(uid) {
            entry.checks = true;
        }
    }
}
