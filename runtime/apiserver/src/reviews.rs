//! Questions that are posted like objects and answered at once: may I, may they, who am I.

use std::collections::BTreeMap;

use ::http::{Response, StatusCode};
use kiln_apimachinery::{Status, meta};
use serde_json::{Map, Value, json};

use crate::authz::{Attributes, allowed, rbac::Rule};
use crate::http::body::Body;
use crate::http::{negotiate, respond};
use crate::user::UserInfo;
use crate::verbs::Cx;

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
}

pub(crate) async fn answer(cx: &Cx<'_>, review: Review) -> Result<Response<Body>, Status> {
    let mut object = negotiate::read_body(cx.headers, &cx.body)?.value;
    meta::check_shape(&cx.resource.kind, &object).map_err(Status::bad_request)?;
    let map = meta::object_mut(&mut object);
    map.insert("kind".into(), cx.resource.kind.clone().into());
    map.insert("apiVersion".into(), cx.resource.api_version().into());
    map.entry("metadata").or_insert_with(|| json!({}));
    let spec = object.get("spec").cloned().unwrap_or_default();
    let status = match review {
        Review::SelfAccess => access(cx, cx.user, &attributes(&spec)?).await?,
        Review::Access => access(cx, &subject(&spec), &attributes(&spec)?).await?,
        Review::LocalAccess => {
            let asked = attributes(&spec)?;
            if asked.namespace != cx.info.namespace {
                return Err(Status::bad_request(
                    "spec.resourceAttributes.namespace must be the namespace of the request",
                ));
            }
            access(cx, &subject(&spec), &asked).await?
        }
        Review::SelfRules => rules(cx, meta::text(&spec, &["namespace"])).await?,
        Review::SelfSubject => json!({"userInfo": user_info(cx.user)}),
    };
    meta::object_mut(&mut object).insert("status".into(), status);
    Ok(respond::encoded(StatusCode::CREATED, cx.accepted.encoding, cx.headers, object.to_string().into()))
}

async fn access(cx: &Cx<'_>, user: &UserInfo, asked: &Attributes) -> Result<Value, Status> {
    Ok(match allowed(cx.server, user, asked).await? {
        Ok(()) => json!({"allowed": true}),
        Err(why) if why.is_empty() => json!({"allowed": false}),
        Err(why) => json!({"allowed": false, "reason": why}),
    })
}

fn attributes(spec: &Value) -> Result<Attributes, Status> {
    let text = |path: &[&str]| meta::text(spec, path).to_owned();
    if spec.get("nonResourceAttributes").is_some_and(Value::is_object) {
        return Ok(Attributes {
            verb: text(&["nonResourceAttributes", "verb"]),
            path: text(&["nonResourceAttributes", "path"]),
            ..Attributes::default()
        });
    }
    if !spec.get("resourceAttributes").is_some_and(Value::is_object) {
        return Err(Status::bad_request(
            "exactly one of spec.nonResourceAttributes or spec.resourceAttributes must be specified",
        ));
    }
    let field = |key: &str| text(&["resourceAttributes", key]);
    Ok(Attributes {
        verb: field("verb"),
        namespace: field("namespace"),
        group: field("group"),
        resource: field("resource"),
        subresource: field("subresource"),
        name: field("name"),
        path: String::new(),
        is_resource: true,
    })
}

fn subject(spec: &Value) -> UserInfo {
    let owned = |v: Option<&Value>| meta::strings(v).into_iter().map(Into::into).collect::<Vec<String>>();
    let extra = spec.get("extra").and_then(Value::as_object).into_iter().flatten();
    UserInfo {
        name: meta::text(spec, &["user"]).into(),
        uid: meta::text(spec, &["uid"]).into(),
        groups: owned(spec.get("groups")),
        extra: extra.map(|(k, v)| (k.clone(), owned(Some(v)))).collect::<BTreeMap<_, _>>(),
    }
}

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

async fn rules(cx: &Cx<'_>, namespace: &str) -> Result<Value, Status> {
    let all = cx.server.rbac().current(cx.server).await?.of(cx.user, namespace);
    let (urls, resources): (Vec<Rule>, Vec<Rule>) = all.into_iter().partition(|r| !r.urls.is_empty());
    let resource = |r: &Rule| {
        let mut out = Map::new();
        for (key, list) in
            [("verbs", &r.verbs), ("apiGroups", &r.groups), ("resources", &r.resources), ("resourceNames", &r.names)]
        {
            if !list.is_empty() {
                out.insert(key.into(), json!(list));
            }
        }
        Value::Object(out)
    };
    Ok(json!({
        "resourceRules": resources.iter().map(resource).collect::<Vec<_>>(),
        "nonResourceRules": urls.iter().map(|r| json!({"verbs": r.verbs, "nonResourceURLs": r.urls})).collect::<Vec<_>>(),
        "incomplete": false,
    }))
}
