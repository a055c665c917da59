//! What is allowed and yet seldom meant, told in `Warning` headers: deprecated fields and labels, what hides something else,
//! amounts that are no whole bytes. In flow objects that are valid, in stored form, with the one that was there before an
//! update; out flow sentences. Nothing here refuses or changes anything.

mod addresses;
mod containers;
mod custom;
mod network;
mod overlaps;
mod pod;
mod secret;
mod storage;

use kiln_apimachinery::quantity::Quantity;
use kiln_apimachinery::{meta, names};
use serde_json::Value;

use crate::registry::Resource;

pub(crate) use pod::{app_armor, app_armor_profile};

/// What is to be said of a kind whatever is done with it.
pub(crate) fn of_kind(resource: &Resource) -> Option<String> {
    if let Some(custom) = &resource.custom {
        return custom.deprecation.clone();
    }
    let text = match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "endpoints") => Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"),
        ("", "componentstatuses") => Some("v1 ComponentStatus is deprecated in v1.19+"),
        _ => None,
    };
    text.map(str::to_owned)
}

/// What is to be said of a new object.
pub(crate) fn of_new(resource: &Resource, object: &Value) -> Vec<String> {
    let mut out = Vec::new();
    if resource.custom.is_some() {
        custom::finalizers(object, None, &mut out);
        return out;
    }
    let spec = object.get("spec").unwrap_or(&Value::Null);
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => {
            label(object, "the Pod's hostname", &mut out);
            pod::check("", object, &mut out);
        }
        ("", "podtemplates") => template("template.", object.get("template"), &mut out),
        ("apps", "daemonsets") => template("spec.template.", spec.get("template"), &mut out),
        ("apps", "statefulsets") => {
            template("spec.template.", spec.get("template"), &mut out);
            claims("", object, &mut out);
        }
        ("", "replicationcontrollers") | ("apps", "deployments" | "replicasets") => {
            label(object, "Pod names and hostnames", &mut out);
            template("spec.template.", spec.get("template"), &mut out);
        }
        ("batch", "jobs") => {
            label(object, "Pod names and hostnames", &mut out);
            job("spec", object.get("spec"), &mut out);
        }
        ("batch", "cronjobs") => {
            label(object, "Pod names and hostnames", &mut out);
            job("spec.jobTemplate.spec", meta::at(object, &["spec", "jobTemplate", "spec"]), &mut out);
        }
        ("networking.k8s.io", "ingresses") => network::ingress(object, &mut out),
        ("apiextensions.k8s.io", _) => custom::definition(object, None, &mut out),
        ("discovery.k8s.io", "endpointslices") => {
            if meta::text(object, &["addressType"]) == "FQDN" {
                out.push("spec.addressType: FQDN endpoints are deprecated".into());
            }
            network::slice(object, &mut out);
        }
        ("", "resourcequotas") => quota(object, &mut out),
        ("storage.k8s.io", "csidrivers") => storage::driver(object, None, &mut out),
        _ => any_state(resource, object, &mut out),
    }
    out
}

/// What is to be said of a change.
pub(crate) fn of_change(resource: &Resource, subresource: &str, new: &Value, old: &Value) -> Vec<String> {
    let mut out = Vec::new();
    if resource.custom.is_some() {
        if subresource.is_empty() {
            custom::finalizers(new, Some(old), &mut out);
        }
        return out;
    }
    let spec = new.get("spec").unwrap_or(&Value::Null);
    let generation = |o: &Value| meta::at(o, &["metadata", "generation"]).cloned();
    let changed = generation(new) != generation(old);
    match (resource.group.as_str(), resource.plural.as_str(), subresource) {
        ("", "pods", "status") => network::pod_status(new, &mut out),
        ("", "services", "status") | ("networking.k8s.io", "ingresses", "status") => network::balancer(new, &mut out),
        // People don't change pods, and programs do so often.
        ("", "pods" | "podtemplates", _) | (_, _, "status") => {}
        ("apiextensions.k8s.io", _, _) => custom::definition(new, Some(old), &mut out),
        ("apps", "daemonsets", _) => {
            let before = meta::at(old, &["spec", "template"]);
            template("spec.template.", spec.get("template").filter(|t| Some(*t) != before), &mut out);
        }
        ("apps", "deployments" | "replicasets", _) => {
            template("spec.template.", spec.get("template").filter(|_| changed), &mut out);
        }
        ("", "replicationcontrollers", _) => {
            let before = meta::at(old, &["spec", "template"]);
            template("spec.template.", before.filter(|_| changed), &mut out);
        }
        ("apps", "statefulsets", _) => {
            template("spec.template.", spec.get("template").filter(|_| changed), &mut out);
            claims(".Spec", new, &mut out);
        }
        ("batch", "jobs", _) => job("spec", new.get("spec").filter(|_| changed), &mut out),
        ("batch", "cronjobs", _) => {
            let path = "spec.jobTemplate.spec";
            job(path, meta::at(new, &["spec", "jobTemplate", "spec"]).filter(|_| changed), &mut out);
            if meta::text(spec, &["schedule"]).contains("TZ") {
                out.push(
                    "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see \
                     https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
                        .into(),
                );
            }
        }
        ("discovery.k8s.io", "endpointslices", _) => network::slice(new, &mut out),
        ("storage.k8s.io", "csidrivers", _) => storage::driver(new, Some(old), &mut out),
        (_, _, "") => any_state(resource, new, &mut out),
        _ => {}
    }
    out
}

/// What is said of a state, new or not.
fn any_state(resource: &Resource, object: &Value, out: &mut Vec<String>) {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "services") => network::service(object, out),
        ("", "endpoints") => network::endpoints(object, out),
        ("", "nodes") => network::node(object, out),
        ("", "secrets") => secret::check(object, out),
        ("", "persistentvolumes") => storage::volume(object, out),
        ("", "persistentvolumeclaims") => storage::claim(object, out),
        ("networking.k8s.io", "networkpolicies") => network::policy(object, out),
        ("storage.k8s.io", "storageclasses") => storage::class(object, out),
        ("storage.k8s.io", "csistoragecapacities") => storage::capacity(object, out),
        ("node.k8s.io", "runtimeclasses") => {
            let labels = meta::string_map(meta::at(object, &["scheduling", "nodeSelector"]));
            let told = labels.keys().filter_map(|key| deprecated_label(key));
            out.extend(told.map(|why| format!("scheduling.nodeSelector: {why}")));
        }
        ("resource.k8s.io", "resourceslices") => {
            let driver = meta::text(object, &["spec", "driver"]);
            if driver.chars().any(char::is_uppercase) {
                out.push(format!(
                    "spec.driver: driver names should be lowercase; {driver:?} contains uppercase characters"
                ));
            }
        }
        ("admissionregistration.k8s.io", _) if meta::name(object).ends_with(STATIC) => out.push(format!(
            "metadata.name: names ending with {STATIC:?} are reserved for static manifest-based configurations and cannot be \
             managed via the API"
        )),
        _ => {}
    }
}

/// The end of names of what files on the server's disk say.
const STATIC: &str = ".static.k8s.io";

fn items<'a>(object: &'a Value, path: &[&str]) -> &'a [Value] {
    meta::at(object, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// True if the field is there.
fn has(object: &Value, key: &str) -> bool {
    object.get(key).is_some_and(|v| !v.is_null())
}

/// A name that becomes a part of a host's should be a label.
fn label(object: &Value, used_in: &str, out: &mut Vec<String>) {
    let why = names::dns1123_label(meta::name(object));
    if !why.is_empty() {
        out.push(format!(
            "metadata.name: this is used in {used_in}, which can result in surprising behavior; a DNS label is recommended: [{}]",
            why.join(" ")
        ));
    }
}

fn template(path: &str, template: Option<&Value>, out: &mut Vec<String>) {
    if let Some(template) = template {
        pod::check(path, template, out);
    }
}

fn job(path: &str, spec: Option<&Value>, out: &mut Vec<String>) {
    let Some(spec) = spec else { return };
    let number = |key: &str| spec.get(key).and_then(Value::as_i64).unwrap_or(0);
    let indexed = meta::text(spec, &["completionMode"]) == "Indexed";
    if indexed && number("completions") > 100_000 && number("parallelism") > 10_000 {
        out.push(format!(
            "{path}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, \
             Kubernetes might not be able to track completedIndexes when a big number of indexes fail"
        ));
    }
    template(&format!("{path}.template."), spec.get("template"), out);
}

fn claims(suffix: &str, set: &Value, out: &mut Vec<String>) {
    for (i, claim) in items(set, &["spec", "volumeClaimTemplates"]).iter().enumerate() {
        storage::claim_spec(&format!("spec.volumeClaimTemplates[{i}]{suffix}"), claim.get("spec"), out);
    }
    if meta::at(set, &["spec", "revisionHistoryLimit"]).and_then(Value::as_i64).is_some_and(|n| n < 0) {
        out.push(
            "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended"
                .into(),
        );
    }
}

fn quota(quota: &Value, out: &mut Vec<String>) {
    let amount = |name: &str| {
        let amount = meta::at(quota, &["spec", "hard", name])?;
        Quantity::from_value(amount).ok().map(|q| (name.to_owned(), q))
    };
    for name in ["cpu", "memory", "storage", "ephemeral-storage"] {
        let bare = || if matches!(name, "cpu" | "memory") { amount(name) } else { None };
        let request = amount(&format!("requests.{name}")).or_else(bare);
        if let (Some((request, asked)), Some((limit, most))) = (request, amount(&format!("limits.{name}")))
            && asked > most
        {
            out.push(format!("ResourceQuota {request} ({asked}) should be less than {limit} ({most})"));
        }
    }
}

/// Amounts of bytes that are no whole ones.
fn fractional(path: &str, list: Option<&Value>, names: &[&str], out: &mut Vec<String>) {
    let Some(list) = list else { return };
    for name in names {
        let amount = list.get(*name).and_then(|v| Quantity::from_value(v).ok());
        if let Some(amount) = amount.filter(|a| a.milli_value() % 1000 != 0) {
            out.push(format!("{path}[{name}]: fractional byte value \"{amount}\" is invalid, must be an integer"));
        }
    }
}

/// Why a label of nodes is not to be used any more.
fn deprecated_label(key: &str) -> Option<&'static str> {
    Some(match key {
        "beta.kubernetes.io/arch" => "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
        "beta.kubernetes.io/os" => "deprecated since v1.14; use \"kubernetes.io/os\" instead",
        "failure-domain.beta.kubernetes.io/region" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead"
        }
        "failure-domain.beta.kubernetes.io/zone" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"
        }
        "beta.kubernetes.io/instance-type" => {
            "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"
        }
        "app.kubernetes.io/created-by" => "deprecated since v1.9",
        "scheduler.alpha.kubernetes.io/preferAvoidPods" => "deprecated since v1.22; use Taints and Tolerations instead",
        "node-role.kubernetes.io/master" => "use \"node-role.kubernetes.io/control-plane\" instead",
        _ => return None,
    })
}

/// A term that selects nodes; `values` says whether the values are looked at.
fn node_term(path: &str, term: &Value, values: bool, out: &mut Vec<String>) {
    for (i, expression) in items(term, &["matchExpressions"]).iter().enumerate() {
        let key = meta::text(expression, &["key"]);
        if let Some(why) = deprecated_label(key) {
            out.push(format!("{path}.matchExpressions[{i}].key: {key} is {why}"));
        }
        for (at, value) in meta::strings(expression.get("values")).into_iter().enumerate().filter(|_| values) {
            let told = names::label_value(value).into_iter();
            out.extend(told.map(|why| format!("{path}.matchExpressions[{i}].values[{at}]: {value} is invalid, {why}")));
        }
    }
}
