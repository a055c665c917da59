//! Services: defaults, and what goes when the type changes. Addresses and ports are given in `allocate`.

use kiln_apimachinery::names::{self, NameRule};
use kiln_apimachinery::{FieldError, meta};
use serde_json::{Value, json};

use super::service_rules;
use crate::registry::strategy::{Strategy, Writer, default_to, put, split_status};

/// How long a client stays with its endpoint, if the Service does not say.
const AFFINITY_SECONDS: i64 = 10800;

pub(crate) struct Services;

impl Strategy for Services {
    fn name_rule(&self) -> NameRule {
        names::dns1123_label
    }

    fn default(&self, object: &mut Value) {
        meta::child(object, "spec");
        let Some(spec) = object.get_mut("spec") else { return };
        default_to(spec, "type", "ClusterIP");
        default_to(spec, "sessionAffinity", "None");
        match meta::text(spec, &["sessionAffinity"]) {
            "None" => put(spec, "sessionAffinityConfig", None),
            "ClientIP" if spec.pointer("/sessionAffinityConfig/clientIP/timeoutSeconds").is_none() => {
                let config = json!({"clientIP": {"timeoutSeconds": AFFINITY_SECONDS}});
                put(spec, "sessionAffinityConfig", Some(config));
            }
            _ => {}
        }
        for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
            default_to(port, "protocol", "TCP");
            let number = port.get("port").cloned().unwrap_or_else(|| 0.into());
            if port.get("targetPort").is_none_or(|t| t.is_null() || *t == 0 || *t == "") {
                put(port, "targetPort", Some(number));
            }
        }
        if is_reached_from_outside(spec) {
            default_to(spec, "externalTrafficPolicy", "Cluster");
        }
        if meta::text(spec, &["type"]) != "ExternalName" {
            default_to(spec, "internalTrafficPolicy", "Cluster");
        }
        let balanced = meta::text(spec, &["type"]) == "LoadBalancer";
        if balanced {
            default_to(spec, "allocateLoadBalancerNodePorts", true);
        }
        let status = meta::child(object, "status");
        status.entry("loadBalancer").or_insert_with(|| json!({}));
        let ingress = object.pointer_mut("/status/loadBalancer/ingress").and_then(Value::as_array_mut);
        for entry in ingress.into_iter().flatten().filter(|e| balanced && !meta::text(e, &["ip"]).is_empty()) {
            default_to(entry, "ipMode", "VIP");
        }
    }

    fn prepare_create(&self, _writer: &Writer<'_>, object: &mut Value) {
        put(object, "status", Some(json!({"loadBalancer": {}})));
    }

    fn prepare_update(&self, writer: &Writer<'_>, new: &mut Value, old: &Value) {
        split_status(writer, new, old);
        if writer.subresource.is_empty() {
            drop_for_type(new, old);
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        service_rules::validate(object, None)
    }

    fn validate_write(&self, writer: &Writer<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        if writer.subresource == "status" {
            return service_rules::balancer_status(new, Some(old));
        }
        let mut errors = service_rules::validate_update(new, old);
        errors.extend(service_rules::validate(new, Some(old)));
        errors
    }
}

/// True for a Service (by its spec) that someone outside of the cluster may reach.
pub(super) fn is_reached_from_outside(spec: &Value) -> bool {
    let kind = meta::text(spec, &["type"]);
    let has_ips = spec.get("externalIPs").and_then(Value::as_array).is_some_and(|a| !a.is_empty());
    matches!(kind, "NodePort" | "LoadBalancer") || (kind == "ClusterIP" && has_ips)
}

/// What the old type needed and the new one can't have goes, unless the writer changed it: who changes the type alone should
/// not have to know all that hangs on it.
fn drop_for_type(new: &mut Value, old: &Value) {
    let (Some(was), Some(spec)) = (old.get("spec"), new.get_mut("spec")) else { return };
    let needs_ip = |s: &Value| meta::text(s, &["type"]) != "ExternalName";
    let needs_ports = |s: &Value| matches!(meta::text(s, &["type"]), "NodePort" | "LoadBalancer");
    let balanced = |s: &Value| meta::text(s, &["type"]) == "LoadBalancer";
    let needs_check = |s: &Value| balanced(s) && meta::text(s, &["externalTrafficPolicy"]) == "Local";
    let lost = |needs: &dyn Fn(&Value) -> bool, spec: &Value| needs(was) && !needs(spec);
    if lost(&needs_ip, spec) {
        let same = |key: &str, spec: &Value| was.get(key) == spec.get(key);
        if same("clusterIP", spec) && same("clusterIPs", spec) {
            put(spec, "clusterIP", None);
            put(spec, "clusterIPs", None);
        }
        for key in ["ipFamilies", "ipFamilyPolicy"] {
            if same(key, spec) {
                put(spec, key, None);
            }
        }
    }
    if lost(&needs_ports, spec) {
        let numbers = |s: &Value| -> Vec<i64> {
            let ports = s.get("ports").and_then(Value::as_array).into_iter().flatten();
            ports.filter_map(|p| p.get("nodePort").and_then(Value::as_i64)).filter(|n| *n != 0).collect()
        };
        let had = numbers(was);
        if numbers(spec).iter().all(|n| had.contains(n)) {
            for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
                put(port, "nodePort", None);
            }
        }
    }
    for (needs, key) in [
        (&needs_check as &dyn Fn(&Value) -> bool, "healthCheckNodePort"),
        (&balanced, "allocateLoadBalancerNodePorts"),
        (&balanced, "loadBalancerClass"),
        (&is_reached_from_outside, "externalTrafficPolicy"),
    ] {
        if lost(needs, spec) && was.get(key) == spec.get(key) {
            put(spec, key, None);
        }
    }
    if !balanced(spec) {
        meta::child(new, "status").insert("loadBalancer".into(), json!({}));
    }
}
