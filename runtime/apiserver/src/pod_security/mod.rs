//! The Pod Security Standards, as a namespace's labels ask for them: pods that its level does not allow are refused, and those
//! that make pods are warned of and noted for the audit. In flow pods, what pods are made from, and namespaces whose labels
//! change; out flow refusals, warnings and audit annotations. Who is exempt and what a namespace without labels asks for is in
//! [`PodSecurityConfig`]: by default nobody, and nothing.

mod checks;
mod config;
mod levels;

pub use config::{PodSecurityConfig, PodSecurityError};

use std::collections::{BTreeMap, BTreeSet};

use kiln_apimachinery::{FieldError, Status, meta};
use serde_json::Value;

use self::checks::{Pod, evaluate, told};
use self::levels::{Level, PREFIX, Policy, Standard};
use crate::admission::Plugin;
use crate::audit;
use crate::classes;
use crate::metrics::pod_security::Asked;
use crate::verbs::Cx;

/// Parts of pods whose writes change nothing that is looked at.
const IGNORED: [&str; 8] = ["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];
/// The most pods that are looked at when a namespace asks for another level.
const PODS: usize = 3000;

/// Refuses a valid object that the standards do not allow, or tells of it.
pub(crate) async fn check(cx: &Cx<'_>, new: &Value, old: Option<&Value>) -> Result<(), Status> {
    if !cx.runs(Plugin::PodSecurity) {
        return Ok(());
    }
    let part = cx.info.subresource.as_str();
    match (cx.resource.group.as_str(), cx.resource.plural.as_str(), part) {
        ("", "namespaces", "") => namespace(cx, new, old).await,
        ("", "pods", part) if !IGNORED.contains(&part) => pod(cx, new, old).await,
        ("", "podtemplates", "") => template(cx, &new["template"], old.is_some()).await,
        ("", "replicationcontrollers", "")
        | ("apps", "replicasets" | "deployments" | "statefulsets" | "daemonsets", "")
        | ("batch", "jobs", "") => template(cx, &new["spec"]["template"], old.is_some()).await,
        ("batch", "cronjobs", "") => template(cx, &new["spec"]["jobTemplate"]["spec"]["template"], old.is_some()).await,
        _ => Ok(()),
    }
}

/// A namespace's labels must be right if they are new. Pods that are there stay, and are told of.
async fn namespace(cx: &Cx<'_>, new: &Value, old: Option<&Value>) -> Result<(), Status> {
    let config = &cx.server.config().pod_security;
    let (policy, errors) = Policy::read(&meta::labels(new), config.defaults);
    let before = old.map(|old| Policy::read(&meta::labels(old), config.defaults));
    if !errors.is_empty() && before.as_ref().is_none_or(|(_, known)| *known != errors) {
        return Err(Status::invalid(&cx.resource.gvk(), meta::name(new), &errors));
    }
    let (name, is_exempt) = (meta::name(new), config.is_exempt_namespace(meta::name(new)));
    let Some((before, _)) = before else {
        if is_exempt {
            in_vain(cx, new, &policy);
        }
        return Ok(());
    };
    let (now, before) = (policy.enforce, before.enforce);
    let is_relaxed = now.minor == before.minor && now.level <= before.level;
    if is_relaxed || now.level == Level::Privileged {
        return Ok(());
    }
    if is_exempt {
        in_vain(cx, new, &policy);
        return Ok(());
    }
    let mut pods = classes::all(cx, &format!("/registry/core/pods/{name}/")).await?;
    pods.retain(|pod| !config.is_exempt_runtime(meta::text(pod, &["spec", "runtimeClassName"])));
    warnings(name, now, &pods).into_iter().for_each(|text| cx.warn(text));
    Ok(())
}

/// Warns that an exempt namespace's labels ask for something, unless that is what holds without them.
fn in_vain(cx: &Cx<'_>, namespace: &Value, policy: &Policy) {
    if policy.is_open() || *policy == cx.server.config().pod_security.defaults {
        return;
    }
    let labels = meta::labels(namespace);
    let asked = [("enforce", policy.enforce), ("audit", policy.audit), ("warn", policy.warn)];
    let asked = asked.into_iter().filter(|(mode, standard)| {
        let is_said = ["", "-version"].iter().any(|end| labels.contains_key(format!("{PREFIX}{mode}{end}").as_str()));
        standard.level != Level::Privileged && is_said
    });
    let told: Vec<String> = asked.map(|(mode, standard)| format!("{mode}={standard}")).collect();
    let (name, told) = (meta::name(namespace), told.join(", "));
    cx.warn(format!("namespace {name:?} is exempt from Pod Security, and the policy ({told}) will be ignored"));
}

/// What is to be said of pods that are there when their namespace asks for another level.
fn warnings(namespace: &str, standard: Standard, pods: &[Value]) -> Vec<String> {
    // Pods of one maker are alike: the first of each comes before the others.
    let mut makers = BTreeSet::new();
    let (firsts, others): (Vec<&Value>, Vec<&Value>) =
        pods.iter().partition(|pod| maker(pod).is_none_or(|uid| makers.insert(uid)));
    let mut found: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for pod in firsts.into_iter().chain(others).take(PODS) {
        let findings = evaluate(standard, &Pod { metadata: &pod["metadata"], spec: &pod["spec"] });
        if !findings.is_empty() {
            let reasons: Vec<&str> = findings.iter().map(|finding| finding.reason).collect();
            found.entry(reasons.join(", ")).or_default().insert(meta::name(pod));
        }
    }
    let mut lines: Vec<String> = found
        .into_iter()
        .map(|(reasons, pods)| {
            let first = pods.first().copied().unwrap_or_default();
            match pods.len() {
                1 => format!("{first}: {reasons}"),
                2 => format!("{first} (and 1 other pod): {reasons}"),
                many => format!("{first} (and {} other pods): {reasons}", many - 1),
            }
        })
        .collect();
    lines.sort();
    let mut out = Vec::new();
    if pods.len() > PODS {
        let all = pods.len();
        out.push(format!("new PodSecurity enforce level only checked against the first {PODS} of {all} existing pods"));
    }
    if !lines.is_empty() {
        let what = format!("violate the new PodSecurity enforce level \"{standard}\"");
        out.push(format!("existing pods in namespace {namespace:?} {what}"));
    }
    out.extend(lines);
    out
}

/// The uid of a pod's controller, if it has one.
fn maker(pod: &Value) -> Option<&str> {
    let owners = meta::at(pod, &["metadata", "ownerReferences"]).and_then(Value::as_array)?;
    owners.iter().find(|owner| owner["controller"] == true)?["uid"].as_str()
}

/// What the request's namespace asks for, and what can't be read of it.
async fn asked(cx: &Cx<'_>) -> Result<(Policy, Vec<FieldError>), Status> {
    let found = cx.server.store().read("", "namespaces", "", cx.namespace()).await?;
    let object = found.map(|found| found.object).unwrap_or_default();
    Ok(Policy::read(&meta::labels(&object), cx.server.config().pod_security.defaults))
}

/// Whether who asks, or where, is exempt; that is noted.
fn is_exempt(cx: &Cx<'_>, asked: Asked<'_>) -> bool {
    let config = &cx.server.config().pod_security;
    let why = if config.is_exempt_namespace(cx.namespace()) {
        "namespace"
    } else if config.is_exempt_user(&cx.user.name) {
        "user"
    } else {
        return false;
    };
    exempt(cx, asked, why);
    true
}

fn exempt(cx: &Cx<'_>, asked: Asked<'_>, why: &str) {
    note("exempt", why.to_owned());
    cx.server.metrics().pod_security.exempted(asked);
}

/// Notes labels that can't be read.
fn complain(cx: &Cx<'_>, asked: Asked<'_>, errors: &[FieldError]) {
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    match texts.as_slice() {
        [] => return,
        [one] => note("error", format!("Failed to parse policy: {one}")),
        many => note("error", format!("Failed to parse policy: [{}]", many.join(", "))),
    }
    cx.server.metrics().pod_security.failed(asked);
}

/// Counts an evaluation.
fn count(cx: &Cx<'_>, asked: Asked<'_>, mode: &str, standard: Standard, allowed: bool) {
    let (level, version) = standard.words();
    cx.server.metrics().pod_security.evaluated(asked, mode, (level, &version), allowed);
}

fn note(what: &str, text: String) {
    audit::annotate(&format!("{PREFIX}{what}"), text);
}

async fn pod(cx: &Cx<'_>, new: &Value, old: Option<&Value>) -> Result<(), Status> {
    let request = Asked { is_update: old.is_some(), is_pod: true, subresource: &cx.info.subresource };
    if is_exempt(cx, request) {
        return Ok(());
    }
    let (policy, errors) = asked(cx).await?;
    if errors.is_empty() && policy.is_open() {
        note("enforce-policy", policy.enforce.to_string());
        count(cx, request, "enforce", policy.enforce, true);
        return Ok(());
    }
    if old.is_some_and(|old| !is_other(new, old)) {
        return Ok(());
    }
    let pod = Pod { metadata: &new["metadata"], spec: &new["spec"] };
    if cx.server.config().pod_security.is_exempt_runtime(meta::text(pod.spec, &["runtimeClassName"])) {
        exempt(cx, request, "runtimeClass");
        return Ok(());
    }
    complain(cx, request, &errors);
    note("enforce-policy", policy.enforce.to_string());
    let findings = evaluate(policy.enforce, &pod);
    count(cx, request, "enforce", policy.enforce, findings.is_empty());
    tell(cx, request, &policy, &pod, findings.is_empty());
    if findings.is_empty() {
        return Ok(());
    }
    let why = format!("violates PodSecurity \"{}\": {}", policy.enforce, told(&findings));
    Err(Status::forbidden(&cx.resource.group_resource(), meta::name(new), &why))
}

async fn template(cx: &Cx<'_>, template: &Value, is_update: bool) -> Result<(), Status> {
    let request = Asked { is_update, is_pod: false, subresource: "" };
    if is_exempt(cx, request) {
        return Ok(());
    }
    let (policy, errors) = asked(cx).await?;
    let tells = [policy.audit, policy.warn].iter().any(|standard| standard.level != Level::Privileged);
    if template.is_null() || errors.is_empty() && !tells {
        return Ok(());
    }
    let pod = Pod { metadata: &template["metadata"], spec: &template["spec"] };
    if cx.server.config().pod_security.is_exempt_runtime(meta::text(pod.spec, &["runtimeClassName"])) {
        exempt(cx, request, "runtimeClass");
        return Ok(());
    }
    complain(cx, request, &errors);
    tell(cx, request, &policy, &pod, true);
    Ok(())
}

/// Notes for the audit, and warns unless the request is refused anyway.
fn tell(cx: &Cx<'_>, request: Asked<'_>, policy: &Policy, pod: &Pod<'_>, warns: bool) {
    let would = |mode: &str, standard: Standard| {
        let findings = evaluate(standard, pod);
        if findings.is_empty() {
            return None;
        }
        count(cx, request, mode, standard, false);
        Some(format!("would violate PodSecurity \"{standard}\": {}", told(&findings)))
    };
    if let Some(text) = would("audit", policy.audit) {
        note("audit-violations", text);
    }
    if warns && let Some(text) = would("warn", policy.warn) {
        cx.warn(text);
    }
}

fn list<'a>(pod: &'a Value, name: &str) -> &'a [Value] {
    meta::at(pod, &["spec", name]).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Whether a pod's change brings something that may not be allowed: of what can change those are images, and new containers.
fn is_other(new: &Value, old: &Value) -> bool {
    let is_grown = ["containers", "initContainers"].into_iter().any(|name| {
        let (new, old) = (list(new, name), list(old, name));
        new.len() != old.len() || new.iter().zip(old).any(|(new, old)| new["image"] != old["image"])
    });
    let is_known = |new: &Value| {
        let before = list(old, "ephemeralContainers").iter().find(|old| old["name"] == new["name"]);
        before.is_some_and(|old| old["image"] == new["image"])
    };
    is_grown || !list(new, "ephemeralContainers").iter().all(is_known)
}
