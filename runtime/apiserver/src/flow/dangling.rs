//! The `Dangling` condition of flow schemas: whether the priority level that a schema names is missing. In flow schemas and
//! levels, by the store's watch; out, a write for each schema whose condition does not say what is so. All servers on one
//! store say the same, and who comes second finds it said.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use kiln_apimachinery::Status;
use kiln_storage::{Record, Revision};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::follower::{self, Follower, name_of};
use crate::registry::flow::{DANGLING, GROUP, dangling, level_of};
use crate::server::ApiServer;
use crate::subresources::condition;

/// The kinds, as names below the prefix begin.
const SCHEMAS: &str = "flowschemas";
const LEVELS: &str = "prioritylevelconfigurations";

/// A schema that is known.
struct Known {
    level: String,
    /// What its condition says of the level.
    told: Option<bool>,
    revision: Revision,
}

#[derive(Default)]
struct Judge {
    schemas: BTreeMap<String, Known>,
    levels: BTreeSet<String>,
}

/// Puts the conditions right, and goes on to keep them so.
pub(crate) async fn start(server: &ApiServer, stop: CancellationToken) -> Result<(), Status> {
    let (page, watch) = follower::begin::<Judge>(server).await?;
    let mut judge = Judge::default();
    for record in page.records {
        judge.put(server, record).await;
    }
    judge.settled(server).await;
    let server = server.downgrade();
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = follower::run(server, &mut judge, watch) => {}
        }
    });
    Ok(())
}

impl Follower for Judge {
    const PREFIX: &'static str = "/registry/flowcontrol.apiserver.k8s.io/";
    const WHAT: &'static str = "flow schemas and priority levels";

    fn names(&self) -> Vec<String> {
        let schemas = self.schemas.keys().map(|name| format!("{SCHEMAS}/{name}"));
        schemas.chain(self.levels.iter().map(|name| format!("{LEVELS}/{name}"))).collect()
    }

    async fn put(&mut self, _: &ApiServer, record: Record) {
        match name_of::<Self>(&record).split_once('/') {
            Some((LEVELS, name)) => {
                self.levels.insert(name.to_owned());
            }
            Some((SCHEMAS, name)) => {
                let Ok(schema) = serde_json::from_slice::<Value>(&record.value) else { return };
                let known =
                    Known { level: level_of(&schema).to_owned(), told: told(&schema), revision: record.mod_revision };
                self.schemas.insert(name.to_owned(), known);
            }
            _ => {}
        }
    }

    async fn gone(&mut self, _: &ApiServer, name: &str) {
        match name.split_once('/') {
            Some((LEVELS, name)) => {
                self.levels.remove(name);
            }
            Some((SCHEMAS, name)) => drop(self.schemas.remove(name)),
            _ => {}
        }
    }

    async fn settled(&mut self, server: &ApiServer) {
        let writes = self.schemas.iter().filter_map(|(name, schema)| {
            let is_there = self.levels.contains(&schema.level);
            (schema.told != Some(is_there)).then(|| schema.tell(server, name, is_there))
        });
        // Together, so that they share commits.
        join_all(writes).await;
    }
}

impl Known {
    async fn tell(&self, server: &ApiServer, name: &str, is_there: bool) {
        match self.try_tell(server, name, is_there).await {
            Ok(()) => {}
            // Whoever was faster has made an event of it.
            Err(status) if status.code == 409 || status.code == 404 => {}
            Err(status) => tracing::warn!(name, error = status.message, "a flow schema's condition can't be written"),
        }
    }

    async fn try_tell(&self, server: &ApiServer, name: &str, is_there: bool) -> Result<(), Status> {
        let stored = server.store().read(GROUP, SCHEMAS, "", name).await?;
        // Of a later state an event is on its way, maybe with levels that are not known yet.
        let Some(stored) = stored.filter(|s| s.record.mod_revision == self.revision) else { return Ok(()) };
        let mut new = stored.object.clone();
        condition(&mut new, wanted(&self.level, is_there), server.now());
        server.store().replace(GROUP, SCHEMAS, &stored, &new).await
    }
}

/// The condition of a schema of a level, but for its time, in the reference's words.
fn wanted(level: &str, is_there: bool) -> Value {
    let (status, reason, says) = if is_there {
        ("False", "Found", "and it exists")
    } else {
        ("True", "NotFound", "but there is no such object")
    };
    let message = format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?} {says}");
    json!({"type": DANGLING, "status": status, "reason": reason, "message": message})
}

/// Whether a schema's condition says that its level is there; `None` if there is no condition, or one in other words.
fn told(schema: &Value) -> Option<bool> {
    let found = dangling(schema)?;
    [true, false].into_iter().find(|is_there| {
        let wanted = wanted(level_of(schema), *is_there);
        ["status", "reason", "message"].iter().all(|key| found.get(key) == wanted.get(key))
    })
}
