//! What the server of an aggregated API tells of itself: the resources of its group and version, its document of OpenAPI 2, and
//! where that of version 3 is.

use std::sync::Arc;
use std::time::Duration;

use ::http::header::{CONTENT_TYPE, ETAG, HeaderName};
use ::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use kiln_apimachinery::meta;
use serde_json::{Value, json};

use super::link::Link;
use crate::registry::cells::items;
use crate::server::ApiServer;

/// How long a server may take for a document.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most bytes of a document.
const LARGEST: usize = 16 << 20;
/// What aggregated discovery is asked for by.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                          application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";

/// What a server told last.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Told {
    /// `resources` of the group and version in aggregated discovery; null if none are known.
    pub(crate) resources: Value,
    /// The server could be asked.
    pub(crate) fresh: bool,
    /// Where the OpenAPI 3 document is, with its hash.
    pub(crate) openapi: Option<String>,
    /// What the OpenAPI 2 document has of the group and version, as JSON; empty if none is known.
    pub(crate) swagger: Arc<str>,
    /// What the whole of that document is known by.
    swagger_tag: String,
    /// What the aggregated document is known by, if that is what the resources are of.
    tag: String,
}

impl Told {
    /// The entry of aggregated discovery.
    pub(crate) fn entry(&self, version: &str) -> Value {
        let mut entry = json!({"version": version, "freshness": if self.fresh { "Current" } else { "Stale" }});
        if self.resources.as_array().is_some_and(|r| !r.is_empty()) {
            entry["resources"] = self.resources.clone();
        }
        entry
    }
}

/// Asks the server anew. If it does not answer, what it told before stays, marked as stale.
pub(super) async fn ask(server: &ApiServer, link: &Link) -> Told {
    let known = link.told();
    match resources(server, link, &known).await {
        Ok((resources, tag)) => {
            let openapi = openapi(server, link).await.unwrap_or_default();
            let (swagger, swagger_tag) = swagger(server, link, &known).await.unwrap_or_else(|why| {
                tracing::debug!(api = link.place.path(), why, "an aggregated API has no OpenAPI 2 to tell");
                (known.swagger.clone(), known.swagger_tag.clone())
            });
            Told { resources, fresh: true, openapi, swagger, swagger_tag, tag }
        }
        Err(why) => {
            tracing::debug!(api = link.place.path(), why, "an aggregated API does not tell what it has");
            Told { fresh: false, ..(*known).clone() }
        }
    }
}

struct Answer {
    code: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn header(&self, name: HeaderName) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    fn json(&self) -> Result<Value, String> {
        serde_json::from_slice(&self.body).map_err(|e| e.to_string())
    }
}

async fn get(server: &ApiServer, link: &Link, path: &str, accept: &str, tag: &str) -> Result<Answer, String> {
    let asked = async {
        let (parts, body) = link.get(server, None, path, accept, tag).await?.into_parts();
        let body = Limited::new(body, LARGEST).collect().await.map_err(|e| e.to_string())?.to_bytes();
        Ok(Answer { code: parts.status, headers: parts.headers, body })
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err("request timed out".into()))
}

/// The resources, and what their document is known by.
async fn resources(server: &ApiServer, link: &Link, known: &Told) -> Result<(Value, String), String> {
    let place = &link.place;
    let answer = get(server, link, "/apis", AGGREGATED, &known.tag).await?;
    match answer.code {
        StatusCode::NOT_MODIFIED => return Ok((known.resources.clone(), known.tag.clone())),
        StatusCode::SERVICE_UNAVAILABLE => return Err("the server is not available".into()),
        StatusCode::OK if answer.header(CONTENT_TYPE).contains("as=APIGroupDiscoveryList") => {
            let document = answer.json()?;
            let groups = items(&document, &["items"]).iter();
            let versions = groups.filter(|g| meta::name(g) == place.group).flat_map(|g| items(g, &["versions"]));
            let mut own = versions.filter(|v| meta::text(v, &["version"]) == place.version);
            let mut resources = own.next().and_then(|v| v.get("resources")).cloned().unwrap_or_default();
            with_kinds(&mut resources);
            return Ok((resources, answer.header(ETAG).to_owned()));
        }
        _ => {}
    }
    // An older server has a document for each group and version only.
    let answer = get(server, link, &place.path(), "application/json", "").await?;
    if answer.code != StatusCode::OK {
        return Err(format!("{} answered {}", place.path(), answer.code.as_u16()));
    }
    Ok((converted(items(&answer.json()?, &["resources"])), String::new()))
}

/// Gives what names no kind an empty one, without which some clients break.
fn with_kinds(resources: &mut Value) {
    for resource in resources.as_array_mut().into_iter().flatten() {
        for part in resource.get_mut("subresources").and_then(Value::as_array_mut).into_iter().flatten() {
            part.as_object_mut().map(|p| p.entry("responseKind").or_insert_with(no_kind));
        }
        resource.as_object_mut().map(|r| r.entry("responseKind").or_insert_with(no_kind));
    }
}

fn no_kind() -> Value {
    json!({"group": "", "version": "", "kind": ""})
}

/// The resources of an `APIResourceList` as aggregated discovery has them.
fn converted(list: &[Value]) -> Value {
    let kind = |r: &Value| json!({"group": meta::text(r, &["group"]), "version": meta::text(r, &["version"]), "kind": meta::text(r, &["kind"])});
    let scope = |r: &Value| if r.get("namespaced") == Some(&Value::Bool(true)) { "Namespaced" } else { "Cluster" };
    let verbs = |r: &Value| r.get("verbs").cloned().unwrap_or_else(|| json!([]));
    let mut out: Vec<Value> = Vec::new();
    for r in list.iter().filter(|r| !meta::text(r, &["name"]).contains('/')) {
        let mut resource = json!({
            "resource": meta::text(r, &["name"]), "responseKind": kind(r), "scope": scope(r),
            "singularResource": meta::text(r, &["singularName"]), "verbs": verbs(r),
        });
        for key in ["shortNames", "categories"] {
            if let Some(value) = r.get(key).filter(|v| v.as_array().is_some_and(|a| !a.is_empty())) {
                resource[key] = value.clone();
            }
        }
        out.push(resource);
    }
    for r in list {
        let Some((parent, name)) = meta::text(r, &["name"]).split_once('/') else { continue };
        let part = json!({"subresource": name, "responseKind": kind(r), "verbs": verbs(r)});
        let at = out.iter().position(|o| o["resource"] == parent).unwrap_or_else(|| {
            // There are parts of what can't be read itself.
            out.push(json!({"resource": parent, "responseKind": no_kind(), "scope": scope(r), "singularResource": "", "verbs": []}));
            out.len() - 1
        });
        match out[at].get_mut("subresources").and_then(Value::as_array_mut) {
            Some(parts) => parts.push(part),
            None => out[at]["subresources"] = json!([part]),
        }
    }
    out.into()
}

/// Where the OpenAPI 3 document is; `None` if there is none.
async fn openapi(server: &ApiServer, link: &Link) -> Result<Option<String>, String> {
    let answer = get(server, link, "/openapi/v3", "application/json", "").await?;
    if answer.code != StatusCode::OK {
        return Ok(None);
    }
    let path = format!("/openapi/v3{}", link.place.path());
    let index = answer.json()?;
    let address = meta::text(&index, &["paths", &link.place.path()[1..], "serverRelativeURL"]);
    Ok(Some(address.to_owned()).filter(|a| a.split('?').next() == Some(path.as_str())))
}

/// What the OpenAPI 2 document has of the group and version, and what it is known by.
async fn swagger(server: &ApiServer, link: &Link, known: &Told) -> Result<(Arc<str>, String), String> {
    let answer = get(server, link, "/openapi/v2", "application/json", &known.swagger_tag).await?;
    match answer.code {
        StatusCode::NOT_MODIFIED => Ok((known.swagger.clone(), known.swagger_tag.clone())),
        StatusCode::OK => {
            let document = answer.json()?;
            let excerpt = kiln_schema::openapi::excerpt(&document, &link.place.group, &link.place.version);
            Ok((excerpt.to_string().into(), answer.header(ETAG).to_owned()))
        }
        code => Err(format!("/openapi/v2 answered {}", code.as_u16())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_document_says_the_same_in_other_words() {
        let list = json!([
            {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": ["get", "list"], "shortNames": ["fl"]},
            {"name": "flunders/scale", "singularName": "", "namespaced": true, "group": "autoscaling", "version": "v1", "kind": "Scale", "verbs": ["get"]},
            {"name": "console/tty", "singularName": "", "namespaced": false, "kind": "Console", "verbs": ["get"]},
        ]);
        let expected = json!([
            {
                "resource": "flunders", "responseKind": {"group": "", "version": "", "kind": "Flunder"}, "scope": "Namespaced",
                "singularResource": "flunder", "verbs": ["get", "list"], "shortNames": ["fl"],
                "subresources": [{
                    "subresource": "scale", "responseKind": {"group": "autoscaling", "version": "v1", "kind": "Scale"}, "verbs": ["get"],
                }],
            },
            {
                "resource": "console", "responseKind": {"group": "", "version": "", "kind": ""}, "scope": "Cluster",
                "singularResource": "", "verbs": [],
                "subresources": [{
                    "subresource": "tty", "responseKind": {"group": "", "version": "", "kind": "Console"}, "verbs": ["get"],
                }],
            },
        ]);
        assert_eq!(converted(list.as_array().unwrap()), expected);
    }

    #[test]
    fn what_names_no_kind_gets_an_empty_one() {
        let mut resources = json!([{"resource": "a", "subresources": [{"subresource": "b"}]}]);
        with_kinds(&mut resources);
        assert_eq!(
            (&resources[0]["responseKind"], &resources[0]["subresources"][0]["responseKind"]),
            (&no_kind(), &no_kind())
        );
    }
}
