//! List: pages over a snapshot, written as the stored bytes.

use ::http::Response;
use kiln_apimachinery::Status;
use kiln_apimachinery::status::Reason;
use kiln_storage::{ListOptions, Page as StoredPage, Record, Revision, StorageError};

use super::filter::Filter;
use super::paging::{Continue, Paging};
use super::{Cx, errors, render};
use crate::apiextensions::versions;
use crate::http::body::Body;

/// Records read at a time when selectors thin a limited list.
const SCAN: usize = 500;

const EXPIRED: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new \
                       list without the continue parameter, or use the continue token in this response to retrieve the \
                       remainder of the results. Continuing with the provided token results in an inconsistent list - \
                       objects that were created, modified, or deleted between the time the first chunk was returned and \
                       now may show up in the list.";

pub(crate) async fn list(cx: &Cx<'_>) -> Result<Response<Body>, Status> {
    page(cx).await?.render(cx)
}

/// What a list has found.
pub(crate) struct Page {
    pub(crate) records: Vec<Record>,
    revision: Revision,
    next: Option<String>,
    remaining: Option<u64>,
}

impl Page {
    /// The answer, in the shape that the client takes.
    pub(crate) fn render(self, cx: &Cx<'_>) -> Result<Response<Body>, Status> {
        let items = self.records.into_iter().map(|r| r.value).collect();
        render::list(cx, items, self.revision, self.next, self.remaining)
    }
}

/// The page that the request asks for.
pub(crate) async fn page(cx: &Cx<'_>) -> Result<Page, Status> {
    let filter = Filter::of(cx)?;
    let Paging { limit, from, at } = Paging::of(cx)?;
    let prefix = cx.resource.prefix(filter.namespace(cx.namespace()));
    let found = match filter.key(&prefix) {
        Some(key) => one(cx, key, &filter, at).await,
        None => scan(cx, &prefix, &filter, limit, from.as_ref().map(|c| format!("{prefix}{}", c.start)), at).await,
    };
    let mut found = match found {
        Ok(found) => found,
        Err(Trouble::Conversion(status)) => return Err(status),
        Err(Trouble::Storage(StorageError::Compacted { .. })) if from.is_some() => {
            let mut status = Status::failure(Reason::Expired, EXPIRED);
            status.continue_token = from.map(|c| Continue::new(-1, &c.start).token()).unwrap_or_default();
            return Err(status);
        }
        Err(Trouble::Storage(StorageError::FutureRevision { current })) => {
            return Err(Status::too_large_revision(at.unwrap_or(current.saturating_add(1)), current));
        }
        Err(Trouble::Storage(e)) => return Err(errors::storage(e)),
    };
    versions::shown_all(cx.server, &cx.resource, &mut found.records).await?;
    let next = found.last.map(|key| Continue::new(found.revision, key.strip_prefix(&prefix).unwrap_or(&key)).token());
    let remaining = found.remaining.filter(|_| next.is_some() && filter.is_empty());
    Ok(Page { records: found.records, revision: found.revision, next, remaining })
}

struct Found {
    records: Vec<Record>,
    revision: Revision,
    /// The last key of the page, if more may follow.
    last: Option<String>,
    remaining: Option<u64>,
}

/// Why a page could not be made.
enum Trouble {
    Storage(StorageError),
    Conversion(Status),
}

impl From<StorageError> for Trouble {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

/// A page of the store, its records such that the filter can tell.
async fn stored(cx: &Cx<'_>, prefix: &str, options: ListOptions, filter: &Filter) -> Result<StoredPage, Trouble> {
    let mut page = cx.server.storage().list(prefix, options).await?;
    if filter.converts() {
        versions::shown_all(cx.server, &cx.resource, &mut page.records).await.map_err(Trouble::Conversion)?;
    }
    Ok(page)
}

/// The one object that the selectors name.
async fn one(cx: &Cx<'_>, key: String, filter: &Filter, at: Option<Revision>) -> Result<Found, Trouble> {
    let mut page = stored(cx, &key, ListOptions { limit: 1, at, ..ListOptions::default() }, filter).await?;
    page.records.retain(|r| *r.key == *key && filter.matches(r));
    Ok(Found { records: page.records, revision: page.revision, last: None, remaining: None })
}

async fn scan(
    cx: &Cx<'_>,
    prefix: &str,
    filter: &Filter,
    limit: usize,
    mut start: Option<String>,
    mut at: Option<Revision>,
) -> Result<Found, Trouble> {
    if limit == 0 || filter.is_empty() {
        let options = ListOptions { limit, start_after: start, at, count: filter.is_empty() };
        let page = stored(cx, prefix, options, filter).await?;
        let last = page.records.last().filter(|_| page.more).map(|r| r.key.to_string());
        let mut records = page.records;
        if !filter.is_empty() {
            records.retain(|r| filter.matches(r));
        }
        return Ok(Found { records, revision: page.revision, last, remaining: Some(page.remaining) });
    }
    let mut records = Vec::with_capacity(limit.min(SCAN));
    loop {
        let options = ListOptions { limit: SCAN, start_after: start, at, count: false };
        let page = stored(cx, prefix, options, filter).await?;
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
                    return Ok(Found { records, revision: page.revision, last, remaining: None });
                }
            }
        }
        if !page.more {
            return Ok(Found { records, revision: page.revision, last: None, remaining: None });
        }
    }
}
