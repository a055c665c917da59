//! Whether the node takes a pod: asked once, before anything of it runs.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::events::About;
use super::machine_end::TOO_LATE;
use super::slot::{Current, Eviction, ending};
use super::status::is_terminal;
use super::worker::Worker;
use crate::admission::sysctls::FORBIDDEN;
use crate::admission::{self, PREEMPTED, PREEMPTED_CONDITION, PREEMPTED_MESSAGE, Rejection, Verdict};
use crate::eviction;

impl Worker {
    /// Answers whether the pod is taken. One that is not is to end as failed; those that make room for it are to end first, and
    /// what they leave is seen when the worker is woken.
    pub(super) async fn admit(&self, pod: &Pod) -> bool {
        // What runs already was taken by a kubelet before this one.
        if !self.view.containers.is_empty() || !self.view.sandboxes.is_empty() {
            self.taken(pod);
            self.node.preparer.adopt(&self.slot.pod());
            return true;
        }
        let node = self.node.clone();
        let mut object = node.object.clone();
        if super::is_static(pod) && object.borrow().is_none() {
            // It must run without the API too.
            self.slot.note(|current| current.admitted = true);
            return true;
        }
        // The sender is in the kubelet itself.
        let Ok(object) = object.wait_for(Option::is_some).await.map(|object| object.clone()) else { return false };
        let Some(object) = object else { return false };
        let _turn = node.admission.lock().await;
        let pressure = node.pressure.borrow().unwrap_or_default();
        let others = self.others();
        let verdict = match eviction::admit(pod, pressure) {
            Ok(()) if node.end.begins.is_cancelled() => Verdict::Reject(Rejection {
                reason: TOO_LATE.0.to_owned(),
                message: TOO_LATE.1.to_owned(),
                with_fresh_node: false,
            }),
            Ok(()) => match self.provide(pod).await {
                Ok(()) => admission::admit(pod, &others, &object),
                Err(rejection) => Verdict::Reject(rejection),
            },
            Err(rejection) => Verdict::Reject(rejection),
        };
        match verdict {
            Verdict::Admit => self.taken(pod),
            Verdict::Preempt(victims) => {
                for victim in victims {
                    let Some(slot) = node.pods.slot(super::uid(&victim)) else { continue };
                    node.recorder.warning(&victim, About::Pod, PREEMPTED, PREEMPTED_MESSAGE);
                    slot.change(|current| {
                        current.eviction = Some(Eviction {
                            reason: PREEMPTED.to_owned(),
                            message: PREEMPTED_MESSAGE.to_owned(),
                            grace: None,
                            disruption: Some(PREEMPTED_CONDITION.to_owned()),
                        });
                    });
                }
                self.taken(pod);
            }
            Verdict::Reject(rejection) => {
                let message = format!("Pod was rejected: {}", rejection.message);
                if let Some(reason) = known_reason(&rejection.reason) {
                    node.recorder.warning(pod, About::Pod, reason, rejection.message);
                }
                let reason = rejection.reason;
                self.slot.change(|current| {
                    current.eviction = Some(Eviction { reason, message, grace: Some(0), disruption: None });
                });
                return false;
            }
        }
        true
    }

    /// Gives the pod what it must have beside room: the kernel's settings are looked at, and devices are its own from now on.
    async fn provide(&self, pod: &Pod) -> Result<(), Rejection> {
        self.node.config.sysctls.judge(pod)?;
        let over =
            self.node.pods.all().into_iter().filter(|slot| slot.uid != self.slot.uid && is_over(&slot.current()));
        let over = over.map(|slot| slot.uid.clone()).collect();
        let allocated = self.node.preparer.allocate_devices(pod, &over).await;
        allocated.map_err(|why| Rejection {
            reason: "UnexpectedAdmissionError".to_owned(),
            message: format!("Allocate failed due to {why}, which is unexpected"),
            with_fresh_node: false,
        })
    }

    fn taken(&self, pod: &Pod) {
        if let Err(error) = self.node.preparer.allocations().admit(pod) {
            tracing::warn!(pod = %self.slot.uid, %error, "what the pod is given cannot be written down");
        }
        self.slot.note(|current| current.admitted = true);
        let mut all = self.others();
        all.push(self.slot.pod());
        self.node.preparer.share(&all);
    }

    /// The pods that the node has taken and that are not over.
    pub(super) fn others(&self) -> Vec<Arc<Pod>> {
        let slots = self.node.pods.all().into_iter().filter(|slot| slot.uid != self.slot.uid);
        let taken = slots.map(|slot| slot.current()).filter(|current| current.admitted && !is_over(current));
        taken.map(|current| current.pod).collect()
    }
}

/// Whether nothing of a pod runs, or ever will.
fn is_over(current: &Current) -> bool {
    let phase = current.status.as_ref().and_then(|status| status.phase.as_deref());
    is_terminal(phase) || (ending(current) && current.view.containers.is_empty())
}

/// Reasons of events are fixed texts: those that there are.
fn known_reason(reason: &str) -> Option<&'static str> {
    const REASONS: &[&str] = &[
        "OutOfcpu",
        "OutOfmemory",
        "OutOfpods",
        "OutOfephemeral-storage",
        "NodeAffinity",
        "NodePorts",
        "NodeName",
        "PodOSSelectorNodeLabelDoesNotMatch",
        "PodOSNotSupported",
        "UnexpectedAdmissionError",
        FORBIDDEN,
        "Evicted",
    ];
    REASONS.iter().find(|known| **known == reason).copied()
}
