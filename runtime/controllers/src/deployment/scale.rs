//! How many pods each ReplicaSet of a Deployment is to have.

use std::cmp::Reverse;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DeploymentSpec, ReplicaSet};
use serde_json::json;

use super::revisions::{DESIRED, MAX, annotation, noted_count};
use super::rollout::{Rollout, by_creation};
use super::{progress, spec};
use crate::owned;
use crate::reconcile::Failure;

impl Rollout<'_> {
    /// Whether the Deployment's count has changed since its ReplicaSets were last scaled.
    pub(super) fn was_scaled(&self) -> bool {
        let active = self.all().filter(|set| spec::set_replicas(set) > 0);
        active.filter_map(|set| noted_count(set, DESIRED)).any(|desired| desired != spec::replicas(self.spec))
    }

    /// Gives a ReplicaSet a count, and notes on it what it is part of. Answers whether the count is another now.
    async fn scale_to(&self, set: &mut Arc<ReplicaSet>, count: i32) -> Result<bool, Failure> {
        let before = spec::set_replicas(set);
        let (desired, max) = (spec::replicas(self.spec).to_string(), spec::max_total(self.spec).to_string());
        let is_noted = annotation(set, DESIRED) == Some(&desired) && annotation(set, MAX) == Some(&max);
        if before == count && is_noted {
            return Ok(false);
        }
        let patch = json!({"metadata": {"annotations": {DESIRED: desired, MAX: max}}, "spec": {"replicas": count}});
        *set = self.patch_set(set, patch).await?;
        if before != count {
            let direction = if before < count { "up" } else { "down" };
            let name = owned::name(&**set);
            let message = format!("Scaled {direction} replica set {name} from {before} to {count}");
            self.engine.recorder.normal(self.deployment, "ScalingReplicaSet", message);
        }
        Ok(before != count)
    }

    /// As [`Self::scale_to`], but leaves one that has the count alone.
    async fn ensure_count(&self, set: &mut Arc<ReplicaSet>, count: i32) -> Result<bool, Failure> {
        if spec::set_replicas(set) == count { Ok(false) } else { self.scale_to(set, count).await }
    }

    /// Follows a change of the Deployment's count without moving the rollout on: a single ReplicaSet with pods gets all of it,
    /// several get their share of what is added or removed.
    pub(super) async fn scale(&mut self) -> Result<(), Failure> {
        let wanted = spec::replicas(self.spec);
        let mut active: Vec<_> = self.all().filter(|set| spec::set_replicas(set) > 0).cloned().collect();
        if active.len() < 2 {
            let latest = active.pop().or_else(|| self.new.clone()).or_else(|| self.old.last().cloned());
            if let Some(mut set) = latest {
                self.ensure_count(&mut set, wanted).await?;
                self.replace(set);
            }
            return Ok(());
        }
        if self.new.as_ref().is_some_and(|new| is_saturated(self.spec, new)) {
            for mut set in self.old.clone() {
                self.ensure_count(&mut set, 0).await?;
                self.replace(set);
            }
            return Ok(());
        }
        if !spec::is_rolling(self.spec) {
            return Ok(());
        }
        let known = self.status.replicas.unwrap_or(0);
        for (mut set, count) in shares(self.spec, known, active) {
            self.scale_to(&mut set, count).await?;
            self.replace(set);
        }
        Ok(())
    }

    /// Takes in a ReplicaSet that was changed.
    fn replace(&mut self, set: Arc<ReplicaSet>) {
        let known = self.old.iter_mut().chain(&mut self.new).find(|known| known.metadata.uid == set.metadata.uid);
        if let Some(known) = known {
            *known = set;
        }
    }

    /// How many pods the current ReplicaSet, which has so many, may be given now.
    pub(super) fn wanted_of_new(&self, has: i32) -> i32 {
        let wanted = spec::replicas(self.spec);
        if !spec::is_rolling(self.spec) {
            return wanted;
        }
        let room = spec::max_total(self.spec) - self.total();
        if room <= 0 { has } else { has + room.min(wanted - has) }
    }

    /// A step of a rolling update: more of the new, or else fewer of the old.
    pub(super) async fn roll(&mut self) -> Result<(), Failure> {
        let mut new = self.ensure_new().await?;
        let (has, wanted) = (spec::set_replicas(&new), spec::replicas(self.spec));
        let count = if has > wanted { wanted } else { self.wanted_of_new(has) };
        if self.ensure_count(&mut new, count).await? {
            self.new = Some(new);
            return Ok(());
        }
        if self.shrink_old(&new).await? {
            return Ok(());
        }
        if progress::is_complete(self.spec, self.deployment, self.deployment.status.as_ref()) {
            self.clean_up().await?;
        }
        Ok(())
    }

    /// Takes pods from old ReplicaSets, those that are not available first, as far as enough stay available.
    async fn shrink_old(&mut self, new: &ReplicaSet) -> Result<bool, Failure> {
        let total = self.total();
        if total == spec::set_replicas(new) {
            return Ok(false);
        }
        let enough = spec::replicas(self.spec) - spec::max_unavailable(self.spec);
        let new_lacks = spec::set_replicas(new) - spec::set_available(new);
        let may_go = total - enough - new_lacks;
        if may_go <= 0 {
            return Ok(false);
        }
        let mut gone = 0;
        for mut set in self.old.clone() {
            let idle = spec::set_replicas(&set) - spec::set_available(&set);
            let take = idle.min(may_go - gone);
            if take > 0 {
                let left = spec::set_replicas(&set) - take;
                self.ensure_count(&mut set, left).await?;
                self.replace(set);
                gone += take;
            }
        }
        let available: i32 = self.all().map(|set| spec::set_available(set)).sum();
        let (mut taken, may_go) = (0, available - enough);
        for mut set in self.old.clone() {
            let take = spec::set_replicas(&set).min(may_go - taken);
            if take > 0 {
                let left = spec::set_replicas(&set) - take;
                self.ensure_count(&mut set, left).await?;
                self.replace(set);
                taken += take;
            }
        }
        Ok(gone + taken > 0)
    }

    /// A step of a rollout that lets all old pods go before new ones come.
    pub(super) async fn recreate(&mut self) -> Result<(), Failure> {
        let mut scaled = false;
        for mut set in self.old.clone() {
            scaled |= self.ensure_count(&mut set, 0).await?;
            self.replace(set);
        }
        if scaled || self.old_pods_run() {
            return Ok(());
        }
        let mut new = self.ensure_new().await?;
        self.ensure_count(&mut new, spec::replicas(self.spec)).await?;
        self.new = Some(new);
        if progress::is_complete(self.spec, self.deployment, self.deployment.status.as_ref()) {
            self.clean_up().await?;
        }
        Ok(())
    }
}

/// Whether a ReplicaSet has all that the Deployment asks for, available.
fn is_saturated(spec: &DeploymentSpec, set: &ReplicaSet) -> bool {
    let wanted = spec::replicas(spec);
    let desired = annotation(set, DESIRED).and_then(|text| text.parse().ok());
    spec::set_replicas(set) == wanted && desired == Some(wanted) && spec::set_available(set) == wanted
}

/// The count of each of several ReplicaSets with pods after the Deployment's count has changed: what is added or removed is
/// shared out by their sizes, and the largest gets what rounding leaves. `known` is the count of pods by the status.
fn shares(spec: &DeploymentSpec, known: i32, mut active: Vec<Arc<ReplicaSet>>) -> Vec<(Arc<ReplicaSet>, i32)> {
    let allowed = if spec::replicas(spec) > 0 { spec::max_total(spec) } else { 0 };
    let total: i32 = active.iter().map(|set| spec::set_replicas(set)).sum();
    let to_add = allowed - total;
    // Of one size, the newer grows first and the older shrinks first.
    active.sort_by(|a, b| if to_add > 0 { by_creation(b, a) } else { by_creation(a, b) });
    active.sort_by_key(|set| Reverse(spec::set_replicas(set)));
    let mut added = 0;
    let mut shares: Vec<_> = active
        .into_iter()
        .map(|set| {
            let has = spec::set_replicas(&set);
            let left = to_add - added;
            let part = if left == 0 { 0 } else { part(spec, known, &set) };
            let part = if to_add > 0 { part.min(left) } else { part.max(left) };
            added += part;
            (set, has + part)
        })
        .collect();
    if let Some((_, count)) = shares.first_mut() {
        *count = (*count + to_add - added).max(0);
    }
    shares
}

/// By how much a ReplicaSet would grow if it kept its part of the whole.
fn part(spec: &DeploymentSpec, known: i32, set: &ReplicaSet) -> i32 {
    let has = spec::set_replicas(set);
    if spec::replicas(spec) == 0 {
        return -has;
    }
    let before = noted_count(set, MAX).filter(|max| *max != 0).unwrap_or(known);
    if before == 0 {
        return 0;
    }
    let size = f64::from(has) * f64::from(spec::max_total(spec)) / f64::from(before);
    // Both are counts of pods, far below what the conversion can hold.
    size.round() as i32 - has
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn set(name: &str, replicas: i32, max: i32) -> Arc<ReplicaSet> {
        let created = format!("2026-03-01T12:00:{:02}Z", name.len());
        let object: Value = json!({"metadata": {"name": name, "creationTimestamp": created,
            "annotations": {MAX: max.to_string()}}, "spec": {"replicas": replicas, "selector": {}}});
        Arc::new(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn what_is_added_or_removed_is_shared_out_by_size() {
        // Counts of the old and the new; the count of the Deployment, its surge, and the most before; then after.
        let rows = [
            // The example of the documentation: 10 with a surge of 3 become 15 in the middle of a rollout.
            (8, 5, 15, 3, 13, (11, 7)),
            (5, 5, 20, 0, 10, (10, 10)),
            (5, 5, 5, 0, 10, (2, 3)),
            (5, 5, 0, 0, 10, (0, 0)),
            (6, 4, 10, 0, 10, (6, 4)),
        ];
        for (old, new, replicas, surge, max, expected) in rows {
            let spec: DeploymentSpec =
                serde_json::from_value(json!({"replicas": replicas, "selector": {}, "template": {},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": 1}}}))
                .unwrap();
            let shares = shares(&spec, max, vec![set("o", old, max), set("nn", new, max)]);
            let of = |name: &str| shares.iter().find(|(set, _)| owned::name(&**set) == name).map_or(-1, |(_, n)| *n);
            assert_eq!((of("o"), of("nn")), expected, "{old} {new} to {replicas}");
        }
    }
}
