//! JSON of the API as types.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// Times that types here must have, and that others leave unset.
const TIMES: [&str; 2] = ["lastTransitionTime", "lastObservedTime"];
const NEVER: &str = "1970-01-01T00:00:00Z";

/// Reads JSON as a type. What is null counts as absent and a time that was never set as the oldest, as both do to Kubernetes' own
/// clients: one such object must not keep a mirror from all others.
///
/// # Errors
/// When the JSON is none of the type.
pub(crate) fn from_json<T: DeserializeOwned>(json: &[u8]) -> serde_json::Result<T> {
    match serde_json::from_slice(json) {
        // Only what can't be read as it is pays for a second reading.
        Err(error) if error.is_data() => {
            let mut value: Value = serde_json::from_slice(json)?;
            mend(&mut value);
            serde_json::from_slice(value.to_string().as_bytes())
        }
        read => read,
    }
}

/// Takes away what is null, and sets times.
fn mend(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for time in TIMES {
                if fields.get(time).is_some_and(Value::is_null) {
                    fields.insert(time.to_owned(), NEVER.into());
                }
            }
            fields.retain(|_, field| !field.is_null());
            let conditions = fields.get_mut("conditions").and_then(Value::as_array_mut);
            for condition in conditions.into_iter().flatten().filter_map(Value::as_object_mut) {
                condition.entry(TIMES[0]).or_insert_with(|| NEVER.into());
            }
            fields.values_mut().for_each(mend);
        }
        Value::Array(items) => items.iter_mut().for_each(mend),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;

    use super::*;

    #[test]
    fn what_is_null_is_absent() {
        let json = br#"{"metadata": {"name": "s", "creationTimestamp": null}, "status": {"conditions": [
            {"type": "Ready", "status": "True", "reason": "Set", "message": null, "lastTransitionTime": null},
            {"type": "Told", "status": "True", "reason": "Set", "message": ""}]}}"#;
        let service: Service = from_json(json).expect("a Service");
        assert_eq!(service.metadata.creation_timestamp, None);
        let conditions = service.status.and_then(|status| status.conditions).expect("conditions");
        for (condition, kind) in conditions.iter().zip(["Ready", "Told"]) {
            assert_eq!(
                (condition.type_.as_str(), condition.reason.as_str(), condition.message.as_str()),
                (kind, "Set", "")
            );
            assert_eq!(condition.last_transition_time.0, jiff::Timestamp::UNIX_EPOCH);
        }
        assert!(from_json::<Service>(br#"{"metadata": 1, "spec": null}"#).is_err());
    }
}
