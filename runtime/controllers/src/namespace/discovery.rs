//! Which collections a namespace can hold objects in.

use kiln_apimachinery::meta;
use kiln_client::{Client, ClientError};
use serde_json::Value;

/// A namespaced collection.
pub(super) struct Collection {
    /// As `deployments.apps`.
    pub(super) name: String,
    /// `/api/v1` or `/apis/<group>/<version>`.
    api: String,
    resource: String,
    /// Whether it can be emptied by one request.
    pub(super) at_once: bool,
}

impl Collection {
    pub(super) fn path(&self, namespace: &str) -> String {
        format!("{}/namespaces/{namespace}/{}", self.api, self.resource)
    }
}

/// What the server serves, and the groups that it could not tell about (an aggregated API that is down, say).
#[derive(Default)]
pub(super) struct Discovered {
    pub(super) collections: Vec<Collection>,
    pub(super) failures: Vec<String>,
}

/// Asks the server for its namespaced collections, each in its group's preferred version.
pub(super) async fn namespaced(client: &Client) -> Result<Discovered, ClientError> {
    let mut discovered = Discovered::default();
    let core: Value = client.get("/api/v1").await?;
    discovered.add("/api/v1", "", &core);
    let groups: Value = client.get("/apis").await?;
    for group in groups["groups"].as_array().into_iter().flatten() {
        let version = meta::text(group, &["preferredVersion", "groupVersion"]);
        let path = format!("/apis/{version}");
        match client.get::<Value>(&path).await {
            Ok(resources) => discovered.add(&path, meta::text(group, &["name"]), &resources),
            Err(error) => discovered.failures.push(format!("{version}: {error}")),
        }
    }
    Ok(discovered)
}

impl Discovered {
    fn add(&mut self, api: &str, group: &str, resources: &Value) {
        for resource in resources["resources"].as_array().into_iter().flatten() {
            let plural = meta::text(resource, &["name"]);
            let verbs = meta::strings(resource.get("verbs"));
            let can = |verb: &str| verbs.contains(&verb);
            let is_emptied = resource["namespaced"] == true && !plural.contains('/') && can("list") && can("delete");
            if is_emptied {
                self.collections.push(Collection {
                    name: if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") },
                    api: api.to_owned(),
                    resource: plural.to_owned(),
                    at_once: can("deletecollection"),
                });
            }
        }
    }
}
