//! All that etcd holds, as of one revision.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use kiln_grpc::CallError;

use super::grpc::{Client, is_compacted};
use super::proto::{self, KeyValue, RangeRequest, RangeResponse};
use super::{Keys, value};
use crate::types::{Record, Revision, StorageError};

/// Keys asked for at a time.
const PAGE: i64 = 1_000;

/// Records by their keys.
pub(super) type Records = BTreeMap<Arc<str>, Record>;

/// Keys below the prefix whose values are none of a store's: put by another program, or damaged.
#[derive(Clone, Default)]
pub(super) struct Strange(Arc<Mutex<BTreeMap<Bytes, StorageError>>>);

impl Strange {
    /// Says so, and that the key is not served.
    pub(super) fn note(&self, kv: &KeyValue) {
        let error = foreign(kv);
        tracing::error!(%error, "a key of etcd is not served");
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(kv.key.clone(), error);
    }

    /// The key was deleted, or put by a store.
    pub(super) fn forget(&self, kv: &KeyValue) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&kv.key);
    }

    pub(super) fn first(&self) -> Option<StorageError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().next().cloned()
    }
}

/// The state `keep` revisions ago, so that watches of an earlier process can go on, or the oldest that etcd still has.
pub(super) async fn load(
    client: &Client,
    keys: &Keys,
    keep: usize,
    strange: &Strange,
) -> Result<(Records, Revision), StorageError> {
    let keep = i64::try_from(keep).unwrap_or(i64::MAX);
    let mut at = head(client, keys).await?.saturating_sub(keep).max(1);
    loop {
        match all(client, keys, at, strange).await? {
            Some(records) => return Ok((records, at)),
            // Compacted: what is left is found between there and the head, in few steps.
            None => at += (head(client, keys).await? - at + 1) / 2,
        }
    }
}

/// The revision of etcd now, whichever member is asked.
pub(super) async fn head(client: &Client, keys: &Keys) -> Result<Revision, CallError> {
    let ask = RangeRequest { key: keys.stored(""), count_only: true, ..RangeRequest::default() };
    let answer: RangeResponse = client.read("KV/Range", &ask).await?;
    Ok(proto::revision(answer.header))
}

async fn all(
    client: &Client,
    keys: &Keys,
    revision: Revision,
    strange: &Strange,
) -> Result<Option<Records>, StorageError> {
    let mut records = BTreeMap::new();
    let mut from = keys.stored("/");
    loop {
        let range_end = keys.end();
        let ask = RangeRequest { key: from, range_end, limit: PAGE, revision, ..RangeRequest::default() };
        let page: RangeResponse = match client.read("KV/Range", &ask).await {
            Ok(page) => page,
            Err(error) if is_compacted(&error) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let Some(last) = page.kvs.last() else { return Ok(Some(records)) };
        from = Bytes::from([&*last.key, &[0]].concat());
        for kv in page.kvs {
            match record(keys, &kv) {
                Some(record) => _ = records.insert(record.key.clone(), record),
                None => strange.note(&kv),
            }
        }
        if !page.more {
            return Ok(Some(records));
        }
    }
}

/// The record that a key of etcd stands for, if a store put it.
pub(super) fn record(keys: &Keys, kv: &KeyValue) -> Option<Record> {
    Some(Record {
        key: Arc::from(keys.name(&kv.key)?),
        value: value::decode(&kv.value, kv.mod_revision)?,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
    })
}

/// What is said of a key that was not put by a store, or is damaged.
pub(super) fn foreign(kv: &KeyValue) -> StorageError {
    StorageError::Corrupt(format!(
        "etcd's key {} (revision {}) is damaged or was put by another program",
        String::from_utf8_lossy(&kv.key),
        kv.mod_revision
    ))
}
