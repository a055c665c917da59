//! `serviceaccounts/token`: a token for an account, for these audiences, as long as it may live and as what it is bound to.

use ::http::{Response, StatusCode};
use kiln_apimachinery::{FieldError, GroupResource, Gvk, Status, meta, time};
use serde_json::{Value, json};

use crate::admission;
use crate::audit;
use crate::authn::accounts::claims::{self, Bound, Named, Times};
use crate::http::body::Body;
use crate::http::respond;
use crate::verbs::{Cx, decode};

/// Kind of the request and of the answer.
const KIND: &str = "TokenRequest";
/// Seconds a token lives for which nobody said otherwise.
const DEFAULT_SECONDS: i64 = 60 * 60;
const LEAST_SECONDS: i64 = 10 * 60;
const MOST_SECONDS: i64 = 1 << 32;
/// What pods' volumes ask for; such a token lives a year, since old clients don't read it anew.
const EXTENDED_FROM: i64 = 60 * 60 + 7;
const EXTENDED_TO: i64 = 365 * 24 * 60 * 60;

fn gvk() -> Gvk {
    Gvk::new("authentication.k8s.io", "v1", KIND)
}

pub(crate) async fn serve(cx: &Cx<'_>) -> Result<Response<Body>, Status> {
    let (namespace, name) = (cx.namespace(), cx.info.name.as_str());
    let mut request = decode::body_as(cx, &gvk())?;
    admission::create_part(cx, &request).await?;
    for (key, found, expected) in
        [("metadata.name", meta::name(&request), name), ("metadata.namespace", meta::namespace(&request), namespace)]
    {
        if !found.is_empty() && found != expected {
            let which = key.trim_start_matches("metadata.");
            let why = format!("must match the service account {which} if specified");
            return Err(Status::invalid(&gvk(), name, &[FieldError::invalid(key, &found.into(), &why)]));
        }
    }
    let account = find(cx, "serviceaccounts", namespace, name).await?;
    let (asked, uid) = (meta::uid(&request).to_owned(), meta::uid(&account).to_owned());
    if !asked.is_empty() && asked != uid {
        let why =
            format!("the UID in the token request ({asked}) does not match the UID of the service account ({uid})");
        return Err(Status::conflict(&GroupResource::new("authentication.k8s.io", KIND), name, &why));
    }
    let now = cx.server.now();
    complete(cx, &mut request, &account);
    let seconds = meta::at(&request, &["spec", "expirationSeconds"]).and_then(Value::as_i64).unwrap_or_default();
    let refused = |why: &str| {
        let error = FieldError::invalid("spec.expirationSeconds", &seconds.into(), why);
        Status::invalid(&gvk(), "", &[error])
    };
    if seconds < LEAST_SECONDS {
        return Err(refused("may not specify a duration less than 10 minutes"));
    }
    if seconds > MOST_SECONDS {
        return Err(refused("may not specify a duration larger than 2^32 seconds"));
    }
    let mut bound = Bound { namespace: namespace.into(), service_account: Named::of(&account), ..Bound::default() };
    bind(cx, &request, &mut bound).await?;

    let config = &cx.server.accounts().config;
    let longest = config.max_expiration.and_then(|d| i64::try_from(d.as_secs()).ok()).filter(|s| *s > 0);
    let given = longest.map_or(seconds, |l| seconds.min(l));
    if given < seconds {
        cx.warn(format!("requested expiration of {seconds} seconds shortened to {given} seconds"));
        meta::child(&mut request, "spec").insert("expirationSeconds".into(), given.into());
    }
    let audiences: Vec<String> =
        meta::strings(meta::at(&request, &["spec", "audiences"])).into_iter().map(Into::into).collect();
    let here = audiences.iter().all(|a| config.audiences.contains(a));
    let mut lives = given;
    if config.extend_expiration && bound.pod.is_some() && given == EXTENDED_FROM && here {
        bound.warn_after = Some(now.as_second() + given);
        lives = EXTENDED_TO;
    }
    let times = Times { now: now.as_second(), expires: now.as_second() + lives };
    let (claims, id) = claims::new(cx.server.accounts().issuer(), &audiences, &bound, &times)?;
    let token = cx.server.accounts().sign(&claims)?;
    audit::annotate("authentication.kubernetes.io/issued-credential-id", format!("JTI={id}"));
    let expires = jiff::Timestamp::from_second(now.as_second() + given).map_err(Status::internal)?;
    meta::object_mut(&mut request)
        .insert("status".into(), json!({"token": token, "expirationTimestamp": time::rfc3339(expires)}));
    let encoding = cx.accepted.encoding;
    Ok(respond::encoded(StatusCode::CREATED, encoding, cx.headers, request.to_string().into()))
}

/// Fills in what the request leaves to the server.
fn complete(cx: &Cx<'_>, request: &mut Value, account: &Value) {
    let metadata = json!({
        "name": meta::name(account), "namespace": meta::namespace(account), "uid": meta::uid(account),
        "creationTimestamp": time::rfc3339(cx.server.now()),
    });
    meta::object_mut(request).insert("metadata".into(), metadata);
    let spec = meta::object_mut(request).entry("spec").or_insert(Value::Null);
    if spec.is_null() {
        *spec = json!({});
    }
    let spec = meta::object_mut(spec);
    if spec.get("expirationSeconds").is_none_or(Value::is_null) {
        spec.insert("expirationSeconds".into(), DEFAULT_SECONDS.into());
    }
    if meta::strings(spec.get("audiences")).is_empty() {
        spec.insert("audiences".into(), json!(cx.server.accounts().config.audiences));
    }
}

async fn find(cx: &Cx<'_>, plural: &str, namespace: &str, name: &str) -> Result<Value, Status> {
    let found = cx.server.store().read("", plural, namespace, name).await?;
    let found = found.ok_or_else(|| Status::not_found(&GroupResource::new("", plural), name))?;
    Ok(found.object)
}

/// Binds the token to the object that the request names.
async fn bind(cx: &Cx<'_>, request: &Value, bound: &mut Bound) -> Result<(), Status> {
    let Some(reference) = meta::at(request, &["spec", "boundObjectRef"]).filter(|r| !r.is_null()) else {
        return Ok(());
    };
    let text = |key: &str| meta::text(reference, &[key]);
    let (kind, name) = (text("kind"), text("name"));
    let (group, version) = text("apiVersion").split_once('/').unwrap_or(("", text("apiVersion")));
    let namespace = bound.namespace.as_str();
    let object = match (group, kind) {
        ("", "Pod") => {
            let pod = find(cx, "pods", namespace, name).await?;
            let account = &bound.service_account.name;
            if meta::text(&pod, &["spec", "serviceAccountName"]) != account {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
                )));
            }
            let node = meta::text(&pod, &["spec", "nodeName"]);
            if !node.is_empty() {
                let found = cx.server.store().read("", "nodes", "", node).await?;
                // A node that is not there (yet) is named all the same.
                let absent = || Named { name: node.into(), uid: String::new() };
                bound.node = Some(found.map_or_else(absent, |n| Named::of(&n.object)));
            }
            bound.pod = Some(Named::of(&pod));
            pod
        }
        ("", "Node") => {
            let node = find(cx, "nodes", "", name).await?;
            bound.node = Some(Named::of(&node));
            node
        }
        ("", "Secret") => {
            let secret = find(cx, "secrets", namespace, name).await?;
            bound.secret = Some(Named::of(&secret));
            secret
        }
        _ => {
            return Err(Status::bad_request(format!(
                "cannot bind token to object of type {group}/{version}, Kind={kind}"
            )));
        }
    };
    let uid = text("uid");
    if !uid.is_empty() && uid != meta::uid(&object) {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have \
             been deleted and then recreated"
        );
        return Err(Status::conflict(&GroupResource::new("", kind), name, &why));
    }
    Ok(())
}
