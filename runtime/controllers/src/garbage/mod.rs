//! Collects objects whose owners are gone, as the documentation on garbage collection has it: in the background, in the
//! foreground (dependents first, the owner waits), or not at all (orphans lose the reference).
//!
//! The API server's ownership stream feeds a [`graph`], and what [other servers](others) tell of their objects does; what they say has to be looked at is looked at against the live
//! objects, several at a time. A stream that ends is taken up anew from the whole state.

mod graph;
mod others;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use kiln_client::{Backoff, Client, ClientError, ListParams, PatchKind, WatchEvent, WorkQueue};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use self::graph::{FOREGROUND, Graph, ORPHAN, Object, OwnerReference, Task};
use crate::mapper::Mapper;
use crate::reconcile::{Failure, Next, work};

const OWNERSHIP: &str = "/kiln/v1/ownership";
/// Objects looked at at the same time: their deletes share the store's commits.
const WORKERS: usize = 16;

/// Runs the controller until the shutdown.
pub async fn run(client: Client, shutdown: CancellationToken) {
    let mapper = Mapper::new(client.clone());
    let collector = Arc::new(Collector { mapper, client, graph: Mutex::default(), others: Mutex::default() });
    let queue = WorkQueue::default();
    let workers = (0..WORKERS).map(|_| work("garbage", &queue, &shutdown, |task| collector.reconcile(&queue, task)));
    let follow = async {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = collector.follow(&queue) => {}
        }
    };
    let others = others::follow(collector.clone(), queue.clone(), shutdown.clone());
    tokio::join!(follow, others, join_all(workers));
}

struct Collector {
    client: Client,
    mapper: Mapper,
    graph: Mutex<Graph>,
    /// API versions that other servers answer for, or did since the start, as `apps/v1`.
    others: Mutex<BTreeSet<String>>,
}

/// How an owner is.
enum Standing {
    Solid,
    /// It is gone.
    Dangling,
    /// It is being deleted and waits for its dependents.
    Waiting,
}

impl Collector {
    /// No code panics while it holds the lock, so a poisoned lock still guards a whole graph.
    fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn others(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The live object at a path; `None` if it is gone. Where another server answers, only who names the object knows that: any
    /// other 404 says that the API is not there now, with all its objects.
    async fn live(&self, api_version: &str, path: &str) -> Result<Option<Object>, Failure> {
        match self.client.get(path).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() && (names_object(&error) || !self.others().contains(api_version)) => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn follow(&self, queue: &WorkQueue<Task>) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        loop {
            if let Err(error) = self.stream(queue, &mut backoff).await {
                tracing::warn!(%error, "the stream of owners broke; will take it up again");
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }

    /// Follows one stream to its end.
    async fn stream(&self, queue: &WorkQueue<Task>, backoff: &mut Backoff) -> Result<(), ClientError> {
        let none = ListParams::default();
        let mut stream = self.client.watch::<Object>(OWNERSHIP, &none, "", Duration::from_secs(3600)).await?;
        // What an earlier stream told and this one does not is gone.
        let mut untold: BTreeSet<_> = self.graph().uids_but(&self.others());
        let mut synced = false;
        while let Some(event) = stream.next().await? {
            let tasks = match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    let known = untold.remove(&object.metadata.uid);
                    let uid = object.metadata.uid.clone();
                    let mut tasks = self.graph().apply(object);
                    if known && !synced {
                        // Its owner may have gone while nobody looked.
                        tasks.push(Task::Check(uid));
                    }
                    tasks
                }
                WatchEvent::Deleted(object) => self.graph().remove(&object.metadata.uid),
                WatchEvent::Bookmark(_) => {
                    synced = true;
                    backoff.reset();
                    let mut graph = self.graph();
                    std::mem::take(&mut untold).iter().flat_map(|uid| graph.remove(uid)).collect()
                }
            };
            tasks.into_iter().for_each(|task| queue.add(task));
        }
        Ok(())
    }

    async fn reconcile(&self, queue: &WorkQueue<Task>, task: Task) -> Result<Next, Failure> {
        match &task {
            Task::Check(uid) => self.check(queue, uid).await?,
            Task::Orphan(uid) => self.orphan(uid).await?,
        }
        Ok(Next::Settled)
    }

    async fn path(&self, object: &Object) -> Result<String, Failure> {
        let metadata = &object.metadata;
        let place = self.mapper.place(&object.api_version, &object.kind).await?;
        let place = place.ok_or_else(|| unknown(&object.api_version, &object.kind))?;
        Ok(place.path(&object.api_version, &metadata.namespace, &metadata.name))
    }

    /// Looks at one object: deletes it if nobody owns it any more, frees it of owners that are gone, or lets it go if
    /// it waited for dependents and has none.
    async fn check(&self, queue: &WorkQueue<Task>, uid: &str) -> Result<(), Failure> {
        let Some(known) = self.graph().get(uid).cloned() else { return Ok(()) };
        let path = self.path(&known).await?;
        let live = self.live(&known.api_version, &path).await?;
        let Some(live) = live.filter(|live| live.metadata.uid == uid) else {
            let tasks = self.graph().remove(uid);
            tasks.into_iter().for_each(|task| queue.add(task));
            return Ok(());
        };
        if live.waits_for_dependents() {
            return self.wait_for_dependents(queue, &path, &live).await;
        }
        if live.is_terminating() || live.metadata.owner_references.is_empty() {
            return Ok(());
        }
        let (mut solid, mut waiting) = (Vec::new(), Vec::new());
        for owner in &live.metadata.owner_references {
            match self.standing(&live, owner).await? {
                Standing::Solid => solid.push(owner),
                Standing::Waiting => waiting.push(owner),
                Standing::Dangling => {}
            }
        }
        if solid.len() == live.metadata.owner_references.len() {
            return Ok(());
        }
        if !solid.is_empty() {
            return self.keep_owners(&path, &live, |uid| solid.iter().any(|s| s.uid == uid)).await;
        }
        let policy = if !waiting.is_empty() && self.graph().has_dependents(uid) {
            self.unblock_cycle(&path, &live).await?;
            "Foreground"
        } else if live.has_finalizer(ORPHAN) {
            "Orphan"
        } else if live.has_finalizer(FOREGROUND) {
            "Foreground"
        } else {
            "Background"
        };
        tracing::debug!(path, policy, "collecting");
        let options = json!({"propagationPolicy": policy, "preconditions": {"uid": uid}});
        absent_is_fine(self.client.delete(&path, &options).await.map(drop))
    }

    /// An owner in foreground deletion: gone when no dependent blocks it; else those are looked at.
    async fn wait_for_dependents(&self, queue: &WorkQueue<Task>, path: &str, owner: &Object) -> Result<(), Failure> {
        let uid = &owner.metadata.uid;
        let blocking: Vec<Task> = {
            let graph = self.graph();
            let blocks =
                |d: &&Object| d.metadata.owner_references.iter().any(|o| o.uid == *uid && o.block_owner_deletion);
            graph.dependents(uid).filter(blocks).map(|d| Task::Check(d.metadata.uid.clone())).collect()
        };
        if blocking.is_empty() {
            return self.drop_finalizer(path, owner, FOREGROUND).await;
        }
        blocking.into_iter().for_each(|task| queue.add(task));
        Ok(())
    }

    /// A dependent that waits itself, below an object that is about to wait, would wait for ever in a circle: the
    /// object blocks its owners no more.
    async fn unblock_cycle(&self, path: &str, object: &Object) -> Result<(), Failure> {
        let circular = self.graph().dependents(&object.metadata.uid).any(Object::waits_for_dependents);
        let blocks = object.metadata.owner_references.iter().any(|o| o.block_owner_deletion);
        if !circular || !blocks {
            return Ok(());
        }
        let live: Value = self.client.get(path).await?;
        let mut owners = live["metadata"]["ownerReferences"].clone();
        for owner in owners.as_array_mut().into_iter().flatten() {
            owner["blockOwnerDeletion"] = json!(false);
        }
        let patch = json!({"metadata": {"uid": object.metadata.uid, "ownerReferences": owners,
            "resourceVersion": live["metadata"]["resourceVersion"]}});
        absent_is_fine(self.client.patch::<Value>(path, PatchKind::Merge, &patch).await.map(drop))
    }

    async fn standing(&self, dependent: &Object, owner: &OwnerReference) -> Result<Standing, Failure> {
        let place = self.mapper.place(&owner.api_version, &owner.kind).await?;
        let place = place.ok_or_else(|| unknown(&owner.api_version, &owner.kind))?;
        let namespace = &dependent.metadata.namespace;
        if place.namespaced && namespace.is_empty() {
            // Nobody can say which namespace is meant, so nothing is deleted for it.
            let name = &dependent.metadata.name;
            tracing::warn!(
                name,
                kind = dependent.kind,
                owner = owner.name,
                "an object in no namespace has an owner in one"
            );
            return Ok(Standing::Solid);
        }
        let path = place.path(&owner.api_version, namespace, &owner.name);
        let live = self.live(&owner.api_version, &path).await?;
        Ok(match live.filter(|live| live.metadata.uid == owner.uid) {
            None => Standing::Dangling,
            Some(live) if live.waits_for_dependents() => Standing::Waiting,
            Some(_) => Standing::Solid,
        })
    }

    /// Takes the object off the owners of all its dependents, then lets it go.
    async fn orphan(&self, uid: &str) -> Result<(), Failure> {
        let Some(owner) = self.graph().get(uid).cloned() else { return Ok(()) };
        let dependents: Vec<Object> = self.graph().dependents(uid).cloned().collect();
        for dependent in dependents {
            let path = self.path(&dependent).await?;
            let live = self.live(&dependent.api_version, &path).await?;
            if let Some(live) = live.filter(|live| live.metadata.uid == dependent.metadata.uid) {
                self.keep_owners(&path, &live, |owner| owner != uid).await?;
            }
        }
        let path = self.path(&owner).await?;
        match self.live(&owner.api_version, &path).await? {
            Some(live) if live.metadata.uid == uid => self.drop_finalizer(&path, &live, ORPHAN).await,
            _ => Ok(()),
        }
    }

    /// Leaves an object those owners only.
    async fn keep_owners(&self, path: &str, live: &Object, keep: impl Fn(&str) -> bool) -> Result<(), Failure> {
        if live.metadata.owner_references.iter().all(|owner| keep(&owner.uid)) {
            return Ok(());
        }
        // The list whole, with what this controller does not read of it; a merge patch is what every kind takes.
        let whole: Value = self.client.get(path).await?;
        let owners = whole["metadata"]["ownerReferences"].as_array().into_iter().flatten();
        let kept: Vec<&Value> = owners.filter(|owner| keep(owner["uid"].as_str().unwrap_or_default())).collect();
        let patch = json!({"metadata": {"uid": live.metadata.uid, "ownerReferences": kept,
            "resourceVersion": whole["metadata"]["resourceVersion"]}});
        absent_is_fine(self.client.patch::<Value>(path, PatchKind::Merge, &patch).await.map(drop))
    }

    async fn drop_finalizer(&self, path: &str, live: &Object, finalizer: &str) -> Result<(), Failure> {
        let rest: Vec<&String> = live.metadata.finalizers.iter().filter(|f| *f != finalizer).collect();
        let patch = json!({"metadata": {"uid": live.metadata.uid, "finalizers": rest,
            "resourceVersion": live.metadata.resource_version}});
        absent_is_fine(self.client.patch::<Value>(path, PatchKind::Merge, &patch).await.map(drop))
    }
}

/// A kind that the server does not serve now; it may later, so its objects are left alone.
fn unknown(api_version: &str, kind: &str) -> Failure {
    Failure::Waiting(format!("the server knows no kind {kind} in {api_version}"))
}

/// Whether a refusal is about an object, not about its path.
fn names_object(error: &ClientError) -> bool {
    error.status().and_then(|status| status.details.as_ref()).is_some_and(|details| !details.name.is_empty())
}

fn absent_is_fine(result: Result<(), ClientError>) -> Result<(), Failure> {
    match result {
        Err(error) if !error.is_not_found() => Err(error.into()),
        _ => Ok(()),
    }
}
