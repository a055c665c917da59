//! Who owns the fields of what is written: the writer's name, and the owners in `metadata.managedFields`.

use std::sync::LazyLock;

use ::http::header::USER_AGENT;
use kiln_apimachinery::apply::{self, ApplyError, Set};
use kiln_apimachinery::status::{Cause, Details, Reason};
use kiln_apimachinery::{FieldError, Gvk, Status, meta, time};
use serde_json::Value;

use super::Cx;
use super::tree::Tree;
use super::{encode, errors};
use crate::registry::Resource;
use crate::server::ApiServer;

/// Most bytes of a manager's name.
const MAX_MANAGER: usize = 128;
/// Most bytes of a subresource's name.
const MAX_SUBRESOURCE: usize = 256;
/// When references to owners are looked at again.
pub(crate) const AFTER_ADMISSION: &str = " after mutating admission happens";

/// Whether the owners of an object that is about to be stored are told yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owners {
    /// The writer becomes the owner of what it changes.
    Track,
    /// An apply has told them.
    Told,
}

/// Refuses a manager's name or a `force` that a write may not have; a 422.
pub(crate) fn check_options(cx: &Cx<'_>, applies: bool) -> Result<(), Status> {
    let name = cx.query.get("fieldManager").unwrap_or_default();
    let mut errors = Vec::new();
    if applies && name.is_empty() {
        errors.push(FieldError::required("fieldManager", "is required for apply patch"));
    }
    let kind = match cx.info.verb.as_str() {
        "create" => "CreateOptions",
        "update" => "UpdateOptions",
        _ => "PatchOptions",
    };
    if kind == "PatchOptions" && !applies && cx.query.all("force").next().is_some() {
        errors.push(FieldError::forbidden("force", "may not be specified for non-apply patch"));
    }
    errors.extend(check_manager("fieldManager", name));
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(&Gvk::new("meta.k8s.io", "v1", kind), "", &errors))
}

fn check_manager(path: &str, name: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if name.len() > MAX_MANAGER {
        errors.push(FieldError::too_long(path, MAX_MANAGER));
    }
    for (at, c) in name.char_indices().filter(|(_, c)| !is_printable(*c)) {
        let why = format!("invalid character U+{:04X} (at position {at})", u32::from(c));
        errors.push(FieldError::invalid(path, &name.into(), &why));
    }
    errors
}

/// Complaints about owners that a writer made up.
pub(crate) fn check_owners(list: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, entry) in list.and_then(Value::as_array).into_iter().flatten().enumerate() {
        let path = |field: &str| format!("metadata.managedFields[{i}].{field}");
        errors.extend(check_manager(&path("manager"), meta::text(entry, &["manager"])));
        if meta::text(entry, &["subresource"]).len() > MAX_SUBRESOURCE {
            errors.push(FieldError::too_long(path("subresource"), MAX_SUBRESOURCE));
        }
    }
    errors
}

/// Removes references to owners that stand twice, and warns of them.
pub(crate) fn dedup_references(cx: &Cx<'_>, object: &mut Value, when: &str) {
    let Some(Value::Array(list)) = object.pointer_mut("/metadata/ownerReferences") else { return };
    let mut twice = Vec::new();
    let mut kept: Vec<Value> = Vec::with_capacity(list.len());
    for reference in list.drain(..) {
        if kept.contains(&reference) {
            twice.push(meta::text(&reference, &["uid"]).to_owned());
        } else {
            kept.push(reference);
        }
    }
    *list = kept;
    if !twice.is_empty() {
        cx.warn(format!(
            ".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, and may \
             reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
            twice.join(", ")
        ));
    }
}

fn is_printable(c: char) -> bool {
    c == ' ' || !(c.is_control() || c.is_whitespace() || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{feff}'))
}

/// The writer's name: the one it gives, else the first part of its `User-Agent`.
pub(crate) fn manager(cx: &Cx<'_>) -> String {
    if let Some(named) = cx.query.get("fieldManager") {
        return named.to_owned();
    }
    match cx.headers.get(USER_AGENT) {
        Some(agent) => from_user_agent(&String::from_utf8_lossy(agent.as_bytes())),
        // A part of the control plane in this process has a name and no agent.
        None => cx.user.name.strip_prefix("system:").filter(|name| !name.contains(':')).unwrap_or_default().to_owned(),
    }
}

fn from_user_agent(agent: &str) -> String {
    let mut out = String::new();
    for c in agent.split('/').next().unwrap_or_default().chars().filter(|c| is_printable(*c)) {
        if out.len() + c.len_utf8() > MAX_MANAGER {
            break;
        }
        out.push(c);
    }
    out
}

/// Gives the request's writer what it changes in `new` against `live`, both in stored form.
pub(crate) fn track(cx: &Cx<'_>, live: Option<&Value>, new: &mut Value) {
    track_as(cx.server, &cx.resource, &cx.info.subresource, &manager(cx), live, new);
}

/// Gives a writer what it changes.
pub(crate) fn track_as(
    server: &ApiServer,
    resource: &Resource,
    subresource: &str,
    manager: &str,
    live: Option<&Value>,
    new: &mut Value,
) {
    let tree = Tree::of(resource);
    with_writer(server, resource, subresource, manager, |writer| {
        let Some(conversion) = resource.conversion else {
            return apply::update(tree, live, new, writer);
        };
        // Fields have the names of the version in which they are written.
        let live = live.map(|live| {
            let mut live = live.clone();
            (conversion.from_stored)(&mut live);
            encode::fill(resource, &mut live);
            live
        });
        let mut shown = new.clone();
        (conversion.from_stored)(&mut shown);
        encode::fill(resource, &mut shown);
        apply::update(tree, live.as_ref(), &mut shown, writer);
        put(new, meta::at(&shown, &["metadata", "managedFields"]).cloned());
    });
}

/// Applies a configuration to an object, both in the request's version.
pub(crate) fn apply_config(cx: &Cx<'_>, live: Option<&Value>, config: &Value) -> Result<Value, Status> {
    let force = match cx.query.all("force").next() {
        None => false,
        Some(text) => !(text.eq_ignore_ascii_case("false") || text == "0"),
    };
    let (resource, tree) = (&cx.resource, Tree::of(&cx.resource));
    with_writer(cx.server, resource, &cx.info.subresource, &manager(cx), |writer| {
        apply::apply(tree, &resource.gvk(), live, config, writer, force)
    })
    .map_err(|error| match &error {
        ApplyError::Conflicts(conflicts) => {
            let causes = conflicts.iter().map(|conflict| Cause {
                reason: "FieldManagerConflict".to_owned(),
                message: format!("conflict with {}", conflict.owner),
                field: conflict.field(),
            });
            let mut status = Status::failure(Reason::Conflict, error.to_string());
            status.details = Some(Box::new(Details { causes: causes.collect(), ..Details::default() }));
            status
        }
        ApplyError::Refused(text) => Status::bad_request(text),
        ApplyError::Unfit(text) => errors::plain(text),
    })
}

fn with_writer<R>(
    server: &ApiServer,
    resource: &Resource,
    subresource: &str,
    manager: &str,
    f: impl FnOnce(&apply::Writer<'_>) -> R,
) -> R {
    let (api_version, now) = (resource.api_version(), time::rfc3339(server.now()));
    let serves = |version: &str| server.registry().serves(resource, version);
    f(&apply::Writer {
        manager,
        api_version: &api_version,
        serves: &serves,
        subresource,
        now: &now,
        ignored: ignored(resource, subresource),
    })
}

/// Sets or removes the owners.
pub(crate) fn put(object: &mut Value, list: Option<Value>) {
    let metadata = meta::metadata_mut(object);
    match list {
        Some(list) => metadata.insert("managedFields".into(), list),
        None => metadata.remove("managedFields"),
    };
}

static NOTHING: LazyLock<Set> = LazyLock::new(Set::default);
static STATUS: LazyLock<Set> = LazyLock::new(|| Set::of(&[&["status"]]));
static SPEC: LazyLock<Set> = LazyLock::new(|| Set::of(&[&["spec"]]));
static SPEC_AND_STATUS: LazyLock<Set> = LazyLock::new(|| Set::of(&[&["spec"], &["status"]]));
static SPEC_AND_METADATA: LazyLock<Set> = LazyLock::new(|| Set::of(&[&["spec"], &["metadata"]]));
static SPEC_AND_LABELS: LazyLock<Set> = LazyLock::new(|| Set::of(&[&["spec"], &["metadata", "labels"]]));
static SPEC_AND_CERTIFICATE: LazyLock<Set> = LazyLock::new(|| Set::of(&[&["spec"], &["status", "certificate"]]));
static SPEC_AND_CONDITIONS: LazyLock<Set> = LazyLock::new(|| Set::of(&[&["spec"], &["status", "conditions"]]));
static SPEC_AND_OWNERS: LazyLock<Set> =
    LazyLock::new(|| Set::of(&[&["spec"], &["metadata", "deletionTimestamp"], &["metadata", "ownerReferences"]]));

/// Resources whose status is written without any metadata.
const STATUS_ONLY: &[&str] = &[
    "devicetaintrules",
    "flowschemas",
    "prioritylevelconfigurations",
    "resourceclaims",
    "resourcepoolstatusrequests",
    "servicecidrs",
    "storageversionmigrations",
    "storageversions",
    "validatingadmissionpolicies",
    "volumeattachments",
];

/// The fields that a write leaves as they are, whatever it says, so that its writer does not own them.
fn ignored(resource: &Resource, subresource: &str) -> &'static Set {
    let has_status = resource.has_subresource("status").is_some();
    if resource.schema.is_none() && subresource == "status" {
        // A custom resource.
        return &SPEC_AND_METADATA;
    }
    match (resource.plural.as_str(), subresource) {
        ("certificatesigningrequests", "") => &SPEC_AND_STATUS,
        ("certificatesigningrequests", "status") => &SPEC_AND_CONDITIONS,
        ("certificatesigningrequests", "approval") => &SPEC_AND_CERTIFICATE,
        ("deployments", "status") => &SPEC_AND_LABELS,
        ("pods", "status") => &SPEC_AND_OWNERS,
        (plural, "status") if STATUS_ONLY.contains(&plural) => &SPEC_AND_METADATA,
        (_, "status") => &SPEC,
        _ if has_status => &STATUS,
        _ => &NOTHING,
    }
}
