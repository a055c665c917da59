//! One pod on each node that is to have one, and none elsewhere.

use std::cmp::Reverse;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use kiln_client::ClientError;

use super::{Engine, Look, pod, update};
use crate::owned::{is_going, name, namespace};
use crate::pods::{is_available, is_ready, node_name, phase, slow_start};
use crate::reconcile::{Failure, Next, is_namespace_going};

/// Pods made and deleted at once; more follow when these are seen.
const BURST: usize = 250;

/// What is to do.
#[derive(Default)]
pub(super) struct Plan {
    /// Nodes that are to get a pod.
    pub(super) make: Vec<String>,
    pub(super) delete: Vec<Arc<Pod>>,
    /// When a failed pod may be cleared away.
    pub(super) retry: Option<Duration>,
}

impl Engine {
    /// Makes and deletes pods; answers when to look again at those that failed.
    pub(super) async fn manage(&self, look: &Look<'_>) -> Result<Next, Failure> {
        let mut plan = Plan::default();
        for node in &look.nodes {
            self.plan(look, node, &mut plan);
        }
        // Nobody else deletes pods that wait for a node that is gone.
        let is_there = |node: &str| look.nodes.iter().any(|known| name(&**known) == node);
        for (_, pods) in look.pods.iter().filter(|(node, _)| !is_there(node)) {
            plan.delete.extend(pods.iter().filter(|pod| node_name(pod).is_empty() && !is_going(&***pod)).cloned());
        }
        let next = plan.retry.map_or(Next::Settled, Next::After);
        self.carry_out(look, plan).await?;
        Ok(next)
    }

    fn plan(&self, look: &Look<'_>, node: &Node, plan: &mut Plan) {
        let is_for = pod::is_for(look.set, node);
        let pods = look.pods.get(name(node));
        match pods {
            None if is_for.runs => plan.make.push(name(node).to_owned()),
            None => {}
            Some(pods) if is_for.stays => self.plan_running(look, node, pods, is_for.runs, plan),
            Some(pods) => plan.delete.extend(pods.iter().filter(|pod| !is_going(&***pod)).cloned()),
        }
    }

    fn plan_running(&self, look: &Look<'_>, node: &Node, pods: &[Arc<Pod>], runs: bool, plan: &mut Plan) {
        let mut running = Vec::new();
        for pod in pods.iter().filter(|pod| !is_going(&***pod)) {
            match phase(pod) {
                "Failed" => {
                    let observed = look.set.status.as_ref().and_then(|status| status.observed_generation);
                    let uid = look.set.metadata.uid.as_deref().unwrap_or_default();
                    if let Err(wait) = self.failed.clear(uid, observed.unwrap_or(0), name(node)) {
                        plan.retry = Some(plan.retry.map_or(wait, |known| known.min(wait)));
                        continue;
                    }
                    let text = format!(
                        "Found failed daemon pod {}/{} on node {}, will try to kill it",
                        namespace(&**pod),
                        name(&**pod),
                        name(node)
                    );
                    self.recorder.warning(look.set, "FailedDaemonPod", text);
                    plan.delete.push(pod.clone());
                }
                "Succeeded" => {
                    let text = format!(
                        "Found succeeded daemon pod {}/{} on node {}, will try to delete it",
                        namespace(&**pod),
                        name(&**pod),
                        name(node)
                    );
                    self.recorder.normal(look.set, "SucceededDaemonPod", text);
                    plan.delete.push(pod.clone());
                }
                _ => running.push(pod.clone()),
            }
        }
        sort_oldest_first(&mut running);
        if !update::may_surge(look.spec) {
            plan.delete.extend(running.into_iter().skip(1));
        } else if running.len() > 1 {
            plan.delete.extend(excess_while_surging(look, running));
        } else if running.is_empty() && runs {
            plan.make.push(name(node).to_owned());
        }
    }

    /// Makes and deletes pods, and expects to see that.
    pub(super) async fn carry_out(&self, look: &Look<'_>, plan: Plan) -> Result<(), Failure> {
        let (key, set) = (look.key, look.set);
        let (make, delete) = (truncated(plan.make), truncated(plan.delete));
        self.expectations.expect(key, make.len(), delete.iter().map(|pod| name(&**pod)));
        let failure = self.make(look, &make).await;
        let deleted = join_all(delete.iter().map(|pod| async {
            let deleted = self.control.delete(pod, set).await;
            if deleted.is_err() {
                self.expectations.deleted(key, name(&**pod));
            }
            deleted
        }));
        let failures = deleted.await.into_iter().filter_map(Result::err).filter(|error| !error.is_not_found());
        failure.into_iter().chain(failures).next().map_or(Ok(()), |error| Err(error.into()))
    }

    async fn make(&self, look: &Look<'_>, nodes: &[String]) -> Option<ClientError> {
        let left = Mutex::new(nodes.iter());
        let (made, failure) = slow_start(nodes.len(), || async {
            let node = left.lock().ok().and_then(|mut left| left.next());
            let pod = node.and_then(|node| pod::make(look.set, &look.hash, node));
            let Some(pod) = pod else { return Ok(()) };
            match self.control.create(&look.key.namespace, &pod, look.set).await {
                Err(error) if !is_namespace_going(&error) => Err(error),
                _ => Ok(()),
            }
        })
        .await;
        // No mirror will show those that were not made.
        (made..nodes.len()).for_each(|_| self.expectations.created(look.key));
        failure
    }
}

fn truncated<T>(mut all: Vec<T>) -> Vec<T> {
    all.truncate(BURST);
    all
}

/// Bound ones first, then by age and name.
pub(super) fn sort_oldest_first(pods: &mut [Arc<Pod>]) {
    let created = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    pods.sort_by(|a, b| {
        let order = Reverse(!node_name(a).is_empty()).cmp(&Reverse(!node_name(b).is_empty()));
        order.then_with(|| created(a).cmp(&created(b))).then_with(|| name(&**a).cmp(name(&**b)))
    });
}

/// Of several pods on a node of a set that surges, the oldest of the present template and the oldest before it stay; the latter
/// until the former is available, or as long as it is ready itself.
fn excess_while_surging(look: &Look<'_>, running: Vec<Arc<Pod>>) -> Vec<Arc<Pod>> {
    let (new, old): (Vec<_>, Vec<_>) = running.into_iter().partition(|pod| pod::hash(pod) == look.hash);
    let min_ready = look.spec.min_ready_seconds.unwrap_or(0);
    let is_over = match (new.first(), old.first()) {
        (Some(new), Some(old)) => !is_ready(old) || is_available(new, min_ready, look.now),
        _ => false,
    };
    let kept_of_old = usize::from(!is_over);
    new.into_iter().skip(1).chain(old.into_iter().skip(kept_of_old)).collect()
}

/// Whether a set's pods are for a node, by its name.
pub(super) fn runs_on(look: &Look<'_>, set: &DaemonSet, node: &str) -> bool {
    look.nodes.iter().find(|known| name(&***known) == node).is_some_and(|node| pod::is_for(set, node).runs)
}
