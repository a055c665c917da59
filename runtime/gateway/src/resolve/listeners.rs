//! Gateways and their listeners.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::references::{self, Wrong};
use super::{Condition, GatewayOutcome, ListenerOutcome, View};
use crate::GROUP;
use crate::objects::{Gateway, Listener};

/// The protocol that a port has been given by an older Gateway.
type Ports = BTreeMap<u16, bool>;

/// Resolves Gateways, the oldest first: of two that want a port for different protocols it has it.
pub(super) fn resolve(view: &View<'_>, gateways: Vec<Arc<Gateway>>) -> Vec<GatewayOutcome> {
    let mut ports = Ports::new();
    gateways.into_iter().map(|gateway| of_gateway(view, gateway, &mut ports)).collect()
}

fn of_gateway(view: &View<'_>, gateway: Arc<Gateway>, ports: &mut Ports) -> GatewayOutcome {
    let conflicts = conflicts(&gateway.spec.listeners);
    let mut listeners = Vec::with_capacity(gateway.spec.listeners.len());
    for (at, listener) in gateway.spec.listeners.iter().enumerate() {
        let conflict = conflicts.get(&at).cloned().or_else(|| {
            let is_tls = listener.protocol == "HTTPS";
            let other = ports.get(&listener.port).is_some_and(|known| *known != is_tls);
            other.then(|| ("ProtocolConflict", "another Gateway has the port for another protocol".to_owned()))
        });
        let outcome = of_listener(view, &gateway.metadata.namespace, listener, conflict);
        if outcome.is_programmed {
            ports.insert(outcome.port, outcome.is_tls);
        }
        listeners.push(outcome);
    }
    let is_well = |listener: &ListenerOutcome| {
        listener.conditions.iter().all(|condition| condition.is_true != (condition.kind == "Conflicted"))
    };
    let is_accepted = |listener: &ListenerOutcome| {
        listener.conditions.iter().any(|condition| condition.kind == "Accepted" && condition.is_true)
    };
    let infrastructure = gateway.spec.infrastructure.as_ref();
    let accepted = if infrastructure.is_some_and(|settings| settings.parameters_ref.is_some()) {
        Condition::new("Accepted", false, "InvalidParameters", "no kind of parameters is supported")
    } else if !gateway.spec.addresses.is_empty() {
        Condition::new(
            "Accepted",
            false,
            "UnsupportedAddress",
            "a Gateway has the addresses of the nodes and no others",
        )
    } else if listeners.iter().all(is_well) {
        Condition::new("Accepted", true, "Accepted", "the Gateway is served")
    } else {
        // Some that are wrong do not keep the others from being served.
        Condition::new(
            "Accepted",
            listeners.iter().any(is_accepted),
            "ListenersNotValid",
            "not all listeners are valid",
        )
    };
    if !accepted.is_true {
        for listener in &mut listeners {
            listener.is_programmed = false;
            for condition in listener.conditions.iter_mut().filter(|condition| condition.kind == "Programmed") {
                *condition = Condition::new("Programmed", false, "Invalid", "the Gateway is not accepted");
            }
        }
    }
    GatewayOutcome { gateway, accepted, listeners }
}

/// Listeners of one Gateway that are in each other's way.
fn conflicts(listeners: &[Listener]) -> BTreeMap<usize, Wrong> {
    let mut found = BTreeMap::new();
    for (at, one) in listeners.iter().enumerate() {
        let mut others = listeners.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, other)| other);
        let same_port = |other: &&Listener| other.port == one.port && is_tcp(&other.protocol) == is_tcp(&one.protocol);
        let hostname = |listener: &Listener| listener.hostname.clone().unwrap_or_default().to_ascii_lowercase();
        if others.clone().filter(same_port).any(|other| other.protocol != one.protocol) {
            let text = format!("port {} is wanted for several protocols", one.port);
            found.insert(at, ("ProtocolConflict", text));
        } else if others.any(|other| same_port(&other) && hostname(other) == hostname(one)) {
            found.insert(at, ("HostnameConflict", format!("port {} has several listeners for the hostname", one.port)));
        }
    }
    found
}

fn is_tcp(protocol: &str) -> bool {
    protocol != "UDP"
}

fn of_listener(view: &View<'_>, namespace: &str, listener: &Listener, conflict: Option<Wrong>) -> ListenerOutcome {
    let is_tls = listener.protocol == "HTTPS";
    let is_http = is_tls || listener.protocol == "HTTP";
    let tls = listener.tls.as_ref().filter(|_| is_tls);
    let mode = tls.and_then(|tls| tls.mode.as_deref()).unwrap_or("Terminate");
    let accepted = if !is_http || mode != "Terminate" {
        let what = if is_http { mode } else { listener.protocol.as_str() };
        Condition::new("Accepted", false, "UnsupportedProtocol", format!("{what} is not supported"))
    } else if view.world.is_free(listener.port, is_tls) {
        Condition::new("Accepted", true, "Accepted", "the listener is accepted")
    } else {
        let text = format!("port {} of the nodes serves something else", listener.port);
        Condition::new("Accepted", false, "PortUnavailable", text)
    };
    let kinds = &listener.allowed_routes.kinds;
    let is_route = |group: Option<&str>, kind: &str| group.unwrap_or(GROUP) == GROUP && kind == "HTTPRoute";
    let (known, unknown): (BTreeSet<_>, BTreeSet<_>) = kinds
        .iter()
        .map(|kind| (kind.group.as_deref(), kind.kind.as_str()))
        .partition(|(group, kind)| is_route(*group, kind));
    let takes_routes = is_http && (kinds.is_empty() || !known.is_empty());
    let mut wrong: Option<Wrong> = None;
    let mut certificates = Vec::new();
    if is_tls {
        let references = tls.map(|tls| tls.certificate_refs.as_slice()).unwrap_or_default();
        for reference in references {
            match references::certificate(view, namespace, reference) {
                Ok(secret) => certificates.push(secret),
                Err(why) => wrong = wrong.or(Some(why)),
            }
        }
        if references.is_empty() {
            wrong = Some(("InvalidCertificateRef", "no certificate is named".to_owned()));
        }
    }
    if let Some((_, kind)) = unknown.first() {
        wrong = wrong.or_else(|| Some(("InvalidRouteKinds", format!("routes of the kind {kind} can't be attached"))));
    }
    let resolved = match &wrong {
        None => Condition::new("ResolvedRefs", true, "ResolvedRefs", "all references are resolved"),
        Some((reason, text)) => Condition::new("ResolvedRefs", false, reason, text.as_str()),
    };
    let conflicted = match &conflict {
        None => Condition::new("Conflicted", false, "NoConflicts", "no other listener is in its way"),
        Some((reason, text)) => Condition::new("Conflicted", true, reason, text.as_str()),
    };
    let is_programmed = accepted.is_true && conflict.is_none() && takes_routes && (!is_tls || !certificates.is_empty());
    let programmed = if is_programmed {
        Condition::new("Programmed", true, "Programmed", "the listener is served")
    } else {
        Condition::new(
            "Programmed",
            false,
            "Invalid",
            "the listener is not served, for the reason that another condition tells",
        )
    };
    ListenerOutcome {
        name: listener.name.clone(),
        port: listener.port,
        is_tls,
        hostname: listener.hostname.as_deref().unwrap_or_default().to_ascii_lowercase(),
        certificates,
        takes_routes,
        is_programmed,
        conditions: vec![accepted, conflicted, resolved, programmed],
        attached: 0,
    }
}
