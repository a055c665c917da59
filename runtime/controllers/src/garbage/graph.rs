//! Who depends on whom, as far as it has been told. Only objects with owners, and owners that wait for their
//! dependents, have a place here: everything else costs nothing.

use std::collections::{BTreeSet, HashMap};

use serde::Deserialize;

/// An object's uid.
pub(super) type Uid = String;

/// An object as the ownership stream tells it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Object {
    #[serde(default)]
    pub(super) api_version: String,
    #[serde(default)]
    pub(super) kind: String,
    pub(super) metadata: Metadata,
}

/// Its metadata, as far as it matters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Metadata {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) uid: Uid,
    pub(super) resource_version: String,
    pub(super) owner_references: Vec<OwnerReference>,
    pub(super) finalizers: Vec<String>,
    pub(super) deletion_timestamp: Option<String>,
}

/// An `OwnerReference`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct OwnerReference {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) uid: Uid,
    pub(super) block_owner_deletion: bool,
}

/// The finalizer of an owner whose dependents go first.
pub(super) const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of an owner whose dependents are to stay.
pub(super) const ORPHAN: &str = "orphan";

impl Object {
    pub(super) fn has_finalizer(&self, name: &str) -> bool {
        self.metadata.finalizers.iter().any(|f| f == name)
    }

    pub(super) fn is_terminating(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// It is being deleted and waits for its dependents to go first.
    pub(super) fn waits_for_dependents(&self) -> bool {
        self.is_terminating() && self.has_finalizer(FOREGROUND)
    }

    /// It is being deleted and its dependents are to stay.
    pub(super) fn orphans_dependents(&self) -> bool {
        self.is_terminating() && self.has_finalizer(ORPHAN)
    }
}

/// What is to be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Task {
    /// Whether the object's owners are still there; and whether it still waits for its dependents.
    Check(Uid),
    /// Take the object off its dependents' owners.
    Orphan(Uid),
}

impl std::fmt::Display for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Task::Check(uid) => write!(f, "check {uid}"),
            Task::Orphan(uid) => write!(f, "orphan {uid}"),
        }
    }
}

/// The graph.
#[derive(Debug, Default)]
pub(super) struct Graph {
    objects: HashMap<Uid, Object>,
    dependents: HashMap<Uid, BTreeSet<Uid>>,
}

impl Graph {
    pub(super) fn get(&self, uid: &str) -> Option<&Object> {
        self.objects.get(uid)
    }

    /// The objects that name this one as an owner.
    pub(super) fn dependents(&self, uid: &str) -> impl Iterator<Item = &Object> {
        self.dependents.get(uid).into_iter().flatten().filter_map(|dependent| self.objects.get(dependent))
    }

    pub(super) fn has_dependents(&self, uid: &str) -> bool {
        self.dependents(uid).next().is_some()
    }

    /// Every object that is known, but those of some API versions.
    pub(super) fn uids_but(&self, versions: &BTreeSet<String>) -> BTreeSet<Uid> {
        let known = self.objects.iter().filter(|(_, object)| !versions.contains(&object.api_version));
        known.map(|(uid, _)| uid.clone()).collect()
    }

    /// What has to be looked at when all objects of a kind have been told anew: those of it, and those that they own.
    pub(super) fn concerned(&self, api_version: &str, kind: &str) -> Vec<Task> {
        let is_of = |version: &str, other: &str| version == api_version && other == kind;
        let is_concerned = |object: &&Object| {
            is_of(&object.api_version, &object.kind)
                || object.metadata.owner_references.iter().any(|owner| is_of(&owner.api_version, &owner.kind))
        };
        let concerned = self.objects.values().filter(is_concerned);
        concerned.map(|object| Task::Check(object.metadata.uid.clone())).collect()
    }

    /// Takes in an object; answers what has to be looked at.
    pub(super) fn apply(&mut self, object: Object) -> Vec<Task> {
        let uid = object.metadata.uid.clone();
        let before = self.objects.get(&uid).cloned();
        if before.as_ref() == Some(&object) {
            return Vec::new();
        }
        let owners_before = before.as_ref().map_or(&[][..], |b| &b.metadata.owner_references);
        let owners = &object.metadata.owner_references;
        let mut tasks = Vec::new();
        for gone in owners_before.iter().filter(|old| !owners.iter().any(|new| new.uid == old.uid)) {
            self.unlink(&gone.uid, &uid);
        }
        for owner in owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.clone());
        }
        // An owner that waits for this one may wait no more.
        let freed = owners_before.iter().filter(|old| {
            old.block_owner_deletion && !owners.iter().any(|new| new.uid == old.uid && new.block_owner_deletion)
        });
        tasks.extend(freed.filter(|o| self.waits(&o.uid)).map(|o| Task::Check(o.uid.clone())));
        if object.orphans_dependents() && !before.as_ref().is_some_and(Object::orphans_dependents) {
            tasks.push(Task::Orphan(uid.clone()));
        }
        let newly_waits = object.waits_for_dependents() && !before.as_ref().is_some_and(Object::waits_for_dependents);
        if newly_waits || !owners.is_empty() && owners_before != owners {
            tasks.push(Task::Check(uid.clone()));
        }
        if owners.is_empty() && !object.is_terminating() {
            self.objects.remove(&uid);
        } else {
            self.objects.insert(uid, object);
        }
        tasks
    }

    /// Forgets an object that is gone; answers what has to be looked at.
    pub(super) fn remove(&mut self, uid: &str) -> Vec<Task> {
        let mut tasks = Vec::new();
        if let Some(object) = self.objects.remove(uid) {
            for owner in &object.metadata.owner_references {
                self.unlink(&owner.uid, uid);
                if self.waits(&owner.uid) {
                    tasks.push(Task::Check(owner.uid.clone()));
                }
            }
        }
        tasks.extend(self.dependents.get(uid).into_iter().flatten().map(|d| Task::Check(d.clone())));
        tasks
    }

    fn waits(&self, uid: &str) -> bool {
        self.get(uid).is_some_and(Object::waits_for_dependents)
    }

    fn unlink(&mut self, owner: &str, dependent: &str) {
        if let Some(dependents) = self.dependents.get_mut(owner) {
            dependents.remove(dependent);
            if dependents.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(uid: &str, owners: &[(&str, bool)], finalizer: Option<&str>) -> Object {
        let owners: Vec<_> = owners
            .iter()
            .map(|(uid, blocks)| json!({"apiVersion": "v1", "kind": "A", "name": uid, "uid": uid, "blockOwnerDeletion": blocks}))
            .collect();
        let mut metadata = json!({"name": uid, "uid": uid, "ownerReferences": owners});
        if let Some(finalizer) = finalizer {
            metadata["finalizers"] = json!([finalizer]);
            metadata["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        serde_json::from_value(json!({"apiVersion": "v1", "kind": "A", "metadata": metadata})).unwrap()
    }

    #[test]
    fn a_new_dependent_is_checked_once_and_its_owners_end_leads_back_to_it() {
        let mut graph = Graph::default();
        assert_eq!(graph.apply(object("d", &[("o", true)], None)), [Task::Check("d".into())]);
        assert_eq!(graph.apply(object("d", &[("o", true)], None)), []);
        assert_eq!(graph.remove("o"), [Task::Check("d".into())]);
    }

    #[test]
    fn an_owner_that_waits_is_looked_at_when_a_dependent_goes_or_blocks_it_no_more() {
        let mut graph = Graph::default();
        graph.apply(object("d", &[("o", true)], None));
        graph.apply(object("e", &[("o", true)], None));
        assert_eq!(graph.apply(object("o", &[], Some(FOREGROUND))), [Task::Check("o".into())]);
        assert_eq!(graph.remove("d"), [Task::Check("o".into())]);
        let freed = graph.apply(object("e", &[("o", false)], None));
        assert_eq!(freed, [Task::Check("o".into()), Task::Check("e".into())]);
        assert_eq!(graph.dependents("o").count(), 1);
        graph.apply(object("e", &[], None));
        assert!(!graph.has_dependents("o"));
        assert!(graph.get("e").is_none(), "an object without owners is kept");
    }

    #[test]
    fn a_kind_told_anew_concerns_its_objects_and_what_they_own() {
        let mut graph = Graph::default();
        for mut object in [object("d", &[("o", true)], None), object("e", &[("o", true)], None)] {
            object.api_version = format!("{}.org/v1", object.metadata.uid);
            graph.apply(object);
        }
        assert_eq!(graph.concerned("d.org/v1", "A"), [Task::Check("d".into())]);
        assert_eq!(graph.concerned("v1", "A").len(), 2);
        assert_eq!(graph.concerned("v1", "B"), []);
        assert_eq!(graph.uids_but(&["d.org/v1".to_owned()].into()), ["e".to_owned()].into());
    }

    #[test]
    fn an_owner_that_orphans_is_told_once() {
        let mut graph = Graph::default();
        assert_eq!(graph.apply(object("o", &[], Some(ORPHAN))), [Task::Orphan("o".into())]);
        let mut again = object("o", &[], Some(ORPHAN));
        again.metadata.finalizers.push("x.org/y".into());
        assert_eq!(graph.apply(again), []);
    }
}
