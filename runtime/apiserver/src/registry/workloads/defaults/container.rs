//! Containers of all three kinds.

use serde_json::Value;

use super::resources::{canonical, canonical_requirements};
use crate::registry::strategy::{default_to, put};
use crate::registry::workloads::view::{fill, get_mut, int, items_mut, make, text};

pub(super) fn container(container: &mut Value) {
    let policy = pull_policy(text(container, "image"));
    fill(container, "imagePullPolicy", policy);
    fill(container, "terminationMessagePath", "/dev/termination-log");
    fill(container, "terminationMessagePolicy", "File");
    canonical_requirements(make(container, "resources"));
    for port in items_mut(container, "ports") {
        fill(port, "protocol", "TCP");
    }
    for env in items_mut(container, "env") {
        if let Some(from) = get_mut(env, "valueFrom") {
            field_ref(from);
            if let Some(file) = get_mut(from, "fileKeyRef") {
                default_to(file, "optional", false);
            }
        }
    }
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(found) = get_mut(container, key) {
            probe(found);
        }
    }
    if let Some(lifecycle) = get_mut(container, "lifecycle") {
        // Behind a gate that is closed by default.
        put(lifecycle, "stopSignal", None);
        for key in ["postStart", "preStop"] {
            if let Some(handler) = get_mut(lifecycle, key) {
                http_get(handler);
            }
        }
    }
}

/// References to fields of the pod and to resources of a container.
pub(super) fn field_ref(source: &mut Value) {
    if let Some(field) = get_mut(source, "fieldRef") {
        fill(field, "apiVersion", "v1");
    }
    if let Some(resource) = get_mut(source, "resourceFieldRef") {
        default_to(resource, "divisor", "0");
        canonical(resource, "divisor");
    }
}

fn probe(probe: &mut Value) {
    for (key, value) in [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        fill(probe, key, value);
    }
    http_get(probe);
    if let Some(grpc) = get_mut(probe, "grpc") {
        default_to(grpc, "service", "");
    }
}

fn http_get(handler: &mut Value) {
    if let Some(http) = get_mut(handler, "httpGet") {
        fill(http, "path", "/");
        fill(http, "scheme", "HTTP");
    }
}

/// On the node's own network, a container's ports are the node's.
pub(super) fn host_ports(container: &mut Value) {
    for port in items_mut(container, "ports") {
        if let Some(number) = int(port, "containerPort") {
            fill(port, "hostPort", number);
        }
    }
}

/// An image that may be another one tomorrow is pulled every time.
pub(super) fn pull_policy(image: &str) -> &'static str {
    if is_latest(image) { "Always" } else { "IfNotPresent" }
}

/// True for a well-formed name with the tag `latest`, or with neither tag nor digest.
fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return image.split('@').next().is_some_and(|name| name.ends_with(":latest"));
    }
    let (prefix, last) = image.rsplit_once('/').unwrap_or(("", image));
    let (name, tag) = last.split_once(':').unwrap_or((last, "latest"));
    // A host may be written in capitals, a repository not.
    let path = prefix.split_once('/').map_or("", |(_, path)| path);
    let lower = |text: &str| !text.bytes().any(|b| b.is_ascii_uppercase() || b.is_ascii_whitespace());
    tag == "latest" && !name.is_empty() && lower(name) && lower(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_may_change_is_pulled_every_time() {
        let cases = [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.14.2", "IfNotPresent"),
            ("example.org:5000/team/app", "Always"),
            ("example.org:5000/team/app:v1", "IfNotPresent"),
            ("app@sha256:0000", "IfNotPresent"),
            ("app:latest@sha256:0000", "Always"),
            ("Not/Valid", "IfNotPresent"),
            ("", "IfNotPresent"),
        ];
        for (image, policy) in cases {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }
}
