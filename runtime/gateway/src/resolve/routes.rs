//! HTTPRoutes: where they are attached, and whether what they refer to is there.

use std::collections::BTreeMap;
use std::sync::Arc;

use kiln_apimachinery::selector::LabelSelector;
use serde_json::Value;

use super::references;
use super::{Attached, Condition, GatewayOutcome, ListenerOutcome, ParentOutcome, RouteOutcome, View};
use crate::GROUP;
use crate::hostname::intersection;
use crate::objects::{Filter, HttpRoute, Listener, ParentRef, Rule};

/// Filters that are carried out.
const FILTERS: [&str; 6] =
    ["CORS", "RequestHeaderModifier", "RequestMirror", "RequestRedirect", "ResponseHeaderModifier", "URLRewrite"];

/// Resolves routes, and counts them at their listeners.
pub(super) fn resolve(
    view: &View<'_>,
    gateways: &mut [GatewayOutcome],
    routes: Vec<Arc<HttpRoute>>,
) -> Vec<RouteOutcome> {
    let places: BTreeMap<(String, String), usize> = gateways
        .iter()
        .enumerate()
        .map(|(at, one)| ((one.gateway.metadata.namespace.clone(), one.gateway.metadata.name.clone()), at))
        .collect();
    let mut outcomes = Vec::new();
    for route in routes {
        let mut outcome = RouteOutcome { route, parents: Vec::new(), attached: Vec::new() };
        let route = outcome.route.clone();
        for parent in &route.spec.parent_refs {
            let is_gateway = parent.group.as_deref().unwrap_or(GROUP) == GROUP
                && parent.kind.as_deref().unwrap_or("Gateway") == "Gateway";
            let namespace = parent.namespace.as_ref().unwrap_or(&route.metadata.namespace);
            let place = is_gateway.then(|| places.get(&(namespace.clone(), parent.name.clone()))).flatten();
            let Some(&at) = place else { continue };
            let accepted = match attach(view, &route, parent, &gateways[at]) {
                Ok(found) => {
                    for (listener, hostnames) in found {
                        gateways[at].listeners[listener].attached += 1;
                        outcome.attached.push(Attached { gateway: at, listener, hostnames });
                    }
                    Condition::new("Accepted", true, "Accepted", "the route is attached")
                }
                Err((reason, text)) => Condition::new("Accepted", false, reason, text),
            };
            let resolved = references(view, &route);
            outcome.parents.push(ParentOutcome { parent: parent.clone(), accepted, resolved });
        }
        if !outcome.parents.is_empty() {
            outcomes.push(outcome);
        }
    }
    outcomes
}

/// A listener, by its place in the Gateway, and the hosts that a route has there.
type Place = (usize, Vec<String>);
/// Why a route is not attached: the condition's reason and message.
type Refused = (&'static str, String);

/// The listeners of a Gateway that a route is attached to by one of its references, each with the hosts.
fn attach(
    view: &View<'_>,
    route: &HttpRoute,
    parent: &ParentRef,
    outcome: &GatewayOutcome,
) -> Result<Vec<Place>, Refused> {
    if let Some(text) = unsupported(&route.spec.rules) {
        return Err(("UnsupportedValue", text));
    }
    let own = &outcome.gateway.metadata.namespace;
    let all = outcome.gateway.spec.listeners.iter().zip(&outcome.listeners).enumerate();
    let named: Vec<(usize, (&Listener, &ListenerOutcome))> = all
        .filter(|(_, (listener, _))| {
            parent.section_name.as_ref().is_none_or(|name| *name == listener.name)
                && parent.port.is_none_or(|port| port == listener.port)
        })
        .collect();
    if named.is_empty() {
        return Err(("NoMatchingParent", "the Gateway has no such listener".to_owned()));
    }
    let mut allowed = named
        .into_iter()
        .filter(|(_, (listener, outcome))| {
            outcome.takes_routes && lets_in(view, listener, own, &route.metadata.namespace)
        })
        .peekable();
    if allowed.peek().is_none() {
        return Err(("NotAllowedByListeners", "no listener takes HTTPRoutes of this namespace".to_owned()));
    }
    let found: Vec<Place> = allowed
        .filter_map(|(at, (_, outcome))| {
            let hostnames = hostnames(&outcome.hostname, &route.spec.hostnames);
            (!hostnames.is_empty()).then_some((at, hostnames))
        })
        .collect();
    if found.is_empty() {
        return Err(("NoMatchingListenerHostname", "no listener is for any of the route's hostnames".to_owned()));
    }
    Ok(found)
}

fn hostnames(listener: &str, route: &[String]) -> Vec<String> {
    if route.is_empty() {
        return vec![listener.to_owned()];
    }
    route.iter().filter_map(|hostname| intersection(listener, hostname)).collect()
}

/// Whether a listener of a Gateway in a namespace takes routes of another.
fn lets_in(view: &View<'_>, listener: &Listener, own: &str, namespace: &str) -> bool {
    let namespaces = &listener.allowed_routes.namespaces;
    match namespaces.from.as_deref().unwrap_or("Same") {
        "All" => true,
        "Same" => own == namespace,
        "Selector" => {
            let (Some(selector), Some(labels)) = (&namespaces.selector, view.namespaces.get(namespace)) else {
                return false;
            };
            matches(selector, labels)
        }
        _ => false,
    }
}

fn matches(selector: &Value, labels: &BTreeMap<String, String>) -> bool {
    let labels = labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    LabelSelector::from_object(selector).is_ok_and(|selector| selector.matches(&labels))
}

/// The first thing in rules that is not carried out here: a route that has one is not served at all, rather than otherwise than it says.
fn unsupported(rules: &[Rule]) -> Option<String> {
    let is_expression = |kind: Option<&String>| kind.is_some_and(|kind| kind == "RegularExpression");
    for rule in rules {
        if rule.session_persistence.is_some() {
            return Some("sessionPersistence is not supported".to_owned());
        }
        let filters = rule.filters.iter().chain(rule.backend_refs.iter().flat_map(|backend| &backend.filters));
        if let Some(filter) = filters.into_iter().find(|filter| !FILTERS.contains(&filter.kind.as_str())) {
            return Some(format!("the filter {} is not supported", filter.kind));
        }
        for one in &rule.matches {
            let path = one.path.as_ref().and_then(|path| path.kind.as_ref());
            let mut values = one.headers.iter().chain(&one.query_params);
            if is_expression(path) || values.any(|value| is_expression(value.kind.as_ref())) {
                return Some("regular expressions are not supported".to_owned());
            }
        }
        let of_backends = rule.backend_refs.iter().flat_map(|backend| &backend.filters);
        if let Some(filter) = of_backends.into_iter().find(|filter| !is_of_headers(filter)) {
            return Some(format!("the filter {} is not supported for a backend", filter.kind));
        }
    }
    None
}

fn is_of_headers(filter: &Filter) -> bool {
    matches!(filter.kind.as_str(), "RequestHeaderModifier" | "ResponseHeaderModifier")
}

/// Whether all backends are there and may be referred to.
fn references(view: &View<'_>, route: &HttpRoute) -> Condition {
    let namespace = &route.metadata.namespace;
    for backend in route.spec.rules.iter().flat_map(Rule::backends) {
        let grants = view.grants.iter().map(|grant| &**grant);
        if let Err((reason, text)) = references::backend(view.world, grants, namespace, backend) {
            return Condition::new("ResolvedRefs", false, reason, text);
        }
    }
    Condition::new("ResolvedRefs", true, "ResolvedRefs", "all references are resolved")
}
