//! Autoscalers, stored as version 2 writes them.

mod conversion;
mod defaults;
mod metrics;

use serde_json::Value;

use super::controllers::without_status;
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
}
