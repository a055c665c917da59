//! Definitions while the server runs: their names are accepted or not, their versions are served, and once one is deleted,
//! so are its objects. One task watches the definitions; what it decides is in the registry before a client can read of it
//! in a condition.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use kiln_apimachinery::{Status, meta};
use kiln_storage::{Record, Revision};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::definition::{self, is_true, set_condition};
use super::registration::{self, Versions};
use super::{PREFIX, finalizer, rows::rows};
use crate::follower::{self, Follower};
use crate::registry::{Registry, Resource};
use crate::server::{ApiServer, Inner};
use crate::verbs::store::Stored;

/// How long to wait before a definition is looked at again whose condition could not be written.
const AGAIN: Duration = Duration::from_secs(1);

/// A definition that is known.
struct Known {
    group: String,
    plural: String,
    /// What of the definition the rows are made of.
    tag: String,
    rows: Vec<Arc<Resource>>,
    accepted: Value,
    established: bool,
}

/// The task's own state.
struct Live {
    server: Weak<Inner>,
    known: BTreeMap<String, Known>,
    /// Definitions whose objects are being deleted.
    leaving: BTreeSet<String>,
    /// Groups and versions that have an APIService; none are known at the start.
    registered: Option<Versions>,
    stop: CancellationToken,
}

/// Serves what is defined already, and goes on to serve what will be.
pub(crate) async fn start(server: &ApiServer, stop: CancellationToken) -> Result<(), Status> {
    let (page, watch) = follower::begin::<Live>(server).await?;
    let mut live = Live {
        server: server.downgrade(),
        known: BTreeMap::new(),
        leaving: BTreeSet::new(),
        registered: None,
        stop: stop.clone(),
    };
    let mut pending = Vec::new();
    for record in page.records {
        let revision = record.mod_revision;
        let stored = Stored::parse(record)?;
        live.learn(&stored.object, revision);
        pending.push(stored);
    }
    live.publish(server.registry());
    tokio::spawn(async move {
        live.catch_up(pending).await;
        tokio::select! {
            () = stop.cancelled() => {}
            () = follower::run(live.server.clone(), &mut live, watch) => {}
        }
    });
    Ok(())
}

impl Follower for Live {
    const PREFIX: &'static str = PREFIX;
    const WHAT: &'static str = "the definitions of custom resources";

    fn names(&self) -> Vec<String> {
        self.known.keys().cloned().collect()
    }

    async fn put(&mut self, server: &ApiServer, record: Record) {
        match Stored::parse(record) {
            Ok(stored) => self.settle(server, stored).await,
            Err(status) => tracing::error!(error = status.message, "a definition can't be read"),
        }
    }

    /// Its names are free for others.
    async fn gone(&mut self, server: &ApiServer, name: &str) {
        self.leaving.remove(name);
        let Some(known) = self.known.remove(name) else { return };
        self.publish(server.registry());
        self.reconsider(server, &known.group, name).await;
    }

    /// Gives each group and version an APIService.
    async fn settled(&mut self, server: &ApiServer) {
        let rows = self.known.values().flat_map(|known| &known.rows);
        let wanted: Versions = rows.map(|row| (row.group.clone(), row.version.clone())).collect();
        if self.registered.as_ref() == Some(&wanted) {
            return;
        }
        match registration::keep(server, &wanted).await {
            Ok(()) => self.registered = Some(wanted),
            // The next definition that changes is another chance.
            Err(status) => tracing::warn!(error = status.message, "APIServices can't be written"),
        }
    }
}

impl Live {
    /// Settles what was there at the start.
    async fn catch_up(&mut self, there: Vec<Stored>) {
        let Some(server) = self.server.upgrade().map(ApiServer::of) else { return };
        for stored in there {
            self.settle(&server, stored).await;
        }
        self.settled(&server).await;
    }

    /// Looks again at the definitions of a group but one, since names may have become free.
    async fn reconsider(&mut self, server: &ApiServer, group: &str, but: &str) {
        let waiting = |(name, known): &(&String, &Known)| *name != but && known.group == group && !known.established;
        let names: Vec<String> = self.known.iter().filter(waiting).map(|(name, _)| name.clone()).collect();
        for name in names {
            if let Ok(Some(stored)) = server.store().read(super::GROUP, super::DEFINITIONS, "", &name).await {
                Box::pin(self.settle(server, stored)).await;
            }
        }
    }

    /// Serves a definition as it is now, and writes its conditions if they are not as they should be.
    async fn settle(&mut self, server: &ApiServer, stored: Stored) {
        let name = meta::name(&stored.object).to_owned();
        let revision = server.storage().current_revision();
        let mut wanted = stored.object.clone();
        if !meta::is_terminating(&wanted) {
            self.conditions(&mut wanted, server);
        }
        let freed =
            meta::at(&wanted, &["status", "acceptedNames"]) != meta::at(&stored.object, &["status", "acceptedNames"]);
        if self.learn(&wanted, revision.max(stored.record.mod_revision)) {
            self.publish(server.registry());
        }
        if wanted.get("status") != stored.object.get("status") {
            let written = server.store().replace(super::GROUP, super::DEFINITIONS, &stored, &wanted).await;
            match written {
                Ok(()) => {}
                // Whoever was faster has made an event of it.
                Err(status) if status.code == 409 || status.code == 404 => return,
                Err(status) => {
                    tracing::warn!(definition = name, error = status.message, "a condition can't be written");
                    self.again(name.clone());
                }
            }
            if freed {
                let group = meta::text(&wanted, &["spec", "group"]).to_owned();
                self.reconsider(server, &group, &name).await;
            }
        }
        if meta::is_terminating(&wanted)
            && meta::finalizers(&wanted).contains(&finalizer::NAME)
            && self.leaving.insert(name.clone())
        {
            finalizer::start(self.server.clone(), name, self.stop.clone());
        }
    }

    /// Has the watch tell of a definition once more, by a write that changes nothing but its time.
    fn again(&self, name: String) {
        let (server, stop) = (self.server.clone(), self.stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(AGAIN) => {
                    let Some(server) = server.upgrade().map(ApiServer::of) else { return };
                    if let Ok(Some(stored)) = server.store().read(super::GROUP, super::DEFINITIONS, "", &name).await {
                        // Its event comes back here; a failure is the store's, which is told elsewhere.
                        drop(server.store().replace(super::GROUP, super::DEFINITIONS, &stored, &stored.object).await);
                    }
                }
            }
        });
    }

    /// Settles the names of a definition against those of the others in its group.
    fn conditions(&self, definition: &mut Value, server: &ApiServer) {
        let now = server.now();
        let requested = meta::at(definition, &["spec", "names"]).cloned().unwrap_or_default();
        let accepted = meta::at(definition, &["status", "acceptedNames"]).cloned().unwrap_or_else(|| json!({}));
        let group = meta::text(definition, &["spec", "group"]).to_owned();
        if accepted != requested || !is_true(definition, "NamesAccepted") {
            let (names, conflict) = self.names(&group, meta::name(definition), &requested, &accepted);
            meta::child(definition, "status").insert("acceptedNames".into(), names);
            match conflict {
                None => set_condition(definition, "NamesAccepted", "True", "NoConflicts", "no conflicts found", now),
                Some((reason, why)) => set_condition(definition, "NamesAccepted", "False", reason, &why, now),
            }
        }
        if !is_true(definition, "Established") {
            if is_true(definition, "NamesAccepted") {
                let why = "the initial names have been accepted";
                set_condition(definition, "Established", "True", "InitialNamesAccepted", why, now);
            } else {
                set_condition(definition, "Established", "False", "NotAccepted", "not all names are accepted", now);
            }
        }
        if let Some((status, reason, why)) = definition::approval_condition(definition) {
            let kind = "KubernetesAPIApprovalPolicyConformant";
            if definition::condition(definition, kind).is_none_or(|c| meta::text(c, &["reason"]) != reason) {
                set_condition(definition, kind, status, reason, &why, now);
            }
        }
    }

    /// The names that a definition may have, and what keeps it from those that it wants.
    fn names(
        &self,
        group: &str,
        own: &str,
        requested: &Value,
        accepted: &Value,
    ) -> (Value, Option<(&'static str, String)>) {
        let others =
            || self.known.iter().filter(|(name, k)| k.group == group && *name != own).map(|(_, k)| &k.accepted);
        let resources: BTreeSet<&str> = others()
            .flat_map(|n| {
                [meta::text(n, &["plural"]), meta::text(n, &["singular"])]
                    .into_iter()
                    .chain(meta::strings(n.get("shortNames")))
            })
            .collect();
        let kinds: BTreeSet<&str> =
            others().flat_map(|n| [meta::text(n, &["kind"]), meta::text(n, &["listKind"])]).collect();
        let mut names = accepted.clone();
        let mut conflict = None;
        let rows: [(&str, &'static str, &BTreeSet<&str>); 4] = [
            ("plural", "PluralConflict", &resources),
            ("singular", "SingularConflict", &resources),
            ("kind", "KindConflict", &kinds),
            ("listKind", "ListKindConflict", &kinds),
        ];
        let taken = |name: &str| format!("{name:?} is already in use");
        for (key, reason, used) in rows {
            let name = meta::text(requested, &[key]);
            if name != meta::text(accepted, &[key]) && used.contains(name) {
                conflict = Some((reason, taken(name)));
            } else {
                meta::object_mut(&mut names).insert(key.into(), name.into());
            }
            if key == "singular" {
                let mine = meta::strings(accepted.get("shortNames"));
                let wanted = meta::strings(requested.get("shortNames"));
                let clashes: Vec<String> =
                    wanted.iter().filter(|n| !mine.contains(n) && resources.contains(*n)).map(|n| taken(n)).collect();
                match clashes.as_slice() {
                    [] => copy(requested, &mut names, "shortNames"),
                    [one] => conflict = Some(("ShortNamesConflict", one.clone())),
                    many => conflict = Some(("ShortNamesConflict", format!("[{}]", many.join(", ")))),
                }
            }
        }
        copy(requested, &mut names, "categories");
        (names, conflict)
    }

    /// Takes a definition's state in; true if rows have changed.
    fn learn(&mut self, definition: &Value, revision: Revision) -> bool {
        let name = meta::name(definition).to_owned();
        let established = is_true(definition, "Established");
        let tag = format!(
            "{}/{}/{}/{}/{}",
            meta::uid(definition),
            meta::at(definition, &["metadata", "generation"]).unwrap_or(&Value::Null),
            established,
            meta::is_terminating(definition),
            meta::at(definition, &["status", "acceptedNames"]).unwrap_or(&Value::Null),
        );
        let accepted = meta::at(definition, &["status", "acceptedNames"]).cloned().unwrap_or_default();
        if let Some(known) = self.known.get_mut(&name)
            && known.tag == tag
        {
            known.accepted = accepted;
            return false;
        }
        let rows = if established { rows(definition, &tag, revision) } else { Vec::new() };
        let (group, plural) = (
            meta::text(definition, &["spec", "group"]).to_owned(),
            meta::text(definition, &["spec", "names", "plural"]).to_owned(),
        );
        self.known.insert(name, Known { group, plural, tag, rows, accepted, established });
        true
    }

    fn publish(&self, registry: &Registry) {
        let own = |known: &&Known| registry.builtin_has(&known.group, &known.plural);
        let rows = self.known.values().filter(|known| !own(known)).flat_map(|known| known.rows.iter().cloned());
        registry.set_custom(rows.collect());
    }
}

fn copy(from: &Value, to: &mut Value, key: &str) {
    match from.get(key) {
        Some(value) => drop(meta::object_mut(to).insert(key.into(), value.clone())),
        None => drop(meta::object_mut(to).remove(key)),
    }
}
