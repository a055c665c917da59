//! Tells of a ConfigMap that can't be understood where people look: in an Event about it.

use k8s_openapi::api::core::v1::ConfigMap;
use kiln_client::Client;
use serde_json::{Value, json};

use crate::addon::NAMESPACE;
use crate::corefile::{CONFIG_MAP, Mistake};

const PATH: &str = "/api/v1/namespaces/kube-system/events";

/// Writes the Event. All nodes read the same ConfigMap, so it is named by the ConfigMap's revision: the first one tells for all.
pub(crate) async fn tell(client: &Client, about: &ConfigMap, mistake: &Mistake) {
    let meta = &about.metadata;
    let (uid, revision) =
        (meta.uid.as_deref().unwrap_or_default(), meta.resource_version.as_deref().unwrap_or_default());
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let event = json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"namespace": NAMESPACE, "name": format!("{CONFIG_MAP}.{revision}")},
        "involvedObject": {
            "apiVersion": "v1", "kind": "ConfigMap", "namespace": NAMESPACE, "name": CONFIG_MAP, "uid": uid,
            "resourceVersion": revision,
        },
        "reason": "InvalidConfiguration",
        "message": format!("{mistake}; what held before still holds"),
        "type": "Warning",
        "source": {"component": "kiln-dns"},
        "reportingComponent": "kiln-dns",
        "reportingInstance": "",
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    });
    match client.create::<Value>(PATH, &event).await {
        Ok(_) => {}
        Err(error) if error.is_already_exists() => {}
        Err(error) => tracing::debug!(%error, "the Event about the ConfigMap could not be written"),
    }
}
