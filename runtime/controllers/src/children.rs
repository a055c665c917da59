//! Hears of what controllers own, pods and others, and tells the queue of a controller which of its objects it concerns.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kiln_client::{Change, Informers, ObjectRef, Store, WorkQueue};

use crate::expectations::Expectations;
use crate::labels::Labels;
use crate::owned::{Owned, controller, index, is_going, namespace};

/// An object that owns others.
pub(crate) trait Workload: Owned {
    /// Whether it would adopt what has these labels.
    fn would_adopt(&self, labels: Option<&Labels>) -> bool;
}

struct Watch<W> {
    workloads: Store<W>,
    queue: WorkQueue<ObjectRef>,
    expectations: Arc<Expectations>,
    /// Whether a child that comes is news to its owner.
    hears_of_new: bool,
}

/// Puts into `queue` the key of each workload whose children change, or that may adopt one, and tells `expectations` what is
/// seen. The shared mirror of the children can then find them by their owner.
pub(crate) fn subscribe<W: Workload, C: Owned>(
    informers: &mut Informers,
    queue: &WorkQueue<ObjectRef>,
    expectations: &Arc<Expectations>,
) -> Store<C> {
    listen::<W, C>(informers, queue, expectations, true)
}

/// As [`subscribe`], but an owned child that comes is no news: whoever made it knows.
pub(crate) fn subscribe_to_changes<W: Workload, C: Owned>(
    informers: &mut Informers,
    queue: &WorkQueue<ObjectRef>,
) -> Store<C> {
    listen::<W, C>(informers, queue, &Arc::default(), false)
}

fn listen<W: Workload, C: Owned>(
    informers: &mut Informers,
    queue: &WorkQueue<ObjectRef>,
    expectations: &Arc<Expectations>,
    hears_of_new: bool,
) -> Store<C> {
    let workloads = informers.of::<W>().store();
    let watch = Watch { workloads, queue: queue.clone(), expectations: expectations.clone(), hears_of_new };
    let children = informers.of::<C>();
    index(children);
    children.subscribe(move |change| watch.hear(change));
    children.store()
}

impl<W: Workload> Watch<W> {
    fn hear<C: Owned>(&self, change: &Change<C>) {
        match change {
            Change::Applied { object, previous: None, .. } => self.came(&**object),
            // The one of the name is another: the old one's end was not seen.
            Change::Applied { object, previous: Some(previous), .. } if previous.uid() != object.uid() => {
                self.went(&**previous);
                self.came(&**object);
            }
            Change::Applied { object, previous: Some(previous), .. } => self.changed(&**previous, &**object),
            Change::Deleted { object, .. } => self.went(&**object),
            Change::Synced => {}
        }
    }

    /// The workload that a reference leads to.
    fn resolve(&self, namespace: &str, owner: &OwnerReference) -> Option<ObjectRef> {
        if owner.kind != W::KIND {
            return None;
        }
        let key = ObjectRef::namespaced(namespace, &owner.name);
        self.workloads.get(&key).filter(|workload| workload.uid() == owner.uid).map(|_| key)
    }

    fn owner<C: Owned>(&self, child: &C) -> Option<ObjectRef> {
        self.resolve(namespace(child), controller(child.metadata())?)
    }

    fn came<C: Owned>(&self, child: &C) {
        if is_going(child) {
            return self.went(child);
        }
        if controller(child.metadata()).is_none() {
            return self.offer(child);
        }
        if let Some(owner) = self.owner(child).filter(|_| self.hears_of_new) {
            self.expectations.created(&owner);
            self.queue.add(owner);
        }
    }

    fn changed<C: Owned>(&self, old: &C, new: &C) {
        if is_going(new) {
            // It goes as soon as it is marked: others take its place at once.
            self.went(new);
            if old.metadata().labels != new.metadata().labels {
                self.went(old);
            }
            return;
        }
        let (before, after) = (controller(old.metadata()), controller(new.metadata()));
        if before != after
            && let Some(owner) = self.owner(old)
        {
            self.queue.add(owner);
        }
        if after.is_some() {
            if let Some(owner) = self.owner(new) {
                self.queue.add(owner);
            }
        } else if before != after || old.metadata().labels != new.metadata().labels {
            self.offer(new);
        }
    }

    fn went<C: Owned>(&self, child: &C) {
        if let Some(owner) = self.owner(child) {
            self.expectations.deleted(&owner, child.metadata().name.as_deref().unwrap_or_default());
            self.queue.add(owner);
        }
    }

    /// Lets those that may adopt an orphan look at it.
    fn offer<C: Owned>(&self, child: &C) {
        let labels = child.metadata().labels.as_ref();
        for workload in self.workloads.in_namespace(namespace(child)) {
            if workload.would_adopt(labels) {
                self.queue.add(workload.key());
            }
        }
    }
}
