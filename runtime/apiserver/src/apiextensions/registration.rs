//! The APIServices of groups and versions that definitions bring: made when the first is served, gone with the last.

use std::collections::BTreeSet;

use kiln_apimachinery::{Status, meta};
use kiln_storage::ListOptions;
use serde_json::{Value, json};

use crate::registry::extension::{self, APISERVICES, PREFIX};
use crate::server::ApiServer;
use crate::verbs::errors;

const LABEL: &str = "kube-aggregator.kubernetes.io/automanaged";

/// The priority of all groups that definitions bring.
pub(crate) const GROUP_PRIORITY: i64 = 1000;
/// The priority of all their versions.
pub(crate) const VERSION_PRIORITY: i64 = 100;

/// Groups and versions.
pub(super) type Versions = BTreeSet<(String, String)>;

/// The APIService of a group and version that a definition brings.
pub(crate) fn local(group: &str, version: &str) -> Value {
    json!({
        "metadata": {"name": format!("{version}.{group}"), "labels": {LABEL: "true"}},
        "spec": {
            "group": group, "version": version,
            "groupPriorityMinimum": GROUP_PRIORITY, "versionPriority": VERSION_PRIORITY,
        },
    })
}

/// Makes what is missing and removes what nobody defines any more. What somebody else made stays.
pub(super) async fn keep(server: &ApiServer, wanted: &Versions) -> Result<(), Status> {
    let page = server.storage().list(PREFIX, ListOptions::default()).await.map_err(errors::storage)?;
    let mut there = Versions::new();
    for record in page.records {
        let Ok(object) = serde_json::from_slice::<Value>(&record.value) else { continue };
        let text = |key: &str| meta::text(&object, &["spec", key]).to_owned();
        let version = (text("group"), text("version"));
        let managed = meta::labels(&object).get(LABEL) == Some(&"true");
        if managed && !wanted.contains(&version) {
            let removed = server.storage().delete(record.key.to_string(), Some(record.mod_revision)).await;
            match removed {
                Ok(_) | Err(kiln_storage::StorageError::Conflict { .. }) => {}
                Err(error) => return Err(errors::storage(error)),
            }
        } else {
            there.insert(version);
        }
    }
    for (group, version) in wanted.difference(&there) {
        match server.store().create(extension::GROUP, APISERVICES, local(group, version)).await {
            Err(status) if status.code != 409 => return Err(status),
            _ => {}
        }
    }
    Ok(())
}
