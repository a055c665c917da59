//! Volumes on other systems' storage.

use kiln_apimachinery::names;
use kiln_apimachinery::path::Path;
use serde_json::Value;

use super::{Report, between, mounts};
use crate::registry::workloads::view::{entries, get, int, is, items, text};

/// Fields that must be there, by source.
const REQUIRED: &[(&str, &[&str])] = &[
    ("gitRepo", &["repository"]),
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("nfs", &["server", "path"]),
    ("iscsi", &["targetPortal", "iqn"]),
    ("glusterfs", &["endpoints", "path"]),
    ("rbd", &["image"]),
    ("cinder", &["volumeID"]),
    ("flexVolume", &["driver"]),
    ("azureFile", &["secretName", "shareName"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("storageos", &["volumeName"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
];
const CACHING: &[&str] = &["None", "ReadOnly", "ReadWrite"];
const DISKS: &[&str] = &["Dedicated", "Managed", "Shared"];
const MANAGED: &str = "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
const BLOB: &str = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";

pub(super) fn check(key: &str, source: &Value, path: &Path<'_>, r: &mut Report) {
    if matches!(key, "rbd" | "cephfs") && items(source, "monitors").is_empty() {
        r.required(&path.child("monitors"), "");
    }
    for (_, fields) in REQUIRED.iter().filter(|(source, _)| *source == key) {
        for field in *fields {
            r.present(source, field, path);
        }
    }
    match key {
        "gitRepo" => mounts::descending(text(source, "directory"), &path.child("directory"), r),
        "gcePersistentDisk" | "awsElasticBlockStore" => {
            if let Some(n) = int(source, "partition").filter(|n| !(0..=255).contains(n)) {
                r.invalid(&path.child("partition"), n, &between(1, 255));
            }
        }
        "nfs" if !text(source, "path").starts_with('/') => {
            r.invalid(&path.child("path"), text(source, "path"), "must be an absolute path");
        }
        "iscsi" => iscsi(source, path, r),
        "fc" => fibre_channel(source, path, r),
        "flocker" => flocker(source, path, r),
        "quobyte" => quobyte(source, path, r),
        "flexVolume" => {
            let options = path.child("options");
            for (option, _) in entries(source, "options") {
                let domain = option.split_once('/').map_or(option, |(domain, _)| domain).to_lowercase();
                let dotted = format!(".{domain}");
                if dotted.ends_with(".kubernetes.io") || dotted.ends_with(".k8s.io") {
                    r.invalid(&options.key(option), option, "kubernetes.io and k8s.io namespaces are reserved");
                }
            }
        }
        "azureDisk" => azure_disk(source, path, r),
        "cinder" => secret_ref(source, path, r),
        "storageos" => {
            for key in ["volumeName", "volumeNamespace"] {
                let name = text(source, key);
                if !name.is_empty() {
                    r.name(&path.child(key), name, names::dns1123_label);
                }
            }
            secret_ref(source, path, r);
        }
        "csi" => csi(source, path, r),
        _ => {}
    }
}

fn secret_ref(source: &Value, path: &Path<'_>, r: &mut Report) {
    if let Some(secret) = get(source, "secretRef") {
        r.present(secret, "name", &path.child("secretRef"));
    }
}

/// What is wrong with the name of an initiator or target.
fn qualified(name: &str) -> Option<&'static str> {
    let hex = |rest: &str, n: usize| rest.len() == n && rest.bytes().all(|b| b.is_ascii_alphanumeric());
    let good = if let Some(rest) = name.strip_prefix("iqn") {
        iqn(rest)
    } else if let Some(rest) = name.strip_prefix("eui") {
        hex(rest.get(1..).unwrap_or_default(), 16)
    } else if let Some(rest) = name.strip_prefix("naa") {
        hex(rest.get(1..).unwrap_or_default(), 32)
    } else {
        return Some("must be valid format starting with iqn, eui, or naa");
    };
    (!good).then_some("must be valid format")
}

/// `.2021-01.com.example:disk`, after the first three letters.
fn iqn(rest: &str) -> bool {
    let Some(rest) = rest.strip_prefix('.') else { return false };
    let bytes = rest.as_bytes();
    let digits = |range: std::ops::Range<usize>| bytes.get(range).is_some_and(|b| b.iter().all(u8::is_ascii_digit));
    let date = digits(0..4) && bytes.get(4) == Some(&b'-') && digits(5..7) && bytes.get(7) == Some(&b'.');
    let Some((authority, name)) = rest.get(8..).and_then(|r| r.split_once(':')) else { return false };
    let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.');
    let odd = |c: char| matches!(c, ',' | ';' | '*' | '&' | '$' | '|') || c.is_whitespace();
    date && !authority.is_empty() && authority.bytes().all(word) && !name.is_empty() && !name.contains(odd)
}

fn iscsi(source: &Value, path: &Path<'_>, r: &mut Report) {
    let target = text(source, "iqn");
    if let Some(why) = qualified(target).filter(|_| !target.is_empty()) {
        r.invalid(&path.child("iqn"), target, why);
    }
    r.range(&path.child("lun"), int(source, "lun").unwrap_or(0), 0, 255);
    if (is(source, "chapAuthDiscovery") || is(source, "chapAuthSession")) && get(source, "secretRef").is_none() {
        r.required(&path.child("secretRef"), "");
    }
    if let Some(name) = get(source, "initiatorName").and_then(Value::as_str)
        && let Some(why) = qualified(name)
    {
        r.invalid(&path.child("initiatorname"), name, why);
    }
}

fn fibre_channel(source: &Value, path: &Path<'_>, r: &mut Report) {
    let (names, ids) = (items(source, "targetWWNs"), items(source, "wwids"));
    let at = path.child("targetWWNs");
    if names.is_empty() && ids.is_empty() {
        r.required(&at, "must specify either targetWWNs or wwids, but not both");
    }
    if !names.is_empty() && !ids.is_empty() {
        r.invalid(&at, names.to_vec(), "targetWWNs and wwids can not be specified simultaneously");
    }
    if !names.is_empty() {
        match int(source, "lun") {
            None => r.required(&path.child("lun"), "lun is required if targetWWNs is specified"),
            Some(lun) => r.range(&path.child("lun"), lun, 0, 255),
        }
    }
}

fn flocker(source: &Value, path: &Path<'_>, r: &mut Report) {
    let (name, uuid) = (text(source, "datasetName"), text(source, "datasetUUID"));
    if name.is_empty() && uuid.is_empty() {
        r.required(path, "one of datasetName and datasetUUID is required");
    }
    if !name.is_empty() && !uuid.is_empty() {
        r.invalid(path, "resource", "datasetName and datasetUUID can not be specified simultaneously");
    }
    if name.contains('/') {
        r.invalid(&path.child("datasetName"), name, "must not contain '/'");
    }
}

fn quobyte(source: &Value, path: &Path<'_>, r: &mut Report) {
    const WHY: &str = "must be a host:port pair or multiple pairs separated by commas";
    let registry = text(source, "registry");
    if registry.is_empty() {
        r.required(&path.child("registry"), WHY);
    } else if text(source, "tenant").len() >= 65 {
        r.required(&path.child("tenant"), "must be a UUID and may not exceed a length of 64 characters");
    } else if registry.split(',').any(|pair| !pair.contains(':')) {
        r.invalid(&path.child("registry"), registry, WHY);
    }
    r.present(source, "volume", path);
}

fn azure_disk(source: &Value, path: &Path<'_>, r: &mut Report) {
    let (caching, kind, uri) = (text(source, "cachingMode"), text(source, "kind"), text(source, "diskURI"));
    if !caching.is_empty() && !CACHING.contains(&caching) {
        r.unsupported(&path.child("cachingMode"), caching, CACHING);
    }
    if !kind.is_empty() && !DISKS.contains(&kind) {
        r.unsupported(&path.child("kind"), kind, DISKS);
    }
    if kind == "Managed" && !uri.starts_with("/subscriptions/") {
        r.unsupported(&path.child("diskURI"), uri, &[MANAGED]);
    }
    if !matches!(kind, "" | "Managed") && !uri.starts_with("https://") {
        r.unsupported(&path.child("diskURI"), uri, &[BLOB]);
    }
}

fn csi(source: &Value, path: &Path<'_>, r: &mut Report) {
    let driver = text(source, "driver");
    let at = path.child("driver");
    if driver.is_empty() {
        r.required(&at, "");
    } else {
        if driver.len() > 63 {
            r.too_long(&at, 63);
        }
        for why in names::dns1123_subdomain(&driver.to_lowercase()) {
            r.invalid(&at, driver, &why);
        }
    }
    if let Some(secret) = get(source, "nodePublishSecretRef") {
        match text(secret, "name") {
            "" => r.required(&path.child("nodePublishSecretRef.name"), ""),
            name => r.name(&path.child("name"), name, names::dns1123_subdomain),
        }
    }
}
