//! Stored bytes in the shape a client takes: as they are, as a table, as metadata, in the shape of another version.

use ::http::{Response, StatusCode};
use bytes::Bytes;
use jiff::Timestamp;
use kiln_apimachinery::{Reason, Status, meta};
use kiln_schema::protobuf::{ListWriter, WatchWriter};
use kiln_storage::Revision;
use serde_json::{Map, Value, json};

use super::{Cx, encode};
use crate::http::body::{self, Body};
use crate::http::negotiate::{Accepted, Encoding, Shape};
use crate::http::respond;
use crate::registry::Resource;
use crate::registry::columns::Column;

/// What goes into the `object` of a table's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Include {
    Nothing,
    Metadata,
    Object,
}

/// How one request's objects are written.
#[derive(Clone, Debug)]
pub(crate) struct Renderer {
    resource: std::sync::Arc<Resource>,
    encoding: Encoding,
    shape: Shape,
    include: Include,
}

impl PartialEq for Renderer {
    fn eq(&self, other: &Self) -> bool {
        let how = |r: &Self| (r.encoding, r.shape, r.include);
        std::sync::Arc::ptr_eq(&self.resource, &other.resource) && how(self) == how(other)
    }
}

impl Renderer {
    pub(crate) fn of(cx: &Cx<'_>) -> Result<Self, Status> {
        let include = match cx.query.get("includeObject") {
            None | Some("Metadata") => Include::Metadata,
            Some("None") => Include::Nothing,
            Some("Object") => Include::Object,
            Some(other) => return Err(Status::bad_request(format!("unrecognized includeObject value: {other:?}"))),
        };
        let Accepted { encoding, shape } = cx.accepted;
        Ok(Self { resource: cx.resource.clone(), encoding, shape, include })
    }

    /// True if objects become rows.
    pub(crate) fn is_table(&self) -> bool {
        self.shape == Shape::Table
    }

    /// The content type of a stream of frames; a 406 if the encoding has none.
    pub(crate) fn stream_media_type(&self) -> Result<&'static str, Status> {
        match self.encoding {
            Encoding::Json => Ok("application/json"),
            Encoding::Protobuf => Ok("application/vnd.kubernetes.protobuf;stream=watch"),
            Encoding::Yaml => Err(Status::failure(
                Reason::NotAcceptable,
                "only the following media types are accepted: application/json, \
                 application/vnd.kubernetes.protobuf;stream=watch",
            )),
        }
    }

    /// One event of a watch as it goes out, with an object as [`Renderer::one`] or its like has written it.
    pub(crate) fn frame(&self, event: &str, object: &[u8]) -> Bytes {
        if self.encoding == Encoding::Protobuf {
            return protobuf_frame(event, object);
        }
        let mut line = Vec::with_capacity(object.len() + 40);
        line.extend_from_slice(b"{\"type\":\"");
        line.extend_from_slice(event.as_bytes());
        line.extend_from_slice(b"\",\"object\":");
        line.extend_from_slice(object);
        line.extend_from_slice(b"}\n");
        line.into()
    }

    /// The object of an event that is an error.
    pub(crate) fn status(&self, status: &Status) -> Bytes {
        status.to_value().to_string().into()
    }

    /// True if stored bytes go out as they are.
    fn is_plain(&self) -> bool {
        matches!(self.shape, Shape::Full | Shape::Discovery) && self.resource.conversion.is_none()
    }

    fn parse(&self, bytes: &[u8]) -> Result<Value, Status> {
        let mut object = serde_json::from_slice(bytes).map_err(Status::internal)?;
        if let Some(conversion) = self.resource.conversion {
            (conversion.from_stored)(&mut object);
            encode::complete(&self.resource, &mut object);
        }
        Ok(object)
    }

    /// One object as JSON. `first` puts the columns' definitions into a table.
    pub(crate) fn one(&self, bytes: &Bytes, now: Timestamp, first: bool) -> Result<Bytes, Status> {
        if self.is_plain() {
            return Ok(bytes.clone());
        }
        let object = self.parse(bytes)?;
        let value = match self.shape {
            Shape::Table => {
                let metadata = json!({"resourceVersion": meta::resource_version(&object)});
                self.table(vec![self.row(object, now)], metadata, first)
            }
            Shape::Metadata => partial(object),
            Shape::Full | Shape::Discovery => object,
        };
        Ok(value.to_string().into())
    }

    /// Objects of a list without kind and version, which the list says for all of them, and without the brace that opens them.
    fn bare(&self, items: &[Bytes]) -> Result<Vec<Bytes>, Status> {
        let start = format!(r#"{{"kind":"{}","apiVersion":"{}","#, self.resource.kind, self.resource.api_version());
        let bare = |item: &Bytes| {
            if self.is_plain() && item.starts_with(start.as_bytes()) {
                return Ok(item.slice(start.len()..));
            }
            let mut object = self.parse(item)?;
            for key in ["kind", "apiVersion"] {
                meta::object_mut(&mut object).remove(key);
            }
            Ok(Bytes::from(object.to_string()).slice(1..))
        };
        items.iter().map(bare).collect()
    }

    fn row(&self, object: Value, now: Timestamp) -> Value {
        self.row_of(self.resource.cells(&object, now), object)
    }

    fn row_of(&self, cells: Vec<Value>, object: Value) -> Value {
        let mut row = Map::new();
        row.insert("cells".into(), cells.into());
        match self.include {
            Include::Nothing => {}
            Include::Metadata => {
                row.insert("object".into(), partial(object));
            }
            Include::Object => {
                row.insert("object".into(), object);
            }
        }
        row.into()
    }

    fn table(&self, rows: Vec<Value>, metadata: Value, definitions: bool) -> Value {
        table(rows, metadata, definitions.then(|| self.resource.headers()))
    }

    /// A bookmark: an object with nothing but a revision.
    pub(crate) fn bookmark(&self, revision: Revision, initial_end: bool, now: Timestamp) -> Bytes {
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object =
            json!({"kind": self.resource.kind, "apiVersion": self.resource.api_version(), "metadata": metadata});
        let value = match self.shape {
            // Its annotations are the row's.
            Shape::Table => {
                self.table(vec![self.row(object, now)], json!({"resourceVersion": revision.to_string()}), false)
            }
            Shape::Metadata => partial(object),
            Shape::Full | Shape::Discovery => object,
        };
        value.to_string().into()
    }
}

fn table(rows: Vec<Value>, metadata: Value, columns: Option<Vec<Value>>) -> Value {
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": columns, "rows": rows})
}

fn partial(mut object: Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"].take()})
}

/// An object of another kind than the resource's, in the shape that the client takes. Its columns are those given.
pub(crate) fn part(cx: &Cx<'_>, columns: &[Column], object: Value) -> Result<Response<Body>, Status> {
    let renderer = Renderer::of(cx)?;
    let value = match renderer.shape {
        Shape::Table => {
            let now = cx.server.now();
            let cells: Vec<Value> = columns.iter().map(|column| column.cell(&object, now)).collect();
            let headers: Vec<Value> = columns.iter().map(Column::header).collect();
            let metadata = json!({"resourceVersion": meta::resource_version(&object)});
            table(vec![renderer.row_of(cells, object)], metadata, Some(headers))
        }
        Shape::Metadata => partial(object),
        Shape::Full | Shape::Discovery => object,
    };
    Ok(respond::encoded(StatusCode::OK, cx.accepted.encoding, cx.headers, value.to_string().into()))
}

/// One object, with a code.
pub(crate) fn object(cx: &Cx<'_>, code: StatusCode, stored: &Bytes) -> Result<Response<Body>, Status> {
    let json = Renderer::of(cx)?.one(&without_empty_revision(cx, stored), cx.server.now(), true)?;
    Ok(respond::encoded(code, cx.accepted.encoding, cx.headers, json))
}

/// What a dry run would have created has no revision.
fn without_empty_revision(cx: &Cx<'_>, stored: &Bytes) -> Bytes {
    if !cx.dry_run || cx.info.verb != "create" {
        return stored.clone();
    }
    let Ok(mut object) = serde_json::from_slice::<Value>(stored) else { return stored.clone() };
    meta::metadata_mut(&mut object).remove("resourceVersion");
    object.to_string().into()
}

/// A list of stored objects.
pub(crate) fn list(
    cx: &Cx<'_>,
    items: Vec<Bytes>,
    revision: Revision,
    next: Option<String>,
    remaining: Option<u64>,
) -> Result<Response<Body>, Status> {
    let renderer = Renderer::of(cx)?;
    let mut metadata = json!({"resourceVersion": revision.to_string()});
    if let Some(next) = next {
        metadata["continue"] = next.into();
    }
    if let Some(remaining) = remaining {
        metadata["remainingItemCount"] = remaining.into();
    }
    let now = cx.server.now();
    if renderer.shape == Shape::Table {
        let rows =
            items.iter().map(|b| Ok(renderer.row(renderer.parse(b)?, now))).collect::<Result<Vec<_>, Status>>()?;
        let json = renderer.table(rows, metadata, true).to_string();
        return Ok(respond::encoded(StatusCode::OK, cx.accepted.encoding, cx.headers, json.into()));
    }
    let (kind, version) = match renderer.shape {
        Shape::Metadata => ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned()),
        _ => (cx.resource.list_kind(), cx.resource.api_version()),
    };
    let head = json!({"kind": kind, "apiVersion": version, "metadata": metadata}).to_string();
    let head = format!("{},\"items\":[", head.strip_suffix('}').unwrap_or(&head));
    if cx.accepted.encoding == Encoding::Protobuf {
        return protobuf_list(cx, &renderer, (&version, &kind), &metadata, &items);
    }
    let pieces = if renderer.shape == Shape::Metadata || cx.resource.custom.is_some() {
        let items = items.iter().map(|item| renderer.one(item, now, true)).collect::<Result<_, _>>()?;
        body::Pieces::new(head.into(), items, b",", Bytes::from_static(b"]}"))
    } else {
        let head = if items.is_empty() { head } else { head + "{" };
        body::Pieces::new(head.into(), renderer.bare(&items)?, b",{", Bytes::from_static(b"]}"))
    };
    if cx.accepted.encoding == Encoding::Json && !respond::would_compress(cx.headers, pieces.len()) {
        return Ok(respond::pieces(Encoding::Json, pieces));
    }
    Ok(respond::encoded(StatusCode::OK, cx.accepted.encoding, cx.headers, pieces.into_bytes()))
}

/// An event as protobuf, of an object in JSON. What can't be written, which no stored object is, becomes an error.
fn protobuf_frame(event: &str, object: &[u8]) -> Bytes {
    let parsed = serde_json::from_slice(object).map_err(Status::internal);
    let written = parsed.and_then(|o: Value| WatchWriter::frame(event, &o).map_err(Status::internal));
    written.or_else(|status| WatchWriter::frame("ERROR", &status.to_value())).unwrap_or_default().into()
}

/// A list as protobuf: items are parsed and written one by one.
fn protobuf_list(
    cx: &Cx<'_>,
    renderer: &Renderer,
    (version, kind): (&str, &str),
    metadata: &Value,
    items: &[Bytes],
) -> Result<Response<Body>, Status> {
    let mut writer = ListWriter::new(version, kind, metadata).map_err(Status::internal)?;
    let write = |bytes: &Bytes| {
        let object = renderer.parse(bytes)?;
        writer.item(&object).map(Bytes::from).map_err(Status::internal)
    };
    let items = items.iter().map(write).collect::<Result<Vec<_>, _>>()?;
    let (head, tail) = writer.finish();
    let pieces = body::Pieces::new(head.into(), items, b"", Bytes::from_static(tail));
    if !respond::would_compress(cx.headers, pieces.len()) {
        return Ok(respond::pieces(Encoding::Protobuf, pieces));
    }
    Ok(respond::sized(StatusCode::OK, Encoding::Protobuf, cx.headers, pieces.into_bytes()))
}
