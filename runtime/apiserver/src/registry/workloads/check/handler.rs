//! What is done to a container: probes, and hooks at its start and end.

use kiln_apimachinery::path::Path;
use serde_json::Value;

use super::{Report, words};
use crate::registry::workloads::view::{get, int, items, text};

const PROBES: &[&str] = &["exec", "httpGet", "tcpSocket", "grpc"];
const HOOKS: &[&str] = &["exec", "httpGet", "tcpSocket", "sleep"];
/// All probes of a container.
pub(super) fn probes(container: &Value, path: &Path<'_>, r: &mut Report) {
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = get(container, key) else { continue };
        let path = path.child(key);
        handler(probe, PROBES, None, &path, r);
        for key in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
            r.nonnegative(probe, key, &path);
        }
        let grace = int(probe, "terminationGracePeriodSeconds");
        let grace_at = path.child("terminationGracePeriodSeconds");
        if let Some(seconds) = grace.filter(|s| *s <= 0) {
            r.invalid(&grace_at, seconds, "must be greater than 0");
        }
        if key == "readinessProbe" {
            if let Some(seconds) = grace {
                r.invalid(&grace_at, seconds, "must not be set for readinessProbes");
            }
        } else if let Some(n) = int(probe, "successThreshold").filter(|n| *n != 1) {
            r.invalid(&path.child("successThreshold"), n, "must be 1");
        }
    }
}

/// The hooks of a container. `grace` is how long its pod has to end.
pub(super) fn lifecycle(container: &Value, spec: &Value, path: &Path<'_>, r: &mut Report) {
    let Some(lifecycle) = get(container, "lifecycle") else { return };
    let path = path.child("lifecycle");
    for key in ["postStart", "preStop"] {
        if let Some(hook) = get(lifecycle, key) {
            handler(hook, HOOKS, int(spec, "terminationGracePeriodSeconds"), &path.child(key), r);
        }
    }
}

fn handler(handler: &Value, kinds: &[&str], grace: Option<i64>, path: &Path<'_>, r: &mut Report) {
    let mut found = false;
    for kind in kinds {
        let Some(action) = get(handler, kind) else { continue };
        let path = path.child(kind);
        if found {
            r.forbidden(&path, "may not specify more than 1 handler type");
            continue;
        }
        found = true;
        match *kind {
            "exec" if items(action, "command").is_empty() => r.required(&path.child("command"), ""),
            "httpGet" => http_get(action, &path, r),
            "tcpSocket" | "grpc" => r.port_or_name(action.get("port"), &path.child("port")),
            "sleep" => {
                let seconds = int(action, "seconds").unwrap_or(0);
                if let Some(grace) = grace.filter(|g| seconds < 0 || seconds > *g) {
                    let why = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
                    r.invalid(&path, seconds, &why);
                }
            }
            _ => {}
        }
    }
    if !found {
        r.required(path, "must specify a handler type");
    }
}

fn http_get(action: &Value, path: &Path<'_>, r: &mut Report) {
    r.present(action, "path", path);
    r.port_or_name(action.get("port"), &path.child("port"));
    let scheme = text(action, "scheme");
    if !matches!(scheme, "HTTP" | "HTTPS") {
        r.unsupported(&path.child("scheme"), scheme, &["HTTP", "HTTPS"]);
    }
    for header in items(action, "httpHeaders") {
        r.name(&path.child("httpHeaders"), text(header, "name"), words::header);
    }
}
