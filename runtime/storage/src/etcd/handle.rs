//! The store as its callers hold it: writes go to etcd, reads come from the copy once it is as new as etcd.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use kiln_grpc::CallError;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::feed::Progress;
use super::grpc::{Client, is_compacted};
use super::lease::Leases;
use super::load::{foreign, head, record};
use super::proto::{
    self, CompactionRequest, CompactionResponse, Compare, DeleteRangeRequest, KeyValue, Operand, PutRequest,
    RangeRequest, RangeResponse, Request, RequestOp, Response, Target, TxnRequest, TxnResponse,
};
use super::{Keys, value};
use crate::engine::{Engine, Watch};
use crate::types::{BoxFuture, Counters, ListOptions, NewValue, Page, Record, Revision, Storage, StorageError};

/// Asks to be told etcd's revision as of a moment after the asking.
type Question = oneshot::Sender<Result<Revision, CallError>>;

pub(super) struct EtcdStorage {
    pub(super) engine: Arc<Engine>,
    pub(super) progress: Arc<Progress>,
    pub(super) client: Arc<Client>,
    pub(super) keys: Keys,
    pub(super) leases: Leases,
    pub(super) questions: mpsc::UnboundedSender<Question>,
    pub(super) writes: AtomicU64,
    pub(super) closed: CancellationToken,
}

/// Answers questions for etcd's revision: all that have gathered while the last one was under way, with one request.
pub(super) async fn answer(client: Arc<Client>, keys: Keys, mut questions: mpsc::UnboundedReceiver<Question>) {
    let mut asked = Vec::new();
    while questions.recv_many(&mut asked, usize::MAX).await > 0 {
        let answer = head(&client, &keys).await;
        for question in asked.drain(..) {
            // Whoever asked may have gone.
            _ = question.send(answer.clone());
        }
    }
}

/// A transaction's outcome.
struct Done {
    revision: Revision,
    succeeded: bool,
    /// The key's state that a failed condition, or a delete, found.
    found: Option<KeyValue>,
}

impl EtcdStorage {
    /// Waits until the copy is as new as etcd was when this was called.
    async fn settle(&self) -> Result<(), StorageError> {
        self.progress.reach(self.head().await?).await
    }

    async fn head(&self) -> Result<Revision, StorageError> {
        let (question, answer) = oneshot::channel();
        self.questions.send(question).map_err(|_| StorageError::Closed)?;
        Ok(answer.await.map_err(|_| StorageError::Closed)??)
    }

    /// Writes a value if the key is at the revision `expected`; 0 is where there is none.
    async fn put(&self, key: &str, value: &NewValue, expected: Revision) -> Result<Done, StorageError> {
        let stored = value::encode(value);
        loop {
            let lease = self.leases.of(&self.client, key).await?;
            let put = PutRequest { key: self.keys.stored(key), value: stored.clone(), lease };
            match self.txn(key, Some(expected), Request::Put(put)).await {
                Err(CallError::Refused { message, .. }) if lease != 0 && message.contains("lease not found") => {
                    self.leases.forget(key, lease).await;
                }
                other => return Ok(other?),
            }
        }
    }

    async fn txn(&self, key: &str, expected: Option<Revision>, success: Request) -> Result<Done, CallError> {
        let key = self.keys.stored(key);
        let compare = expected.map(|revision| Compare {
            target: Target::Mod as i32,
            key: key.clone(),
            operand: Some(Operand::ModRevision(revision)),
        });
        let find = Request::Range(RangeRequest { key, ..RangeRequest::default() });
        let op = |request| vec![RequestOp { request: Some(request) }];
        let ask = TxnRequest { compare: compare.into_iter().collect(), success: op(success), failure: op(find) };
        let answer: TxnResponse = self.client.write("KV/Txn", &ask).await?;
        let found = match answer.responses.into_iter().next().and_then(|op| op.response) {
            Some(Response::Range(range)) => range.kvs.into_iter().next(),
            Some(Response::DeleteRange(deleted)) => deleted.prev_kvs.into_iter().next(),
            Some(Response::Put(_)) | None => None,
        };
        Ok(Done { revision: proto::revision(answer.header), succeeded: answer.succeeded, found })
    }

    /// What a refused condition means. The copy comes to see what etcd saw first, so that who reads again sees it too.
    async fn refused(&self, done: Done) -> StorageError {
        let current = done.found.as_ref().map(|kv| record(&self.keys, kv).ok_or_else(|| foreign(kv))).transpose();
        if let Err(error) = self.progress.reach(done.revision).await {
            return error;
        }
        match current {
            Ok(None) => StorageError::NotFound,
            Ok(current) => StorageError::Conflict { current },
            Err(error) => error,
        }
    }

    /// A write was carried out: it is visible when its answer is given. Should the watch be broken just now, reads are not
    /// wrong, since they wait for it themselves.
    async fn written(&self, revision: Revision) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = self.progress.shown(revision).await {
            tracing::warn!(%error, "a write is not visible yet");
        }
    }

    /// When the key that is at a revision now came into being.
    async fn created_at(&self, key: &str, revision: Revision) -> Result<Revision, StorageError> {
        if let Some(record) = self.engine.get(key).filter(|record| record.mod_revision == revision) {
            return Ok(record.create_revision);
        }
        let ask = RangeRequest { key: self.keys.stored(key), revision, ..RangeRequest::default() };
        let found: RangeResponse = self.client.read("KV/Range", &ask).await?;
        Ok(found.kvs.first().map_or(revision, |kv| kv.create_revision))
    }
}

impl Storage for EtcdStorage {
    fn current_revision(&self) -> Revision {
        self.engine.revision()
    }

    fn reach(&self, revision: Revision) -> BoxFuture<'_, Result<(), StorageError>> {
        Box::pin(async move {
            if self.engine.revision() < revision {
                let current = self.head().await?;
                if current < revision {
                    return Err(StorageError::FutureRevision { current });
                }
            }
            self.progress.reach(revision).await
        })
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Record>, StorageError>> {
        Box::pin(async move {
            self.settle().await?;
            Ok(self.engine.get(key))
        })
    }

    fn list<'a>(&'a self, prefix: &'a str, options: ListOptions) -> BoxFuture<'a, Result<Page, StorageError>> {
        Box::pin(async move {
            match options.at {
                Some(at) => self.reach(at).await?,
                None => self.settle().await?,
            }
            self.engine.list(prefix, &options)
        })
    }

    fn create(&self, key: String, value: NewValue) -> BoxFuture<'_, Result<Record, StorageError>> {
        Box::pin(async move {
            let done = self.put(&key, &value, 0).await?;
            if !done.succeeded {
                return Err(match self.refused(done).await {
                    StorageError::Conflict { .. } => StorageError::Exists,
                    other => other,
                });
            }
            let revision = done.revision;
            self.written(revision).await;
            let value = value.finish(revision);
            Ok(Record { key: Arc::from(key), value, create_revision: revision, mod_revision: revision })
        })
    }

    fn update(&self, key: String, value: NewValue, expected: Revision) -> BoxFuture<'_, Result<Record, StorageError>> {
        Box::pin(async move {
            if expected <= 0 {
                // That would be a create.
                self.settle().await?;
                let current = self.engine.get(&key);
                return Err(current.map_or(StorageError::NotFound, |c| StorageError::Conflict { current: Some(c) }));
            }
            let known = self.engine.get(&key).filter(|record| record.mod_revision == expected);
            let done = self.put(&key, &value, expected).await?;
            if !done.succeeded {
                return Err(self.refused(done).await);
            }
            let revision = done.revision;
            self.written(revision).await;
            let create_revision = match known {
                Some(known) => known.create_revision,
                None => self.created_at(&key, revision).await?,
            };
            let value = value.finish(revision);
            Ok(Record { key: Arc::from(key), value, create_revision, mod_revision: revision })
        })
    }

    fn delete(
        &self,
        key: String,
        expected: Option<Revision>,
    ) -> BoxFuture<'_, Result<(Record, Revision), StorageError>> {
        Box::pin(async move {
            let delete = DeleteRangeRequest { key: self.keys.stored(&key), prev_kv: true };
            let done = self.txn(&key, expected, Request::DeleteRange(delete)).await?;
            let Some(last) = done.found.as_ref().filter(|_| done.succeeded) else {
                return Err(self.refused(done).await);
            };
            let last = record(&self.keys, last).ok_or_else(|| foreign(last));
            self.written(done.revision).await;
            Ok((last?, done.revision))
        })
    }

    fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, StorageError> {
        Watch::new(&self.engine, prefix, after)
    }

    fn compact(&self, before: Revision) -> BoxFuture<'_, Result<(), StorageError>> {
        Box::pin(async move {
            self.engine.compact(before)?;
            compact(&self.client, before).await
        })
    }

    fn snapshot<'a>(&'a self, _: &'a Path) -> BoxFuture<'a, Result<Revision, StorageError>> {
        Box::pin(async move {
            let text =
                "the cluster's data are in etcd, which keeps its own snapshots: use `etcdctl snapshot save FILE`";
            Err(StorageError::Unsupported(text.to_owned()))
        })
    }

    fn counters(&self) -> Counters {
        Counters { writes: self.writes.load(Ordering::Relaxed), ..Counters::default() }
    }
}

/// Lets etcd forget the history before a revision.
pub(super) async fn compact(client: &Client, revision: Revision) -> Result<(), StorageError> {
    match client.read::<_, CompactionResponse>("KV/Compact", &CompactionRequest { revision }).await {
        Ok(CompactionResponse {}) => Ok(()),
        // Another server was first.
        Err(error) if is_compacted(&error) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl Drop for EtcdStorage {
    fn drop(&mut self) {
        self.closed.cancel();
        self.engine.close();
    }
}

/// The key under which a store's key lies in etcd.
impl Keys {
    pub(super) fn stored(&self, key: &str) -> Bytes {
        Bytes::from([self.prefix.as_bytes(), key.as_bytes()].concat())
    }

    /// The end of the range of all keys.
    pub(super) fn end(&self) -> Bytes {
        proto::range_end(&format!("{}/", self.prefix))
    }

    /// A store's key by its key in etcd.
    pub(super) fn name<'a>(&self, stored: &'a [u8]) -> Option<&'a str> {
        std::str::from_utf8(stored.strip_prefix(self.prefix.as_bytes())?).ok()
    }
}
