//! Delete: at once, or, while finalizers hold the object, by marking it.

use ::http::{Response, StatusCode};
use bytes::Bytes;
use kiln_apimachinery::{Reason, Status, meta, time};
use kiln_storage::Record;
use serde_json::{Value, json};

use super::store::Stored;
use super::update::{ATTEMPTS, is_held};
use super::{Cx, encode, errors, filter, list, render};
use crate::admission;
use crate::http::body::Body;
use crate::http::{negotiate, respond};

/// What a delete may ask for.
#[derive(Debug, Default)]
struct Options {
    uid: Option<String>,
    revision: Option<String>,
    dry_run: bool,
}

fn options(cx: &Cx<'_>) -> Result<Options, Status> {
    let mut options = Options { dry_run: cx.dry_run, ..Options::default() };
    if !cx.body.is_empty() {
        let body = negotiate::read_body(cx.headers, &cx.body)?.value;
        let text = |path: &[&str]| meta::at(&body, path).and_then(Value::as_str).map(Into::into);
        if !matches!(meta::text(&body, &["kind"]), "" | "DeleteOptions") {
            return Err(Status::bad_request(format!(
                "the body of a delete must be DeleteOptions, not {}",
                body["kind"]
            )));
        }
        options.uid = text(&["preconditions", "uid"]);
        options.revision = text(&["preconditions", "resourceVersion"]);
        options.dry_run |= meta::strings(body.get("dryRun")).contains(&"All");
        check_policy(meta::text(&body, &["propagationPolicy"]))?;
    }
    check_policy(cx.query.get("propagationPolicy").unwrap_or_default())?;
    Ok(options)
}

fn check_policy(policy: &str) -> Result<(), Status> {
    match policy {
        "" | "Background" | "Foreground" | "Orphan" => Ok(()),
        other => {
            Err(Status::bad_request(format!("propagationPolicy {other:?} is none of Background, Foreground, Orphan")))
        }
    }
}

pub(crate) async fn delete(cx: &Cx<'_>) -> Result<Response<Body>, Status> {
    let options = options(cx)?;
    match delete_one(cx, &cx.info.name, &options).await? {
        Deleted::Gone(object) => {
            let status = Status::deleted(&cx.resource.group_resource(), meta::name(&object), meta::uid(&object));
            Ok(respond::status(&status))
        }
        Deleted::Marked(bytes) => render::object(cx, StatusCode::OK, &bytes),
    }
}

pub(crate) async fn delete_collection(cx: &Cx<'_>) -> Result<Response<Body>, Status> {
    let options = options(cx)?;
    let filter = filter::Filter::of(cx)?;
    let records = list::all(cx, &filter).await?;
    let mut gone = Vec::with_capacity(records.len());
    for record in &records {
        let name = record.key.rsplit('/').next().unwrap_or_default();
        match delete_one(cx, name, &options).await {
            Ok(_) => gone.push(record.value.clone()),
            // Someone else was faster.
            Err(status) if status.is(Reason::NotFound) => {}
            Err(status) => return Err(status),
        }
    }
    render::list(cx, gone, cx.server.storage().current_revision(), None, None)
}

/// What became of the object.
enum Deleted {
    Gone(Value),
    Marked(Bytes),
}

async fn delete_one(cx: &Cx<'_>, name: &str, options: &Options) -> Result<Deleted, Status> {
    let resource = cx.resource.group_resource();
    let key = cx.resource.key(cx.namespace(), name);
    let mut attempt = 0;
    loop {
        attempt += 1;
        let record: Option<Record> = cx.server.storage().get(&key).await.map_err(errors::storage)?;
        let old = Stored::parse(record.ok_or_else(|| cx.not_found(name))?)?;
        check_preconditions(cx, name, options, &old)?;
        admission::delete(cx, &old.object).await?;
        let done = if is_held(cx, &old.object) {
            mark(cx, name, &old, options.dry_run).await
        } else if options.dry_run {
            Ok(Deleted::Gone(old.object))
        } else {
            let done = cx.server.storage().delete(key.clone(), Some(old.record.mod_revision)).await;
            done.map(|_| Deleted::Gone(old.object)).map_err(|e| errors::write(e, &resource, name))
        };
        match done {
            Err(status) if status.is(Reason::Conflict) && attempt < ATTEMPTS && !is_final(&status) => {}
            done => return done,
        }
    }
}

/// True for the conflict that a second delete of a namespace gets, which no retry changes.
fn is_final(status: &Status) -> bool {
    status.message.contains(PURGING)
}

const PURGING: &str = "The system is ensuring all content is removed from this namespace.";

fn check_preconditions(cx: &Cx<'_>, name: &str, options: &Options, old: &Stored) -> Result<(), Status> {
    let failed = |what: &str, asked: &str, found: &str| {
        let why = format!("Precondition failed: {what} in precondition: {asked}, {what} in object meta: {found}");
        Err(Status::conflict(&cx.resource.group_resource(), name, &why))
    };
    let (uid, revision) = (meta::uid(&old.object), old.record.mod_revision.to_string());
    match (&options.uid, &options.revision) {
        (Some(asked), _) if asked != uid => failed("UID", asked, uid),
        (_, Some(asked)) if *asked != revision => failed("ResourceVersion", asked, &revision),
        _ => Ok(()),
    }
}

/// Marks an object that finalizers hold.
async fn mark(cx: &Cx<'_>, name: &str, old: &Stored, dry_run: bool) -> Result<Deleted, Status> {
    let resource = cx.resource.group_resource();
    let is_namespace = cx.resource.group.is_empty() && cx.resource.plural == "namespaces";
    if meta::is_terminating(&old.object) {
        if is_namespace {
            let why = format!("{PURGING}  Upon completion, this namespace will automatically be purged by the system.");
            return Err(Status::conflict(&resource, name, &why));
        }
        return Ok(Deleted::Marked(old.record.value.clone()));
    }
    let mut new = old.object.clone();
    let metadata = meta::metadata_mut(&mut new);
    metadata.insert("deletionTimestamp".into(), time::rfc3339(cx.server.now()).into());
    metadata.insert("deletionGracePeriodSeconds".into(), 0.into());
    if is_namespace {
        metadata.remove("deletionGracePeriodSeconds");
        meta::child(&mut new, "status").insert("phase".into(), json!("Terminating"));
    }
    let value = encode::stored(&new);
    if dry_run {
        return Ok(Deleted::Marked(encode::restamped(&value.bytes.into(), old.record.mod_revision)));
    }
    let written = cx.server.storage().update(old.record.key.to_string(), value, old.record.mod_revision).await;
    written.map(|r| Deleted::Marked(r.value)).map_err(|e| errors::write(e, &resource, name))
}
