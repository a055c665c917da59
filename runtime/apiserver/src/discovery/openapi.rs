//! OpenAPI: version 3 per group and version, with content hashes, and a version 2 that is all but empty. Paths name the query
//! parameters, by which clients learn that the server validates and dry-runs.

use std::collections::BTreeMap;

use ::http::{HeaderMap, Response, StatusCode, header};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::with_tag;
use crate::authn::token::hex;
use crate::http::body::Body;
use crate::http::respond;
use crate::registry::{Registry, Resource};

const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

#[derive(Debug)]
pub(crate) struct Documents {
    index: Bytes,
    index_tag: String,
    /// By path after `/openapi/v3/`.
    groups: BTreeMap<String, (Bytes, String)>,
    v2_json: Bytes,
    v2_protobuf: Bytes,
}

impl Documents {
    pub(crate) fn new(registry: &Registry, version: &str) -> Self {
        let mut groups = BTreeMap::new();
        let mut paths = Map::new();
        for (group, versions) in registry.groups() {
            for v in versions {
                let root = if group.is_empty() { format!("api/{v}") } else { format!("apis/{group}/{v}") };
                let body = Bytes::from(document(registry, &group, &v, &root, version).to_string());
                let tag = hex(&Sha256::digest(&body)).to_uppercase();
                paths.insert(root.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{root}?hash={tag}")}));
                groups.insert(root, (body, format!("\"{tag}\"")));
            }
        }
        let index = Bytes::from(json!({"paths": paths}).to_string());
        let index_tag = format!("\"{}\"", hex(&Sha256::digest(&index)).to_uppercase());
        let v2 = json!({"swagger": "2.0", "info": {"title": "Kubernetes", "version": version}, "paths": {}, "definitions": {}});
        Self { index, index_tag, groups, v2_json: v2.to_string().into(), v2_protobuf: protobuf(version) }
    }

    pub(crate) fn answer(&self, path: &str, headers: &HeaderMap) -> Option<Response<Body>> {
        if path == "/openapi/v2" {
            let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
            return Some(if accept.contains("proto-openapi.spec.v2") {
                respond::bytes(StatusCode::OK, V2_PROTOBUF, self.v2_protobuf.clone())
            } else {
                respond::bytes(StatusCode::OK, "application/json", self.v2_json.clone())
            });
        }
        match path.strip_prefix("/openapi/v3")? {
            "" => Some(with_tag(headers, &self.index, &self.index_tag, "application/json")),
            rest => {
                let (body, tag) = self.groups.get(rest.strip_prefix('/')?)?;
                Some(with_tag(headers, body, tag, "application/json"))
            }
        }
    }
}

/// An OpenAPI 2 document with a title and nothing else, in the protobuf of gnostic: `swagger` is field 1, `info` field 2 with
/// `title` 1 and `version` 2.
fn protobuf(version: &str) -> Bytes {
    fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
        out.push(number << 3 | 2);
        let mut len = bytes.len();
        while len >= 0x80 {
            // Masked to seven bits.
            out.push((len & 0x7f) as u8 | 0x80);
            len >>= 7;
        }
        out.push(len as u8);
        out.extend_from_slice(bytes);
    }
    let mut info = Vec::new();
    field(&mut info, 1, b"Kubernetes");
    field(&mut info, 2, version.as_bytes());
    let mut out = Vec::new();
    field(&mut out, 1, b"2.0");
    field(&mut out, 2, &info);
    out.into()
}

fn document(registry: &Registry, group: &str, version: &str, root: &str, server_version: &str) -> Value {
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    for r in registry.of(group, version) {
        let base = if r.namespaced {
            format!("/{root}/namespaces/{{namespace}}/{}", r.plural)
        } else {
            format!("/{root}/{}", r.plural)
        };
        let schema = schema_name(r);
        paths.insert(
            base.clone(),
            operations(r, &schema, &["list", "create", "deletecollection"], r.verbs, r.namespaced, false),
        );
        if r.review.is_none() {
            let item = operations(r, &schema, &["get", "update", "patch", "delete"], r.verbs, r.namespaced, true);
            paths.insert(format!("{base}/{{name}}"), item);
        }
        for sub in &r.subresources {
            let item = operations(r, &schema, &["get", "update", "patch"], sub.verbs, r.namespaced, true);
            paths.insert(format!("{base}/{{name}}/{}", sub.name), item);
        }
        let mut properties = Map::new();
        for key in ["apiVersion", "kind"] {
            properties.insert(key.into(), json!({"type": "string"}));
        }
        properties.insert("metadata".into(), json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}));
        schemas.insert(
            schema,
            json!({"type": "object", "properties": properties, "x-kubernetes-group-version-kind": [gvk(r)]}),
        );
    }
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": server_version},
        "paths": paths,
        "components": {"schemas": schemas},
    })
}

fn gvk(r: &Resource) -> Value {
    json!({"group": r.group, "version": r.version, "kind": r.kind})
}

fn schema_name(r: &Resource) -> String {
    let group = if r.group.is_empty() { "core" } else { r.group.split('.').next().unwrap_or_default() };
    format!("io.k8s.api.{group}.{}.{}", r.version, r.kind)
}

/// HTTP method, action and own query parameters of a verb.
const VERBS: &[(&str, &str, &str, &[&str])] = &[
    (
        "list",
        "get",
        "list",
        &[
            "allowWatchBookmarks",
            "continue",
            "fieldSelector",
            "labelSelector",
            "limit",
            "resourceVersion",
            "resourceVersionMatch",
            "sendInitialEvents",
            "timeoutSeconds",
            "watch",
        ],
    ),
    ("create", "post", "post", &["dryRun", "fieldManager", "fieldValidation"]),
    (
        "deletecollection",
        "delete",
        "deletecollection",
        &["dryRun", "fieldSelector", "labelSelector", "propagationPolicy"],
    ),
    ("get", "get", "get", &["resourceVersion"]),
    ("update", "put", "put", &["dryRun", "fieldManager", "fieldValidation"]),
    ("patch", "patch", "patch", &["dryRun", "fieldManager", "fieldValidation"]),
    ("delete", "delete", "delete", &["dryRun", "gracePeriodSeconds", "propagationPolicy"]),
];

fn operations(r: &Resource, schema: &str, wanted: &[&str], has: &[&str], namespaced: bool, named: bool) -> Value {
    let mut out = Map::new();
    let body = json!({"application/json": {"schema": {"$ref": format!("#/components/schemas/{schema}")}}});
    for (verb, method, action, query) in VERBS.iter().filter(|(v, ..)| wanted.contains(v) && has.contains(v)) {
        let parameters: Vec<Value> = query
            .iter()
            .map(|q| json!({"name": q, "in": "query", "schema": {"type": "string", "uniqueItems": true}}))
            .collect();
        let mut operation = json!({
            "parameters": parameters,
            "responses": {"200": {"description": "OK", "content": body}},
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": gvk(r),
        });
        match *verb {
            "create" | "update" => operation["requestBody"] = json!({"content": {"*/*": body["application/json"]}}),
            "patch" => {
                let any = json!({"schema": {"type": "object"}});
                operation["requestBody"] =
                    json!({"content": {"application/json-patch+json": any, "application/merge-patch+json": any}});
            }
            _ => {}
        }
        out.insert((*method).into(), operation);
    }
    let path = |name: &str| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}});
    let mut shared = Vec::new();
    if named {
        shared.push(path("name"));
    }
    if namespaced {
        shared.push(path("namespace"));
    }
    out.insert("parameters".into(), shared.into());
    out.into()
}
