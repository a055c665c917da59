//! One look at a Deployment.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStatus, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kiln_client::{ClientError, Object as _, PatchKind, path};
use serde_json::{Value, json};

use super::revisions::{self, Annotations, DESIRED, MAX, REVISION, ROLLBACK_TO};
use super::{Engine, conditions, spec};
use crate::hash::hash;
use crate::owned::{self, is_controlled_by, is_going, reference};
use crate::reconcile::{Failure, Next, is_namespace_going, to_value};
use crate::status_patch::{difference, unless_gone};
use crate::{owned::of_owner, pods};

/// The longest name of a ReplicaSet.
const MAX_NAME: usize = 253;

pub(super) struct Rollout<'a> {
    pub(super) engine: &'a Engine,
    pub(super) deployment: &'a Deployment,
    pub(super) spec: &'a DeploymentSpec,
    /// As it is to be: conditions that are found on the way are put here.
    pub(super) status: DeploymentStatus,
    /// What the Deployment's annotation is to say.
    revision: Option<String>,
    /// That of the current template.
    pub(super) new: Option<Arc<ReplicaSet>>,
    /// All others, the oldest first.
    pub(super) old: Vec<Arc<ReplicaSet>>,
    pub(super) now: Timestamp,
}

impl<'a> Rollout<'a> {
    pub(super) fn new(
        engine: &'a Engine,
        deployment: &'a Deployment,
        spec: &'a DeploymentSpec,
        mut sets: Vec<Arc<ReplicaSet>>,
    ) -> Self {
        sets.sort_by(|a, b| by_creation(a, b));
        // Should there be several of the template, the oldest counts.
        let new = sets.iter().position(|set| {
            let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
            template.is_some_and(|template| revisions::is_same(template, &spec.template))
        });
        let new = new.map(|at| sets.remove(at));
        let status = deployment.status.clone().unwrap_or_default();
        Self { engine, deployment, spec, status, revision: None, new, old: sets, now: engine.clock.now() }
    }

    pub(super) async fn run(mut self) -> Result<Next, Failure> {
        if is_going(self.deployment) {
            self.sync_revision().await?;
            self.count();
            return self.finish().await;
        }
        self.note_pause();
        let rollback = self.rollback_to();
        if self.spec.paused == Some(true) {
            self.sync_revision().await?;
            self.scale().await?;
            if rollback.is_none() {
                self.clean_up().await?;
            }
            self.count();
            return self.finish().await;
        }
        if let Some(revision) = rollback {
            return self.roll_back(revision).await;
        }
        self.sync_revision().await?;
        if self.was_scaled() {
            self.scale().await?;
            self.count();
            return self.finish().await;
        }
        if spec::is_rolling(self.spec) {
            self.roll().await?
        } else {
            self.recreate().await?
        }
        self.count();
        self.judge_progress();
        self.finish().await
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<ReplicaSet>> {
        self.old.iter().chain(&self.new)
    }

    pub(super) fn total(&self) -> i32 {
        self.all().map(|set| spec::set_replicas(set)).sum()
    }

    fn rollback_to(&self) -> Option<i64> {
        self.deployment.metadata.annotations.as_ref()?.get(ROLLBACK_TO)?.parse().ok()
    }

    /// A pause, and its end, count as progress: the time between them does not run towards the deadline.
    fn note_pause(&mut self) {
        if spec::progress_deadline(self.spec).is_none() {
            return;
        }
        let reason = conditions::reason(conditions::get(&self.status, conditions::PROGRESSING));
        let (reason, message) = match (self.spec.paused == Some(true), reason) {
            (_, "ProgressDeadlineExceeded") | (true, "DeploymentPaused") => return,
            (true, _) => ("DeploymentPaused", "Deployment is paused"),
            (false, "DeploymentPaused") => ("DeploymentResumed", "Deployment is resumed"),
            (false, _) => return,
        };
        self.set_progressing("Unknown", reason, message.to_owned());
    }

    pub(super) fn set_progressing(&mut self, status: &str, reason: &str, message: String) {
        let condition = conditions::new(conditions::PROGRESSING, status, reason, message, self.now);
        conditions::set(&mut self.status, condition);
    }

    fn next_revision(&self) -> i64 {
        self.old.iter().filter_map(|set| revisions::revision(set)).max().unwrap_or(0) + 1
    }

    /// Brings what is noted on the current ReplicaSet, if there is one, up to date.
    pub(super) async fn sync_revision(&mut self) -> Result<(), Failure> {
        let Some(set) = self.new.clone() else { return Ok(()) };
        let old = set.metadata.annotations.clone().unwrap_or_default();
        let mut annotations = old.clone();
        revisions::annotate(&mut annotations, self.deployment, self.next_revision());
        let min_ready = self.spec.min_ready_seconds.unwrap_or(0);
        let is_ready_alike = set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0) == min_ready;
        let mut set = set;
        if annotations != old || !is_ready_alike {
            let patch = json!({"metadata": {"annotations": annotations}, "spec": {"minReadySeconds": min_ready}});
            set = self.patch_set(&set, patch).await?;
        }
        self.revision = revisions::annotation(&set, REVISION).map(str::to_owned);
        let has_condition = conditions::get(&self.status, conditions::PROGRESSING).is_some();
        if spec::progress_deadline(self.spec).is_some() && !has_condition {
            let message = format!("Found new replica set \"{}\"", owned::name(&*set));
            self.set_progressing("True", "FoundNewReplicaSet", message);
        }
        self.new = Some(set);
        Ok(())
    }

    /// Changes a ReplicaSet that is still as it was seen.
    pub(super) async fn patch_set(&self, set: &ReplicaSet, mut patch: Value) -> Result<Arc<ReplicaSet>, Failure> {
        patch["metadata"]["resourceVersion"] = json!(set.resource_version());
        let path = path::<ReplicaSet>(owned::namespace(set), owned::name(set));
        Ok(Arc::new(self.engine.client.patch(&path, PatchKind::Merge, &patch).await?))
    }

    /// Makes the ReplicaSet of the current template, if there is none.
    pub(super) async fn ensure_new(&mut self) -> Result<Arc<ReplicaSet>, Failure> {
        if let Some(new) = &self.new {
            return Ok(new.clone());
        }
        let set = self.compose_new()?;
        let (name, replicas) = (owned::name(&set).to_owned(), spec::set_replicas(&set));
        let namespace = owned::namespace(self.deployment);
        let made = match self.engine.client.create::<ReplicaSet>(&path::<ReplicaSet>(namespace, ""), &set).await {
            Ok(made) => {
                if replicas > 0 {
                    let message = format!("Scaled up replica set {name} from 0 to {replicas}");
                    self.engine.recorder.normal(self.deployment, "ScalingReplicaSet", message);
                }
                if spec::progress_deadline(self.spec).is_some() {
                    let message = format!("Created new replica set \"{name}\"");
                    self.set_progressing("True", "NewReplicaSetCreated", message);
                }
                made
            }
            Err(error) if error.is_already_exists() => self.resolve_collision(&name).await?,
            Err(error) => return Err(self.tell_failure(&name, error).await),
        };
        self.revision = revisions::annotation(&made, REVISION).map(str::to_owned);
        let made = Arc::new(made);
        self.new = Some(made.clone());
        Ok(made)
    }

    fn compose_new(&self) -> Result<ReplicaSet, Failure> {
        let mut template = self.spec.template.clone();
        let hash = hash(&template, self.status.collision_count)?;
        let meta = template.metadata.get_or_insert_default();
        let labels = revisions::with_hash(meta.labels.as_ref(), &hash);
        meta.labels = Some(labels.clone());
        let mut selector = self.spec.selector.clone();
        selector.match_labels = Some(revisions::with_hash(selector.match_labels.as_ref(), &hash));
        let mut name = owned::name(self.deployment).to_owned();
        name.truncate(MAX_NAME - 1 - hash.len());
        let mut annotations = Annotations::new();
        revisions::annotate(&mut annotations, self.deployment, self.next_revision());
        annotations.insert(DESIRED.to_owned(), spec::replicas(self.spec).to_string());
        annotations.insert(MAX.to_owned(), spec::max_total(self.spec).to_string());
        Ok(ReplicaSet {
            metadata: ObjectMeta {
                name: Some(format!("{name}-{hash}")),
                namespace: self.deployment.metadata.namespace.clone(),
                owner_references: Some(vec![reference(self.deployment)]),
                labels: Some(labels),
                annotations: Some(annotations),
                ..ObjectMeta::default()
            },
            spec: Some(ReplicaSetSpec {
                replicas: Some(self.wanted_of_new(0)),
                min_ready_seconds: self.spec.min_ready_seconds,
                selector,
                template: Some(template),
            }),
            status: None,
        })
    }

    /// There is a ReplicaSet of that name: ours, which the mirror does not show yet, or one whose template has the same hash.
    async fn resolve_collision(&mut self, name: &str) -> Result<ReplicaSet, Failure> {
        let there: ReplicaSet =
            self.engine.client.get(&path::<ReplicaSet>(owned::namespace(self.deployment), name)).await?;
        let template = there.spec.as_ref().and_then(|spec| spec.template.as_ref());
        let is_same = template.is_some_and(|template| revisions::is_same(template, &self.spec.template));
        if is_same && is_controlled_by(&there.metadata, self.deployment.uid()) {
            return Ok(there);
        }
        self.status.collision_count = Some(self.status.collision_count.unwrap_or(0) + 1);
        self.write().await?;
        Err(Failure::Waiting(format!("the name {name} is taken; another hash is tried")))
    }

    async fn tell_failure(&mut self, name: &str, error: ClientError) -> Failure {
        if is_namespace_going(&error) {
            return error.into();
        }
        let message = format!("Failed to create new replica set \"{name}\": {error}");
        self.engine.recorder.warning(self.deployment, "ReplicaSetCreateError", message.clone());
        if spec::progress_deadline(self.spec).is_some() {
            self.set_progressing("False", "ReplicaSetCreateError", message);
            if let Err(error) = self.write().await {
                tracing::debug!(%error, "a deployment's status is not written");
            }
        }
        error.into()
    }

    /// Removes the oldest ReplicaSets without pods beyond the history's limit.
    pub(super) async fn clean_up(&self) -> Result<(), Failure> {
        let Some(limit) = self.spec.revision_history_limit.filter(|limit| *limit != i32::MAX) else { return Ok(()) };
        let mut old: Vec<_> = self.old.iter().filter(|set| !is_going(&***set)).collect();
        let excess = old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        old.sort_by_key(|set| revisions::revision(set).unwrap_or(0));
        for set in old.into_iter().take(excess) {
            let status = set.status.clone().unwrap_or_default();
            let is_seen = status.observed_generation.unwrap_or(0) >= set.metadata.generation.unwrap_or(0);
            if status.replicas != 0 || spec::set_replicas(set) != 0 || !is_seen {
                continue;
            }
            let path = path::<ReplicaSet>(owned::namespace(&**set), owned::name(&**set));
            let options = json!({"preconditions": {"uid": set.uid()}});
            unless_gone(self.engine.client.delete(&path, &options).await)?;
        }
        Ok(())
    }

    /// Whether pods of old ReplicaSets still run.
    pub(super) fn old_pods_run(&self) -> bool {
        self.old.iter().any(|set| {
            set.status.as_ref().is_some_and(|status| status.replicas > 0)
                || of_owner(&self.engine.pods, set.uid()).iter().any(|pod| !pods::is_terminal(pod))
        })
    }

    /// Writes what has changed of the status and the revision; answers whether anything had.
    async fn write(&self) -> Result<bool, Failure> {
        let old = self.deployment.status.as_ref().map(to_value).transpose()?.unwrap_or_else(|| json!({}));
        let mut patch = json!({"metadata": {"resourceVersion": self.deployment.resource_version()}});
        let status = difference(&old, &to_value(&self.status)?);
        let noted = self.deployment.metadata.annotations.as_ref().and_then(|annotations| annotations.get(REVISION));
        let revision = self.revision.as_ref().filter(|revision| noted != Some(*revision));
        if status.is_none() && revision.is_none() {
            return Ok(false);
        }
        if let Some(status) = status {
            patch["status"] = status;
        }
        if let Some(revision) = revision {
            patch["metadata"]["annotations"] = json!({REVISION: revision});
        }
        let deployment = path::<Deployment>(owned::namespace(self.deployment), owned::name(self.deployment));
        let path = format!("{deployment}/status");
        unless_gone(self.engine.client.patch::<Value>(&path, PatchKind::Merge, &patch).await)?;
        Ok(true)
    }

    pub(super) async fn finish(&self) -> Result<Next, Failure> {
        // What is written comes back as a change, and then the time of the deadline is seen to.
        if self.write().await? {
            return Ok(Next::Settled);
        }
        Ok(self.next_check())
    }
}

pub(super) fn by_creation(a: &ReplicaSet, b: &ReplicaSet) -> std::cmp::Ordering {
    let created = |set: &ReplicaSet| set.metadata.creation_timestamp.as_ref().map(|time| time.0);
    created(a).cmp(&created(b)).then_with(|| owned::name(a).cmp(owned::name(b)))
}
