//! Statuses as JSON.

use std::collections::BTreeSet;
use std::net::IpAddr;

use kiln_gateway::{CONTROLLER, Condition, GROUP, GatewayClass, GatewayOutcome, HttpRoute, ParentOutcome};
use serde_json::{Value, json};

/// What of the API's features is served, for its conformance tests to know.
const FEATURES: [&str; 28] = [
    "Gateway",
    "GatewayHTTPListenerIsolation",
    "GatewayPort8080",
    "HTTPRoute",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteBackendProtocolH2C",
    "HTTPRouteBackendProtocolWebSocket",
    "HTTPRouteBackendRequestHeaderModification",
    "HTTPRouteBackendTimeout",
    "HTTPRouteCORS",
    "HTTPRouteDestinationPortMatching",
    "HTTPRouteHostRewrite",
    "HTTPRouteMethodMatching",
    "HTTPRouteNamedRouteRule",
    "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect",
    "HTTPRoutePathRewrite",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteRequestMirror",
    "HTTPRouteRequestMultipleMirrors",
    "HTTPRouteRequestPercentageMirror",
    "HTTPRouteRequestTimeout",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteSchemeRedirect",
    "ReferenceGrant",
];

/// Conditions as they are to be told. The time is that of the last change of the condition's own status.
fn conditions(conditions: &[Condition], old: &Value, generation: i64, now: &str) -> Value {
    let told = old.as_array().map(Vec::as_slice).unwrap_or_default();
    let condition = |new: &Condition| {
        let status = if new.is_true { "True" } else { "False" };
        let known = told.iter().find(|known| known["type"] == new.kind && known["status"] == status);
        let since = known.and_then(|known| known["lastTransitionTime"].as_str()).unwrap_or(now);
        json!({
            "type": new.kind,
            "status": status,
            "reason": new.reason,
            "message": new.message,
            "observedGeneration": generation,
            "lastTransitionTime": since,
        })
    };
    conditions.iter().map(condition).collect()
}

fn condition(kind: &'static str, is_true: bool, reason: &'static str, message: &str) -> Condition {
    Condition { kind, is_true, reason, message: message.to_owned() }
}

pub(super) fn of_class(class: &GatewayClass, now: &str) -> Value {
    let accepted = if class.spec.parameters_ref.is_some() {
        condition("Accepted", false, "InvalidParameters", "no kind of parameters is supported")
    } else {
        condition("Accepted", true, "Accepted", "Gateways of this class are served")
    };
    let features: Vec<Value> = FEATURES.iter().map(|name| json!({"name": name})).collect();
    json!({
        "conditions": conditions(&[accepted], &class.status["conditions"], class.metadata.generation, now),
        "supportedFeatures": features,
    })
}

pub(super) fn of_gateway(outcome: &GatewayOutcome, addresses: &BTreeSet<IpAddr>, now: &str) -> Value {
    let GatewayOutcome { gateway, accepted, listeners } = outcome;
    let (old, generation) = (&gateway.status, gateway.metadata.generation);
    let programmed = if !accepted.is_true || listeners.iter().all(|listener| !listener.is_programmed) {
        condition("Programmed", false, "Invalid", "no listener is served")
    } else if addresses.is_empty() {
        condition("Programmed", false, "AddressNotAssigned", "no node that serves Gateways is ready")
    } else {
        condition("Programmed", true, "Programmed", "the Gateway is served")
    };
    let told = old["listeners"].as_array().map(Vec::as_slice).unwrap_or_default();
    let listeners: Vec<Value> = listeners
        .iter()
        .map(|listener| {
            let known = told.iter().find(|known| known["name"] == *listener.name);
            let known = known.map_or(&Value::Null, |known| &known["conditions"]);
            let kinds = if listener.takes_routes { json!([{"group": GROUP, "kind": "HTTPRoute"}]) } else { json!([]) };
            json!({
                "name": listener.name,
                "supportedKinds": kinds,
                "attachedRoutes": listener.attached,
                "conditions": conditions(&listener.conditions, known, generation, now),
            })
        })
        .collect();
    let addresses: Vec<Value> =
        addresses.iter().map(|ip| json!({"type": "IPAddress", "value": ip.to_string()})).collect();
    json!({
        "addresses": addresses,
        "conditions": conditions(&[accepted.clone(), programmed], &old["conditions"], generation, now),
        "listeners": listeners,
    })
}

/// The status of a route; none if it has nothing to do with our Gateways. What other controllers told stays.
pub(super) fn of_route(route: &HttpRoute, outcomes: &[ParentOutcome], now: &str) -> Option<Value> {
    if outcomes.is_empty() && !super::is_told(route) {
        return None;
    }
    let told = route.status["parents"].as_array().map(Vec::as_slice).unwrap_or_default();
    let (ours, others): (Vec<&Value>, Vec<&Value>) =
        told.iter().partition(|parent| parent["controllerName"] == CONTROLLER);
    let mut parents: Vec<Value> = others.into_iter().cloned().collect();
    for outcome in outcomes {
        let parent = json!(outcome.parent);
        let known = ours.iter().find(|known| known["parentRef"] == parent);
        let known = known.map_or(&Value::Null, |known| &known["conditions"]);
        let all = [outcome.accepted.clone(), outcome.resolved.clone()];
        parents.push(json!({
            "parentRef": parent,
            "controllerName": CONTROLLER,
            "conditions": conditions(&all, known, route.metadata.generation, now),
        }));
    }
    Some(json!({"parents": parents}))
}
