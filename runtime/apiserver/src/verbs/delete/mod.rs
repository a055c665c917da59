//! Delete: at once, after a grace period or, while finalizers hold the object, by marking it.

pub(crate) mod options;
mod policy;

use ::http::{Response, StatusCode};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use kiln_apimachinery::{GroupResource, Reason, Status, meta, time};
use kiln_storage::{BoxFuture, Record, Revision, StorageError};
use serde_json::{Value, json};

use self::options::Options;
use self::policy::Way;
use super::store::Stored;
use super::{Cx, encode, errors, list, render};
use crate::admission;
use crate::allocate;
use crate::apiextensions::{self, finalizer, versions};
use crate::http::body::Body;
use crate::http::respond;

/// Deletes of a collection that run at the same time, so that they share commits.
const TOGETHER: usize = 32;

pub(crate) async fn delete(cx: &Cx<'_>) -> Result<Response<Body>, Status> {
    let options = Options::of(cx)?;
    match one(cx, &cx.info.name, &options).await?.shown(cx).await? {
        Outcome::Gone(last) if policy::answers_with_object(&cx.resource) => render::object(cx, StatusCode::OK, &last),
        Outcome::Gone(last) => {
            let object: Value = serde_json::from_slice(&last).map_err(Status::internal)?;
            let status = Status::deleted(&cx.resource.group_resource(), meta::name(&object), meta::uid(&object));
            let json = status.to_value().to_string();
            Ok(respond::encoded(StatusCode::OK, cx.accepted.encoding, cx.headers, json.into()))
        }
        Outcome::Kept(bytes) => {
            // Upstream's only 202: kept until a client that asked so in the old way sees its dependents gone.
            let code = if options.orphan_dependents == Some(false) { StatusCode::ACCEPTED } else { StatusCode::OK };
            render::object(cx, code, &bytes)
        }
    }
}

/// Deletes the object that the request names, with options from elsewhere than the request.
pub(crate) async fn with(cx: &Cx<'_>, options: &Options) -> Result<(), Status> {
    one(cx, &cx.info.name, options).await.map(drop)
}

pub(crate) async fn delete_collection(cx: &Cx<'_>) -> Result<Response<Body>, Status> {
    let options = Options::of(cx)?;
    let page = list::page(cx).await?;
    let names = page.records.iter().map(|r| r.key.rsplit('/').next().unwrap_or_default());
    let deletes: Vec<_> = names.map(|name| unless_gone(cx, name, &options)).collect();
    stream::iter(deletes).buffer_unordered(TOGETHER).try_collect::<()>().await?;
    page.render(cx)
}

/// Deletes an object of a list that someone else may have deleted since.
fn unless_gone<'a>(cx: &'a Cx<'a>, name: &'a str, options: &'a Options) -> BoxFuture<'a, Result<(), Status>> {
    Box::pin(async move {
        match one(cx, name, options).await {
            Err(status) if status.is(Reason::NotFound) => Ok(()),
            done => done.map(drop),
        }
    })
}

/// What became of the object, with its last state.
enum Outcome {
    Gone(Bytes),
    Kept(Bytes),
}

impl Outcome {
    /// With the last state in the request's version.
    async fn shown(self, cx: &Cx<'_>) -> Result<Self, Status> {
        let of = |bytes| versions::shown_bytes(cx.server, &cx.resource, bytes);
        Ok(match self {
            Self::Gone(bytes) => Self::Gone(of(bytes).await?),
            Self::Kept(bytes) => Self::Kept(of(bytes).await?),
        })
    }
}

/// Why one attempt came to nothing.
enum Failure {
    /// The object was written meanwhile.
    Overtaken,
    Refused(Status),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Refused(status)
    }
}

async fn one(cx: &Cx<'_>, name: &str, options: &Options) -> Result<Outcome, Status> {
    let key = cx.resource.key(cx.namespace(), name);
    // Whoever overtakes this gets on, so that the loop is no standstill; a revision asked for ends it.
    loop {
        let record: Option<Record> = cx.server.storage().get(&key).await.map_err(errors::storage)?;
        let old = Stored::parse(record.ok_or_else(|| cx.not_found(name))?)?;
        let attempt = Attempt { cx, name, options, old: &old };
        match attempt.run().await {
            Err(Failure::Overtaken) => {}
            Err(Failure::Refused(status)) => return Err(status),
            Ok(outcome) => return Ok(outcome),
        }
    }
}

struct Attempt<'a> {
    cx: &'a Cx<'a>,
    name: &'a str,
    options: &'a Options,
    old: &'a Stored,
}

impl Attempt<'_> {
    async fn run(&self) -> Result<Outcome, Failure> {
        let (cx, old, now) = (self.cx, &self.old.object, self.cx.server.now());
        let is_namespace = cx.resource.group.is_empty() && cx.resource.plural == "namespaces";
        self.check_preconditions(is_namespace)?;
        if is_namespace {
            if !meta::is_terminating(old) {
                admission::delete(cx, old).await?;
                return Ok(Outcome::Kept(self.write(self.terminating_namespace()).await?.value));
            }
            if !meta::strings(meta::at(old, &["spec", "finalizers"])).is_empty() {
                return Ok(Outcome::Kept(self.old.record.value.clone()));
            }
        }
        let way = policy::way(&cx.resource, old, self.options, now);
        if way == Way::Pending {
            return Ok(Outcome::Kept(self.old.record.value.clone()));
        }
        admission::delete(cx, old).await?;
        let mut finalizers = policy::finalizers(&cx.resource, old, self.options);
        // The first delete of a definition holds it until its objects are gone.
        let defines = cx.resource.group == apiextensions::GROUP && !meta::is_terminating(old);
        if defines && !finalizers.iter().any(|f| f == finalizer::NAME) {
            finalizers.push(finalizer::NAME.into());
        }
        let held = !finalizers.is_empty();
        match way {
            Way::Gracefully(mut marked, seconds) => {
                policy::set_finalizers(&mut marked, &finalizers);
                let record = self.write(marked).await?;
                if held || seconds > 0 {
                    return Ok(Outcome::Kept(record.value));
                }
                match self.remove(&record).await {
                    // Whoever was waiting for the mark removed it first: it is gone, as was asked.
                    Err(_) if self.is_gone().await? => Ok(Outcome::Gone(record.value)),
                    removed => removed,
                }
            }
            _ if held => {
                let mut marked = old.clone();
                policy::set_finalizers(&mut marked, &finalizers);
                policy::mark_now(&mut marked, now);
                if defines {
                    finalizer::mark(&mut marked, now);
                }
                Ok(Outcome::Kept(self.write(marked).await?.value))
            }
            _ => self.remove(&self.old.record).await,
        }
    }

    fn terminating_namespace(&self) -> Value {
        let mut new = self.old.object.clone();
        policy::set_finalizers(&mut new, &policy::namespace_finalizers(&self.old.object, self.options));
        let now = time::rfc3339(self.cx.server.now());
        meta::metadata_mut(&mut new).insert("deletionTimestamp".into(), now.into());
        meta::child(&mut new, "status").insert("phase".into(), json!("Terminating"));
        new
    }

    fn check_preconditions(&self, is_namespace: bool) -> Result<(), Status> {
        let (uid, revision) = (meta::uid(&self.old.object), self.old.record.mod_revision.to_string());
        let (what, asked, found, what_happened) = match (&self.options.uid, &self.options.revision) {
            (Some(asked), _) if asked != uid => ("UID", asked, uid, "deleted and then recreated"),
            (_, Some(asked)) if *asked != revision => ("ResourceVersion", asked, revision.as_str(), "modified"),
            _ => return Ok(()),
        };
        let resource = &self.cx.resource;
        if is_namespace {
            let why = format!("Precondition failed: {what} in precondition: {asked}, {what} in object meta: {found}");
            return Err(Status::conflict(&resource.group_resource(), self.name, &why));
        }
        let why = format!(
            "the {what} in the precondition ({asked}) does not match the {what} in record ({found}). The object might have \
             been {what_happened}"
        );
        // Upstream names the kind where the resource belongs.
        Err(Status::conflict(&GroupResource::new(&resource.group, &resource.kind), self.name, &why))
    }

    /// Writes the marked object, if it is not so already and this is no dry run.
    async fn write(&self, mut new: Value) -> Result<Record, Failure> {
        let old = &self.old.record;
        if new == self.old.object {
            return Ok(old.clone());
        }
        encode::complete(&self.cx.resource, &mut new);
        let value = encode::stored(&new);
        if self.options.dry_run {
            return Ok(Record { value: encode::restamped(&value.bytes.into(), old.mod_revision), ..old.clone() });
        }
        let written = self.cx.server.storage().update(old.key.to_string(), value, old.mod_revision).await;
        written.map_err(|e| self.failure(e))
    }

    async fn remove(&self, last: &Record) -> Result<Outcome, Failure> {
        if self.options.dry_run {
            return Ok(Outcome::Gone(last.value.clone()));
        }
        let removed = self.cx.server.storage().delete(last.key.to_string(), Some(last.mod_revision)).await;
        let (record, revision): (Record, Revision) = removed.map_err(|e| self.failure(e))?;
        allocate::gone(self.cx, &self.old.object).await;
        Ok(Outcome::Gone(encode::restamped(&record.value, revision)))
    }

    /// Whether the object is there no more.
    async fn is_gone(&self) -> Result<bool, Status> {
        let found = self.cx.server.storage().get(&self.old.record.key).await.map_err(errors::storage)?;
        Ok(match found {
            Some(record) => meta::uid(&Stored::parse(record)?.object) != meta::uid(&self.old.object),
            None => true,
        })
    }

    fn failure(&self, error: StorageError) -> Failure {
        match error {
            StorageError::Conflict { .. } => Failure::Overtaken,
            other => Failure::Refused(errors::write(other, &self.cx.resource.group_resource(), self.name)),
        }
    }
}
