//! Service accounts: a pod runs as one, and gets its token unless it wants none; Secrets that hold tokens get them.

use std::time::Duration;

use kiln_apimachinery::{Status, meta};
use serde_json::{Value, json};

use super::Plugin;
use crate::authn::accounts::legacy;
use crate::authz::node::references;
use crate::verbs::{Cx, errors};

/// Where containers find the token.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// What the volume's name begins with.
const VOLUME: &str = "kube-api-access-";
const DEFAULT: &str = "default";
/// An account with this annotation lets its pods name the Secrets only that it lists.
const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";
/// The pods of static manifests carry it.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// How long a pod waits for the account of a namespace that has just been made.
const PATIENCE: Duration = Duration::from_secs(1);

pub(crate) async fn create(cx: &Cx<'_>, object: &mut Value) -> Result<(), Status> {
    let resource = &cx.resource;
    if !cx.runs(Plugin::ServiceAccount) || !resource.group.is_empty() || !cx.info.subresource.is_empty() {
        return Ok(());
    }
    match resource.plural.as_str() {
        "secrets" => legacy::fill(cx.server, cx.namespace(), object).await,
        "pods" => pod(cx, object).await,
        "serviceaccounts" => {
            warn(cx, object, None);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Before an update: containers that are added to a running pod name allowed Secrets only.
pub(crate) async fn update(cx: &Cx<'_>, new: &Value, old: &Value) -> Result<(), Status> {
    let resource = &cx.resource;
    if !cx.runs(Plugin::ServiceAccount) {
        return Ok(());
    }
    if resource.group.is_empty() && resource.plural == "serviceaccounts" {
        warn(cx, new, Some(old));
    }
    if !resource.group.is_empty() || resource.plural != "pods" || cx.info.subresource != "ephemeralcontainers" {
        return Ok(());
    }
    let account = find(cx, new).await?;
    limited(&account, new, &[("ephemeralContainers", "ephemeral container")]).map_err(|why| refuse(cx, new, &why))
}

/// Tells who limits an account's Secrets that there are better ways.
fn warn(cx: &Cx<'_>, new: &Value, old: Option<&Value>) {
    let limited = |o: &Value| meta::annotation(o, ENFORCE).is_some();
    if limited(new) && !old.is_some_and(limited) {
        cx.warn(format!(
            "metadata.annotations[{ENFORCE}]: deprecated in v1.32+; prefer separate namespaces to isolate access to \
             mounted secrets"
        ));
    }
}

fn refuse(cx: &Cx<'_>, pod: &Value, why: &str) -> Status {
    Status::forbidden(&cx.resource.group_resource(), meta::name(pod), why)
}

async fn pod(cx: &Cx<'_>, pod: &mut Value) -> Result<(), Status> {
    if meta::annotation(pod, MIRROR).is_some() {
        return mirror(pod).map_err(|why| refuse(cx, pod, why));
    }
    if meta::text(pod, &["spec", "serviceAccountName"]).is_empty() {
        let spec = meta::child(pod, "spec");
        for key in ["serviceAccount", "serviceAccountName"] {
            spec.insert(key.into(), DEFAULT.into());
        }
    }
    let account = find(cx, pod).await?;
    let automount = |o: &Value, path: &[&str]| meta::at(o, path).and_then(Value::as_bool);
    let mounts = automount(pod, &["spec", "automountServiceAccountToken"])
        .or_else(|| automount(&account, &["automountServiceAccountToken"]));
    if mounts.unwrap_or(true) {
        mount(pod)?;
    }
    if list(pod, "imagePullSecrets").is_empty() {
        let names = account.get("imagePullSecrets").and_then(Value::as_array).into_iter().flatten();
        let copied: Vec<Value> = names.map(|s| json!({"name": meta::text(s, &["name"])})).collect();
        if !copied.is_empty() {
            meta::child(pod, "spec").insert("imagePullSecrets".into(), copied.into());
        }
    }
    let kinds = [("initContainers", "init container"), ("containers", "container")];
    limited(&account, pod, &kinds).map_err(|why| refuse(cx, pod, &why))
}

fn list<'a>(pod: &'a Value, key: &str) -> &'a [Value] {
    meta::at(pod, &["spec", key]).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The rules for pods of static manifests, which must not give their node anything.
fn mirror(pod: &Value) -> Result<(), &'static str> {
    if !meta::text(pod, &["spec", "serviceAccountName"]).is_empty() {
        return Err("a mirror pod may not reference service accounts");
    }
    if !references::secrets(pod).is_empty() {
        return Err("a mirror pod may not reference secrets");
    }
    if !references::token_audiences(pod).is_empty() {
        return Err("a mirror pod may not use ServiceAccountToken volume projections");
    }
    Ok(())
}

/// The pod's account. That of a new namespace is about to come.
async fn find(cx: &Cx<'_>, pod: &Value) -> Result<Value, Status> {
    let (namespace, name) = (cx.namespace(), meta::text(pod, &["spec", "serviceAccountName"]));
    let store = cx.server.store();
    if let Some(found) = store.read("", "serviceaccounts", namespace, name).await? {
        return Ok(found.object);
    }
    if name == DEFAULT
        && wait(cx, namespace).await?
        && let Some(found) = store.read("", "serviceaccounts", namespace, name).await?
    {
        return Ok(found.object);
    }
    let why = format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found");
    Err(refuse(cx, pod, &why))
}

/// True once the namespace's default account is there; false if it does not come.
async fn wait(cx: &Cx<'_>, namespace: &str) -> Result<bool, Status> {
    let storage = cx.server.storage();
    let Some(resource) = cx.server.registry().any_version("", "serviceaccounts") else { return Ok(false) };
    let key = resource.key(namespace, DEFAULT);
    let mut watch = storage.watch(&key, storage.current_revision()).map_err(errors::storage)?;
    // It may have come between the look and the watch.
    if storage.get(&key).await.map_err(errors::storage)?.is_some() {
        return Ok(true);
    }
    // The prefix is that of other names as well.
    let come = async {
        while let Some(event) = watch.next().await {
            if event.record.key.as_ref() == key {
                return true;
            }
        }
        false
    };
    Ok(tokio::time::timeout(PATIENCE, come).await.unwrap_or(false))
}

/// Mounts the token in every container that has nothing at its place.
fn mount(pod: &mut Value) -> Result<(), Status> {
    let known = list(pod, "volumes").iter().map(|v| meta::text(v, &["name"])).find(|n| n.starts_with(VOLUME));
    let known = known.map(str::to_owned);
    let name = match &known {
        Some(name) => name.clone(),
        None => meta::generated_name(VOLUME).map_err(Status::internal)?,
    };
    let mut needed = false;
    let spec = meta::child(pod, "spec");
    for kind in ["initContainers", "containers"] {
        for container in spec.get_mut(kind).and_then(Value::as_array_mut).into_iter().flatten() {
            let Some(container) = container.as_object_mut() else { continue };
            let mounts = container.entry("volumeMounts").or_insert_with(|| json!([]));
            let Some(mounts) = mounts.as_array_mut() else { continue };
            if mounts.iter().all(|m| meta::text(m, &["mountPath"]) != MOUNT_PATH) {
                mounts.push(json!({"mountPath": MOUNT_PATH, "name": name, "readOnly": true}));
                needed = true;
            }
        }
    }
    if known.is_none() && needed {
        let volumes = spec.entry("volumes").or_insert_with(|| json!([]));
        if let Some(volumes) = volumes.as_array_mut() {
            volumes.push(volume(&name));
        }
    }
    Ok(())
}

/// Token, CA and namespace, as clients expect them.
fn volume(name: &str) -> Value {
    let namespace = json!({"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}, "path": "namespace"});
    json!({
        "name": name,
        "projected": {
            "defaultMode": 0o644,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                {"configMap": {"items": [{"key": "ca.crt", "path": "ca.crt"}], "name": "kube-root-ca.crt"}},
                {"downwardAPI": {"items": [namespace]}},
            ],
        },
    })
}

/// The rule of accounts that list the Secrets their pods may name.
fn limited(account: &Value, pod: &Value, kinds: &[(&str, &str)]) -> Result<(), String> {
    let enforced = meta::annotation(account, ENFORCE);
    if !enforced.is_some_and(|v| matches!(v, "1" | "t" | "T" | "true" | "TRUE" | "True")) {
        return Ok(());
    }
    let owner = meta::name(account);
    let listed = |key: &str, name: &str| {
        let all = account.get(key).and_then(Value::as_array).into_iter().flatten();
        all.map(|s| meta::text(s, &["name"])).any(|n| n == name)
    };
    let reject = |place: String, name: &str, what: &str| {
        Err(format!("{place}=\"{name}\" is not allowed because service account {owner} does not reference that {what}"))
    };
    for (kind, word) in kinds {
        for container in list(pod, kind) {
            let word = format!("{word} {}", meta::text(container, &["name"]));
            for env in container.get("env").and_then(Value::as_array).into_iter().flatten() {
                let name = meta::text(env, &["valueFrom", "secretKeyRef", "name"]);
                if !name.is_empty() && !listed("secrets", name) {
                    let variable = meta::text(env, &["name"]);
                    let place = format!("{word} with envVar {variable} referencing secret.secretName");
                    return reject(place, name, "secret");
                }
            }
            for env in container.get("envFrom").and_then(Value::as_array).into_iter().flatten() {
                let name = meta::text(env, &["secretRef", "name"]);
                if !name.is_empty() && !listed("secrets", name) {
                    return reject(format!("{word} with envFrom referencing secret.secretName"), name, "secret");
                }
            }
        }
    }
    if kinds.iter().any(|(kind, _)| *kind == "containers") {
        for volume in list(pod, "volumes") {
            let name = meta::text(volume, &["secret", "secretName"]);
            if !name.is_empty() && !listed("secrets", name) {
                return reject("volume with secret.secretName".into(), name, "secret");
            }
        }
        for (i, pull) in list(pod, "imagePullSecrets").iter().enumerate() {
            let name = meta::text(pull, &["name"]);
            if !listed("imagePullSecrets", name) {
                return reject(format!("imagePullSecrets[{i}].name"), name, "imagePullSecret");
            }
        }
    }
    Ok(())
}
