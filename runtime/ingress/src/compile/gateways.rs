//! HTTPRoutes as rules, and the certificates of Gateways' listeners.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use k8s_openapi::api::core::v1::Service;
use kiln_apimachinery::duration;
use kiln_client::{ObjectRef, Store};
use kiln_gateway::{
    BackendRef, Filter, HeaderModifier, HttpRoute, Match, NameValue, PathModifier, Rule, Stores, Timeouts, World,
};

use super::Compiler;
use super::backends::{Key, PortRef};
use super::rules::Pass;
use crate::annotations::Settings;
use crate::routes::{
    Action, Builder, Conditions, Cors, Gateways, HeaderChanges, Mirror, Path, PathChange, Redirect, Retry, Route, Share,
};
use crate::upstream::Backend;

/// The longest a request may take that has no limit.
const UNLIMITED: Duration = Duration::from_secs(86_400);

/// A certificate of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Certificate {
    /// The names that it is for; the certificate's own ones if it is empty, and all that have none.
    pub(super) hostname: String,
    pub(super) secret: ObjectRef,
}

/// What a node knows of the cluster beside the API's objects. What is wrong with Secrets and ports is told by whoever writes the
/// statuses; here what there is is used.
struct Known<'a>(&'a Store<Service>);

impl World for Known<'_> {
    fn has_port(&self, service: &ObjectRef, port: u16) -> Option<bool> {
        let service = self.0.get(service)?;
        let mut ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
        Some(ports.any(|known| known.port == i32::from(port)))
    }

    fn has_certificate(&self, _: &ObjectRef) -> bool {
        true
    }

    fn is_free(&self, _: u16, _: bool) -> bool {
        true
    }
}

impl Compiler {
    pub(super) fn certificates_of_gateways(&self) -> MutexGuard<'_, Vec<Certificate>> {
        self.certificates_of_gateways.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// Adds the rules of all routes that are attached to a listener. Answers the Services that they refer to.
    pub(super) fn gateways(&mut self, builder: &mut Builder) -> HashSet<ObjectRef> {
        let (mut ports, mut certificates, mut services) = (BTreeMap::new(), Vec::new(), HashSet::new());
        if let Some(stores) = self.compiler.mirrors.stores() {
            let resolved = kiln_gateway::resolve(&stores, &Known(&self.compiler.services));
            for listener in resolved.gateways.iter().flat_map(|gateway| &gateway.listeners) {
                if listener.is_programmed {
                    ports.insert(listener.port, listener.is_tls);
                    // Also one without routes keeps requests from others.
                    builder.gateways.listener((listener.port, listener.is_tls), &listener.hostname);
                    certificates.extend(
                        listener
                            .certificates
                            .iter()
                            .map(|secret| Certificate { hostname: listener.hostname.clone(), secret: secret.clone() }),
                    );
                }
            }
            for outcome in resolved.routes.iter().filter(|outcome| !outcome.attached.is_empty()) {
                let compiled = self.route(&outcome.route, &stores, &mut services);
                for attached in &outcome.attached {
                    let listener = &resolved.gateways[attached.gateway].listeners[attached.listener];
                    if !listener.is_programmed {
                        continue;
                    }
                    let place = (listener.port, listener.is_tls);
                    let rules = builder.gateways.listener(place, &listener.hostname);
                    for hostname in &attached.hostnames {
                        for (one, route) in &compiled {
                            let Some(conditions) = conditions(one) else { continue };
                            Gateways::add(rules, hostname, path(one), conditions, route);
                        }
                    }
                }
            }
        }
        self.compiler.ports.send_if_modified(|known| std::mem::replace(known, ports.clone()) != ports);
        *self.compiler.certificates_of_gateways() = certificates;
        services
    }

    /// The rules of a route, one for each of their matches.
    fn route(
        &mut self,
        route: &HttpRoute,
        stores: &Stores,
        services: &mut HashSet<ObjectRef>,
    ) -> Vec<(Match, Arc<Route>)> {
        let namespace = &route.metadata.namespace;
        let mut settings = HashMap::<Duration, Arc<Settings>>::new();
        let mut compiled = Vec::new();
        for rule in &route.spec.rules {
            let mut action = action(&rule.filters);
            for backend in rule.backends() {
                let place = backend.namespace.as_ref().unwrap_or(namespace);
                services.insert(ObjectRef::namespaced(place.as_str(), backend.name.as_str()));
            }
            action.shares = rule.backend_refs.iter().map(|backend| self.share(namespace, backend, stores)).collect();
            action.mirrors = rule.mirrors().filter_map(|mirror| self.mirror(namespace, mirror, stores)).collect();
            action.retry = retry(rule);
            let limit = limit(rule);
            let settings = settings.entry(limit).or_insert_with(|| {
                let default = Settings::default();
                Arc::new(Settings { read_timeout: limit, ..default })
            });
            let route = Arc::new(Route {
                settings: settings.clone(),
                main: None,
                canaries: Vec::new(),
                action: Some(Box::new(action)),
            });
            if rule.matches.is_empty() {
                compiled.push((Match::default(), route));
            } else {
                compiled.extend(rule.matches.iter().map(|one| (one.clone(), route.clone())));
            }
        }
        compiled
    }

    fn share(&mut self, namespace: &str, reference: &BackendRef, stores: &Stores) -> Share {
        let changes = action(&reference.filters);
        Share {
            weight: reference.weight.unwrap_or(1),
            backend: self.named(namespace, reference, stores),
            request: changes.request,
            response: changes.response,
        }
    }

    fn mirror(&mut self, namespace: &str, mirror: &kiln_gateway::Mirror, stores: &Stores) -> Option<Mirror> {
        let (numerator, denominator) = mirror.share();
        Some(Mirror { backend: self.named(namespace, &mirror.backend_ref, stores)?, numerator, denominator })
    }

    /// What a reference leads to; none if that is not there or may not be named.
    fn named(&mut self, namespace: &str, reference: &BackendRef, stores: &Stores) -> Option<Arc<Backend>> {
        let grants = stores.grants.list();
        let grants = grants.iter().map(|grant| &**grant);
        let target = kiln_gateway::backend(&Known(&self.compiler.services), grants, namespace, reference).ok()?;
        let port = PortRef::Number(i32::from(target.port));
        Some(self.of_key(Key { service: target.service, port, protocol: None }))
    }
}

fn path(one: &Match) -> Path<'_> {
    let path = one.path.as_ref();
    let value = path.and_then(|path| path.value.as_deref()).unwrap_or("/");
    match path.and_then(|path| path.kind.as_deref()) {
        Some("Exact") => Path::Exact(value),
        _ => Path::Prefix(value),
    }
}

/// What a match asks for besides host and path; none if it can be true of no request.
fn conditions(one: &Match) -> Option<Conditions> {
    let mut conditions = Conditions {
        method: one.method.as_ref().map(|method| method.parse::<Method>()).transpose().ok()?,
        ..Conditions::default()
    };
    // Of several for one name the first holds.
    for header in &one.headers {
        let name = header.name.parse::<HeaderName>().ok()?;
        if conditions.headers.iter().all(|(known, _)| *known != name) {
            conditions.headers.push((name, header.value.as_str().into()));
        }
    }
    for parameter in &one.query_params {
        if conditions.parameters.iter().all(|(known, _)| **known != parameter.name) {
            conditions.parameters.push((parameter.name.as_str().into(), parameter.value.as_str().into()));
        }
    }
    Some(conditions)
}

/// What filters do.
fn action(filters: &[Filter]) -> Action {
    let mut action = Action::default();
    for filter in filters {
        if let Some(changes) = &filter.request_header_modifier {
            action.request = changes_of(changes);
        }
        if let Some(changes) = &filter.response_header_modifier {
            action.response = changes_of(changes);
        }
        if let Some(redirect) = &filter.request_redirect {
            let status = redirect.status_code.and_then(|code| StatusCode::from_u16(code).ok());
            action.redirect = Some(Redirect {
                scheme: redirect.scheme.as_deref().map(Box::from),
                host: redirect.hostname.as_deref().map(Box::from),
                port: redirect.port,
                path: redirect.path.as_ref().and_then(path_change),
                status: status.unwrap_or(StatusCode::FOUND),
            });
        }
        if let Some(cors) = &filter.cors {
            action.cors = Some(Cors::new(cors));
        }
        if let Some(rewrite) = &filter.url_rewrite {
            action.host = rewrite.hostname.as_ref().and_then(|host| HeaderValue::from_str(host).ok());
            action.path = rewrite.path.as_ref().and_then(path_change);
        }
    }
    action
}

fn path_change(change: &PathModifier) -> Option<PathChange> {
    match change.kind.as_str() {
        "ReplaceFullPath" => change.replace_full_path.as_deref().map(|with| PathChange::Whole(with.into())),
        _ => change.replace_prefix_match.as_deref().map(|with| PathChange::Prefix(with.into())),
    }
}

fn changes_of(changes: &HeaderModifier) -> HeaderChanges {
    let pairs = |all: &[NameValue]| -> Vec<(HeaderName, HeaderValue)> {
        all.iter().filter_map(|one| Some((one.name.parse().ok()?, one.value.parse().ok()?))).collect()
    };
    HeaderChanges {
        set: pairs(&changes.set),
        add: pairs(&changes.add),
        remove: changes.remove.iter().filter_map(|name| name.parse().ok()).collect(),
    }
}

/// How long the head of an answer may take.
fn limit(rule: &Rule) -> Duration {
    let Some(Timeouts { request, backend_request }) = &rule.timeouts else { return Settings::default().read_timeout };
    shortest([request, backend_request])
}

/// The shortest of limits.
fn shortest<'a>(limits: impl IntoIterator<Item = &'a Option<String>>) -> Duration {
    let limits = limits.into_iter().flatten().filter_map(|text| duration::parse_unsigned(text).ok());
    // Zero is no limit.
    limits.filter(|limit| !limit.is_zero()).min().unwrap_or(UNLIMITED)
}

/// When requests are sent again; once and at once if the rule leaves that open.
fn retry(rule: &Rule) -> Option<Retry> {
    let kiln_gateway::Retry { codes, attempts, backoff } = rule.retry.as_ref()?;
    Some(Retry {
        codes: codes.clone(),
        attempts: attempts.unwrap_or(1),
        backoff: backoff.as_deref().and_then(|text| duration::parse_unsigned(text).ok()).unwrap_or_default(),
        within: shortest(rule.timeouts.iter().map(|timeouts| &timeouts.request)),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_shortest_timeout_of_a_rule_counts_and_zero_is_none() {
        let rows = [
            (json!({}), Settings::default().read_timeout),
            (json!({"timeouts": {"request": "1h30m"}}), Duration::from_secs(5_400)),
            (json!({"timeouts": {"request": "10s", "backendRequest": "2s500ms"}}), Duration::from_millis(2_500)),
            (json!({"timeouts": {"request": "0s", "backendRequest": "10s"}}), Duration::from_secs(10)),
            (json!({"timeouts": {"request": "0s"}}), UNLIMITED),
            (json!({"timeouts": {"request": "1d"}}), UNLIMITED),
        ];
        for (rule, expected) in rows {
            assert_eq!(limit(&serde_json::from_value(rule.clone()).unwrap()), expected, "{rule}");
        }
    }
}
