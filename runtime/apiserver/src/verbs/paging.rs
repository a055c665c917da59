//! Revisions and continue tokens that clients send.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kiln_apimachinery::query::Query;
use kiln_apimachinery::{FieldError, Gvk, Status};
use kiln_storage::Revision;
use serde::{Deserialize, Serialize};

use super::Cx;

const VERSION: &str = "meta.k8s.io/v1";
const MATCH: &str = "resourceVersionMatch";

/// Where a list goes on.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Continue {
    v: String,
    /// Revision of the snapshot, or -1 for whatever is current.
    pub(crate) rv: Revision,
    /// The last key served, after the resource's prefix.
    #[serde(default)]
    pub(crate) start: String,
}

impl Continue {
    pub(crate) fn new(rv: Revision, start: &str) -> Self {
        Self { v: VERSION.into(), rv, start: start.into() }
    }

    pub(crate) fn token(&self) -> String {
        let json = serde_json::json!({"v": self.v, "rv": self.rv, "start": self.start});
        URL_SAFE_NO_PAD.encode(json.to_string())
    }

    pub(crate) fn parse(token: &str) -> Result<Self, Status> {
        let bad = |why: &str| Status::bad_request(format!("invalid continue token: continue key is not valid: {why}"));
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|e| bad(&e.to_string()))?;
        let found: Self = serde_json::from_slice(&bytes).map_err(|e| bad(&e.to_string()))?;
        match found.v.as_str() {
            VERSION if found.rv == 0 => Err(bad("incorrect encoded start resourceVersion (version meta.k8s.io/v1)")),
            VERSION if found.start.is_empty() => Err(bad("encoded start key empty (version meta.k8s.io/v1)")),
            // A start that climbs out of the prefix was not made here.
            VERSION if found.start.split('/').any(|part| matches!(part, "." | "..")) => Err(bad(&found.start)),
            VERSION => Ok(found),
            other => Err(bad(&format!("server does not recognize this encoded version {other}"))),
        }
    }
}

/// Which page of which state a list is to show.
#[derive(Debug)]
pub(crate) struct Paging {
    /// Most objects on the page; 0 for all.
    pub(crate) limit: usize,
    pub(crate) from: Option<Continue>,
    /// The one state to show; the current one if absent.
    pub(crate) at: Option<Revision>,
}

impl Paging {
    /// Reads `limit`, `continue`, `resourceVersion` and `resourceVersionMatch` of a list.
    pub(crate) fn of(cx: &Cx<'_>) -> Result<Self, Status> {
        let query = cx.query;
        let limit = match query.get("limit") {
            None => 0,
            // A negative limit is none.
            Some(text) => usize::try_from(integer(text)?).unwrap_or(0),
        };
        check_list(query)?;
        let revision = query.get("resourceVersion");
        if let Some(token) = query.get("continue") {
            let from = Continue::parse(token)?;
            if revision.is_some_and(|r| r != "0") {
                return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
            }
            let at = Some(from.rv).filter(|rv| *rv > 0);
            return Ok(Self { limit, from: Some(from), at });
        }
        let Some(text) = revision else { return Ok(Self { limit, from: None, at: None }) };
        let number = parse_revision(text)
            .map_err(|status| Status::bad_request(format!("invalid resource version: {}", status.message)))?;
        let current = cx.server.storage().current_revision();
        if number > current {
            return Err(Status::too_large_revision(number, current));
        }
        let exact = match query.get(MATCH) {
            Some(rule) => rule == "Exact",
            // Pages of a list with a revision show that revision.
            None => limit > 0 && number > 0,
        };
        Ok(Self { limit, from: None, at: exact.then_some(number) })
    }
}

fn check_list(query: &Query) -> Result<(), Status> {
    let mut errors = Vec::new();
    if let Some(rule) = query.get(MATCH) {
        if query.get("resourceVersion").is_none() {
            let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            errors.push(FieldError::forbidden(MATCH, why));
        }
        if query.get("continue").is_some() {
            errors.push(FieldError::forbidden(MATCH, "resourceVersionMatch is forbidden when continue is provided"));
        }
        if !matches!(rule, "Exact" | "NotOlderThan") {
            errors.push(FieldError::not_supported(MATCH, &rule.into(), &["Exact", "NotOlderThan", ""]));
        }
        if rule == "Exact" && query.get("resourceVersion") == Some("0") {
            let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            errors.push(FieldError::forbidden(MATCH, why));
        }
    }
    if query.get("sendInitialEvents").is_some() {
        errors.push(FieldError::forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
    }
    invalid(&errors)
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// With the changes after a revision.
    After(Revision),
    /// With everything there is, and a bookmark behind it for those who take bookmarks.
    Current,
    /// With the next change.
    Now,
}

/// Reads `resourceVersion`, `resourceVersionMatch` and `sendInitialEvents` of a watch.
pub(crate) fn start(cx: &Cx<'_>) -> Result<Start, Status> {
    let query = cx.query;
    let initial = query.get("sendInitialEvents").map(|_| query.flag("sendInitialEvents"));
    check_watch(query, initial.is_some())?;
    let revision = query.get("resourceVersion").map(parse_revision).transpose()?;
    match (initial, revision) {
        (Some(true), Some(asked)) => {
            let current = cx.server.storage().current_revision();
            if asked > current { Err(Status::too_large_revision(asked, current)) } else { Ok(Start::Current) }
        }
        (None | Some(true), None | Some(0)) => Ok(Start::Current),
        (Some(false), None | Some(0)) => Ok(Start::Now),
        (None | Some(false), Some(revision)) => Ok(Start::After(revision)),
    }
}

fn check_watch(query: &Query, initial: bool) -> Result<(), Status> {
    let mut errors = Vec::new();
    let rule = query.get(MATCH);
    if initial && rule != Some("NotOlderThan") {
        let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        errors.push(FieldError::forbidden(MATCH, why));
    }
    if let Some(rule) = rule {
        if !initial {
            let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            errors.push(FieldError::forbidden(MATCH, why));
        }
        if rule != "NotOlderThan" {
            errors.push(FieldError::not_supported(MATCH, &rule.into(), &["NotOlderThan"]));
        }
        if query.get("continue").is_some() {
            errors.push(FieldError::forbidden(MATCH, "resourceVersionMatch is forbidden when continue is provided"));
        }
    }
    invalid(&errors)
}

fn invalid(errors: &[FieldError]) -> Result<(), Status> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(&Gvk::new("meta.k8s.io", "v1", "ListOptions"), "", errors))
}

/// A whole number of a query; a 400 in Go's words.
pub(crate) fn integer(text: &str) -> Result<i64, Status> {
    text.parse().map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))
}

/// A revision as clients write it.
pub(crate) fn parse_revision(text: &str) -> Result<Revision, Status> {
    let number = text.parse::<u64>().ok().and_then(|n| Revision::try_from(n).ok());
    number.ok_or_else(|| {
        let why = format!("strconv.ParseUint: parsing {text:?}: invalid syntax");
        Status::bad_request(FieldError::invalid("resourceVersion", &text.into(), &why).to_string())
    })
}

/// Waits for the revision that is asked for: another server of the cluster may have answered with it before this one has
/// heard of it. Whether it is one at all, the verbs see for themselves.
pub(crate) async fn catch_up(cx: &Cx<'_>) {
    if let Some(Ok(revision)) = cx.query.get("resourceVersion").map(parse_revision) {
        _ = cx.server.storage().reach(revision).await;
    }
}

/// Refuses a get of a revision that is not here yet.
pub(crate) fn not_in_future(cx: &Cx<'_>) -> Result<(), Status> {
    let Some(text) = cx.query.get("resourceVersion") else { return Ok(()) };
    let (asked, current) = (parse_revision(text)?, cx.server.storage().current_revision());
    if asked > current { Err(Status::too_large_revision(asked, current)) } else { Ok(()) }
}
