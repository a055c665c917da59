//! What clients send as custom resources: fields that the schema has not are told and dropped.

use kiln_apimachinery::FieldError;
use kiln_schema::decode::Findings;
use serde_json::{Map, Value};

use super::Custom;
use super::schema;

/// Why an object is no custom resource.
pub(crate) enum Unfit {
    /// It can't be read; a sentence for a 400.
    Undecodable(String),
    /// Metadata of a resource inside it is none.
    Field(FieldError),
}

/// Checks and cleans an object.
pub(crate) fn check(custom: &Custom, object: &mut Value) -> Result<Findings, Unfit> {
    let Some(map) = object.as_object_mut() else {
        let why = "json: cannot unmarshal value into Go value of type map[string]interface {}";
        return Err(Unfit::Undecodable(why.into()));
    };
    let mut findings = Findings::default();
    if let Some(metadata) = map.get_mut("metadata") {
        let mut wrapped = Value::Object(Map::from_iter([("metadata".to_owned(), metadata.take())]));
        let ty = kiln_schema::lookup("v1", "PartialObjectMetadata");
        let found = ty.map(|ty| kiln_schema::decode::check(ty, &mut wrapped)).transpose();
        findings = found.map_err(Unfit::Undecodable)?.unwrap_or_default();
        *metadata = wrapped["metadata"].take();
    }
    let schema = custom.schema.root();
    findings.unknown.extend(schema::prune(schema, object));
    findings.unknown.extend(schema::coerce(schema, object).map_err(Unfit::Field)?);
    Ok(findings)
}
