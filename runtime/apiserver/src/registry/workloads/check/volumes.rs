//! Volumes: names of their own, and one source each.

use std::collections::BTreeMap;

use kiln_apimachinery::names;
use kiln_apimachinery::path::Path;
use serde_json::Value;

use super::{Report, claim, env, mounts, projected, quantity, remote};
use crate::registry::workloads::view::{get, int, items, text};

/// Good volumes by name.
pub(super) type Volumes<'a> = BTreeMap<&'a str, &'a Value>;

const FILE_MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const HOST_PATHS: &[&str] =
    &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
/// Fields of the pod that a file can show, sorted.
const FIELDS: &[&str] =
    &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
/// All sources, in the order in which they are looked at.
const SOURCES: &[&str] = &[
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
];

/// Checks the volumes of a pod; `owner` is the pod's name, empty for a template.
pub(super) fn check<'a>(spec: &'a Value, owner: &str, is_pod: bool, all: &Path<'_>, r: &mut Report) -> Volumes<'a> {
    let volumes = items(spec, "volumes");
    let mut good = Volumes::new();
    let made = |claim: &str| {
        let ephemeral = |v: &Value| get(v, "ephemeral").is_some() && format!("{owner}-{}", text(v, "name")) == claim;
        !owner.is_empty() && volumes.iter().any(ephemeral)
    };
    for (i, volume) in volumes.iter().enumerate() {
        let path = all.index(i);
        let (name, before) = (text(volume, "name"), r.0.len());
        source(volume, owner, is_pod, &path, r);
        match name {
            "" => r.required(&path.child("name"), ""),
            _ => r.name(&path.child("name"), name, names::dns1123_label),
        }
        if good.contains_key(name) {
            r.duplicate(&path.child("name"), name);
        }
        if r.0.len() == before {
            good.insert(name, volume);
        }
        if let Some(claim) = get(volume, "persistentVolumeClaim").map(|c| text(c, "claimName")).filter(|c| made(c)) {
            let why = "must not reference a PVC that gets created for an ephemeral volume";
            r.invalid(&path.child("persistentVolumeClaim.claimName"), claim, why);
        }
    }
    good
}

fn source(volume: &Value, owner: &str, is_pod: bool, path: &Path<'_>, r: &mut Report) {
    let mut found = false;
    for key in SOURCES {
        let Some(source) = get(volume, key) else { continue };
        if found {
            // Two are spelled otherwise, and clients know them so.
            let shown = match *key {
                "cephfs" => "cephFS",
                "downwardAPI" => "downwarAPI",
                other => other,
            };
            r.forbidden(&path.child(shown), "may not specify more than 1 volume type");
        } else {
            found = true;
            one(key, source, is_pod, path, r);
            if *key == "ephemeral" && !owner.is_empty() && !text(volume, "name").is_empty() {
                let claim = format!("{owner}-{}", text(volume, "name"));
                for why in names::dns1123_subdomain(&claim) {
                    r.invalid(&path.child("name"), text(volume, "name"), &format!("PVC name {claim:?}: {why}"));
                }
            }
        }
        if *key == "iscsi" && get(source, "initiatorName").is_some() {
            let (name, portal) = (text(volume, "name"), text(source, "targetPortal"));
            if name.len() + 1 + portal.len() > 64 {
                let why = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if \
                           iscsi.initiatorName is specified.";
                r.invalid(&path.child("name"), name, why);
            }
        }
    }
    if !found {
        r.required(path, "must specify a volume type");
    }
}

fn one(key: &str, source: &Value, is_pod: bool, volume: &Path<'_>, r: &mut Report) {
    let path = volume.child(if key == "gcePersistentDisk" { "persistentDisk" } else { key });
    match key {
        "emptyDir" => {
            if quantity(source, "sizeLimit").is_some_and(|q| q.is_negative()) {
                r.forbidden(&path.child("sizeLimit"), "SizeLimit field must be a valid resource quantity");
            }
        }
        "hostPath" => host_path(source, &path, r),
        "secret" => {
            r.present(source, "secretName", &path);
            key_files(source, &path, r);
        }
        "configMap" => {
            r.present(source, "name", &path);
            key_files(source, &path, r);
        }
        "persistentVolumeClaim" => r.present(source, "claimName", &path),
        "downwardAPI" => {
            mode(source, "defaultMode", &path, r);
            for file in items(source, "items") {
                shown_file(file, &path, r);
            }
        }
        "projected" => projected::check(source, &path, r),
        "ephemeral" => match get(source, "volumeClaimTemplate") {
            None => r.required(&path.child("volumeClaimTemplate"), ""),
            Some(template) => claim::template(template, &path.child("volumeClaimTemplate"), r),
        },
        "image" => {
            if is_pod {
                r.present(source, "reference", &path);
            }
            let policies = &["Always", "IfNotPresent", "Never"];
            r.one_of(&path.child("pullPolicy"), text(source, "pullPolicy"), policies);
        }
        _ => remote::check(key, source, &path, r),
    }
}

fn host_path(source: &Value, path: &Path<'_>, r: &mut Report) {
    let place = text(source, "path");
    if place.is_empty() {
        return r.required(&path.child("path"), "");
    }
    mounts::no_backsteps(place, &path.child("path"), r);
    if let Some(kind) = get(source, "type").and_then(Value::as_str)
        && !HOST_PATHS.contains(&kind)
    {
        r.unsupported(&path.child("type"), kind, HOST_PATHS);
    }
}

/// Permissions of files.
pub(super) fn mode(source: &Value, key: &str, path: &Path<'_>, r: &mut Report) {
    if let Some(mode) = int(source, key).filter(|m| !(0..=0o777).contains(m)) {
        r.invalid(&path.child(key), mode, FILE_MODE);
    }
}

fn key_files(source: &Value, path: &Path<'_>, r: &mut Report) {
    mode(source, "defaultMode", path, r);
    let all = path.child("items");
    for (i, item) in items(source, "items").iter().enumerate() {
        key_file(item, &all.index(i), r);
    }
}

/// A file with the value of a key.
pub(super) fn key_file(item: &Value, path: &Path<'_>, r: &mut Report) {
    r.present(item, "key", path);
    r.present(item, "path", path);
    mounts::local(text(item, "path"), &path.child("path"), r);
    mode(item, "mode", path, r);
}

/// A file that shows something of the pod.
pub(super) fn shown_file(file: &Value, path: &Path<'_>, r: &mut Report) {
    r.present(file, "path", path);
    mounts::local(text(file, "path"), &path.child("path"), r);
    match (get(file, "fieldRef"), get(file, "resourceFieldRef")) {
        (Some(field), resource) => {
            env::field_ref(field, FIELDS, &path.child("fieldRef"), r);
            if resource.is_some() {
                let why = "fieldRef and resourceFieldRef can not be specified simultaneously";
                r.invalid(path, "resource", why);
            }
        }
        (None, Some(resource)) => env::resource_ref(resource, true, &path.child("resourceFieldRef"), r),
        (None, None) => r.required(path, "one of fieldRef and resourceFieldRef is required"),
    }
    mode(file, "mode", path, r);
}
