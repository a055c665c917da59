//! Leases: numbers that make sense.

use kiln_apimachinery::{FieldError, meta, time};
use serde_json::Value;

use crate::registry::strategy::Strategy;

pub(crate) struct Leases;

impl Strategy for Leases {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let spec = |key: &str| meta::at(object, &["spec", key]).filter(|v| !v.is_null());
        if let Some(v) = spec("leaseDurationSeconds").filter(|v| v.as_i64().is_none_or(|n| n <= 0)) {
            errors.push(FieldError::invalid("spec.leaseDurationSeconds", v, "must be greater than 0"));
        }
        if let Some(v) = spec("leaseTransitions").filter(|v| v.as_i64().is_none_or(|n| n < 0)) {
            errors.push(FieldError::invalid("spec.leaseTransitions", v, "must be greater than or equal to 0"));
        }
        for key in ["acquireTime", "renewTime"] {
            if let Some(v) = spec(key).filter(|v| v.as_str().and_then(time::parse).is_none()) {
                errors.push(FieldError::wrong_type(format!("spec.{key}"), v, "an RFC 3339 time"));
            }
        }
        if let Some(v) = spec("holderIdentity").filter(|v| v.as_str() == Some("")) {
            errors.push(FieldError::invalid("spec.holderIdentity", v, "must not be empty"));
        }
        errors
    }
}
