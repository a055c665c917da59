//! One look at a set's pods: what lacks is made, what is too much deleted, what is outdated replaced.

use std::sync::Arc;

use futures_util::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetStatus};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use kiln_client::{ClientError, Object as _, path};
use serde::de::IgnoredAny;
use serde_json::json;

use super::{Engine, Revisions, identity, spec};
use crate::history::template_of;
use crate::owned::{is_going, name, namespace};
use crate::pods::{is_available, is_ready, is_terminal, phase};
use crate::reconcile::Failure;
use crate::status_patch::shown;

/// Pods made or deleted at once in a set that needs no order.
const MAX_BATCH: usize = 500;

/// A pod that is asked for.
struct Replica {
    ordinal: i32,
    /// As it is, or as it is to be made.
    pod: Arc<Pod>,
    is_there: bool,
}

/// Whether the pods that follow have to wait.
enum Then {
    GoOn,
    Stop,
}

pub(super) struct Pass<'a> {
    engine: &'a Engine,
    set: &'a StatefulSet,
    spec: &'a StatefulSetSpec,
    revisions: &'a Revisions,
    now: Timestamp,
    /// By their ordinals.
    replicas: Vec<Replica>,
    /// Pods beyond, the highest ordinal first.
    condemned: Vec<Arc<Pod>>,
    /// Pods of the current revision that this look has deleted.
    outdated_gone: i32,
}

impl<'a> Pass<'a> {
    pub(super) fn new(
        engine: &'a Engine,
        set: &'a StatefulSet,
        spec: &'a StatefulSetSpec,
        revisions: &'a Revisions,
        members: Vec<Arc<Pod>>,
        now: Timestamp,
    ) -> Result<Self, Failure> {
        let (mut there, mut condemned) = (std::collections::HashMap::new(), Vec::new());
        for pod in members {
            match identity::ordinal(&pod) {
                Some(ordinal) if spec::has_ordinal(spec, ordinal) => _ = there.insert(ordinal, pod),
                Some(ordinal) => condemned.push((ordinal, pod)),
                None => {}
            }
        }
        condemned.sort_by_key(|(ordinal, _)| std::cmp::Reverse(*ordinal));
        let unreadable = || Failure::Waiting("a revision holds no template".to_owned());
        let current = template_of(&revisions.current).ok_or_else(unreadable)?;
        let update = template_of(&revisions.update).ok_or_else(unreadable)?;
        let start = spec::start(spec);
        let replicas = (0..spec::replicas(spec)).map(|index| {
            let ordinal = start + index;
            match there.remove(&ordinal) {
                Some(pod) => Replica { ordinal, pod, is_there: true },
                None => {
                    let (template, revision): (&PodTemplateSpec, _) = if is_current(set, spec, index) {
                        (&current, &revisions.current)
                    } else {
                        (&update, &revisions.update)
                    };
                    let pod = identity::pod(set, spec, template, name(&**revision), ordinal);
                    Replica { ordinal, pod: Arc::new(pod), is_there: false }
                }
            }
        });
        let replicas = replicas.collect();
        let condemned = condemned.into_iter().map(|(_, pod)| pod).collect();
        Ok(Self { engine, set, spec, revisions, now, replicas, condemned, outdated_gone: 0 })
    }

    pub(super) async fn run(&mut self) -> Result<(), Failure> {
        if is_going(self.set) {
            return Ok(());
        }
        let is_parallel = spec::is_parallel(self.spec);
        if let Then::Stop = self.for_all(is_parallel, self.replicas.len(), |i| self.replica(i)).await? {
            return Ok(());
        }
        for pod in &self.condemned {
            self.correct_claims(pod).await?;
        }
        let waits_for = self.first_unavailable();
        let waits_for = waits_for.as_deref();
        let condemn = |i: usize| self.condemn(i, waits_for);
        if let Then::Stop = self.for_all(is_parallel, self.condemned.len(), condemn).await? {
            return Ok(());
        }
        if spec::is_on_delete(self.spec) {
            return Ok(());
        }
        self.update().await
    }

    /// Does something for each, in order until one has the others wait; or for all at once, in batches that double.
    async fn for_all<F: Future<Output = Result<Then, Failure>>>(
        &self,
        at_once: bool,
        count: usize,
        act: impl Fn(usize) -> F,
    ) -> Result<Then, Failure> {
        if !at_once {
            for i in 0..count {
                if let Then::Stop = act(i).await? {
                    return Ok(Then::Stop);
                }
            }
            return Ok(Then::GoOn);
        }
        let (mut done, mut batch) = (0, count.min(1));
        while batch > 0 {
            let results = join_all((done..done + batch).map(&act)).await;
            results.into_iter().find(Result::is_err).transpose()?;
            done += batch;
            batch = (2 * batch).min(count - done).min(MAX_BATCH);
        }
        Ok(Then::GoOn)
    }

    fn min_ready(&self) -> i32 {
        self.spec.min_ready_seconds.unwrap_or(0)
    }

    fn is_unavailable(&self, pod: &Pod) -> bool {
        is_going(pod) || !is_available(pod, self.min_ready(), self.now)
    }

    /// The name of the first pod that is not available, by the ordinals; those beyond come last.
    fn first_unavailable(&self) -> Option<String> {
        let all = self.replicas.iter().map(|replica| &replica.pod).chain(self.condemned.iter().rev());
        all.into_iter().find(|pod| self.is_unavailable(pod)).map(|pod| name(&**pod).to_owned())
    }

    async fn replica(&self, index: usize) -> Result<Then, Failure> {
        let Replica { ordinal, pod, is_there } = &self.replicas[index];
        let in_order = !spec::is_parallel(self.spec);
        if *is_there && is_terminal(pod) {
            // It is made anew when it is gone, whatever its containers' exit code was.
            if !is_going(&**pod) {
                self.delete(pod).await?;
            }
            return Ok(Then::Stop);
        }
        if !is_there {
            if self.engine.has_stale_claim(self.set, self.spec, pod, *ordinal) {
                return Ok(Then::Stop);
            }
            self.create(pod, *ordinal).await?;
            return Ok(if in_order { Then::Stop } else { Then::GoOn });
        }
        if phase(pod) == "Pending" {
            self.engine.make_claims(self.set, self.spec, pod, *ordinal).await?;
        }
        let is_waited_for = is_going(&**pod)
            || phase(pod) != "Running"
            || !is_ready(pod)
            || !is_available(pod, self.min_ready(), self.now);
        if in_order && is_waited_for {
            return Ok(Then::Stop);
        }
        self.correct(pod, *ordinal).await?;
        Ok(Then::GoOn)
    }

    async fn create(&self, pod: &Pod, ordinal: i32) -> Result<(), Failure> {
        let engine = self.engine;
        if let Err(error) = engine.make_claims(self.set, self.spec, pod, ordinal).await {
            self.tell("Create", pod, Err(&error.to_string()));
            return Err(error);
        }
        let key = self.set.key();
        engine.expectations.also_expect(&key, 1, None);
        match engine.client.create::<Pod>(&path::<Pod>(namespace(self.set), ""), pod).await {
            Ok(made) => {
                engine.correct_claims(self.set, self.spec, &made, ordinal).await?;
                self.tell("Create", pod, Ok(()));
                Ok(())
            }
            Err(error) => {
                engine.expectations.created(&key);
                if !error.is_already_exists() {
                    self.tell("Create", pod, Err(&error.to_string()));
                }
                Err(error.into())
            }
        }
    }

    async fn delete(&self, pod: &Pod) -> Result<(), ClientError> {
        let (key, name) = (self.set.key(), name(pod));
        self.engine.expectations.also_expect(&key, 0, Some(name));
        let options = json!({"preconditions": {"uid": pod.uid()}});
        let deleted = self.engine.client.delete(&path::<Pod>(namespace(pod), name), &options).await;
        if let Err(error) = deleted {
            self.engine.expectations.deleted(&key, name);
            if !error.is_not_found() {
                self.tell("Delete", pod, Err(&error.to_string()));
                return Err(error);
            }
        }
        self.tell("Delete", pod, Ok(()));
        Ok(())
    }

    fn tell(&self, verb: &str, pod: &Pod, done: Result<(), &str>) {
        let (pod, set, recorder) = (name(pod), name(self.set), &self.engine.recorder);
        match done {
            Ok(()) => {
                let text = format!("{verb} Pod {pod} in StatefulSet {set} successful");
                recorder.normal(self.set, &format!("Successful{verb}"), text);
            }
            Err(why) => {
                let text = format!("{verb} Pod {pod} in StatefulSet {set} failed error: {why}");
                recorder.warning(self.set, &format!("Failed{verb}"), text);
            }
        }
    }

    async fn correct_claims(&self, pod: &Pod) -> Result<(), Failure> {
        let Some(ordinal) = identity::ordinal(pod) else { return Ok(()) };
        if self.engine.claims_are_right(self.set, self.spec, pod, ordinal) {
            return Ok(());
        }
        self.engine.correct_claims(self.set, self.spec, pod, ordinal).await
    }

    /// Gives a pod that was adopted, say, what pods of its ordinal have.
    async fn correct(&self, pod: &Pod, ordinal: i32) -> Result<(), Failure> {
        self.correct_claims(pod).await?;
        let has_volumes = identity::has_volumes(self.set, self.spec, pod, ordinal);
        if identity::has_identity(pod) && has_volumes {
            return Ok(());
        }
        let path = path::<Pod>(namespace(pod), name(pod));
        // The mirror does not have all of it.
        let mut corrected: Pod = self.engine.client.get(&path).await?;
        if corrected.metadata.uid != pod.metadata.uid {
            return Ok(());
        }
        identity::set_labels(self.set, &mut corrected, ordinal);
        if !has_volumes {
            identity::set_volumes(self.set, self.spec, &mut corrected, ordinal);
            self.engine.make_claims(self.set, self.spec, pod, ordinal).await?;
        }
        match self.engine.client.update::<IgnoredAny>(&path, &corrected).await {
            Ok(_) => self.tell("Update", pod, Ok(())),
            Err(error) => {
                self.tell("Update", pod, Err(&error.to_string()));
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// Deletes a pod beyond; in order, once all others are available but perhaps itself.
    async fn condemn(&self, index: usize, waits_for: Option<&str>) -> Result<Then, Failure> {
        let (pod, in_order) = (&self.condemned[index], !spec::is_parallel(self.spec));
        if is_going(&**pod) {
            return Ok(if in_order { Then::Stop } else { Then::GoOn });
        }
        let is_fit = phase(pod) == "Running" && is_ready(pod) && is_available(pod, self.min_ready(), self.now);
        if in_order && !is_fit && waits_for != Some(name(&**pod)) {
            return Ok(Then::Stop);
        }
        self.delete(pod).await?;
        Ok(Then::Stop)
    }

    /// Deletes pods of an older revision, the highest ordinals first, as far as enough stay available.
    async fn update(&mut self) -> Result<(), Failure> {
        let partition = usize::try_from(spec::partition(self.spec)).unwrap_or(0);
        let wanted = name(&*self.revisions.update);
        let is_outdated = |pod: &Pod| identity::revision(pod) != wanted && !is_going(pod);
        let mut may_go = match spec::max_unavailable(self.spec) {
            Some(most) => {
                let lacking = self.replicas.iter().filter(|replica| self.is_unavailable(&replica.pod)).count();
                usize::try_from(most).unwrap_or(1).saturating_sub(lacking)
            }
            None => 1,
        };
        let in_turn = spec::max_unavailable(self.spec).is_none();
        let mut gone = Vec::new();
        for replica in self.replicas.iter().skip(partition).rev() {
            if may_go == 0 {
                break;
            }
            if is_outdated(&replica.pod) {
                gone.push(replica.pod.clone());
                may_go -= 1;
            } else if in_turn && self.is_unavailable(&replica.pod) {
                break;
            }
        }
        for pod in gone {
            self.delete(&pod).await?;
            self.outdated_gone += i32::from(identity::revision(&pod) == name(&*self.revisions.current));
        }
        Ok(())
    }

    /// The status, with a rollout that is over said to be.
    pub(super) fn status(&self) -> StatefulSetStatus {
        let there = self.replicas.iter().filter(|replica| replica.is_there).map(|replica| &replica.pod);
        let there: Vec<_> = there.chain(&self.condemned).filter(|pod| !phase(pod).is_empty()).collect();
        let count =
            |is: &dyn Fn(&Pod) -> bool| i32::try_from(there.iter().filter(|pod| is(pod)).count()).unwrap_or(i32::MAX);
        let of = |revision: &str| count(&|pod| !is_going(pod) && identity::revision(pod) == revision);
        let (current, update) = (name(&*self.revisions.current), name(&*self.revisions.update));
        let is_fit = |pod: &Pod| phase(pod) == "Running" && is_ready(pod);
        let (replicas, ready, updated) = (count(&|_| true), count(&is_fit), of(update));
        let mut status = StatefulSetStatus {
            observed_generation: self.set.metadata.generation,
            replicas,
            ready_replicas: shown(ready),
            available_replicas: Some(count(&|pod| is_fit(pod) && is_available(pod, self.min_ready(), self.now))),
            current_replicas: shown(of(current) - self.outdated_gone),
            updated_replicas: shown(updated),
            current_revision: Some(current.to_owned()),
            update_revision: Some(update.to_owned()),
            collision_count: Some(self.revisions.collisions),
            conditions: self.set.status.as_ref().and_then(|status| status.conditions.clone()),
        };
        let wanted = spec::replicas(self.spec);
        if !spec::is_on_delete(self.spec) && [updated, ready, replicas] == [wanted; 3] {
            status.current_replicas = status.updated_replicas;
            status.current_revision = status.update_revision.clone();
        }
        status
    }
}

/// Whether a pod that lacks is made of the current revision, not of that which the update goes to.
fn is_current(set: &StatefulSet, spec: &StatefulSetSpec, index: i32) -> bool {
    if spec::is_on_delete(spec) {
        return spec.update_strategy.as_ref().is_some_and(|s| s.rolling_update.is_some())
            && index < spec::partition(spec);
    }
    let rolling = spec.update_strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
    match rolling {
        Some(_) => index < spec::partition(spec),
        None => index < set.status.as_ref().and_then(|status| status.current_replicas).unwrap_or(0),
    }
}
