//! From an apiVersion and a kind to a path, by discovery, asked for once per group and version and again when a kind is
//! not found there.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use kiln_apimachinery::meta;
use kiln_client::Client;
use serde_json::Value;

use crate::reconcile::Failure;

/// A kind's place in the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) plural: String,
    pub(crate) namespaced: bool,
}

/// What has been discovered.
pub(crate) struct Mapper {
    client: Client,
    places: Mutex<HashMap<(String, String), Place>>,
}

impl Mapper {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, places: Mutex::default() }
    }

    /// Where objects of a kind are; `None` if the server knows no such kind.
    pub(crate) async fn place(&self, api_version: &str, kind: &str) -> Result<Option<Place>, Failure> {
        if let Some(known) = self.known(api_version, kind) {
            return Ok(Some(known));
        }
        let Some(resources) = self.client.find::<Value>(&root(api_version)).await? else { return Ok(None) };
        let found = resources["resources"].as_array().into_iter().flatten();
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        for resource in found.filter(|r| !meta::text(r, &["name"]).contains('/')) {
            let place = Place {
                plural: meta::text(resource, &["name"]).to_owned(),
                namespaced: resource["namespaced"] == true,
            };
            places.insert((api_version.to_owned(), meta::text(resource, &["kind"]).to_owned()), place);
        }
        drop(places);
        Ok(self.known(api_version, kind))
    }

    fn known(&self, api_version: &str, kind: &str) -> Option<Place> {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.get(&(api_version.to_owned(), kind.to_owned())).cloned()
    }
}

/// The path of an API: `/api/v1`, `/apis/apps/v1`.
pub(crate) fn root(api_version: &str) -> String {
    if api_version.contains('/') { format!("/apis/{api_version}") } else { format!("/api/{api_version}") }
}

impl Place {
    /// The path of all objects of this kind.
    pub(crate) fn collection(&self, api_version: &str) -> String {
        format!("{}/{}", root(api_version), self.plural)
    }

    /// The path of the objects of this kind in a namespace.
    pub(crate) fn within(&self, api_version: &str, namespace: &str) -> String {
        format!("{}/namespaces/{namespace}/{}", root(api_version), self.plural)
    }

    /// The path of an object of this kind.
    pub(crate) fn path(&self, api_version: &str, namespace: &str, name: &str) -> String {
        let collection =
            if self.namespaced { self.within(api_version, namespace) } else { self.collection(api_version) };
        format!("{collection}/{name}")
    }
}
