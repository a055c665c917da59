//! Questions that are posted like objects and answered at once: may I, may they, who am I, whose token is this.

mod access;
mod rules;
mod token;

use ::http::{Response, StatusCode};
use kiln_apimachinery::{Status, meta, time};
use serde_json::{Value, json};

use crate::admission;
use crate::http::body::Body;
use crate::http::negotiate::{self, Shape};
use crate::http::respond;
use crate::user::UserInfo;
use crate::verbs::{Cx, decode};

/// The questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Review {
    /// May I?
    SelfAccess,
    /// May they?
    Access,
    /// May they, in this namespace?
    LocalAccess,
    /// What may I?
    SelfRules,
    /// Who am I?
    SelfSubject,
    /// Whose token is this?
    Token,
}

/// What of metadata the server does not take from anyone.
const SYSTEM_METADATA: &[&str] =
    &["creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "uid", "selfLink"];

pub(crate) async fn answer(cx: &Cx<'_>, review: Review) -> Result<Response<Body>, Status> {
    if !matches!(cx.accepted.shape, Shape::Full | Shape::Discovery) {
        // An answer has no rows, and no metadata worth asking for alone.
        return Err(negotiate::not_acceptable(true));
    }
    let mut object = decode::body(cx)?;
    let metadata = meta::metadata_mut(&mut object);
    metadata.retain(|key, _| !SYSTEM_METADATA.contains(&key.as_str()));
    let namespace = cx.namespace();
    if !namespace.is_empty() && metadata.get("namespace").is_none_or(|n| n == "") {
        metadata.insert("namespace".into(), namespace.into());
    }
    if object.get("spec").is_none_or(Value::is_null) {
        meta::object_mut(&mut object).insert("spec".into(), json!({}));
    }
    let status = match review {
        Review::SelfAccess | Review::Access | Review::LocalAccess => access::answer(cx, review, &mut object).await?,
        Review::SelfRules => {
            admission::create(cx, &mut object).await?;
            let status = rules::answer(cx, meta::text(&object, &["spec", "namespace"])).await?;
            // As in Kubernetes the answer leaves out what was asked.
            meta::object_mut(&mut object).insert("spec".into(), json!({}));
            status
        }
        Review::SelfSubject => {
            admission::create(cx, &mut object).await?;
            meta::object_mut(&mut object).remove("spec");
            meta::metadata_mut(&mut object).insert("creationTimestamp".into(), time::rfc3339(cx.server.now()).into());
            json!({"userInfo": user_info(cx.user)})
        }
        Review::Token => token::answer(cx, &mut object).await?,
    };
    meta::object_mut(&mut object).insert("status".into(), status);
    Ok(respond::encoded(StatusCode::CREATED, cx.accepted.encoding, cx.headers, object.to_string().into()))
}

/// A user as answers show it.
fn user_info(user: &UserInfo) -> Value {
    let mut info = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        info["uid"] = json!(user.uid);
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}
