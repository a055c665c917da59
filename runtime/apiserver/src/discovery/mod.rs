//! What is served, told to clients: groups, versions and resources, in the old shape and the aggregated one; OpenAPI.

mod aggregated;
mod legacy;
pub(crate) mod openapi;
mod order;

use ::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::aggregation::{Aggregation, Table};
use crate::authn::token::hex;
use crate::http::body::Body;
use crate::http::negotiate::{Accepted, Shape};
use crate::http::respond;
use crate::registry::{Registry, Resource, Subresource};
use crate::server::ApiServer;

/// All documents, made anew when the registry has changed.
#[derive(Debug)]
pub(crate) struct Documents {
    /// Those of the registry and of aggregated APIs of which they tell.
    generation: (u64, u64),
    core: (Bytes, String),
    groups: (Bytes, String),
    openapi: openapi::Documents,
}

/// The content type of aggregated discovery.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

impl Documents {
    pub(crate) fn new(registry: &Registry, aggregation: &Aggregation, version: &str) -> Self {
        // Taken first: what changes meanwhile makes them anew.
        let generation = (registry.generation(), aggregation.generation());
        let table = aggregation.table();
        let tagged = |core| {
            let bytes = Bytes::from(aggregated::document(registry, &table, core).to_string());
            let tag = format!("\"{}\"", hex(&Sha256::digest(&bytes)).to_uppercase());
            (bytes, tag)
        };
        let openapi = openapi::Documents::new(registry, &table, version);
        Self { generation, core: tagged(true), groups: tagged(false), openapi }
    }

    /// Which state of the registry and of aggregated APIs they tell of.
    pub(crate) fn generation(&self) -> (u64, u64) {
        self.generation
    }

    /// The OpenAPI documents.
    pub(crate) fn openapi(&self) -> &openapi::Documents {
        &self.openapi
    }

    /// Answers a discovery path; `None` if it is none.
    pub(crate) fn answer(
        &self,
        server: &ApiServer,
        path: &str,
        headers: &HeaderMap,
        accepted: Accepted,
    ) -> Option<Response<Body>> {
        let path = path.trim_end_matches('/');
        if accepted.shape == Shape::Discovery && matches!(path, "/api" | "/apis") {
            let (body, tag) = if path == "/api" { &self.core } else { &self.groups };
            let mut response = with_tag(headers, body, tag, AGGREGATED);
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
            return Some(response);
        }
        let value = legacy::document(server.registry(), &server.aggregation().table(), path)?;
        Some(respond::encoded(StatusCode::OK, accepted.encoding, headers, value.to_string().into()))
    }
}

/// All groups with their versions, in order: those that are served here and those of other servers.
fn groups(registry: &Registry, table: &Table) -> Vec<(String, Vec<String>)> {
    let mut groups = registry.groups();
    for (_, remote) in table.remotes() {
        let (group, version) = (&remote.link.place.group, &remote.link.place.version);
        match groups.iter_mut().find(|(g, _)| g == group) {
            Some((_, versions)) if versions.contains(version) => {}
            Some((_, versions)) => versions.push(version.clone()),
            None => groups.push((group.clone(), vec![version.clone()])),
        }
    }
    order::sort(&mut groups, table);
    groups
}

/// Group and version, if they differ from the resource's, and kind of what a subresource is read and written as.
fn kind_of<'a>(resource: &'a Resource, part: &Subresource) -> (Option<&'a str>, Option<&'a str>, &'a str) {
    match part.kind {
        Some((group, version, kind)) if (group, version) == (&resource.group, &resource.version) => (None, None, kind),
        Some((group, version, kind)) => (Some(group), Some(version), kind),
        None => (None, None, &resource.kind),
    }
}

/// A document, or 304 if the client has it.
fn with_tag(headers: &HeaderMap, body: &Bytes, tag: &str, media: &str) -> Response<Body> {
    let known = headers.get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok());
    let mut response = if known.is_some_and(|k| k.split(',').any(|k| k.trim() == tag)) {
        respond::bytes(StatusCode::NOT_MODIFIED, media, Bytes::new())
    } else {
        respond::bytes(StatusCode::OK, media, body.clone())
    };
    if let Ok(value) = HeaderValue::from_str(tag) {
        response.headers_mut().insert(header::ETAG, value);
    }
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}
