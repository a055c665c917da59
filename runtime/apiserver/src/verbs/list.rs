//! List: pages over a snapshot, written as the stored bytes.

use ::http::{Response, StatusCode};
use kiln_apimachinery::status::Reason;
use kiln_apimachinery::{Status, meta};
use kiln_storage::{ListOptions, Record, Revision, StorageError};

use super::filter::Filter;
use super::paging::{Continue, Wanted, not_in_future, wanted};
use super::{Cx, errors, render};
use crate::http::body::Body;
use crate::http::respond;

/// Records read at a time when selectors thin a limited list.
const SCAN: usize = 500;

pub(crate) async fn list(cx: &Cx<'_>) -> Result<Response<Body>, Status> {
    let filter = Filter::of(cx)?;
    let limit = limit(cx)?;
    let from = cx.query.get("continue").map(Continue::parse).transpose()?;
    let at = match wanted(cx, limit, from.is_some())? {
        Wanted::Exact(revision) => Some(revision),
        Wanted::Latest | Wanted::NotOlder(_) => from.as_ref().map(|c| c.rv).filter(|rv| *rv > 0),
    };
    not_in_future(cx)?;
    let prefix = cx.resource.prefix(cx.namespace());
    let start = from.as_ref().map(|c| format!("{prefix}{}", c.start));
    let page = match scan(cx, &prefix, &filter, limit, start, at).await {
        Ok(page) => page,
        Err(StorageError::Compacted { .. }) => return Ok(expired(from.as_ref())),
        Err(StorageError::FutureRevision { current }) => {
            return Err(Status::too_large_revision(at.unwrap_or(current.saturating_add(1)), current));
        }
        Err(e) => return Err(errors::storage(e)),
    };
    let next = page.last.map(|key| Continue::new(page.revision, key.strip_prefix(&prefix).unwrap_or(&key)).token());
    let remaining = page.remaining.filter(|_| next.is_some() && filter.is_empty());
    let items = page.records.into_iter().map(|r| r.value).collect();
    render::list(cx, items, page.revision, next, remaining)
}

/// Every selected record now.
pub(crate) async fn all(cx: &Cx<'_>, filter: &Filter) -> Result<Vec<Record>, Status> {
    let prefix = cx.resource.prefix(cx.namespace());
    Ok(scan(cx, &prefix, filter, 0, None, None).await.map_err(errors::storage)?.records)
}

fn limit(cx: &Cx<'_>) -> Result<usize, Status> {
    match cx.query.get("limit") {
        None => Ok(0),
        Some(text) => {
            let number = text.parse::<i64>().map_err(|e| Status::bad_request(format!("limit {text:?}: {e}")))?;
            Ok(usize::try_from(number).unwrap_or(0))
        }
    }
}

struct Scan {
    records: Vec<Record>,
    revision: Revision,
    /// The last key of the page, if more may follow.
    last: Option<String>,
    remaining: Option<u64>,
}

async fn scan(
    cx: &Cx<'_>,
    prefix: &str,
    filter: &Filter,
    limit: usize,
    mut start: Option<String>,
    mut at: Option<Revision>,
) -> Result<Scan, StorageError> {
    let storage = cx.server.storage();
    if limit == 0 || filter.is_empty() {
        let page = storage.list(prefix, ListOptions { limit, start_after: start, at }).await?;
        let last = page.records.last().filter(|_| page.more).map(|r| r.key.to_string());
        let mut records = page.records;
        if !filter.is_empty() {
            records.retain(|r| filter.matches(r));
        }
        return Ok(Scan { records, revision: page.revision, last, remaining: Some(page.remaining) });
    }
    let mut records = Vec::with_capacity(limit.min(SCAN));
    loop {
        let page = storage.list(prefix, ListOptions { limit: SCAN, start_after: start, at }).await?;
        // Later pages must show the same state.
        at = Some(page.revision);
        let count = page.records.len();
        start = page.records.last().map(|r| r.key.to_string());
        for (i, record) in page.records.into_iter().enumerate() {
            if filter.matches(&record) {
                let key = record.key.to_string();
                records.push(record);
                if records.len() == limit {
                    let last = (page.more || i + 1 < count).then_some(key);
                    return Ok(Scan { records, revision: page.revision, last, remaining: None });
                }
            }
        }
        if !page.more {
            return Ok(Scan { records, revision: page.revision, last: None, remaining: None });
        }
    }
}

/// 410 with a token that goes on without the snapshot.
fn expired(from: Option<&Continue>) -> Response<Body> {
    let Some(from) = from else {
        return respond::status(&errors::storage(StorageError::Compacted { oldest: 0 }));
    };
    let status = Status::failure(
        Reason::Expired,
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without the \
         continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing \
         with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the \
         time the first chunk was returned and now may show up in the list.",
    );
    let mut body = status.to_value();
    let token = Continue::new(-1, &from.start).token();
    meta::metadata_mut(&mut body).insert("continue".into(), token.into());
    respond::json(StatusCode::GONE, &body)
}
