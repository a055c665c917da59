//! The objects, and what each verb does to them.

use std::collections::BTreeMap;

use http::Method;
use kiln_apimachinery::typed::Untyped;
use kiln_apimachinery::{GroupResource, Status, meta, patch};
use serde_json::{Value, json};

use super::target::Target;

/// What a subresource lets through: the fields that a write of it replaces.
const SUBRESOURCES: [(&str, &str); 3] = [("status", "status"), ("approval", "status"), ("finalize", "spec")];

/// Objects by collection, namespace and name.
#[derive(Default)]
pub(super) struct Objects {
    objects: BTreeMap<(String, String, String), Value>,
    revision: u64,
    /// All events with their revisions.
    pub(super) log: Vec<(u64, Value)>,
    published: usize,
}

impl Objects {
    pub(super) fn get(&self, target: &Target) -> Option<&Value> {
        self.objects.get(&target.key())
    }

    pub(super) fn find(&self, target: &Target) -> Result<&Value, Status> {
        self.get(target).ok_or_else(|| Status::not_found(&resource(target), &target.name))
    }

    pub(super) fn list(&self, target: &Target) -> Value {
        let all = self.objects.iter().filter(|((collection, _, _), _)| *collection == target.collection());
        let items: Vec<_> = all.map(|(_, object)| object).filter(|object| target.selects(object)).collect();
        json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": self.revision.to_string()}, "items": items})
    }

    /// The events since the last call of this.
    pub(super) fn unpublished(&mut self) -> Vec<Value> {
        let new = self.log[self.published..].iter().map(|(_, event)| event.clone()).collect();
        self.published = self.log.len();
        new
    }

    pub(super) fn put(&mut self, target: &Target, mut object: Value) -> Value {
        self.revision += 1;
        let known = self.objects.get(&target.key());
        let kind = if known.is_some() { "MODIFIED" } else { "ADDED" };
        let uid = known.map_or_else(|| format!("uid-{}", self.revision), |known| meta::uid(known).to_owned());
        let metadata = meta::metadata_mut(&mut object);
        metadata.insert("name".to_owned(), json!(target.name));
        if !target.namespace.is_empty() {
            metadata.insert("namespace".to_owned(), json!(target.namespace));
        }
        metadata.entry("uid").or_insert(json!(uid));
        metadata.insert("resourceVersion".to_owned(), json!(self.revision.to_string()));
        self.objects.insert(target.key(), object.clone());
        self.record(kind, target, object.clone());
        object
    }

    pub(super) fn remove(&mut self, target: &Target) {
        if let Some(mut object) = self.objects.remove(&target.key()) {
            self.revision += 1;
            meta::metadata_mut(&mut object).insert("resourceVersion".to_owned(), json!(self.revision.to_string()));
            self.record("DELETED", target, object);
        }
    }

    fn record(&mut self, kind: &str, target: &Target, object: Value) {
        let event = json!({"type": kind, "object": object, "target": target.collection()});
        self.log.push((self.revision, event));
    }

    pub(super) fn write(&mut self, verb: &Method, target: &Target, kind: &str, body: Value) -> Result<Value, Status> {
        match *verb {
            Method::POST => {
                let target = Target { name: meta::name(&body).to_owned(), ..target.clone() };
                if self.get(&target).is_some() {
                    return Err(Status::already_exists(&resource(&target), &target.name));
                }
                Ok(self.put(&target, body))
            }
            Method::PUT => self.replace(target, body),
            Method::PATCH => {
                let mut object = self.find(target)?.clone();
                let failed = |error: patch::PatchError| Status::bad_request(error.to_string());
                match kind {
                    "application/json-patch+json" => patch::json_patch(&mut object, body).map_err(failed)?,
                    "application/strategic-merge-patch+json" => {
                        let ty =
                            kiln_schema::lookup(meta::text(&object, &["apiVersion"]), meta::text(&object, &["kind"]));
                        match ty {
                            Some(ty) => patch::strategic_merge_patch(ty, &mut object, body).map_err(failed)?,
                            None => patch::strategic_merge_patch(Untyped, &mut object, body).map_err(failed)?,
                        }
                    }
                    _ => patch::merge_patch(&mut object, body),
                }
                self.replace(target, object)
            }
            Method::DELETE if target.name.is_empty() => {
                let items = self.list(target);
                for item in items["items"].as_array().into_iter().flatten() {
                    let namespace = meta::namespace(item).to_owned();
                    self.delete(&Target { namespace, name: meta::name(item).to_owned(), ..target.clone() });
                }
                Ok(json!({"kind": "Status", "status": "Success"}))
            }
            Method::DELETE => {
                self.find(target)?;
                self.delete(target);
                Ok(json!({"kind": "Status", "status": "Success"}))
            }
            _ => Err(Status::method_not_allowed()),
        }
    }

    fn replace(&mut self, target: &Target, mut object: Value) -> Result<Value, Status> {
        let known = self.find(target)?.clone();
        let expected = meta::resource_version(&object);
        if !expected.is_empty() && expected != meta::resource_version(&known) {
            return Err(Status::modified(&resource(target), &target.name));
        }
        match SUBRESOURCES.iter().find(|(name, _)| *name == target.subresource) {
            Some((_, field)) => {
                let part = object[*field].take();
                object = known;
                object[*field] = part;
            }
            None => {
                let status = known.get("status").cloned();
                match (status, object.as_object_mut()) {
                    (Some(status), Some(object)) => _ = object.insert("status".to_owned(), status),
                    (None, Some(object)) => _ = object.remove("status"),
                    _ => {}
                }
            }
        }
        let object = self.put(target, object);
        if meta::is_terminating(&object) && finalizers(&object) == 0 {
            self.remove(target);
        }
        Ok(object)
    }

    fn delete(&mut self, target: &Target) {
        let Some(mut object) = self.get(target).cloned() else { return };
        if finalizers(&object) == 0 {
            return self.remove(target);
        }
        if !meta::is_terminating(&object) {
            meta::metadata_mut(&mut object).insert("deletionTimestamp".to_owned(), json!("2026-01-01T00:00:00Z"));
            if target.collection() == "/api/v1/namespaces" {
                object["status"]["phase"] = json!("Terminating");
            }
            self.put(target, object);
        }
    }
}

fn finalizers(object: &Value) -> usize {
    meta::finalizers(object).len() + meta::strings(meta::at(object, &["spec", "finalizers"])).len()
}

fn resource(target: &Target) -> GroupResource {
    let collection = target.collection();
    let parts: Vec<&str> = collection.split('/').collect();
    let group = if parts[1] == "apis" { parts[2] } else { "" };
    GroupResource { group: group.to_owned(), resource: parts.last().copied().unwrap_or_default().to_owned() }
}
