//! What a delete does to an object before it goes: the garbage collector's finalizers, the grace period, the marks.

use jiff::{SignedDuration, Timestamp};
use kiln_apimachinery::{meta, time};
use serde_json::Value;

use super::options::{Options, Propagation};
use crate::registry::Resource;

/// Makes the garbage collector let dependents go.
const ORPHAN: &str = "orphan";
/// Makes the garbage collector delete dependents first.
const FOREGROUND: &str = "foregroundDeletion";

/// Kinds whose delete answers with the object instead of a Status, as group and plural.
const ANSWERED_WITH_OBJECT: &[(&str, &str)] = &[
    ("", "namespaces"),
    ("", "persistentvolumeclaims"),
    ("", "persistentvolumes"),
    ("", "pods"),
    ("", "podtemplates"),
    ("", "resourcequotas"),
    ("", "serviceaccounts"),
    ("", "services"),
    ("resource.k8s.io", "deviceclasses"),
    ("resource.k8s.io", "devicetaintrules"),
    ("resource.k8s.io", "resourceclaims"),
    ("resource.k8s.io", "resourceclaimtemplates"),
    ("resource.k8s.io", "resourcepoolstatusrequests"),
    ("resource.k8s.io", "resourceslices"),
    ("storage.k8s.io", "csidrivers"),
    ("storage.k8s.io", "csinodes"),
    ("storage.k8s.io", "storageclasses"),
    ("storage.k8s.io", "volumeattachments"),
    ("storage.k8s.io", "volumeattributesclasses"),
];
/// Kinds whose dependents stay unless the delete says otherwise: a promise of old versions.
const ORPHANED_BY_DEFAULT: &[(&str, &str)] = &[("", "replicationcontrollers"), ("batch", "jobs")];
/// Kinds that the garbage collector has nothing to do with.
const NEVER_COLLECTED: &[(&str, &str)] = &[("", "events"), ("events.k8s.io", "events")];

fn is_in(table: &[(&str, &str)], resource: &Resource) -> bool {
    table.contains(&(resource.group.as_str(), resource.plural.as_str()))
}

pub(super) fn answers_with_object(resource: &Resource) -> bool {
    is_in(ANSWERED_WITH_OBJECT, resource)
}

/// The finalizers that the object is to have once it is being deleted. The options count before the finalizers that the
/// object has, and those before the kind's default.
pub(super) fn finalizers(resource: &Resource, object: &Value, options: &Options) -> Vec<String> {
    let old = meta::finalizers(object);
    let (mut orphan, mut foreground) = (false, false);
    if !is_in(NEVER_COLLECTED, resource) {
        match (options.orphan_dependents, options.propagation) {
            (Some(yes), _) => orphan = yes,
            (None, Some(Propagation::Orphan)) => orphan = true,
            (None, Some(Propagation::Foreground)) => foreground = true,
            (None, Some(Propagation::Background)) => {}
            (None, None) => match old.iter().find(|f| [ORPHAN, FOREGROUND].contains(f)) {
                Some(&ORPHAN) => orphan = true,
                Some(_) => foreground = true,
                None => orphan = is_in(ORPHANED_BY_DEFAULT, resource),
            },
        }
    }
    let kept = old.iter().filter(|f| ![ORPHAN, FOREGROUND].contains(f)).copied();
    let added = [(orphan, ORPHAN), (foreground, FOREGROUND)].into_iter().filter(|(yes, _)| *yes).map(|(_, f)| f);
    let new: Vec<&str> = kept.chain(added).collect();
    let same = new.len() == old.len() && new.iter().all(|f| old.contains(f));
    if same { old } else { new }.into_iter().map(str::to_owned).collect()
}

/// The finalizers of a namespace that is to go. They are the options' affair alone, since its contents are deleted one by
/// one whatever the policy.
pub(super) fn namespace_finalizers(object: &Value, options: &Options) -> Vec<String> {
    let old = meta::finalizers(object);
    let wanted =
        |finalizer: &str, by_flag: bool, policy: Propagation| match (options.orphan_dependents, options.propagation) {
            (Some(orphan), _) => orphan == by_flag,
            (None, Some(asked)) => asked == policy,
            (None, None) => old.contains(&finalizer),
        };
    let mut new: Vec<String> =
        old.iter().filter(|f| ![ORPHAN, FOREGROUND].contains(f)).map(|f| (*f).to_owned()).collect();
    if wanted(ORPHAN, true, Propagation::Orphan) {
        new.push(ORPHAN.into());
    }
    if wanted(FOREGROUND, false, Propagation::Foreground) {
        new.push(FOREGROUND.into());
    }
    new
}

pub(super) fn set_finalizers(object: &mut Value, finalizers: &[String]) {
    let metadata = meta::metadata_mut(object);
    if finalizers.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".into(), finalizers.into());
    }
}

/// How an object goes.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Way {
    /// At once, unless finalizers hold it.
    Now,
    /// After this many seconds, marked as given.
    Gracefully(Value, i64),
    /// It is on its way, and this delete changes nothing about that.
    Pending,
}

/// How the object goes, by the kind's rule for grace periods.
pub(super) fn way(resource: &Resource, object: &Value, options: &Options, now: Timestamp) -> Way {
    let Some(seconds) = resource.strategy.graceful_delete(object, options.grace) else { return Way::Now };
    let Some(set) = deletion_timestamp(object) else {
        let mut marked = object.clone();
        bump_generation(&mut marked);
        mark(&mut marked, now.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX), seconds);
        return Way::Gracefully(marked, seconds);
    };
    let set_seconds =
        meta::at(object, &["metadata", "deletionGracePeriodSeconds"]).and_then(Value::as_i64).unwrap_or(0);
    if set_seconds == 0 {
        // A delete that was answered half done.
        return Way::Now;
    }
    let Some(asked) = options.grace.filter(|asked| *asked < set_seconds) else { return Way::Pending };
    // The end moves back, but not into the past, where a graceful end still takes a second.
    let end = set.saturating_sub(SignedDuration::from_secs(set_seconds - asked)).unwrap_or(now);
    let (end, seconds) = match (end < now, asked) {
        (true, 0) => (now, 0),
        (true, _) => (now, 1),
        (false, asked) => (end, asked),
    };
    let mut marked = object.clone();
    mark(&mut marked, end, seconds);
    Way::Gracefully(marked, seconds)
}

/// Marks an object without grace that finalizers hold.
pub(super) fn mark_now(object: &mut Value, now: Timestamp) {
    let set = deletion_timestamp(object);
    if set.is_none() {
        bump_generation(object);
    }
    mark(object, set.filter(|set| *set <= now).unwrap_or(now), 0);
}

fn mark(object: &mut Value, end: Timestamp, seconds: i64) {
    let metadata = meta::metadata_mut(object);
    metadata.insert("deletionTimestamp".into(), time::rfc3339(end).into());
    metadata.insert("deletionGracePeriodSeconds".into(), seconds.into());
}

fn deletion_timestamp(object: &Value) -> Option<Timestamp> {
    meta::at(object, &["metadata", "deletionTimestamp"]).and_then(Value::as_str).and_then(time::parse)
}

fn bump_generation(object: &mut Value) {
    let generation = meta::at(object, &["metadata", "generation"]).and_then(Value::as_i64).unwrap_or(0);
    if generation > 0 {
        meta::metadata_mut(object).insert("generation".into(), (generation + 1).into());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::registry::Resource;
    use crate::registry::strategy::Strategy;

    struct Graceful;

    impl Strategy for Graceful {
        fn graceful_delete(&self, object: &Value, asked: Option<i64>) -> Option<i64> {
            Some(asked.unwrap_or_else(|| object["spec"]["seconds"].as_i64().unwrap_or(0)))
        }
    }

    fn after(resource: &Resource, has: &[&str], options: Options) -> Vec<String> {
        finalizers(resource, &json!({"metadata": {"finalizers": has}}), &options)
    }

    fn policy(propagation: Propagation) -> Options {
        Options { propagation: Some(propagation), ..Options::default() }
    }

    #[test]
    fn the_policy_counts_before_the_finalizers_and_those_before_the_default() {
        let map = Resource::new("", "v1", "ConfigMap", "configmaps");
        let job = Resource::new("batch", "v1", "Job", "jobs");
        let event = Resource::new("", "v1", "Event", "events");
        assert_eq!(after(&map, &[], Options::default()), [""; 0]);
        assert_eq!(after(&map, &["a/b"], policy(Propagation::Foreground)), ["a/b", FOREGROUND]);
        assert_eq!(after(&map, &[FOREGROUND], policy(Propagation::Orphan)), [ORPHAN]);
        assert_eq!(after(&map, &[ORPHAN], policy(Propagation::Background)), [""; 0]);
        assert_eq!(after(&map, &[FOREGROUND], Options::default()), [FOREGROUND]);
        assert_eq!(after(&job, &[], Options::default()), [ORPHAN]);
        assert_eq!(after(&job, &[FOREGROUND], Options::default()), [FOREGROUND]);
        assert_eq!(after(&job, &[], Options { orphan_dependents: Some(false), ..Options::default() }), [""; 0]);
        assert_eq!(after(&event, &[], policy(Propagation::Orphan)), [""; 0]);
    }

    #[test]
    fn a_grace_period_may_be_shortened_but_not_lengthened() {
        let kind = Resource::new("", "v1", "Pod", "pods").strategy(Graceful);
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let asked = |grace| Options { grace, ..Options::default() };
        let fresh = json!({"metadata": {"generation": 3}, "spec": {"seconds": 30}});
        let Way::Gracefully(marked, 30) = way(&kind, &fresh, &asked(None), now) else { panic!("no grace") };
        let mark =
            json!({"generation": 4, "deletionTimestamp": "2026-01-02T03:04:35Z", "deletionGracePeriodSeconds": 30});
        assert_eq!(marked["metadata"], mark);
        assert_eq!(way(&kind, &marked, &asked(None), now), Way::Pending);
        assert_eq!(way(&kind, &marked, &asked(Some(40)), now), Way::Pending);
        let Way::Gracefully(sooner, 10) = way(&kind, &marked, &asked(Some(10)), now) else { panic!("not shorter") };
        assert_eq!(sooner["metadata"]["deletionTimestamp"], "2026-01-02T03:04:15Z");
        assert_eq!(sooner["metadata"]["generation"], 4);
        let later = now + SignedDuration::from_secs(20);
        let Way::Gracefully(past, 1) = way(&kind, &marked, &asked(Some(5)), later) else { panic!("in the past") };
        assert_eq!(past["metadata"]["deletionTimestamp"], "2026-01-02T03:04:25Z");
        assert!(matches!(way(&kind, &marked, &asked(Some(0)), now), Way::Gracefully(_, 0)));
    }
}
