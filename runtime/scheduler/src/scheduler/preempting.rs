//! What becomes of a pod that fits nowhere: whether others could leave for it, who of them the extenders let go, and that they are
//! asked to.

use std::sync::Arc;

use tokio::time::Instant;

use super::Scheduler;
use super::attempt::{Promise, Verdict};
use super::inputs::Input;
use crate::extender::{Consent, Extender, ExtenderError, Offer};
use crate::framework::{Code, Cycle, Diagnosis, Profile, Random, SUCCESS, World};
use crate::model::{Name, Pod};
use crate::preemption::{self, Found, Order, Victims};

/// Why a pod can't go anywhere, and whose leaving could help it.
pub(super) struct Unfit {
    diagnosis: Box<Diagnosis>,
    /// Nothing if the profile asks nobody to leave.
    found: Option<Found>,
    /// When it was begun to look for whom to ask.
    began: Instant,
}

impl Unfit {
    pub(super) fn new(
        world: World<'_>,
        profile: &Profile,
        pod: &Pod,
        diagnosis: Box<Diagnosis>,
        cycle: Option<&Cycle<'_>>,
        random: &mut Random,
    ) -> Self {
        let began = Instant::now();
        let look = |candidates| preemption::find(world, candidates, pod, cycle, &diagnosis, random);
        Self { found: profile.preemption.map(look), diagnosis, began }
    }
}

impl Scheduler {
    /// What a pod is told that can't go anywhere, and who is to leave for it.
    pub(super) async fn unfit(&mut self, pod: &Pod, unfit: Unfit) -> Verdict {
        let Unfit { mut diagnosis, found, began } = unfit;
        let (mut promise, mut victims) = (Promise::Void, None);
        if let Some(found) = found {
            let mut status = Code::Unschedulable.status();
            match found {
                Found::Candidates(candidates) => match self.let_go_by_extenders(pod, candidates).await {
                    Ok(candidates) => match preemption::cheapest(candidates) {
                        Some(found) => {
                            status = SUCCESS;
                            promise = Promise::Node(found.node.clone());
                            victims = Some(found);
                        }
                        None => {
                            promise = Promise::Keep;
                            diagnosis.after = "preemption: no candidate node for preemption".to_owned();
                        }
                    },
                    Err(error) => {
                        status = Code::Error.status();
                        promise = Promise::Keep;
                        diagnosis.after = format!("preemption: {error}");
                    }
                },
                Found::Nobody(why) => diagnosis.after = format!("preemption: {why}"),
                Found::NotEligible(why) => {
                    promise = Promise::Keep;
                    diagnosis.after = format!("preemption: {why}");
                }
            }
            let profile = pod.spec.scheduler.as_deref().unwrap_or_default();
            self.metrics.ran("PostFilter", status, profile, began.elapsed());
            self.metrics.looked_for_victims();
        }
        Verdict::Refused { message: diagnosis.message(), plugins: diagnosis.plugins, promise, victims }
    }

    /// Asks the extenders, one after the other, who of those that could leave may: they can leave out nodes and name others.
    async fn let_go_by_extenders(
        &mut self,
        pod: &Pod,
        mut candidates: Vec<Victims>,
    ) -> Result<Vec<Victims>, ExtenderError> {
        for (extender, object) in self.extenders_for(pod) {
            let Some(verb) = extender.preempt.as_deref().filter(|_| !candidates.is_empty()) else { continue };
            let offers: Vec<_> = candidates.iter().map(|victims| self.offer(victims)).collect();
            let answered = extender.preempt(verb, &object, &offers).await;
            match answered.and_then(|consents| self.victims(&extender, consents)) {
                Ok(left) => candidates = left,
                Err(error) if extender.ignorable => {
                    tracing::warn!(extender = extender.url, %error, "an extender is passed over");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(candidates)
    }

    fn offer(&self, victims: &Victims) -> Offer {
        let pods = victims.pods.iter().filter_map(|pod| self.object(pod)).collect();
        Offer { node: victims.node.clone(), pods, violations: victims.violations }
    }

    /// The pods that an extender names.
    fn victims(&self, extender: &Extender, consents: Vec<Consent>) -> Result<Vec<Victims>, ExtenderError> {
        let mut all = Vec::new();
        for Consent { node, uids, violations } in consents {
            let Some(info) = self.cache.node(&node) else {
                return Err(ExtenderError::Failed(format!("nodeinfo not found for node name {node:?}")));
            };
            let pod = |uid: &String| {
                let found = info.pods.iter().find(|pod| *pod.uid == **uid).cloned();
                let url = &extender.url;
                found.ok_or_else(|| {
                    ExtenderError::Failed(format!(
                        "extender: {url} claims to preempt pod (UID: {uid}) on node: {node}, but the pod is not found on that node"
                    ))
                })
            };
            let pods = uids.iter().map(pod).collect::<Result<Vec<_>, _>>()?;
            all.push(Victims { node: info.node.name.clone(), pods, violations });
        }
        match all.iter().find(|victims| victims.pods.is_empty()) {
            Some(nobody) if !extender.ignorable => {
                Err(ExtenderError::Failed(format!("expected at least one victim pod on node {:?}", nobody.node)))
            }
            _ => {
                all.retain(|victims| !victims.pods.is_empty());
                Ok(all)
            }
        }
    }

    /// Asks others to leave for a pod.
    pub(super) fn preempt(&mut self, pod: &Arc<Pod>, victims: Victims) {
        let asked: Vec<_> = victims.pods.iter().filter(|victim| !victim.terminating).cloned().collect();
        if asked.is_empty() {
            // All are on their way; whoever was promised the node as well keeps the promise.
            return;
        }
        let nominated: Vec<Arc<Pod>> = self.nominator.on(&victims.node).to_vec();
        let less = nominated.into_iter().filter(|other| other.spec.priority < pod.spec.priority);
        let less: Vec<_> = less.collect();
        for other in &less {
            self.nominator.remove(&other.uid);
        }
        let objects = |pods: &[Arc<Pod>]| pods.iter().filter_map(|pod| self.object(pod)).collect::<Vec<_>>();
        let (Some(preemptor), nominated) = (self.object(pod), objects(&less)) else { return };
        let order = Order {
            preemptor,
            scheduler: pod.spec.scheduler.as_deref().unwrap_or_default().to_owned(),
            node: victims.node.to_string(),
            victims: objects(&asked),
            nominated,
        };
        if order.victims.is_empty() {
            return;
        }
        self.metrics.asked_to_leave(victims.pods.len());
        tracing::info!(pod = %pod.name, node = %victims.node, victims = order.victims.len(), "preempting");
        self.preempting.insert(pod.uid.clone());
        let (client, recorder, clock) = (self.client.clone(), self.recorder.clone(), self.clock.clone());
        let (sender, uid) = (self.sender.clone(), pod.uid.clone());
        self.tasks.spawn(async move {
            let done = preemption::carry_out(&client, &recorder, &clock, &order).await;
            if let Err(error) = &done {
                tracing::warn!(%error, "preemption failed; will try again");
            }
            // Without a listener the scheduler is at its end.
            _ = sender.send(Input::Preempted { uid, failed: done.is_err() });
        });
    }

    /// Those that were to leave for a pod were all asked.
    pub(super) fn preempted(&mut self, uid: &Name, failed: bool) {
        self.preempting.remove(uid);
        let Some(pod) = self.queue.get(uid).map(|queued| Arc::clone(&queued.pod)) else { return };
        let (now, gate) = (Instant::now(), self.gate(&pod));
        self.queue.set_gate(uid, gate, now);
        if failed {
            self.queue.requeue(uid, now, "AssignedPodUpdate");
        }
    }
}
