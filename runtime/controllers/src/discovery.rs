//! Which collections of objects the server has, those of aggregated APIs among them.

use kiln_apimachinery::meta;
use kiln_client::{Client, ClientError};
use serde_json::Value;

use crate::mapper::{Place, root};

/// A collection.
#[derive(Debug, Clone)]
pub(crate) struct Collection {
    /// As `deployments.apps`.
    pub(crate) name: String,
    /// As `apps/v1`.
    pub(crate) api_version: String,
    /// Kind of its objects.
    pub(crate) kind: String,
    /// Where it is.
    pub(crate) place: Place,
    verbs: Vec<String>,
}

impl Collection {
    /// Whether the server has a verb for it.
    pub(crate) fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|own| own == verb)
    }
}

/// What the server has, and the versions that it could not tell about (an aggregated API that is down, say).
#[derive(Debug, Default)]
pub(crate) struct Discovered {
    pub(crate) collections: Vec<Collection>,
    /// As `apps/v1`, with why not.
    pub(crate) failures: Vec<(String, ClientError)>,
}

/// Asks the server for its collections, each in its group's preferred version, if that is `wanted`.
pub(crate) async fn discover(client: &Client, wanted: impl Fn(&str) -> bool) -> Result<Discovered, ClientError> {
    let mut discovered = Discovered::default();
    let groups: Value = client.get("/apis").await?;
    let groups = groups["groups"].as_array().into_iter().flatten();
    let preferred = groups.map(|group| meta::text(group, &["preferredVersion", "groupVersion"]));
    for version in std::iter::once("v1").chain(preferred).filter(|version| wanted(version)) {
        match client.get::<Value>(&root(version)).await {
            Ok(resources) => discovered.add(version, &resources),
            Err(error) => discovered.failures.push((version.to_owned(), error)),
        }
    }
    Ok(discovered)
}

impl Discovered {
    fn add(&mut self, api_version: &str, resources: &Value) {
        for resource in resources["resources"].as_array().into_iter().flatten() {
            let plural = meta::text(resource, &["name"]);
            if plural.contains('/') {
                continue;
            }
            self.collections.push(Collection {
                name: match api_version.split_once('/') {
                    Some((group, _)) => format!("{plural}.{group}"),
                    None => plural.to_owned(),
                },
                api_version: api_version.to_owned(),
                kind: meta::text(resource, &["kind"]).to_owned(),
                place: Place { plural: plural.to_owned(), namespaced: resource["namespaced"] == true },
                verbs: meta::strings(resource.get("verbs")).into_iter().map(str::to_owned).collect(),
            });
        }
    }
}
