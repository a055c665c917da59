//! Content types: what a client takes, and what it sent.

use ::http::HeaderMap;
use ::http::header::{ACCEPT, CONTENT_TYPE};
use kiln_apimachinery::status::Reason;
use kiln_apimachinery::{Status, decode};
use kiln_schema::protobuf;
use serde::Deserialize as _;
use serde_json::Value;

/// How objects are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Yaml,
    Protobuf,
}

impl Encoding {
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => protobuf::MEDIA_TYPE,
        }
    }
}

/// What of an object is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// All of it.
    Full,
    /// A row of a table.
    Table,
    /// Its metadata.
    Metadata,
    /// An aggregated discovery document; other paths answer in full.
    Discovery,
}

/// What the client takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) encoding: Encoding,
    pub(crate) shape: Shape,
}

impl Accepted {
    pub(crate) const JSON: Self = Self { encoding: Encoding::Json, shape: Shape::Full };
}

/// Reads `Accept`; an error (406) means that nothing fits.
pub(crate) fn accepted(headers: &HeaderMap) -> Result<Accepted, Status> {
    choose(headers, true)
}

/// The same for objects that can't be written as protobuf.
pub(crate) fn accepted_but_protobuf(headers: &HeaderMap) -> Result<Accepted, Status> {
    choose(headers, false)
}

fn choose(headers: &HeaderMap, protobuf: bool) -> Result<Accepted, Status> {
    let texts = || headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok());
    let mut clauses: Vec<(u32, &str)> = texts().flat_map(|t| t.split(',')).map(|c| (quality(c), c.trim())).collect();
    if clauses.iter().all(|(_, c)| c.is_empty()) {
        return Ok(Accepted::JSON);
    }
    // Stable, so that the client's order decides between equals; but what is named goes before what is merely let pass.
    clauses.sort_by_key(|(q, c)| (std::cmp::Reverse(*q), c.starts_with("*/"), c.contains("/*")));
    let mut fit = clauses
        .iter()
        .filter(|(q, _)| *q > 0)
        .filter_map(|(_, c)| clause(c))
        .filter(|a| protobuf || a.encoding != Encoding::Protobuf);
    fit.next().ok_or_else(|| not_acceptable(protobuf))
}

/// 406, with what would do.
pub(crate) fn not_acceptable(protobuf: bool) -> Status {
    let last = if protobuf { ", application/vnd.kubernetes.protobuf" } else { "" };
    let text = format!("only the following media types are accepted: application/json, application/yaml{last}");
    Status::failure(Reason::NotAcceptable, text)
}

fn quality(clause: &str) -> u32 {
    let q = clause.split(';').find_map(|p| p.trim().strip_prefix("q="));
    // Thousandths, as fine as the header's grammar allows.
    q.and_then(|q| q.parse::<f32>().ok()).map_or(1000, |q| (q.clamp(0.0, 1.0) * 1000.0) as u32)
}

fn clause(clause: &str) -> Option<Accepted> {
    let mut parts = clause.split(';').map(str::trim);
    let encoding = match parts.next()?.to_ascii_lowercase().as_str() {
        "application/json" | "*/*" | "application/*" => Encoding::Json,
        "application/yaml" | "application/x-yaml" | "text/yaml" => Encoding::Yaml,
        protobuf::MEDIA_TYPE => Encoding::Protobuf,
        _ => return None,
    };
    let (mut shape, mut group, mut version) = (None, "", "");
    for part in parts {
        match part.split_once('=') {
            Some(("as", v)) => shape = Some(v),
            Some(("g", v)) => group = v,
            Some(("v", v)) => version = v,
            _ => {}
        }
    }
    let shape = match (shape, group, version) {
        (None, ..) => Shape::Full,
        // Protobuf has no tables.
        (Some("Table"), "meta.k8s.io", "v1" | "v1beta1") if encoding != Encoding::Protobuf => Shape::Table,
        (Some("PartialObjectMetadata" | "PartialObjectMetadataList"), "meta.k8s.io", "v1" | "v1beta1") => {
            Shape::Metadata
        }
        (Some("APIGroupDiscoveryList"), "apidiscovery.k8s.io", "v2") if encoding != Encoding::Protobuf => {
            Shape::Discovery
        }
        _ => return None,
    };
    Some(Accepted { encoding, shape })
}

/// Why a body can't be read.
#[derive(Debug)]
pub(crate) enum Unread {
    /// 415.
    Unsupported(Status),
    /// A 400; the sentence says why.
    Malformed(String),
}

impl Unread {
    /// The answer to a client that should have sent an object of this kind.
    pub(crate) fn status(self, kind: &str, body: &[u8]) -> Status {
        match self {
            Self::Unsupported(status) => status,
            Self::Malformed(why) => Status::bad_request(format!(
                "the object provided is unrecognized (must be of type {kind}): {why} ({})",
                summary(body)
            )),
        }
    }
}

impl std::fmt::Display for Unread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unsupported(status) => f.write_str(&status.message),
            Self::Malformed(why) => f.write_str(why),
        }
    }
}

impl From<Unread> for Status {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Unsupported(status) => status,
            Unread::Malformed(why) => Status::bad_request(why),
        }
    }
}

/// The beginning of a body, for an error.
fn summary(body: &[u8]) -> String {
    let (start, more) = if body.len() > 30 { (&body[..30], " ...") } else { (body, "") };
    match body.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(start)),
        Some(_) => format!("{}{more}", crate::authn::token::hex(start)),
    }
}

/// Reads a request's body by its content type, telling the keys that stand twice.
pub(crate) fn read_body(headers: &HeaderMap, body: &[u8]) -> Result<decode::Decoded, Unread> {
    let media = media_type(headers);
    let malformed = |e: &dyn std::fmt::Display| Unread::Malformed(e.to_string());
    match media.as_str() {
        "" | "application/json" => decode::json(body)
            .map_err(|e| Unread::Malformed(format!("couldn't get version/kind; json parse error: {e}"))),
        "application/yaml" | "application/x-yaml" | "text/yaml" => from_yaml(body),
        protobuf::MEDIA_TYPE => protobuf::decode(body)
            .map(|value| decode::Decoded { value, duplicates: Vec::new() })
            .map_err(|e| malformed(&e)),
        other => Err(Unread::Unsupported(unsupported(other))),
    }
}

/// Reads YAML.
pub(crate) fn from_yaml(body: &[u8]) -> Result<decode::Decoded, Unread> {
    let bad = |e: serde_yaml_ng::Error| Unread::Malformed(format!("error converting YAML to JSON: yaml: {e}"));
    let mut documents = serde_yaml_ng::Deserializer::from_slice(body);
    let first = documents.next().ok_or_else(|| Unread::Malformed("the body is empty".into()))?;
    let decoded = decode::from_deserializer(first).map_err(bad)?;
    match documents.next().map(Value::deserialize) {
        None => Ok(decoded),
        Some(_) => Err(Unread::Malformed("the body has more than one YAML document".into())),
    }
}

/// The body's media type in lower case without parameters; empty if not said.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let text = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// 415.
pub(crate) fn unsupported(media: &str) -> Status {
    Status::failure(
        Reason::UnsupportedMediaType,
        format!(
            "the body of the request was in an unknown format ({media:?}) - accepted media types include: \
             application/json, application/yaml, application/vnd.kubernetes.protobuf"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(accept: &str) -> Option<(Encoding, Shape)> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        accepted(&headers).ok().map(|a| (a.encoding, a.shape))
    }

    #[test]
    fn the_first_type_the_server_can_write_wins() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
        assert_eq!(shape(table), Some((Encoding::Json, Shape::Table)));
        assert_eq!(shape("application/vnd.kubernetes.protobuf, */*"), Some((Encoding::Protobuf, Shape::Full)));
        assert_eq!(shape("*/*, application/vnd.kubernetes.protobuf"), Some((Encoding::Protobuf, Shape::Full)));
        let table = "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1;g=meta.k8s.io";
        assert_eq!(shape(table), Some((Encoding::Json, Shape::Table)));
        let partial =
            "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
        assert_eq!(shape(partial), Some((Encoding::Protobuf, Shape::Metadata)));
        assert_eq!(shape("application/json;q=0"), None);
        assert_eq!(shape("application/json;q=0.1,application/yaml"), Some((Encoding::Yaml, Shape::Full)));
        assert_eq!(shape("application/json;as=Other;v=v1;g=x, application/json"), Some((Encoding::Json, Shape::Full)));
        assert_eq!(shape("text/html"), None);
    }

    #[test]
    fn yaml_bodies_are_read_like_json_ones() {
        let d = from_yaml(b"a: 1\nb:\n  c: x\n").unwrap();
        assert_eq!(d.value, serde_json::json!({"a": 1, "b": {"c": "x"}}));
        assert!(from_yaml(b"a: 1\n---\nb: 2\n").is_err());
        assert!(from_yaml(b"a: [").is_err());
    }
}
