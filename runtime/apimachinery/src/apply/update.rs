//! What a write that is no apply does to the owners: the writer owns what it changes, and others lose that.

use std::sync::LazyLock;

use serde_json::Value;

use super::compare::compare;
use super::owners::{Entry, Id, Operation, Owners, is_reset};
use super::set::Set;
use crate::meta;
use crate::typed::Type;

/// What nobody owns.
pub(super) static NEVER_OWNED: LazyLock<Set> = LazyLock::new(|| {
    const METADATA: [&str; 9] = [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ];
    let mut set = Set::of(&[&["apiVersion"], &["kind"], &["metadata"]]);
    for key in METADATA {
        set = set.union(Set::of(&[&["metadata", key]]));
    }
    set
});

/// Who writes what, and when.
#[derive(Clone, Copy)]
pub struct Writer<'a> {
    /// The manager's name; empty means `unknown`.
    pub manager: &'a str,
    /// The version in which the object is written.
    pub api_version: &'a str,
    /// True for a version in which the kind is served besides; owners in others are forgotten.
    pub serves: &'a dyn Fn(&str) -> bool,
    /// Subresource written; empty for the object itself.
    pub subresource: &'a str,
    /// RFC 3339, in whole seconds.
    pub now: &'a str,
    /// Fields that a write to this resource or subresource leaves alone, and so does not own.
    pub ignored: &'a Set,
}

impl Writer<'_> {
    pub(super) fn id(&self, operation: Operation) -> Id {
        Id {
            manager: if self.manager.is_empty() { "unknown" } else { self.manager }.to_owned(),
            operation,
            api_version: self.api_version.to_owned(),
            subresource: self.subresource.to_owned(),
        }
    }

    pub(super) fn knows(&self, version: &str) -> bool {
        version == self.api_version || (self.serves)(version)
    }
}

/// Sets the `managedFields` of `new`, which is about to be stored in place of `live` (`None` for a create). What `new` says
/// about them itself counts if it is well-formed and this is no subresource; otherwise those of `live` go on.
pub fn update<T: Type>(ty: T, live: Option<&Value>, new: &mut Value, writer: &Writer<'_>) {
    let given = meta::metadata_mut(new).remove("managedFields").filter(|list| !list.is_null());
    let kept = live.and_then(|live| meta::at(live, &["metadata", "managedFields"]));
    let mut comparison = compare(ty, live.or(Some(&Value::Null)), Some(new));
    comparison.removed.subtract(&NEVER_OWNED);
    comparison.modified.subtract(&NEVER_OWNED);
    comparison.added.subtract(&NEVER_OWNED);
    comparison.ignore(writer.ignored);
    let own_list = given.as_ref().filter(|list| writer.subresource.is_empty() && Some(*list) != kept);
    if comparison.is_empty() && own_list.is_none() {
        // Nothing changes hands.
        put(new, kept.cloned());
        return;
    }
    let mut owners = match own_list {
        Some(list) if is_reset(list) => Owners::default(),
        Some(list) => match Owners::read(Some(list)) {
            Ok(owners) if !owners.0.is_empty() => owners,
            _ => Owners::read(kept).unwrap_or_default(),
        },
        None => Owners::read(kept).unwrap_or_default(),
    };
    if owners.0.is_empty() && live.is_some() {
        // Owners are told from the beginning or from the first apply on.
        return;
    }
    owners.reconcile(ty, |version| writer.knows(version));
    track(&mut owners, &comparison.removed, comparison.modified.union(comparison.added), writer);
    put(new, owners.write());
}

/// Gives `changed` to the writer, and takes it and what is gone from everybody else.
pub(super) fn track(owners: &mut Owners, removed: &Set, changed: Set, writer: &Writer<'_>) {
    for entry in &mut owners.0 {
        entry.lose(removed);
        entry.lose(&changed);
    }
    if !changed.is_empty() {
        let id = writer.id(Operation::Update);
        let before = owners.take(&id).map(|e| e.fields).unwrap_or_default();
        owners.0.push(Entry::new(id, before.union(changed), Some(writer.now.to_owned())));
    }
    owners.0.retain(|e| !e.fields.is_empty());
    owners.cap();
}

pub(super) fn put(object: &mut Value, list: Option<Value>) {
    let metadata = meta::metadata_mut(object);
    match list {
        Some(list) => metadata.insert("managedFields".into(), list),
        None => metadata.remove("managedFields"),
    };
}

/// Gives `new` the times of `old`'s entries if the objects differ in nothing else, so that a write that changes nothing is
/// none.
pub fn ignore_times(new: &mut Value, old: &Value) {
    let path = ["metadata", "managedFields"];
    let (Some(Value::Array(mine)), Some(Value::Array(theirs))) = (meta::at(new, &path), meta::at(old, &path)) else {
        return;
    };
    let without_time = |entry: &Value| {
        let map = entry.as_object().into_iter().flatten();
        map.filter(|(key, _)| *key != "time").map(|(k, v)| (k.clone(), v.clone())).collect::<Vec<_>>()
    };
    let same_owners = mine != theirs
        && mine.len() == theirs.len()
        && mine.iter().zip(theirs).all(|(a, b)| a == b || without_time(a) == without_time(b));
    if same_owners && rest(new).eq(rest(old)) {
        put(new, Some(Value::Array(theirs.clone())));
    }
}

/// Everything but the owners and the revision.
fn rest(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let fields = object.as_object().into_iter().flatten().filter(|(key, _)| *key != "metadata");
    let metadata = object.get("metadata").and_then(Value::as_object).into_iter().flatten();
    fields.chain(metadata.filter(|(key, _)| !matches!(key.as_str(), "managedFields" | "resourceVersion")))
}
