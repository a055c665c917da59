//! Which server answers for which group and version: APIServices.

mod api_service;

pub(crate) use api_service::{local, priorities};

use jiff::Timestamp;
use kiln_apimachinery::meta;
use serde_json::Value;

use crate::registry::cells::items;
use crate::registry::columns::Cell::With;
use crate::registry::columns::{AGE, Column, NAME, text};
use crate::registry::resource::{Resource, v1};

pub(crate) const GROUP: &str = "apiregistration.k8s.io";
/// The plural of APIServices.
pub(crate) const APISERVICES: &str = "apiservices";
/// What their keys begin with.
pub(crate) const PREFIX: &str = "/registry/apiregistration.k8s.io/apiservices/";

const API_SERVICE: &[Column] = &[NAME, text("Service", With(service)), text("Available", With(available)), AGE];

fn service(object: &Value, _: Timestamp) -> Value {
    match meta::at(object, &["spec", "service"]).filter(|s| s.is_object()) {
        Some(service) => format!("{}/{}", meta::text(service, &["namespace"]), meta::text(service, &["name"])).into(),
        None => "Local".into(),
    }
}

fn available(object: &Value, _: Timestamp) -> Value {
    let found = items(object, &["status", "conditions"]).iter().find(|c| meta::text(c, &["type"]) == "Available");
    match found.map(|c| (meta::text(c, &["status"]), meta::text(c, &["reason"]))) {
        None => "Unknown".into(),
        Some((status, reason)) if status == "True" || reason.is_empty() => status.into(),
        Some((status, reason)) => format!("{status} ({reason})").into(),
    }
}

/// The rows.
pub(crate) fn rows() -> Vec<Resource> {
    vec![
        v1(GROUP, "APIService", APISERVICES)
            .cluster()
            .categories(&["api-extensions"])
            .with_status()
            .columns(API_SERVICE)
            .conditional_update()
            .strategy(api_service::ApiServices),
    ]
}
