//! The node's pods as objects.

use http::Response;
use kiln_client::Body;
use serde_json::{Value, json};

use super::answer::json;
use super::{PodView, Server};

fn list(items: Vec<Value>) -> Response<Body> {
    json(&json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
}

/// Those that are bound to it.
pub(super) fn bound(server: &Server) -> Response<Body> {
    let object = |view: PodView| {
        let mut pod = serde_json::to_value(&*view.pod).unwrap_or_default();
        if let Some(status) = &view.status {
            pod["status"] = serde_json::to_value(&**status).unwrap_or_default();
        }
        pod
    };
    list(server.0.host.pods().into_iter().map(object).collect())
}

/// Those of which the runtime runs something, with no more than the runtime knows of them.
pub(super) fn running(server: &Server) -> Response<Body> {
    let object = |view: PodView| {
        let running = view.containers.iter().filter(|c| c.running);
        let containers: Vec<Value> = running.map(|c| json!({"name": c.name, "resources": {}})).collect();
        let metadata = json!({"name": view.name(), "namespace": view.namespace(), "uid": view.uid()});
        (!containers.is_empty())
            .then(|| json!({"metadata": metadata, "spec": {"containers": containers}, "status": {}}))
    };
    list(server.0.host.pods().into_iter().filter_map(object).collect())
}
