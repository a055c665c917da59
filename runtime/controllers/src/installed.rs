//! Definitions of custom resources that the cluster itself brings.

use std::time::Duration;

use kiln_apimachinery::meta;
use kiln_client::{Backoff, Client, PatchKind};
use serde::de::IgnoredAny;
use serde_json::{Value, json};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const MANAGER: &str = "kiln";

/// Makes the server have these definitions, and tries again until it has them.
pub(crate) async fn ensure(client: &Client, definitions: &[Value]) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
    for definition in definitions {
        let name = meta::name(definition);
        let path = format!("{DEFINITIONS}/{name}");
        while let Err(error) = client.patch::<IgnoredAny>(&path, PatchKind::Apply(MANAGER), definition).await {
            tracing::warn!(name, %error, "cannot install the definition; will try again");
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }
}

/// A definition of a namespaced kind in the version v1, by kind, plural and short names.
pub(crate) fn definition(
    group: &str,
    (kind, plural, short): (&str, &str, &[&str]),
    spec: Value,
    status: Option<Value>,
    columns: Value,
) -> Value {
    let mut properties = json!({
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        "spec": spec,
    });
    let mut version = json!({"name": "v1", "served": true, "storage": true, "additionalPrinterColumns": columns});
    if let Some(status) = status {
        properties["status"] = status;
        version["subresources"] = json!({"status": {}});
    }
    version["schema"] = json!({"openAPIV3Schema": {"type": "object", "properties": properties}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase(), "listKind": format!("{kind}List"),
                      "shortNames": short},
            "versions": [version],
        },
    })
}
