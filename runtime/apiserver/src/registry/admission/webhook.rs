//! Webhook configurations.

use serde_json::{Value, json};

use crate::registry::strategy::{Strategy, Writer, default_to};

pub(crate) struct Webhooks {
    pub(crate) mutating: bool,
}

impl Strategy for Webhooks {
    fn default(&self, object: &mut Value) {
        for webhook in object.get_mut("webhooks").and_then(Value::as_array_mut).into_iter().flatten() {
            default_to(webhook, "failurePolicy", "Fail");
            default_to(webhook, "matchPolicy", "Equivalent");
            default_to(webhook, "namespaceSelector", json!({}));
            default_to(webhook, "objectSelector", json!({}));
            default_to(webhook, "timeoutSeconds", 10);
            if self.mutating {
                default_to(webhook, "reinvocationPolicy", "Never");
            }
            for rule in webhook.get_mut("rules").and_then(Value::as_array_mut).into_iter().flatten() {
                default_to(rule, "scope", "*");
            }
            if let Some(service) = webhook.pointer_mut("/clientConfig/service").filter(|s| s.is_object()) {
                default_to(service, "port", 443);
            }
        }
    }

    fn prepare_update(&self, _writer: &Writer<'_>, _new: &mut Value, _old: &Value) {}
}
