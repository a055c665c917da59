//! Objects too large for the store.

use crate::common;

use std::path::Path;
use std::sync::Arc;

use common::{Api, MAPS};
use kiln_storage::{
    BoxFuture, Counters, ListOptions, NewValue, Page, Record, Revision, Storage, StorageError, Watch, memory,
};
use serde_json::{Value, json};

/// A store that takes values up to this many bytes, as etcd does.
struct Narrow(Arc<dyn Storage>, usize);

impl Storage for Narrow {
    fn current_revision(&self) -> Revision {
        self.0.current_revision()
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Record>, StorageError>> {
        self.0.get(key)
    }

    fn list<'a>(&'a self, prefix: &'a str, options: ListOptions) -> BoxFuture<'a, Result<Page, StorageError>> {
        self.0.list(prefix, options)
    }

    fn create(&self, key: String, value: NewValue) -> BoxFuture<'_, Result<Record, StorageError>> {
        if value.bytes.len() > self.1 {
            return Box::pin(async { Err(StorageError::TooLarge) });
        }
        self.0.create(key, value)
    }

    fn update(&self, key: String, value: NewValue, expected: Revision) -> BoxFuture<'_, Result<Record, StorageError>> {
        if value.bytes.len() > self.1 {
            return Box::pin(async { Err(StorageError::TooLarge) });
        }
        self.0.update(key, value, expected)
    }

    fn delete(
        &self,
        key: String,
        expected: Option<Revision>,
    ) -> BoxFuture<'_, Result<(Record, Revision), StorageError>> {
        self.0.delete(key, expected)
    }

    fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, StorageError> {
        self.0.watch(prefix, after)
    }

    fn compact(&self, before: Revision) -> BoxFuture<'_, Result<(), StorageError>> {
        self.0.compact(before)
    }

    fn snapshot<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, Result<Revision, StorageError>> {
        self.0.snapshot(path)
    }

    fn counters(&self) -> Counters {
        self.0.counters()
    }
}

/// A map of many keys, whose owners are told in about as many bytes.
fn map(keys: usize, value: &str) -> Value {
    let data: serde_json::Map<String, Value> =
        (0..keys).map(|i| (format!("a-rather-long-key-of-a-map-{i}"), value.into())).collect();
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data})
}

#[tokio::test]
async fn an_object_that_is_too_large_is_stored_without_its_owners_or_not_at_all() {
    let api = Api::on(Arc::new(Narrow(memory::open(), 20_000)), |_| {}).await;
    let one = format!("{MAPS}/a");
    let small = api.post(MAPS, map(200, "")).await.good();
    assert!(small["metadata"]["managedFields"].is_array());
    // With its owners it would have some 25,000 bytes.
    let large = api.put(&one, map(300, "xxxxxxxxxx")).await.good();
    assert!(large["metadata"].get("managedFields").is_none(), "{}", large["metadata"]);
    assert_eq!(api.get(&one).await.good(), large);
    let refused = api.put(&one, map(300, &"x".repeat(100))).await;
    assert_eq!(refused.failed(500), "etcdserver: request is too large");
    assert_eq!(api.get(&one).await.good(), large);
    api.delete(&one).await.good();
    let made = api.post(MAPS, map(300, "xxxxxxxxxx")).await.good();
    assert!(made["metadata"].get("managedFields").is_none());
    // Who applies must be told as an owner.
    let apply = [("content-type", "application/apply-patch+yaml")];
    let path = format!("{one}?fieldManager=x&force=true");
    let applied = api.send(common::admin(), "PATCH", &path, &apply, map(300, "yyyyyyyyyy")).await;
    assert_eq!(applied.failed(500), "etcdserver: request is too large");
}
