//! Volumes that put two things at one path.

use kiln_apimachinery::meta;
use serde_json::Value;

use super::{has, items};

/// A path within a volume, and what is put there.
#[derive(Clone, PartialEq, Eq)]
struct Place {
    path: String,
    source: String,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.source.as_str() {
            "" => write!(f, "{:?}", self.path),
            source => write!(f, "{:?} ({source})", self.path),
        }
    }
}

impl Place {
    fn new(path: &str, source: &str) -> Self {
        Self { path: path.trim_end_matches('/').to_owned(), source: source.to_owned() }
    }

    fn meets(&self, other: &Self) -> bool {
        let (a, b) = (format!("{}/", self.path), format!("{}/", other.path));
        !self.path.is_empty() && !other.path.is_empty() && (a.starts_with(&b) || b.starts_with(&a))
    }
}

pub(super) fn check(volumes: &[Value], out: &mut Vec<String>) {
    for volume in volumes {
        let name = meta::text(volume, &["name"]);
        let source = |key: &str| volume.get(key).filter(|s| !s.is_null());
        if let Some(map) = source("configMap") {
            let what = format!("ConfigMap {:?}", meta::text(map, &["name"]));
            tell(name, &what, &mut Vec::new(), places(map, ""), out);
        }
        if let Some(secret) = source("secret") {
            let what = format!("Secret {:?}", meta::text(secret, &["secretName"]));
            tell(name, &what, &mut Vec::new(), places(secret, ""), out);
        }
        if let Some(downward) = source("downwardAPI") {
            tell(name, "DownwardAPI", &mut Vec::new(), places(downward, ""), out);
        }
        let mut known = Vec::new();
        for source in source("projected").map(|p| items(p, &["sources"])).unwrap_or_default() {
            if source.as_object().is_none_or(|s| s.values().all(Value::is_null)) {
                out.push(format!("volume {name:?} (Projected) has no sources provided"));
                continue;
            }
            tell(name, "Projected", &mut known, projected(source), out);
        }
    }
}

/// Tells which of the new places meet known ones, which they then are among.
fn tell(volume: &str, what: &str, known: &mut Vec<Place>, new: Vec<Place>, out: &mut Vec<String>) {
    for place in new {
        let met = known.iter().filter(|k| k.meets(&place));
        out.extend(met.map(|k| format!("volume {volume:?} ({what}): overlapping paths: {place} with {k}")));
        known.push(place);
    }
}

fn places(source: &Value, what: &str) -> Vec<Place> {
    items(source, &["items"]).iter().map(|item| Place::new(meta::text(item, &["path"]), what)).collect()
}

fn projected(source: &Value) -> Vec<Place> {
    let part = |key: &str| source.get(key).filter(|_| has(source, key));
    let listed = |key: &str| part(key).filter(|p| has(p, "items"));
    if let Some(map) = listed("configMap") {
        return places(map, &format!("ConfigMap {:?}", meta::text(map, &["name"])));
    }
    if let Some(secret) = listed("secret") {
        return places(secret, &format!("Secret {:?}", meta::text(secret, &["name"])));
    }
    if let Some(downward) = listed("downwardAPI") {
        return places(downward, "DownwardAPI");
    }
    if let Some(token) = part("serviceAccountToken") {
        return vec![Place::new(meta::text(token, &["path"]), "ServiceAccountToken")];
    }
    if let Some(bundle) = part("clusterTrustBundle") {
        let key = if has(bundle, "name") { "name" } else { "signerName" };
        let what = format!("ClusterTrustBundle {:?}", meta::text(bundle, &[key]));
        return vec![Place::new(meta::text(bundle, &["path"]), &what)];
    }
    let Some(certificate) = part("podCertificate") else { return Vec::new() };
    const PARTS: [(&str, &str); 3] = [
        ("certificateChainPath", "PodCertificate chain"),
        ("keyPath", "PodCertificate key"),
        ("credentialBundlePath", "PodCertificate credential bundle"),
    ];
    let said = PARTS.iter().map(|(key, what)| Place::new(meta::text(certificate, &[key]), what));
    said.filter(|place| !place.path.is_empty()).collect()
}
