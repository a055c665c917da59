//! Server-side apply: merges a configuration into an object, removes what its manager no longer says and nobody else owns, and
//! refuses to take from others unless forced to.

use serde_json::Value;

use super::check::check;
use super::compare::{Comparison, compare};
use super::fields::set_of;
use super::last_applied;
use super::merge::merge;
use super::owners::{Entry, Operation, Owners};
use super::path::{Element, same};
use super::remove::remove;
use super::set::Set;
use super::update::{NEVER_OWNED, Writer, put, track};
use crate::gvk::Gvk;
use crate::meta;
use crate::typed::Type;

/// Owner of everything that was there before the first apply.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Why a configuration can't be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Others own fields that the configuration would change; a 409.
    #[error("{}", conflict_text(.0))]
    Conflicts(Vec<Conflict>),
    /// The configuration is of another kind or says what it may not; a 400.
    #[error("{0}")]
    Refused(String),
    /// The configuration does not fit the type; a 500, as in the reference.
    #[error("{0}")]
    Unfit(String),
}

/// A field that somebody else owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The owner, as messages name it.
    pub owner: String,
    pub(super) path: Vec<Element>,
}

impl Conflict {
    /// The field, such as `.spec.replicas`.
    pub fn field(&self) -> String {
        self.path.iter().map(ToString::to_string).collect()
    }
}

fn conflict_text(conflicts: &[Conflict]) -> String {
    if let [one] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {}: {}", one.owner, one.field());
    }
    let mut lines = Vec::new();
    let mut owner = "";
    for conflict in conflicts {
        if owner != conflict.owner {
            owner = &conflict.owner;
            lines.push(format!("conflicts with {owner}:"));
        }
        lines.push(format!("- {}", conflict.field()));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

/// Applies `config` to `live` (`None` if there is no object) and gives the object with its new `managedFields`.
pub fn apply<T: Type>(
    ty: T,
    gvk: &Gvk,
    live: Option<&Value>,
    config: &Value,
    writer: &Writer<'_>,
    force: bool,
) -> Result<Value, ApplyError> {
    let text = |key: &str| config.get(key).and_then(Value::as_str).unwrap_or_default();
    let version = gvk.api_version();
    if text("kind") != gvk.kind || text("apiVersion") != version {
        let (group, v) = text("apiVersion").rsplit_once('/').unwrap_or(("", text("apiVersion")));
        return Err(ApplyError::Refused(format!("invalid object type: {}", Gvk::new(group, v, text("kind")))));
    }
    if meta::at(config, &["metadata", "managedFields"]).is_some_and(|list| !list.is_null()) {
        return Err(ApplyError::Refused("metadata.managedFields must be nil".to_owned()));
    }
    check(ty, config).map_err(|e| {
        let name = format!("{}/{}; {gvk}", meta::namespace(config), meta::name(config));
        ApplyError::Unfit(format!("failed to create typed patch object ({name}): {e}"))
    })?;
    let owners = Owners::read(live.and_then(|live| meta::at(live, &["metadata", "managedFields"])))
        .map_err(|e| ApplyError::Unfit(format!("failed to decode managed fields: {e}")))?;
    let mut bare = live.cloned().unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    if live.is_some() {
        put(&mut bare, None);
    }
    let job = Job { ty, live: &bare, exists: live.is_some(), config, writer };
    let mut object = match job.run(owners.clone(), force) {
        Err(ApplyError::Conflicts(conflicts)) if writer.manager == last_applied::MANAGER => {
            match last_applied::still_owned(ty, &bare, &version) {
                None => return Err(ApplyError::Conflicts(conflicts)),
                Some(mine) => {
                    let left: Vec<_> = conflicts.into_iter().filter(|c| !mine.has(&c.path)).collect();
                    if !left.is_empty() {
                        return Err(ApplyError::Conflicts(left));
                    }
                    job.run(owners, true)?
                }
            }
        }
        done => done?,
    };
    if writer.manager == last_applied::MANAGER {
        last_applied::renew(&mut object, config);
    }
    Ok(object)
}

struct Job<'a, T> {
    ty: T,
    /// The object without its owners.
    live: &'a Value,
    exists: bool,
    config: &'a Value,
    writer: &'a Writer<'a>,
}

impl<T: Type> Job<'_, T> {
    fn run(&self, mut owners: Owners, force: bool) -> Result<Value, ApplyError> {
        let (ty, live, writer) = (self.ty, self.live, self.writer);
        if owners.0.is_empty() && self.exists {
            let Comparison { mut added, modified, .. } = compare(ty, Some(&Value::Null), Some(live));
            added = added.union(modified);
            added.subtract(&NEVER_OWNED);
            added.subtract_trees(writer.ignored);
            track(&mut owners, &Set::default(), added, &Writer { manager: BEFORE_FIRST_APPLY, ..*writer });
        }
        owners.reconcile(ty, |version| writer.knows(version));
        let unfit = |e: String| ApplyError::Unfit(format!("failed to merge config: {}", e.trim_start_matches(": ")));
        let merged = merge(ty, Some(live), Some(self.config)).map_err(unfit)?.unwrap_or_default();
        let id = writer.id(Operation::Apply);
        let last = owners.take(&id);
        let mut fields = set_of(ty, self.config);
        fields.subtract_trees(writer.ignored);
        let merged = match &last {
            Some(last) if !last.fields.is_empty() => self.prune(merged, &owners, &fields, &last.fields),
            _ => merged,
        };
        let mut comparison = compare(ty, Some(live), Some(&merged));
        comparison.ignore(writer.ignored);
        let changed = comparison.modified.union(comparison.added);
        let mut conflicts = Vec::new();
        for entry in &owners.0 {
            let owner = entry.id.shown();
            let paths = entry.fields.intersection(&changed).paths();
            conflicts.extend(paths.into_iter().map(|path| Conflict { owner: owner.clone(), path }));
        }
        if !force && !conflicts.is_empty() {
            conflicts.sort_by(|a, b| a.owner.cmp(&b.owner));
            return Err(ApplyError::Conflicts(conflicts));
        }
        for entry in &mut owners.0 {
            entry.lose(&changed);
            entry.lose(&comparison.removed);
        }
        fields.subtract(&NEVER_OWNED);
        let time = if same(live, &merged) { last.and_then(|entry| entry.time) } else { Some(writer.now.to_owned()) };
        owners.0.push(Entry::new(id, fields, time));
        let mut object = merged;
        put(&mut object, owners.write());
        Ok(object)
    }

    /// Takes out what the manager applied last time and not this time, unless somebody else owns it or it was never its.
    fn prune(&self, merged: Value, owners: &Owners, fields: &Set, last: &Set) -> Value {
        let ty = self.ty;
        let mut given_up = last.clone();
        given_up.subtract(fields);
        if given_up.is_empty() {
            return merged;
        }
        let named = |set: &Set| set.with_named_fields(Some(ty));
        let last = named(last);
        let all = named(&set_of(ty, &merged));
        let pruned = remove(ty, &merged, &last);
        let owned = owners.0.iter().fold(fields.clone(), |all, entry| all.union(entry.fields.clone()));
        let keep = named(&set_of(ty, &pruned)).union(named(&owned));
        let mut gone = all.clone();
        gone.subtract(&keep);
        let pruned = remove(ty, &merged, &gone);
        let mut gone = all;
        gone.subtract(&named(&set_of(ty, &pruned)));
        remove(ty, &merged, &gone.intersection(&last))
    }
}
