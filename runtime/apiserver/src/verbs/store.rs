//! Objects in and out of the store for the server's own needs: no admission, no authorization.

use std::sync::Arc;

use jiff::Timestamp;
use kiln_apimachinery::{Status, meta, random, time};
use kiln_storage::Record;
use serde_json::Value;

use super::{encode, errors, managed};
use crate::registry::Resource;
use crate::registry::strategy::Writer;
use crate::server::ApiServer;
use crate::user::UserInfo;

/// The name under which the server owns what it writes itself.
const MANAGER: &str = "kube-apiserver";

/// An object with the record it was read from.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) object: Value,
    pub(crate) record: Record,
}

impl Stored {
    /// Reads a record, without the nulls that are there to be shown only. What can't be parsed was not written here: a 500.
    pub(crate) fn parse(record: Record) -> Result<Self, Status> {
        let mut object: Value = serde_json::from_slice(&record.value)
            .map_err(|e| Status::internal(format!("the stored object at {} can't be read: {e}", record.key)))?;
        let (version, kind) = (meta::text(&object, &["apiVersion"]), meta::text(&object, &["kind"]));
        if let Some(ty) = kiln_schema::lookup(version, kind) {
            kiln_schema::decode::prune_nulls(ty, &mut object);
        }
        Ok(Self { object, record })
    }
}

/// The server's own access to objects.
#[derive(Clone, Copy)]
pub(crate) struct Store<'a>(pub(crate) &'a ApiServer);

impl Store<'_> {
    fn resource(&self, group: &str, plural: &str) -> Result<Arc<Resource>, Status> {
        let found = self.0.registry().any_version(group, plural);
        found.ok_or_else(|| Status::internal(format!("no resource {plural} in group {group:?}")))
    }

    /// One object.
    pub(crate) async fn read(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Stored>, Status> {
        let key = self.resource(group, plural)?.key(namespace, name);
        let record = self.0.storage().get(&key).await.map_err(errors::storage)?;
        record.map(Stored::parse).transpose()
    }

    /// Creates an object with defaults and fresh metadata.
    pub(crate) async fn create(&self, group: &str, plural: &str, mut object: Value) -> Result<(), Status> {
        let resource = &*self.resource(group, plural)?;
        let user = UserInfo::system("system:apiserver");
        meta::object_mut(&mut object).insert("kind".into(), resource.kind.clone().into());
        meta::object_mut(&mut object).insert("apiVersion".into(), resource.api_version().into());
        let writer = Writer { user: &user, now: self.0.now(), subresource: "" };
        resource.strategy.default(&mut object);
        encode::fill(resource, &mut object);
        managed::track_as(self.0, resource, "", MANAGER, None, &mut object);
        fresh_metadata(&mut object, resource.generations, writer.now)?;
        resource.strategy.prepare_create(&writer, &mut object);
        encode::complete(resource, &mut object);
        let name = meta::name(&object).to_owned();
        let key = resource.key(meta::namespace(&object), &name);
        let written = self.0.storage().create(key, encode::stored(&object)).await;
        written.map(drop).map_err(|e| errors::write(e, &resource.group_resource(), &name))
    }

    /// Replaces an object that must not have changed since it was read.
    pub(crate) async fn replace(&self, group: &str, plural: &str, old: &Stored, new: &Value) -> Result<(), Status> {
        let resource = &*self.resource(group, plural)?;
        let mut new = new.clone();
        encode::fill(resource, &mut new);
        managed::track_as(self.0, resource, "", MANAGER, Some(&old.object), &mut new);
        encode::complete(resource, &mut new);
        let written =
            self.0.storage().update(old.record.key.to_string(), encode::stored(&new), old.record.mod_revision).await;
        written.map(drop).map_err(|e| errors::write(e, &resource.group_resource(), meta::name(&new)))
    }
}

/// Metadata of an object that comes into being; what only the server says is set or dropped.
pub(crate) fn fresh_metadata(object: &mut Value, generations: bool, now: Timestamp) -> Result<(), Status> {
    let metadata = meta::metadata_mut(object);
    for key in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation", "resourceVersion"] {
        metadata.remove(key);
    }
    metadata.insert("uid".into(), random::uid().map_err(Status::internal)?.into());
    metadata.insert("creationTimestamp".into(), time::rfc3339(now).into());
    if generations {
        metadata.insert("generation".into(), 1.into());
    }
    Ok(())
}
