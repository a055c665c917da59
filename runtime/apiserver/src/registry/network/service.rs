//! Services: names that are DNS labels, and the defaults every client relies on.

use kiln_apimachinery::meta;
use kiln_apimachinery::names::{self, NameRule};
use serde_json::Value;

use crate::registry::strategy::{Strategy, default_to};

pub(crate) struct Services;

impl Strategy for Services {
    fn name_rule(&self) -> NameRule {
        names::dns1035_label
    }

    fn default(&self, object: &mut Value) {
        meta::child(object, "spec");
        let Some(spec) = object.get_mut("spec") else { return };
        default_to(spec, "type", "ClusterIP");
        default_to(spec, "sessionAffinity", "None");
        if meta::text(spec, &["type"]) != "ExternalName" {
            default_to(spec, "internalTrafficPolicy", "Cluster");
        }
        for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
            default_to(port, "protocol", "TCP");
            if let Some(number) = port.get("port").cloned() {
                default_to(port, "targetPort", number);
            }
        }
        let status = meta::child(object, "status");
        status.entry("loadBalancer").or_insert_with(|| Value::Object(serde_json::Map::new()));
    }
}
