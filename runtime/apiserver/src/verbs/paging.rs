//! Revisions and continue tokens that clients send.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kiln_apimachinery::{FieldError, Gvk, Status};
use kiln_storage::Revision;
use serde::{Deserialize, Serialize};

use super::Cx;

const VERSION: &str = "meta.k8s.io/v1";

/// Where a list goes on.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Continue {
    v: String,
    /// Revision of the snapshot, or -1 for whatever is current.
    pub(crate) rv: Revision,
    /// The last key served, after the resource's prefix.
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
        let bad = |why: String| Status::bad_request(format!("continue key is not valid: {why}"));
        let bytes = URL_SAFE_NO_PAD.decode(token.trim_end_matches('=')).map_err(|e| bad(e.to_string()))?;
        let found: Self = serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
        match found.v.as_str() {
            VERSION if found.rv != 0 && !found.start.is_empty() => Ok(found),
            VERSION => Err(bad("incorrect encoded start resourceVersion or key".into())),
            other => Err(bad(format!("server does not recognize this encoded version {other:?}"))),
        }
    }
}

/// Which state a list or watch is to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The current one.
    Latest,
    /// One not older than this.
    NotOlder(Revision),
    /// Just this one.
    Exact(Revision),
}

/// Reads `resourceVersion` and `resourceVersionMatch` of a list.
pub(crate) fn wanted(cx: &Cx<'_>, limit: usize, continues: bool) -> Result<Wanted, Status> {
    let revision = cx.query.get("resourceVersion");
    let rule = cx.query.get("resourceVersionMatch");
    let forbidden = |why: &str| Err(invalid(FieldError::forbidden("resourceVersionMatch", why)));
    if continues {
        if rule.is_some() {
            return forbidden("resourceVersionMatch is forbidden for continue");
        }
        if revision.is_some_and(|r| r != "0") {
            return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
        }
        return Ok(Wanted::Latest);
    }
    let Some(text) = revision else {
        return match rule {
            Some(_) => forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided"),
            None => Ok(Wanted::Latest),
        };
    };
    let number = parse_revision(text)?;
    match rule {
        Some("Exact") if number == 0 => {
            forbidden("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"")
        }
        Some("Exact") => Ok(Wanted::Exact(number)),
        Some("NotOlderThan") => Ok(Wanted::NotOlder(number)),
        Some(other) => {
            Err(invalid(FieldError::not_supported("resourceVersionMatch", &other.into(), &["Exact", "NotOlderThan"])))
        }
        // Pages of a list with a revision show that revision.
        None if limit > 0 && number > 0 => Ok(Wanted::Exact(number)),
        None => Ok(Wanted::NotOlder(number)),
    }
}

fn invalid(error: FieldError) -> Status {
    Status::invalid(&Gvk::new("meta.k8s.io", "v1", "ListOptions"), "", &[error])
}

/// A revision as clients write it.
pub(crate) fn parse_revision(text: &str) -> Result<Revision, Status> {
    let number = text.parse::<u64>().ok().and_then(|n| Revision::try_from(n).ok());
    number.ok_or_else(|| {
        let error = FieldError::invalid(
            "resourceVersion",
            &text.into(),
            "strconv.ParseUint: parsing a resource version failed",
        );
        Status::bad_request(error.to_string())
    })
}

/// Refuses a get or list of a revision that is not here yet.
pub(crate) fn not_in_future(cx: &Cx<'_>) -> Result<(), Status> {
    let Some(text) = cx.query.get("resourceVersion") else { return Ok(()) };
    let (asked, current) = (parse_revision(text)?, cx.server.storage().current_revision());
    if asked > current { Err(Status::too_large_revision(asked, current)) } else { Ok(()) }
}
