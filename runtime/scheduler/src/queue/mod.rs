//! Pods that wait for a node.
//!
//! `new -> active -> (placed | unschedulable -> (event) -> back-off -> active)`: active pods are tried by priority; one that found
//! no node waits for an event that one of the plugins that refused it says may help, and then for a while that doubles each
//! time. If nothing is active, pods are taken out of the back-off early. One whose cycle failed waits in any case.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::framework::{PluginId, Plugins};
use crate::metrics::{self, Metrics};
use crate::model::{Name, Pod};

/// After so long without an event a pod is tried again anyway.
const FLUSH_AFTER: Duration = Duration::from_secs(300);

/// Why pods come to a queue, if it is no event of the cluster; in the words of the metrics.
const POD_ADDED: &str = "UnschedulablePodAdd";
const POD_CHANGED: &str = "UnschedulablePodUpdate";
const ATTEMPT_FAILED: &str = "ScheduleAttemptFailure";

/// A pod that waits.
#[derive(Debug, Clone)]
pub(crate) struct Queued {
    pub(crate) pod: Arc<Pod>,
    /// How often it found no node.
    unschedulable: u32,
    /// How often in a row its cycle failed.
    errors: u32,
    /// Who refused it last.
    pub(crate) plugins: Plugins,
    /// Who keeps it from being tried at all.
    pub(crate) gate: Option<PluginId>,
    /// Something that may help happened while it was kept.
    missed: bool,
    place: Place,
    /// When it came to its place.
    since: Instant,
    /// How often it was tried.
    pub(crate) attempts: u32,
    /// When it was first to be tried.
    pub(crate) came: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Active(ActiveKey),
    BackOff(TimeKey),
    /// After a failure: not taken out early.
    ErrorBackOff(TimeKey),
    Unschedulable(TimeKey),
    Gated,
    /// Being tried.
    Out,
}

type ActiveKey = (Reverse<i32>, Instant, u64);
type TimeKey = (Instant, u64);

impl Place {
    /// The queue, as it is counted.
    fn queue(self) -> Option<metrics::Queue> {
        match self {
            Self::Active(_) => Some(metrics::Queue::Active),
            Self::BackOff(_) | Self::ErrorBackOff(_) => Some(metrics::Queue::BackOff),
            Self::Unschedulable(_) => Some(metrics::Queue::Unschedulable),
            Self::Gated => Some(metrics::Queue::Gated),
            Self::Out => None,
        }
    }
}

/// How a pod's cycle ended, if it found no node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// These refused it.
    Refused(Plugins),
    /// Something failed.
    Failed,
}

/// The queue.
pub(crate) struct Queue {
    pods: HashMap<Name, Queued>,
    active: BTreeMap<ActiveKey, Name>,
    back_off: BTreeMap<TimeKey, Name>,
    error_back_off: BTreeMap<TimeKey, Name>,
    unschedulable: BTreeMap<TimeKey, Name>,
    /// Those that a gate keeps.
    gated: HashSet<Name>,
    /// Tells apart those of one instant, in the order in which they came.
    counter: u64,
    initial_backoff: Duration,
    max_backoff: Duration,
    metrics: Arc<Metrics>,
}

impl Queue {
    pub(crate) fn new(initial_backoff: Duration, max_backoff: Duration, metrics: Arc<Metrics>) -> Self {
        Self {
            pods: HashMap::new(),
            active: BTreeMap::new(),
            back_off: BTreeMap::new(),
            error_back_off: BTreeMap::new(),
            unschedulable: BTreeMap::new(),
            gated: HashSet::new(),
            counter: 0,
            initial_backoff,
            max_backoff,
            metrics,
        }
    }

    /// A pod that waits or is being tried.
    pub(crate) fn get(&self, uid: &str) -> Option<&Queued> {
        self.pods.get(uid)
    }

    /// Adds a new pod, kept by `gate` if that is set.
    pub(crate) fn add(&mut self, pod: Arc<Pod>, gate: Option<PluginId>, now: Instant) {
        let uid = pod.uid.clone();
        self.remove(&uid);
        let queued = Queued {
            pod,
            unschedulable: 0,
            errors: 0,
            plugins: Plugins::NONE,
            gate,
            missed: false,
            place: Place::Out,
            since: now,
            attempts: 0,
            came: None,
        };
        self.count_refusals(&queued, 1);
        self.pods.insert(uid.clone(), queued);
        match gate {
            Some(_) => self.put(&uid, Place::Gated, POD_ADDED),
            None => self.activate(&uid, now, POD_ADDED),
        }
    }

    /// Takes in a changed pod; it stays where it is.
    pub(crate) fn update(&mut self, pod: Arc<Pod>) {
        let uid = pod.uid.clone();
        let Some(queued) = self.pods.get_mut(&uid) else { return };
        queued.pod = pod;
        if let Place::Active((_, at, number)) = queued.place {
            let key = (Reverse(queued.pod.spec.priority), at, number);
            self.place(&uid, Place::Active(key));
        }
    }

    /// Takes a pod out.
    pub(crate) fn remove(&mut self, uid: &str) -> Option<Queued> {
        self.leave(uid);
        let queued = self.pods.remove(uid)?;
        self.count_refusals(&queued, -1);
        Some(queued)
    }

    /// The pod to try next. It stays known until it is removed or put back.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Queued> {
        self.release(now);
        let uid = match self.active.first_key_value() {
            Some((_, uid)) => uid.clone(),
            None => {
                let uid = self.back_off.first_key_value()?.1.clone();
                self.metrics.came(metrics::Queue::Active, "PopFromBackoffQ");
                uid
            }
        };
        self.place(&uid, Place::Out);
        let queued = self.pods.get_mut(&uid)?;
        queued.attempts = queued.attempts.saturating_add(1);
        queued.came.get_or_insert(now);
        Some(queued.clone())
    }

    /// Puts a pod back that was tried.
    pub(crate) fn put_back(&mut self, uid: &str, ended: Ended, gate: Option<PluginId>, now: Instant) {
        let changed = self.change(uid, |queued| {
            (queued.since, queued.gate, queued.missed) = (now, gate, false);
            match ended {
                Ended::Refused(plugins) => {
                    (queued.plugins, queued.errors) = (plugins, 0);
                    queued.unschedulable = queued.unschedulable.saturating_add(1);
                }
                Ended::Failed => {
                    queued.plugins = Plugins::NONE;
                    queued.errors = queued.errors.saturating_add(1);
                }
            }
        });
        if changed.is_none() {
            return;
        }
        match ended {
            Ended::Refused(_) => {
                let place = if gate.is_some() { Place::Gated } else { Place::Unschedulable(self.time_key(now)) };
                self.put(uid, place, ATTEMPT_FAILED);
            }
            Ended::Failed => self.back_off(uid, now, ATTEMPT_FAILED),
        }
    }

    /// An event, by its label in metrics: asks for each pod that waits for one whether it may help.
    pub(crate) fn on_event(&mut self, now: Instant, label: &str, mut helps: impl FnMut(&Queued) -> bool) {
        let mut moves = Vec::new();
        for uid in self.unschedulable.values() {
            if self.pods.get(uid).is_some_and(&mut helps) {
                moves.push(uid.clone());
            }
        }
        for uid in moves {
            self.requeue(&uid, now, label);
        }
        for uid in &self.gated {
            if let Some(queued) = self.pods.get_mut(uid).filter(|queued| !queued.missed) {
                queued.missed = !queued.plugins.is_empty() && helps(queued);
            }
        }
    }

    /// Has one pod tried again after its wait, if it waits for an event.
    pub(crate) fn requeue(&mut self, uid: &str, now: Instant, label: &str) {
        if self.pods.get(uid).is_some_and(|queued| matches!(queued.place, Place::Unschedulable(_))) {
            self.back_off(uid, now, label);
        }
    }

    /// The pods that a gate keeps.
    pub(crate) fn kept_by(&self, gate: PluginId) -> Vec<Arc<Pod>> {
        let gated = self.gated.iter().filter_map(|uid| self.pods.get(uid));
        gated.filter(|queued| queued.gate == Some(gate)).map(|queued| Arc::clone(&queued.pod)).collect()
    }

    /// A pod is kept by another gate, or by none any more.
    pub(crate) fn set_gate(&mut self, uid: &str, gate: Option<PluginId>, now: Instant) {
        let changed = self.change(uid, |queued| {
            let was = std::mem::replace(&mut queued.gate, gate);
            (was, std::mem::take(&mut queued.missed), queued.plugins, queued.place)
        });
        let Some((was, missed, plugins, place)) = changed else { return };
        match (was, gate) {
            (Some(_), None) => {
                if plugins.is_empty() {
                    self.activate(uid, now, POD_CHANGED);
                } else if missed {
                    self.back_off(uid, now, POD_CHANGED);
                } else {
                    let key = self.time_key(now);
                    self.put(uid, Place::Unschedulable(key), POD_CHANGED);
                }
            }
            (None, Some(_)) if place != Place::Out => self.put(uid, Place::Gated, POD_CHANGED),
            _ => {}
        }
    }

    /// When something happens without an event.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let first = |times: &BTreeMap<TimeKey, Name>| times.keys().next().map(|(at, _)| *at);
        let flush = first(&self.unschedulable).map(|since| since + FLUSH_AFTER);
        [first(&self.back_off), first(&self.error_back_off), flush].into_iter().flatten().min()
    }

    /// Has those tried whose time has come.
    fn release(&mut self, now: Instant) {
        for errors in [false, true] {
            loop {
                let waiting = if errors { &self.error_back_off } else { &self.back_off };
                let Some((_, uid)) = waiting.first_key_value().filter(|((due, _), _)| *due <= now) else { break };
                let uid = uid.clone();
                self.activate(&uid, now, "BackoffComplete");
            }
        }
        while let Some((_, uid)) = self.unschedulable.first_key_value().filter(|((at, _), _)| *at + FLUSH_AFTER <= now)
        {
            let uid = uid.clone();
            self.back_off(&uid, now, "UnschedulableTimeout");
        }
    }

    fn activate(&mut self, uid: &str, now: Instant, why: &str) {
        let Some(queued) = self.pods.get_mut(uid) else { return };
        queued.came.get_or_insert(now);
        let priority = Reverse(queued.pod.spec.priority);
        let (_, number) = self.time_key(now);
        self.put(uid, Place::Active((priority, now, number)), why);
    }

    /// Puts a pod into the back-off, or has it tried if its wait is over.
    fn back_off(&mut self, uid: &str, now: Instant, why: &str) {
        let Some(queued) = self.pods.get(uid) else { return };
        let failed = queued.errors > 0;
        let times = if failed { queued.errors } else { queued.unschedulable };
        let wait = match times {
            0 => Duration::ZERO,
            times => {
                let factor = 1_u32.checked_shl(times - 1).unwrap_or(u32::MAX);
                self.initial_backoff.saturating_mul(factor).min(self.max_backoff)
            }
        };
        let due = queued.since + wait;
        if due <= now {
            return self.activate(uid, now, why);
        }
        let key = self.time_key(due);
        self.put(uid, if failed { Place::ErrorBackOff(key) } else { Place::BackOff(key) }, why);
    }

    fn time_key(&mut self, at: Instant) -> TimeKey {
        self.counter += 1;
        (at, self.counter)
    }

    /// Changes what is known of a pod.
    fn change<T>(&mut self, uid: &str, change: impl FnOnce(&mut Queued) -> T) -> Option<T> {
        let queued = self.pods.get_mut(uid)?;
        let (plugins, gate) = (queued.plugins, queued.gate);
        let changed = change(queued);
        if (queued.plugins, queued.gate) != (plugins, gate) {
            let queued = &self.pods[uid];
            self.count_refusals(&Queued { plugins, gate, ..queued.clone() }, -1);
            self.count_refusals(queued, 1);
        }
        Some(changed)
    }

    /// Counts those that keep a pod from its node.
    fn count_refusals(&self, queued: &Queued, by: i64) {
        let plugins = queued.plugins.union(queued.gate.into_iter().collect());
        if !plugins.is_empty() {
            self.metrics.refuse(plugins, queued.pod.spec.scheduler.as_deref().unwrap_or_default(), by);
        }
    }

    /// Puts a pod where it belongs now, for a reason.
    fn put(&mut self, uid: &str, place: Place, why: &str) {
        self.place(uid, place);
        if let Some(queue) = place.queue() {
            self.metrics.came(queue, why);
        }
    }

    fn place(&mut self, uid: &str, place: Place) {
        self.leave(uid);
        let Some((name, queued)) =
            self.pods.get_key_value(uid).map(|(name, _)| name.clone()).zip(self.pods.get_mut(uid))
        else {
            return;
        };
        queued.place = place;
        if let Some(queue) = place.queue() {
            self.metrics.pending(queue).add(1);
        }
        match place {
            Place::Active(key) => _ = self.active.insert(key, name),
            Place::BackOff(key) => _ = self.back_off.insert(key, name),
            Place::ErrorBackOff(key) => _ = self.error_back_off.insert(key, name),
            Place::Unschedulable(key) => _ = self.unschedulable.insert(key, name),
            Place::Gated => _ = self.gated.insert(name),
            Place::Out => {}
        }
    }

    fn leave(&mut self, uid: &str) {
        let Some(queued) = self.pods.get_mut(uid) else { return };
        let place = std::mem::replace(&mut queued.place, Place::Out);
        if let Some(queue) = place.queue() {
            self.metrics.pending(queue).add(-1);
        }
        match place {
            Place::Active(key) => _ = self.active.remove(&key),
            Place::BackOff(key) => _ = self.back_off.remove(&key),
            Place::ErrorBackOff(key) => _ = self.error_back_off.remove(&key),
            Place::Unschedulable(key) => _ = self.unschedulable.remove(&key),
            Place::Gated => _ = self.gated.remove(uid),
            Place::Out => {}
        }
    }
}

impl Drop for Queue {
    /// Nobody waits for a scheduler that is no more.
    fn drop(&mut self) {
        for uid in self.pods.keys().cloned().collect::<Vec<_>>() {
            self.remove(&uid);
        }
    }
}

#[cfg(test)]
mod tests;
