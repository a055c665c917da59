//! Objects from one version of a custom kind to another: by name alone, or by a webhook.

use bytes::Bytes;
use kiln_apimachinery::{Status, meta};
use serde_json::{Value, json};

use crate::server::ApiServer;
use crate::webhooks::client::{self, Target};

/// How a definition's objects become those of another version.
#[derive(Clone, Debug)]
pub(crate) enum Converter {
    /// The version's name is all that differs.
    Nothing,
    /// A webhook knows.
    Webhook(Box<Webhook>),
}

/// A conversion webhook.
#[derive(Clone, Debug)]
pub(crate) struct Webhook {
    definition: String,
    target: Target,
    /// The version of the review that both sides know.
    review: &'static str,
}

impl Converter {
    /// Whether versions may differ in more than their names.
    pub(crate) fn changes_objects(&self) -> bool {
        matches!(self, Self::Webhook(_))
    }

    /// That of a definition.
    pub(super) fn of(definition: &Value) -> Self {
        let conversion = meta::at(definition, &["spec", "conversion"]).unwrap_or(&Value::Null);
        if meta::text(conversion, &["strategy"]) != "Webhook" {
            return Self::Nothing;
        }
        let versions = meta::strings(meta::at(conversion, &["webhook", "conversionReviewVersions"]));
        let review = versions.iter().find_map(|v| ["v1", "v1beta1"].into_iter().find(|known| known == v));
        let client = meta::at(conversion, &["webhook", "clientConfig"]).unwrap_or(&Value::Null);
        Self::Webhook(Box::new(Webhook {
            definition: meta::name(definition).to_owned(),
            target: Target::of(client),
            review: review.unwrap_or("v1"),
        }))
    }

    /// Turns objects into those of a version. Objects that are of it already stay.
    pub(crate) async fn convert(
        &self,
        server: &ApiServer,
        objects: Vec<Value>,
        wanted: &str,
    ) -> Result<Vec<Value>, Status> {
        let differs = |object: &Value| meta::text(object, &["apiVersion"]) != wanted;
        match self {
            Self::Nothing => Ok(objects
                .into_iter()
                .map(|mut object| {
                    meta::object_mut(&mut object).insert("apiVersion".into(), wanted.into());
                    object
                })
                .collect()),
            Self::Webhook(_) if !objects.iter().any(differs) => Ok(objects),
            Self::Webhook(webhook) => webhook.convert(server, objects, wanted).await,
        }
    }
}

impl Webhook {
    async fn convert(&self, server: &ApiServer, mut objects: Vec<Value>, wanted: &str) -> Result<Vec<Value>, Status> {
        let failed = |why: &dyn std::fmt::Display| {
            let first = objects.first().unwrap_or(&Value::Null);
            let (version, kind) = (meta::text(first, &["apiVersion"]), meta::text(first, &["kind"]));
            let (group, v) = version.split_once('/').unwrap_or(("", version));
            Status::internal(format!("conversion webhook for {group}/{v}, Kind={kind} failed: {why}"))
        };
        let places: Vec<usize> =
            (0..objects.len()).filter(|at| meta::text(&objects[*at], &["apiVersion"]) != wanted).collect();
        let sent: Vec<&Value> = places.iter().map(|at| &objects[*at]).collect();
        let uid = kiln_apimachinery::random::uid().map_err(Status::internal)?;
        let review = json!({
            "kind": "ConversionReview", "apiVersion": format!("apiextensions.k8s.io/{}", self.review),
            "request": {"uid": uid, "desiredAPIVersion": wanted, "objects": sent},
        });
        let body = Bytes::from(review.to_string());
        let answer = client::post(server, &self.target, body, client::CONVERSION_TIMEOUT).await;
        let answer = answer.map_err(|why| failed(&why))?;
        let response = answer.get("response").unwrap_or(&Value::Null);
        if meta::text(response, &["uid"]) != uid {
            let found = meta::text(response, &["uid"]);
            return Err(failed(&format!("expected response.uid={uid:?}, got {found:?}")));
        }
        if meta::text(response, &["result", "status"]) != "Success" {
            let why = match meta::text(response, &["result", "message"]) {
                "" => "no reason given",
                told => told,
            };
            return Err(failed(&why));
        }
        let converted = response.get("convertedObjects").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        if converted.len() != places.len() {
            let why = format!("returned {} objects, expected {}", converted.len(), places.len());
            return Err(failed(&why));
        }
        for (at, new) in places.iter().zip(converted) {
            let why = unlike(&objects[*at], new, wanted);
            if let Some(why) = why {
                let definition = &self.definition;
                return Err(failed(&format!("invalid converted object for {definition} at index {at}: {why}")));
            }
        }
        for (at, new) in places.into_iter().zip(converted) {
            let mut new = new.clone();
            let mut metadata = objects[at].get("metadata").cloned().unwrap_or_else(|| json!({}));
            // Labels and annotations are all of the metadata that a webhook has a say in.
            for key in ["labels", "annotations"] {
                let map = meta::object_mut(&mut metadata);
                match meta::at(&new, &["metadata", key]) {
                    Some(value) => map.insert(key.into(), value.clone()),
                    None => map.remove(key),
                };
            }
            meta::object_mut(&mut new).insert("metadata".into(), metadata);
            objects[at] = new;
        }
        Ok(objects)
    }
}

/// Why an object can't be the other one in another version.
fn unlike(old: &Value, new: &Value, wanted: &str) -> Option<String> {
    let version = meta::text(new, &["apiVersion"]);
    if version != wanted {
        return Some(format!("invalid groupVersion (expected {wanted}, received {version})"));
    }
    let (a, b) = (meta::text(old, &["kind"]), meta::text(new, &["kind"]));
    if a != b {
        return Some(format!("invalid kind (expected {a}, received {b})"));
    }
    for key in ["uid", "name", "namespace"] {
        let (a, b) = (meta::text(old, &["metadata", key]), meta::text(new, &["metadata", key]));
        if a != b {
            return Some(format!("metadata.{key}: must not be changed: expected {a:?}, received {b:?}"));
        }
    }
    None
}
