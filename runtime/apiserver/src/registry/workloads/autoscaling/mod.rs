//! Autoscalers, stored as version 2 writes them.

mod conversion;
mod defaults;
mod metrics;
mod validate;

use kiln_apimachinery::FieldError;
use kiln_apimachinery::path::Path;
use serde_json::Value;

use super::check::Report;
use super::controllers::{status, without_status};
use super::view::make;
use crate::registry::resource::Conversion;
use crate::registry::strategy::{Strategy, Writer, default_to};

/// Version 1 to version 2 and back.
pub(crate) const CONVERSION: Conversion =
    Conversion { to_stored: conversion::to_stored, from_stored: conversion::from_stored };

pub(crate) struct Autoscalers;

impl Strategy for Autoscalers {
    fn default(&self, object: &mut Value) {
        defaults::autoscaler(object);
    }

    fn prepare_create(&self, _writer: &Writer<'_>, object: &mut Value) {
        without_status(object);
        let status = make(object, "status");
        default_to(status, "desiredReplicas", 0);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        validate::validate(object, None)
    }

    fn validate_write(&self, writer: &Writer<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        if writer.subresource != "status" {
            return validate::validate(new, Some(old));
        }
        let mut r = Report::default();
        for key in ["currentReplicas", "desiredReplicas"] {
            r.nonnegative(status(new), key, &Path::new("status"));
        }
        r.0
    }
}
