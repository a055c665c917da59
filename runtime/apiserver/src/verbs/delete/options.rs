//! What a delete asks for: from its body or, if that is empty, from the query.

use kiln_apimachinery::query::Query;
use kiln_apimachinery::{FieldError, Gvk, Status, meta};
use serde_json::Value;

use crate::http::negotiate;
use crate::verbs::Cx;

const KIND: &str = "DeleteOptions";
const POLICIES: &[&str] = &["Foreground", "Background", "Orphan", "nil"];

/// What becomes of the objects that the deleted one owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    Background,
    Foreground,
    Orphan,
}

/// The options of a delete.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    pub(crate) uid: Option<String>,
    pub(crate) revision: Option<String>,
    /// Seconds to live on; never negative.
    pub(crate) grace: Option<i64>,
    pub(crate) propagation: Option<Propagation>,
    pub(crate) orphan_dependents: Option<bool>,
    pub(crate) dry_run: bool,
}

/// The options as they were sent.
#[derive(Default)]
struct Raw {
    options: Options,
    policy: Option<String>,
    dry_run: Vec<String>,
}

impl Options {
    /// Reads the options of a request; a 400, 415 or 422 if they can't be had.
    pub(crate) fn of(cx: &Cx<'_>) -> Result<Self, Status> {
        let raw = if cx.body.is_empty() { from_query(cx.query)? } else { from_body(cx)? };
        raw.checked()
    }
}

impl Raw {
    fn checked(self) -> Result<Options, Status> {
        let mut errors = Vec::new();
        let mut options = self.options;
        if let Some(policy) = &self.policy {
            if options.orphan_dependents.is_some() {
                let why = "orphanDependents and deletionPropagation cannot be both set";
                errors.push(FieldError::invalid("propagationPolicy", &policy.as_str().into(), why));
            }
            options.propagation = match policy.as_str() {
                "Background" => Some(Propagation::Background),
                "Foreground" => Some(Propagation::Foreground),
                "Orphan" => Some(Propagation::Orphan),
                other => {
                    errors.push(FieldError::not_supported("propagationPolicy", &other.into(), POLICIES));
                    None
                }
            };
        }
        if self.dry_run.iter().any(|d| d != "All") {
            errors.push(FieldError::not_supported("dryRun", &self.dry_run.clone().into(), &["All"]));
        }
        options.dry_run = !self.dry_run.is_empty();
        // Upstream takes a negative number for one second, on any path.
        options.grace = options.grace.map(|g| if g < 0 { 1 } else { g });
        if errors.is_empty() {
            return Ok(options);
        }
        Err(Status::invalid(&Gvk::new("meta.k8s.io", "v1", KIND), "", &errors))
    }
}

fn from_body(cx: &Cx<'_>) -> Result<Raw, Status> {
    let mut body = negotiate::read_body(cx.headers, &cx.body)?.value;
    if !body.is_object() {
        return Err(Status::bad_request("the body of a delete must be an object"));
    }
    if !matches!(meta::text(&body, &["kind"]), "" | KIND) {
        return Err(Status::bad_request("decoded object cannot be converted to DeleteOptions"));
    }
    if let Some(ty) = kiln_schema::lookup("v1", KIND) {
        // Fields that it has not are of no account here.
        kiln_schema::decode::check(ty, &mut body).map_err(Status::bad_request)?;
    }
    let text = |path: &[&str]| meta::at(&body, path).and_then(Value::as_str).map(str::to_owned);
    let options = Options {
        uid: text(&["preconditions", "uid"]),
        revision: text(&["preconditions", "resourceVersion"]),
        grace: body.get("gracePeriodSeconds").and_then(Value::as_i64),
        orphan_dependents: body.get("orphanDependents").and_then(Value::as_bool),
        ..Options::default()
    };
    let dry_run = meta::strings(body.get("dryRun")).into_iter().map(str::to_owned).collect();
    Ok(Raw { options, policy: text(&["propagationPolicy"]), dry_run })
}

fn from_query(query: &Query) -> Result<Raw, Status> {
    let text = |key: &str| query.get(key).map(str::to_owned);
    let grace = query.get("gracePeriodSeconds").map(|text| {
        let bad = |_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"));
        text.parse::<i64>().map_err(bad)
    });
    let options = Options {
        uid: text("uid"),
        revision: text("resourceVersion"),
        grace: grace.transpose()?,
        orphan_dependents: query.get("orphanDependents").map(|_| query.flag("orphanDependents")),
        ..Options::default()
    };
    let dry_run = query.all("dryRun").filter(|v| !v.is_empty()).map(str::to_owned).collect();
    Ok(Raw { options, policy: text("propagationPolicy"), dry_run })
}
