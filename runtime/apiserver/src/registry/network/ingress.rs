//! Ingresses and IngressClasses.

use kiln_apimachinery::path::Path;
use kiln_apimachinery::{FieldError, meta, names};
use serde_json::{Value, json};

use crate::registry::rules::{self, Errors, domain, given, host_name, list, name, net, number, required_name, text};
use crate::registry::strategy::{Strategy, Writer, default_to, put};

const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const PATH_TYPES: &[&str] = &["Exact", "ImplementationSpecific", "Prefix"];
/// Parts that a path may not have, since proxies disagree about them.
const BAD_PARTS: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
const BAD_ENDS: [&str; 2] = ["/..", "/."];

pub(crate) struct Ingresses;

impl Strategy for Ingresses {
    fn default(&self, object: &mut Value) {
        meta::child(object, "spec");
    }

    fn prepare_create(&self, _writer: &Writer<'_>, object: &mut Value) {
        put(object, "status", Some(json!({"loadBalancer": {}})));
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = validate(object);
        let class = meta::at(object, &["spec", "ingressClassName"]).and_then(Value::as_str);
        if let (Some(annotation), Some(class)) = (meta::annotation(object, CLASS_ANNOTATION), class)
            && annotation != class
        {
            let why = "must match `ingressClassName` when both are specified";
            errors.push(FieldError::invalid(format!("annotations.{CLASS_ANNOTATION}"), &annotation.into(), why));
        }
        errors
    }

    fn validate_write(&self, writer: &Writer<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        if writer.subresource == "status" { validate_status(new, old) } else { validate(new) }
    }
}

fn validate(object: &Value) -> Errors {
    let mut errors = Errors::new();
    let Some(spec) = object.get("spec") else { return errors };
    let path = Path::new("spec");
    if list(spec, "rules").is_empty() && given(spec, "defaultBackend").is_none() {
        let shown = spec.get("rules").unwrap_or(&Value::Null);
        errors.push(FieldError::invalid(path, shown, "either `defaultBackend` or `rules` must be specified"));
    }
    if let Some(default) = given(spec, "defaultBackend") {
        backend(&path.child("defaultBackend"), default, &mut errors);
    }
    let rules_path = path.child("rules");
    for (i, rule) in list(spec, "rules").iter().enumerate() {
        let path = rules_path.index(i);
        host(&path.child("host"), text(rule, "host"), &mut errors);
        if let Some(http) = given(rule, "http") {
            http_rule(&path.child("http"), http, &mut errors);
        }
    }
    let tls_path = path.child("tls");
    for (i, tls) in list(spec, "tls").iter().enumerate() {
        let path = tls_path.index(i);
        let hosts = path.child("hosts");
        for (h, host) in meta::strings(tls.get("hosts")).into_iter().enumerate() {
            let rule = if host.contains('*') { domain::wildcard } else { names::dns1123_subdomain };
            name(&hosts.index(h), host, rule, &mut errors);
        }
        let secret = text(tls, "secretName");
        if !secret.is_empty() {
            name(&path.child("secretName"), secret, names::dns1123_subdomain, &mut errors);
        }
    }
    if let Some(class) = given(spec, "ingressClassName").and_then(Value::as_str) {
        name(&path.child("ingressClassName"), class, names::dns1123_subdomain, &mut errors);
    }
    errors
}

fn host(path: &Path<'_>, host: &str, errors: &mut Errors) {
    if host.is_empty() {
        return;
    }
    if kiln_apimachinery::net::parse_ip_loosely(host).is_some() {
        errors.push(FieldError::invalid(path, &host.into(), "must be a DNS name, not an IP address"));
    }
    name(path, host, if host.contains('*') { domain::wildcard } else { names::dns1123_subdomain }, errors);
}

fn http_rule(path: &Path<'_>, http: &Value, errors: &mut Errors) {
    let paths = path.child("paths");
    if list(http, "paths").is_empty() {
        errors.push(FieldError::required(paths, ""));
    }
    for (i, entry) in list(http, "paths").iter().enumerate() {
        let at = paths.index(i);
        let value = text(entry, "path");
        let value_path = at.child("path");
        let mut complain = |why: &str| errors.push(FieldError::invalid(value_path, &value.into(), why));
        let absolute = value.starts_with('/');
        match given(entry, "pathType").and_then(Value::as_str) {
            None => {
                errors.push(FieldError::required(at.child("pathType"), "pathType must be specified"));
                continue;
            }
            Some("Exact" | "Prefix") => {
                if !absolute {
                    complain("must be an absolute path");
                }
                for part in BAD_PARTS.iter().filter(|p| value.contains(**p)) {
                    complain(&format!("must not contain '{part}'"));
                }
                for end in BAD_ENDS.iter().filter(|e| value.ends_with(**e)) {
                    complain(&format!("cannot end with '{end}'"));
                }
            }
            Some("ImplementationSpecific") => {
                if !value.is_empty() && !absolute {
                    complain("must be an absolute path");
                }
            }
            Some(other) => rules::one_of(&at.child("pathType"), other, PATH_TYPES, errors),
        }
        backend(&at.child("backend"), entry.get("backend").unwrap_or(&Value::Null), errors);
    }
}

fn backend(path: &Path<'_>, backend: &Value, errors: &mut Errors) {
    match (given(backend, "resource"), given(backend, "service")) {
        (Some(_), Some(_)) => {
            errors.push(FieldError::invalid(path, &"".into(), "cannot set both resource and service backends"));
        }
        (Some(resource), None) => reference(&path.child("resource"), resource, errors),
        (None, Some(service)) => {
            required_name(&path.child("service.name"), text(service, "name"), names::dns1123_label, errors);
            let port = service.get("port").unwrap_or(&Value::Null);
            match (text(port, "name"), number(port, "number")) {
                ("", 0) => errors.push(FieldError::required(path, "port name or number is required")),
                ("", n) => net::port(&path.child("service.port.number"), n, errors),
                (port_name, 0) => name(&path.child("service.port.name"), port_name, net::port_name, errors),
                _ => errors.push(FieldError::invalid(path, &"".into(), "cannot set both port name & port number")),
            }
        }
        (None, None) => {
            errors.push(FieldError::invalid(path, &"".into(), "resource or service backend is required"));
        }
    }
}

/// Group, kind and name of another object.
fn reference(path: &Path<'_>, reference: &Value, errors: &mut Errors) {
    if let Some(group) = given(reference, "apiGroup").and_then(Value::as_str) {
        name(&path.child("apiGroup"), group, names::dns1123_subdomain, errors);
    }
    required_name(&path.child("kind"), text(reference, "kind"), names::path_segment, errors);
    required_name(&path.child("name"), text(reference, "name"), names::path_segment, errors);
}

fn validate_status(new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    let entries = |o: &Value| o.pointer("/status/loadBalancer/ingress").and_then(Value::as_array).cloned();
    let known = entries(old).unwrap_or_default();
    let known: Vec<&str> = known.iter().map(|e| text(e, "ip")).filter(|ip| !ip.is_empty()).collect();
    let path = Path::new("status.loadBalancer.ingress");
    for (i, entry) in entries(new).unwrap_or_default().iter().enumerate() {
        let path = path.index(i);
        let (ip, host) = (text(entry, "ip"), text(entry, "hostname"));
        if !ip.is_empty() {
            net::ip(&path.child("ip"), ip, &known, &mut errors);
        }
        if !host.is_empty() {
            host_name(&path.child("hostname"), host, &mut errors);
        }
    }
    errors
}

pub(crate) struct IngressClasses;

/// Longest name of a controller.
const MAX_CONTROLLER: usize = 250;

impl Strategy for IngressClasses {
    fn default(&self, object: &mut Value) {
        meta::child(object, "spec");
        if let Some(parameters) = object.pointer_mut("/spec/parameters").filter(|p| p.is_object()) {
            default_to(parameters, "scope", "Cluster");
        }
    }

    fn prepare_update(&self, _writer: &Writer<'_>, _new: &mut Value, _old: &Value) {}

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let Some(spec) = object.get("spec") else { return errors };
        let controller = text(spec, "controller");
        let path = Path::new("spec.controller");
        if controller.len() > MAX_CONTROLLER {
            errors.push(FieldError::too_long(path, MAX_CONTROLLER));
        }
        domain::prefixed_path(&path, controller, &mut errors);
        if let Some(parameters) = given(spec, "parameters") {
            let path = Path::new("spec.parameters");
            reference(&path, parameters, &mut errors);
            class_scope(&path, parameters, &mut errors);
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let controller = |o: &Value| meta::at(o, &["spec", "controller"]).cloned();
        rules::immutable(
            &Path::new("spec.controller"),
            controller(new).as_ref(),
            controller(old).as_ref(),
            &mut errors,
        );
        errors
    }
}

fn class_scope(path: &Path<'_>, parameters: &Value, errors: &mut Errors) {
    let namespace = given(parameters, "namespace").and_then(Value::as_str);
    match (text(parameters, "scope"), namespace) {
        ("Namespace", None) => {
            let why = "`parameters.scope` is set to 'Namespace'";
            errors.push(FieldError::required(path.child("namespace"), why));
        }
        ("Namespace", Some(namespace)) => name(&path.child("namespace"), namespace, names::dns1123_label, errors),
        ("Cluster", Some(_)) => {
            errors.push(FieldError::forbidden(path.child("namespace"), "`parameters.scope` is set to 'Cluster'"));
        }
        ("Cluster", None) => {}
        (other, _) => rules::required_one_of(&path.child("scope"), other, &["Cluster", "Namespace"], errors),
    }
}
