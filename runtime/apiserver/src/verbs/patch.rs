//! Patching an object: read, patch, write, and again if another write came between.

use ::http::{Response, StatusCode};
use kiln_apimachinery::patch::{self, PatchError};
use kiln_apimachinery::status::Reason;
use kiln_apimachinery::{FieldError, Gvk, Status, decode as strict, meta};
use serde_json::Value;

use super::decode::{self, Unfit};
use super::tree::Tree;
use super::update::{ATTEMPTS, Failure, current, replace};
use super::{Cx, render};
use crate::http::body::Body;
use crate::http::negotiate::media_type;

enum Kind {
    Json,
    Merge,
    Strategic,
}

pub(crate) async fn patch(cx: &Cx<'_>) -> Result<Response<Body>, Status> {
    let kind = match media_type(cx.headers).as_str() {
        "application/json-patch+json" => Kind::Json,
        "application/merge-patch+json" => Kind::Merge,
        "application/strategic-merge-patch+json" => Kind::Strategic,
        other => return Err(unsupported(other)),
    };
    let decoded = strict::json(&cx.body).map_err(|e| Status::bad_request(format!("error decoding patch: {e}")))?;
    let mut attempt = 0;
    loop {
        attempt += 1;
        let old = current(cx).await?.ok_or_else(|| cx.not_found(&cx.info.name))?;
        let mut object = old.object.clone();
        if let Some(conversion) = cx.resource.conversion {
            (conversion.from_stored)(&mut object);
        }
        apply(cx, &kind, &mut object, decoded.value.clone())?;
        // A patch that names a revision is a condition; the one that was merely read is not.
        let conditional = meta::resource_version(&object) != old.record.mod_revision.to_string();
        decode::check(cx, &mut object, decoded.duplicates.clone()).map_err(|unfit| match unfit {
            Unfit::Undecodable(why) => {
                let error = FieldError::invalid("patch", &object.to_string().into(), &why);
                Status::invalid(&Gvk::new("", "", ""), "", &[error])
            }
            Unfit::Refused(status) => status,
        })?;
        let name = meta::name(&object);
        if name != cx.info.name || meta::namespace(&object) != meta::namespace(&old.object) {
            return Err(Status::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                cx.info.name
            )));
        }
        if let Some(conversion) = cx.resource.conversion {
            (conversion.to_stored)(&mut object);
        }
        match replace(cx, &old, object).await {
            Err(Failure::Overtaken(_)) if !conditional && attempt < ATTEMPTS => {}
            Err(Failure::Overtaken(status) | Failure::Refused(status)) => return Err(status),
            Ok(bytes) => return render::object(cx, StatusCode::OK, &bytes),
        }
    }
}

fn apply(cx: &Cx<'_>, kind: &Kind, object: &mut Value, body: Value) -> Result<(), Status> {
    let applied = match kind {
        Kind::Json => patch::json_patch(object, body),
        Kind::Merge => {
            if !body.is_object() {
                return Err(Status::bad_request("a merge patch must be an object"));
            }
            patch::merge_patch(object, body);
            Ok(())
        }
        Kind::Strategic => patch::strategic_merge_patch(Tree::of(&cx.resource), object, body),
    };
    applied.map_err(|e| match e {
        PatchError::Malformed(text) | PatchError::TooLong(text) | PatchError::Failed(text) => Status::bad_request(text),
        // Upstream says no more than the first sentence.
        PatchError::DoesNotFit(text) => Status::failure(
            Reason::Invalid,
            format!("the server rejected our request due to an error in our request: {text}"),
        ),
    })
}

fn unsupported(media: &str) -> Status {
    Status::failure(
        Reason::UnsupportedMediaType,
        format!(
            "the body of the request was in an unknown format ({media:?}) - accepted media types include: \
             application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json"
        ),
    )
}
