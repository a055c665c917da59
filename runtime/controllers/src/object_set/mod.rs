//! Sets of objects that belong together: those of a manifest, or of a chart. They are applied in an order in which each finds what it
//! needs, and those that left the set are deleted. Members carry the label and the annotations that K3s gives them, so that they are
//! found again whatever happened meanwhile.
//!
//! Nothing here knows where a set comes from.

mod definitions;
mod owner;

use std::collections::BTreeSet;
use std::fmt;

use kiln_apimachinery::meta;
use kiln_client::{Client, ClientError, Informers, ListParams, PatchKind};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};

pub(crate) use self::definitions::Definitions;
pub(crate) use self::owner::Owner;
use crate::mapper::{Mapper, Place};
use crate::reconcile::Failure;

const DEFINITION: &str = "CustomResourceDefinition";
/// The label that keeps an object when it has left its set.
const PRUNE: &str = "objectset.rio.cattle.io/prune";

/// A kind in a version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    pub(crate) api_version: String,
    pub(crate) kind: String,
}

impl Kind {
    pub(crate) fn of(object: &Value) -> Self {
        let text = |field| meta::text(object, &[field]).to_owned();
        Self { api_version: text("apiVersion"), kind: text("kind") }
    }

    /// Reads what [`fmt::Display`] writes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (api_version, kind) = text.split_once(", Kind=")?;
        Some(Self { api_version: api_version.trim_start_matches('/').to_owned(), kind: kind.to_owned() })
    }

    fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    fn is_definition(&self) -> bool {
        self.kind == DEFINITION && self.group() == "apiextensions.k8s.io"
    }
}

/// As Go prints a GroupVersionKind: `apps/v1, Kind=Deployment`, `/v1, Kind=Pod`.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.api_version.contains('/') { "" } else { "/" };
        write!(f, "{slash}{}, Kind={}", self.api_version, self.kind)
    }
}

/// A member that was found on the server.
#[derive(Debug, Deserialize)]
struct Found {
    metadata: FoundMeta,
}

#[derive(Debug, Deserialize)]
struct FoundMeta {
    #[serde(default)]
    namespace: String,
    name: String,
    uid: String,
    #[serde(default)]
    labels: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

/// An object by group, kind, namespace and name: its version does not matter.
pub(crate) type Identity = (String, String, String, String);

/// Applies sets.
pub(crate) struct Sets {
    client: Client,
    mapper: Mapper,
    pub(crate) definitions: Definitions,
    /// The field manager.
    manager: &'static str,
}

impl Sets {
    pub(crate) fn new(client: Client, manager: &'static str, informers: &mut Informers) -> Self {
        Self { mapper: Mapper::new(client.clone()), definitions: Definitions::new(informers), client, manager }
    }

    /// Makes the server have these objects, and of this owner's no others of these kinds or of those that are `known`.
    pub(crate) async fn apply(&self, owner: &Owner, objects: Vec<Value>, known: &[Kind]) -> Result<(), Failure> {
        let mut kinds: BTreeSet<Kind> = known.iter().cloned().collect();
        kinds.extend(objects.iter().map(Kind::of));
        let mut kept = BTreeSet::new();
        let mut failures = Vec::new();
        for object in in_order(objects) {
            let kind = Kind::of(&object);
            let name = meta::name(&object).to_owned();
            match self.apply_one(owner, object, &kind).await {
                Ok(identity) => _ = kept.insert(identity),
                Err(failure) => failures.push(format!("failed to apply {name} {kind} for {owner}: {failure}")),
            }
        }
        if !failures.is_empty() {
            return Err(Failure::Waiting(failures.join(", ")));
        }
        for kind in kinds {
            self.prune(owner, &kind, &kept).await?;
        }
        Ok(())
    }

    /// Deletes all of an owner's objects of these kinds.
    pub(crate) async fn remove(&self, owner: &Owner, kinds: impl IntoIterator<Item = Kind>) -> Result<(), Failure> {
        for kind in kinds {
            self.prune(owner, &kind, &BTreeSet::new()).await?;
        }
        Ok(())
    }

    /// Where objects of a kind are.
    ///
    /// # Errors
    /// Also when the server knows no such kind.
    pub(crate) async fn place(&self, kind: &Kind) -> Result<Place, Failure> {
        self.mapper.place(&kind.api_version, &kind.kind).await?.ok_or_else(|| {
            Failure::Waiting(format!("no matches for kind {:?} in version {:?}", kind.kind, kind.api_version))
        })
    }

    async fn apply_one(&self, owner: &Owner, mut object: Value, kind: &Kind) -> Result<Identity, Failure> {
        owner.mark(&mut object);
        self.put(object, kind, "default").await
    }

    /// Makes the server have this object, in a namespace of its own or in this one, if its kind is of namespaces.
    pub(crate) async fn put(&self, mut object: Value, kind: &Kind, namespace: &str) -> Result<Identity, Failure> {
        let place = self.place(kind).await?;
        let name = meta::name(&object).to_owned();
        if name.is_empty() {
            return Err(Failure::Waiting("metadata.name: Required value".to_owned()));
        }
        let namespace = match meta::namespace(&object) {
            _ if !place.namespaced => String::new(),
            "" => namespace.to_owned(),
            namespace => namespace.to_owned(),
        };
        let metadata = meta::metadata_mut(&mut object);
        for field in ["managedFields", "resourceVersion", "uid", "creationTimestamp", "namespace"] {
            metadata.remove(field);
        }
        if place.namespaced {
            metadata.insert("namespace".to_owned(), json!(namespace));
        }
        let path = place.path(&kind.api_version, &namespace, &name);
        self.client.patch::<IgnoredAny>(&path, PatchKind::Apply(self.manager), &object).await?;
        if kind.is_definition() {
            self.definitions.established(&name).await?;
        }
        Ok((kind.group().to_owned(), kind.kind.clone(), namespace, name))
    }

    /// Where an object is; `None` if the server does not know its kind.
    pub(crate) async fn path(&self, object: &Value, namespace: &str) -> Result<Option<String>, Failure> {
        let kind = Kind::of(object);
        let Some(place) = self.mapper.place(&kind.api_version, &kind.kind).await? else { return Ok(None) };
        let own = Some(meta::namespace(object)).filter(|own| !own.is_empty());
        Ok(Some(place.path(&kind.api_version, own.unwrap_or(namespace), meta::name(object))))
    }

    /// Which object it is; `None` if the server does not know its kind.
    pub(crate) async fn identity(&self, object: &Value, namespace: &str) -> Result<Option<Identity>, Failure> {
        let kind = Kind::of(object);
        let Some(place) = self.mapper.place(&kind.api_version, &kind.kind).await? else { return Ok(None) };
        let own = Some(meta::namespace(object)).filter(|own| !own.is_empty()).unwrap_or(namespace);
        let namespace = if place.namespaced { own.to_owned() } else { String::new() };
        Ok(Some((kind.group().to_owned(), kind.kind.clone(), namespace, meta::name(object).to_owned())))
    }

    /// An object as the server has it.
    pub(crate) async fn find(&self, object: &Value, kind: &Kind, namespace: &str) -> Result<Option<Value>, Failure> {
        self.place(kind).await?;
        match self.path(object, namespace).await? {
            Some(path) => Ok(self.client.find(&path).await?),
            None => Ok(None),
        }
    }

    /// An object, or a list of all if `name` is empty, of a kind that may be unknown.
    pub(crate) async fn look_up(
        client: &Client,
        kind: &Kind,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, Failure> {
        let place = Mapper::new(client.clone()).place(&kind.api_version, &kind.kind).await?;
        let Some(place) = place else { return Ok(None) };
        let path = match (name, namespace) {
            ("", "") => place.collection(&kind.api_version),
            _ => place.path(&kind.api_version, namespace, name),
        };
        Ok(client.find(path.trim_end_matches('/')).await?)
    }

    /// Deletes an owner's objects of a kind that are not among the kept ones.
    async fn prune(&self, owner: &Owner, kind: &Kind, kept: &BTreeSet<Identity>) -> Result<(), Failure> {
        // What the server does not know any more has no objects either.
        let Some(place) = self.mapper.place(&kind.api_version, &kind.kind).await? else { return Ok(()) };
        let params = ListParams { labels: owner.selector(), ..ListParams::default() };
        let list = self.client.list::<Found>(&place.collection(&kind.api_version), &params).await;
        let found = match list {
            Ok(list) => list.items,
            Err(error) if error.is_not_found() || error.status().is_some_and(|status| status.code == 405) => {
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        for Found { metadata } in found {
            let identity =
                (kind.group().to_owned(), kind.kind.clone(), metadata.namespace.clone(), metadata.name.clone());
            let stays = metadata.labels.get(PRUNE).is_some_and(|prune| prune == "false");
            if kept.contains(&identity) || stays || !owner.owns(&metadata.annotations) {
                continue;
            }
            let path = place.path(&kind.api_version, &metadata.namespace, &metadata.name);
            self.delete(&path, &metadata.uid).await?;
        }
        Ok(())
    }

    async fn delete(&self, path: &str, uid: &str) -> Result<(), ClientError> {
        let options = json!({"propagationPolicy": "Background", "preconditions": {"uid": uid}});
        match self.client.delete(path, &options).await {
            // It is gone, or another is in its place.
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error),
            _ => Ok(()),
        }
    }
}

/// Definitions first, then namespaces, then the rest as it stands.
fn in_order(mut objects: Vec<Value>) -> Vec<Value> {
    objects.sort_by_key(|object| {
        let kind = Kind::of(object);
        match kind.is_definition() {
            true => 0,
            false if kind.kind == "Namespace" && kind.api_version == "v1" => 1,
            false => 2,
        }
    });
    objects
}

/// The objects of a text of manifests, those of its lists among them.
pub(crate) fn objects(text: &str) -> Result<Vec<Value>, String> {
    let mut objects = Vec::new();
    for document in kiln_charts::yaml::documents(text).map_err(|error| error.to_string())? {
        flatten(document, &mut objects)?;
    }
    Ok(objects)
}

pub(crate) fn flatten(document: Value, into: &mut Vec<Value>) -> Result<(), String> {
    if document.is_null() {
        return Ok(());
    }
    let Value::Object(mut map) = document else {
        return Err("couldn't get version/kind; json parse error: it is no object".to_owned());
    };
    let kind = text_of(&map, "kind");
    if kind.is_empty() {
        return Err("Object 'Kind' is missing".to_owned());
    }
    if kind.ends_with("List") && map.get("items").is_some_and(Value::is_array) {
        let Some(Value::Array(items)) = map.remove("items") else { return Ok(()) };
        return items.into_iter().try_for_each(|item| flatten(item, into));
    }
    if text_of(&map, "apiVersion").is_empty() {
        return Err(format!("Object 'apiVersion' is missing in a {kind}"));
    }
    into.push(Value::Object(map));
    Ok(())
}

fn text_of<'a>(map: &'a Map<String, Value>, field: &str) -> &'a str {
    map.get(field).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

    use super::*;

    #[test]
    fn kinds_are_written_as_go_does_and_read_again() {
        for (api_version, text) in [("v1", "/v1, Kind=Pod"), ("apps/v1", "apps/v1, Kind=Pod")] {
            let kind = Kind { api_version: api_version.to_owned(), kind: "Pod".to_owned() };
            assert_eq!(kind.to_string(), text);
            assert_eq!(Kind::parse(text), Some(kind));
        }
        assert_eq!(Kind::parse(""), None);
    }

    #[test]
    fn lists_are_their_items_and_definitions_and_namespaces_come_first() {
        let text = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod}\n- {apiVersion: v1, kind: Namespace}\n---\n\n---\n\
                    apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n";
        let kinds: Vec<String> = in_order(objects(text).unwrap()).iter().map(|o| Kind::of(o).kind).collect();
        assert_eq!(kinds, ["CustomResourceDefinition", "Namespace", "Pod"]);
        assert_eq!(objects("a: 1").unwrap_err(), "Object 'Kind' is missing");
        assert!(objects("[]").is_err() && objects("kind: X").is_err());
    }
}
