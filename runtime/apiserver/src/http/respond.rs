//! Responses out of values and bytes.

use std::io::Write as _;

use ::http::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, VARY};
use ::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::BodyExt as _;
use kiln_apimachinery::{Status, random};
use kiln_schema::protobuf;
use serde::Serialize;

use super::body::{Body, Pieces, full};
use super::negotiate::{self, Encoding};

/// What a request is called in the audit log; a client may choose it.
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// Bodies from this size on are compressed if the client takes gzip.
const GZIP_FROM: usize = 128 * 1024;

/// Bytes with a code and a content type.
pub(crate) fn bytes(code: StatusCode, media_type: &str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() = code;
    if let Ok(value) = HeaderValue::from_str(media_type) {
        response.headers_mut().insert(CONTENT_TYPE, value);
    }
    response
}

/// Plain text.
pub(crate) fn text(code: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    bytes(code, "text/plain; charset=utf-8", body)
}

/// JSON of a value that can't fail to serialise.
pub(crate) fn json(code: StatusCode, value: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(body) => bytes(code, Encoding::Json.media_type(), body),
        Err(e) => status(&Status::internal(e)),
    }
}

/// A `Status` with its code, as JSON.
pub(crate) fn status(status: &Status) -> Response<Body> {
    status_as(Encoding::Json, status)
}

/// A `Status` with its code, in the encoding that the client of these headers takes.
pub(crate) fn refusal(request: &HeaderMap, status: &Status) -> Response<Body> {
    let encoding = negotiate::accepted(request).map_or(Encoding::Json, |a| a.encoding);
    status_as(encoding, status)
}

fn status_as(encoding: Encoding, status: &Status) -> Response<Body> {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = Bytes::from(status.to_value().to_string());
    let (encoding, body) = translate(encoding, json.clone()).unwrap_or((Encoding::Json, json));
    let mut response = bytes(code, encoding.media_type(), body);
    if let Some(seconds) = status.details.as_ref().map(|d| d.retry_after_seconds).filter(|s| *s > 0) {
        response.headers_mut().insert(::http::header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// JSON bytes in the encoding the client takes, compressed if large and allowed.
pub(crate) fn encoded(code: StatusCode, encoding: Encoding, request: &HeaderMap, json: Bytes) -> Response<Body> {
    match translate(encoding, json) {
        Ok((encoding, body)) => sized(code, encoding, request, body),
        Err(s) => status(&s),
    }
}

/// JSON in another encoding. What protobuf has no message for stays JSON.
fn translate(encoding: Encoding, json: Bytes) -> Result<(Encoding, Bytes), Status> {
    match encoding {
        Encoding::Json => Ok((encoding, json)),
        Encoding::Yaml => Ok((encoding, to_yaml(&json)?)),
        Encoding::Protobuf => {
            let value = serde_json::from_slice(&json).map_err(Status::internal)?;
            match protobuf::encode(&value) {
                Ok(bytes) => Ok((encoding, bytes.into())),
                Err(protobuf::ProtobufError::UnknownKind(_)) => Ok((Encoding::Json, json)),
                Err(e) => Err(Status::internal(e)),
            }
        }
    }
}

/// Bytes of an encoding, compressed if large and allowed.
pub(crate) fn sized(code: StatusCode, encoding: Encoding, request: &HeaderMap, body: Bytes) -> Response<Body> {
    let zipped = would_compress(request, body.len()).then(|| compress(&body)).flatten();
    let mut response = bytes(code, encoding.media_type(), zipped.clone().unwrap_or(body));
    if zipped.is_some() {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        response.headers_mut().insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    response
}

/// True if a body of this size goes out compressed.
pub(crate) fn would_compress(request: &HeaderMap, len: usize) -> bool {
    len >= GZIP_FROM && takes_gzip(request)
}

/// A list, piece by piece.
pub(crate) fn pieces(encoding: Encoding, pieces: Pieces) -> Response<Body> {
    let mut response = Response::new(pieces.boxed());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(encoding.media_type()));
    response
}

/// True if the client takes gzip.
pub(crate) fn takes_gzip(headers: &HeaderMap) -> bool {
    let texts = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok());
    texts.flat_map(|t| t.split(',')).any(|c| c.split(';').next().is_some_and(|c| c.trim() == "gzip"))
}

fn compress(body: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

fn to_yaml(json: &[u8]) -> Result<Bytes, Status> {
    let value: serde_json::Value = serde_json::from_slice(json).map_err(Status::internal)?;
    serde_yaml_ng::to_string(&value).map(Bytes::from).map_err(Status::internal)
}

/// Gives a response the headers that all have: one to find the request in the audit log by, and none may be kept.
pub(crate) fn mark(response: &mut Response<Body>, request: &HeaderMap) {
    let headers = response.headers_mut();
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache, private"));
    if !headers.contains_key(AUDIT_ID) {
        let made = || random::uid().ok().and_then(|id| HeaderValue::from_str(&id).ok());
        if let Some(id) = request.get(AUDIT_ID).filter(|id| !id.is_empty()).cloned().or_else(made) {
            headers.insert(AUDIT_ID, id);
        }
    }
}

/// Adds `Warning` headers.
pub(crate) fn warn(response: &mut Response<Body>, warnings: &[String]) {
    for text in warnings {
        let clean: String = text.chars().filter(|c| !c.is_control()).collect();
        let escaped = clean.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{escaped}\"")) {
            response.headers_mut().append(::http::header::WARNING, value);
        }
    }
}
