//! OpenAPI over HTTP: an index of version 3 with content hashes, its documents per group and version, and version 2. A document
//! is made when it is asked for; only compressed ones are kept, and few of them.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read as _, Write};
use std::sync::{Arc, Mutex, PoisonError};

use ::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use jiff::SignedDuration;
use kiln_apimachinery::query::Query;
use kiln_apimachinery::{Status, meta};
use kiln_schema::openapi::{self, Custom, Served, ServedPart};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::with_tag;
use crate::aggregation::Table;
use crate::apiextensions;
use crate::authn::token::hex;
use crate::http::body::Body;
use crate::http::respond;
use crate::registry::cells::items;
use crate::registry::{Registry, Resource};
use crate::server::ApiServer;

const JSON: &str = "application/json";
/// What clients ask for version 2 by, and what it is answered as.
const PROTOBUF_OLD: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
/// Most bytes of compressed documents that are kept.
const KEPT: usize = 512 * 1024;
/// How long a document with a hash may be kept by those between: a year.
const IMMUTABLE: SignedDuration = SignedDuration::from_hours(24 * 365);

/// What a document is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Which {
    /// Version 3 of a group and version.
    Three(String, String),
    Two,
    TwoProtobuf,
}

#[derive(Debug)]
pub(crate) struct Documents {
    version: String,
    index: Bytes,
    index_tag: String,
    /// Groups, versions and content hashes, by path behind `/openapi/v3/`.
    groups: BTreeMap<String, (String, String, String)>,
    two_tag: String,
    /// What other servers' documents of version 2 have of their groups and versions, those first that come first in discovery.
    others: Vec<Arc<str>>,
    kept: Mutex<HashMap<Which, Bytes>>,
}

fn hash(parts: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part.as_bytes());
    }
    hex(&digest.finalize()).to_uppercase()
}

impl Documents {
    pub(crate) fn new(registry: &Registry, table: &Table, version: &str) -> Self {
        let (mut groups, mut paths) = (BTreeMap::new(), Map::new());
        let mut all = String::new();
        for (group, versions) in registry.groups() {
            for v in versions {
                if table.remote(&group, &v).is_some() {
                    continue;
                }
                let root = openapi::root(&group, &v);
                // A document is made of these and of nothing else.
                let rows = registry.of(&group, &v);
                let tag = match rows.iter().all(|r| r.custom.is_none()) {
                    true => hash(&[version, kiln_schema::facts(), &format!("{:?}", served(&rows, &Schemas::new()))]),
                    false => {
                        let states: Vec<&str> = rows.iter().flat_map(|r| [r.plural.as_str(), state(r)]).collect();
                        hash(&[version, &hash(&states)])
                    }
                };
                paths.insert(root.clone(), json!({"serverRelativeURL": address(&root, &tag)}));
                all.push_str(&tag);
                groups.insert(root, (group.clone(), v, tag));
            }
        }
        // The documents themselves are asked of those who have them.
        for (_, remote) in table.remotes() {
            let place = &remote.link.place;
            if let Some(address) = &remote.link.told().openapi {
                paths.insert(openapi::root(&place.group, &place.version), json!({"serverRelativeURL": address}));
            }
        }
        let pairs =
            super::groups(registry, table).into_iter().flat_map(|(g, vs)| vs.into_iter().map(move |v| (g.clone(), v)));
        let told = pairs.filter_map(|(g, v)| Some(table.remote(&g, &v)?.link.told().swagger.clone()));
        let others: Vec<Arc<str>> = told.filter(|swagger| !swagger.is_empty()).collect();
        let index = json!({"paths": paths}).to_string();
        let index_tag = format!("\"{}\"", hash(&[&index]));
        let parts: Vec<&str> = std::iter::once(all.as_str()).chain(others.iter().map(AsRef::as_ref)).collect();
        let two_tag = format!("\"{}\"", hash(&parts));
        let (version, kept) = (version.to_owned(), Mutex::default());
        Self { version, index: index.into(), index_tag, groups, two_tag, others, kept }
    }

    fn make(&self, registry: &Registry, schemas: &Schemas, which: &Which) -> std::io::Result<Bytes> {
        if let Some(known) = self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(which) {
            return Ok(known.clone());
        }
        let mut out = GzEncoder::new(Vec::new(), Compression::fast());
        self.write(registry, schemas, which, &mut out)?;
        let bytes = Bytes::from(out.finish()?);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.values().map(Bytes::len).sum::<usize>() + bytes.len() > KEPT {
            kept.clear();
        }
        kept.insert(which.clone(), bytes.clone());
        Ok(bytes)
    }

    /// The rows that a document is of. What others answer for is theirs to describe.
    fn rows(&self, registry: &Registry, which: &Which) -> Vec<Arc<Resource>> {
        match which {
            Which::Three(group, v) => registry.of(group, v),
            Which::Two | Which::TwoProtobuf => self.groups.values().flat_map(|(g, v, _)| registry.of(g, v)).collect(),
        }
    }

    fn write(&self, registry: &Registry, schemas: &Schemas, which: &Which, out: &mut dyn Write) -> std::io::Result<()> {
        let rows = self.rows(registry, which);
        let served = served(&rows, schemas);
        let others = || self.others.iter().map(|text| serde_json::from_str(text)).collect::<Result<Vec<Value>, _>>();
        match which {
            Which::Three(group, v) => openapi::v3(&served, (group, v), &self.version, out),
            Which::Two => openapi::v2(&served, &others()?, &self.version, out),
            Which::TwoProtobuf => openapi::v2_protobuf(&served, &others()?, &self.version, out),
        }
    }
}

/// Schemas of custom kinds by definition and version, read for one document and then forgotten: with their descriptions
/// they are far larger than what the server needs of them.
type Schemas = HashMap<(String, String), Value>;

/// Reads the schemas of the custom kinds that a document is of.
async fn schemas(server: &ApiServer, documents: &Documents, which: &Which) -> Result<Schemas, Status> {
    let mut out = Schemas::new();
    for row in documents.rows(server.registry(), which) {
        let Some(custom) = &row.custom else { continue };
        let key = (custom.definition.clone(), row.version.clone());
        let found = server.store().read(apiextensions::GROUP, apiextensions::DEFINITIONS, "", &key.0).await?;
        let Some(definition) = found else { continue };
        let versions = items(&definition.object, &["spec", "versions"]).iter();
        let mut own = versions.filter(|v| meta::text(v, &["name"]) == row.version);
        let schema = own.next().and_then(|v| meta::at(v, &["schema", "openAPIV3Schema"]));
        out.insert(key, schema.cloned().unwrap_or_default());
    }
    Ok(out)
}

/// What a custom row's document depends on.
fn state(row: &Resource) -> &str {
    row.custom.as_ref().map_or("", |custom| custom.tag.as_str())
}

fn served<'a>(rows: &'a [Arc<Resource>], schemas: &'a Schemas) -> Vec<Served<'a>> {
    rows.iter().map(|r| row(r, schemas)).collect()
}

/// The schema of what nothing is known of.
static NO_SCHEMA: Value = Value::Null;

fn row<'a>(r: &'a Resource, schemas: &'a Schemas) -> Served<'a> {
    let custom = r.custom.as_ref().map(|custom| {
        let schema = schemas.get(&(custom.definition.clone(), r.version.clone()));
        Custom { list_kind: &custom.list_kind, schema: schema.unwrap_or(&NO_SCHEMA), selectable: &r.selectable }
    });
    let part = |s: &crate::registry::Subresource| ServedPart { name: s.name, verbs: s.verbs, kind: s.kind };
    Served {
        group: &r.group,
        version: &r.version,
        kind: &r.kind,
        plural: &r.plural,
        namespaced: r.namespaced,
        verbs: r.verbs,
        subresources: r.subresources.iter().map(part).collect(),
        custom,
    }
}

/// Where the document with this hash is.
fn address(root: &str, tag: &str) -> String {
    format!("/openapi/v3/{root}?hash={tag}")
}

/// Answers a path below `/openapi/`.
pub(crate) async fn answer(
    server: &ApiServer,
    path: &str,
    query: &Query,
    headers: &HeaderMap,
) -> Result<Response<Body>, Status> {
    // What is answered and its tag are of one state, whatever changes meanwhile.
    let all = server.documents();
    let documents = all.openapi();
    if path == "/openapi/v2" {
        let Some((which, media)) = version_two(headers) else { return Ok(not_acceptable()) };
        return document(server, &all, headers, which, (&documents.two_tag, media)).await;
    }
    let rest = path.strip_prefix("/openapi/v3").ok_or_else(Status::no_such_path)?;
    if accepts(headers, &[JSON]).is_none() {
        return Ok(not_acceptable());
    }
    if rest.is_empty() {
        return Ok(with_tag(headers, &documents.index, &documents.index_tag, JSON));
    }
    let root = rest.trim_start_matches('/');
    let (group, version, tag) = documents.groups.get(root).ok_or_else(Status::no_such_path)?;
    let asked = query.get("hash");
    if asked.is_some_and(|hash| hash != tag) {
        return Ok(moved(&address(root, tag)));
    }
    let which = Which::Three(group.clone(), version.clone());
    let mut response = document(server, &all, headers, which, (&format!("\"{tag}\""), JSON)).await?;
    if asked.is_some() {
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
        let until = server.now().checked_add(IMMUTABLE).unwrap_or(server.now());
        let until = until.strftime("%a, %d %b %Y %H:%M:%S UTC").to_string();
        if let Ok(value) = HeaderValue::from_str(&until) {
            headers.insert(header::EXPIRES, value);
        }
    }
    Ok(response)
}

/// The first of some media types that the client takes.
fn accepts(headers: &HeaderMap, offered: &[&'static str]) -> Option<&'static str> {
    let texts: Vec<&str> = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).collect();
    if texts.iter().all(|t| t.trim().is_empty()) {
        return offered.first().copied();
    }
    let clauses = texts.iter().flat_map(|t| t.split(',')).map(|c| c.split(';').next().unwrap_or_default().trim());
    clauses
        .filter_map(|clause| match clause {
            "*/*" | "application/*" => offered.first(),
            clause => offered.iter().find(|o| **o == clause),
        })
        .next()
        .copied()
}

fn version_two(headers: &HeaderMap) -> Option<(Which, &'static str)> {
    match accepts(headers, &[JSON, PROTOBUF_OLD, PROTOBUF])? {
        JSON => Some((Which::Two, JSON)),
        _ => Some((Which::TwoProtobuf, PROTOBUF)),
    }
}

fn not_acceptable() -> Response<Body> {
    respond::bytes(StatusCode::NOT_ACCEPTABLE, "text/plain", Bytes::new())
}

fn moved(address: &str) -> Response<Body> {
    let mut response = respond::bytes(StatusCode::MOVED_PERMANENTLY, "text/html; charset=utf-8", Bytes::new());
    if let Ok(value) = HeaderValue::from_str(address) {
        response.headers_mut().insert(header::LOCATION, value);
    }
    response
}

/// Answers with a document of a state, which has a tag and a media type.
async fn document(
    server: &ApiServer,
    documents: &Arc<super::Documents>,
    headers: &HeaderMap,
    which: Which,
    (tag, media): (&str, &'static str),
) -> Result<Response<Body>, Status> {
    let known = headers.get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok());
    if known.is_some_and(|k| k.split(',').any(|k| k.trim() == tag)) {
        return Ok(with_tag(headers, &Bytes::new(), tag, media));
    }
    let zipped = respond::takes_gzip(headers);
    let (maker, documents) = (server.clone(), documents.clone());
    let schemas = schemas(server, documents.openapi(), &which).await?;
    // Making one takes a while, in which the thread would serve nobody else.
    let made = tokio::task::spawn_blocking(move || {
        let packed = documents.openapi().make(maker.registry(), &schemas, &which)?;
        if zipped {
            return Ok(packed);
        }
        let mut plain = Vec::with_capacity(packed.len() * 8);
        GzDecoder::new(&packed[..]).read_to_end(&mut plain)?;
        Ok::<_, std::io::Error>(Bytes::from(plain))
    });
    let body = made.await.map_err(Status::internal)?.map_err(Status::internal)?;
    let mut response = with_tag(headers, &body, tag, media);
    if zipped {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        response.headers_mut().append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    Ok(response)
}
