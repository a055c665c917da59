//! Files from several sources in one volume.

use kiln_apimachinery::names;
use kiln_apimachinery::path::Path;
use serde_json::Value;

use super::volumes::{key_file, mode, shown_file};
use super::{Report, annotations, mounts};
use crate::registry::workloads::view::{get, int, items, text};

const KEY_TYPES: &[&str] = &["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"];
/// Longest that a pod's certificate may be valid, in seconds: a day if Kubernetes signs it, else 91.
const DAY: i64 = 24 * 3600;
const LONGEST: i64 = 91 * DAY;

/// Paths that are taken.
struct Taken<'a>(Vec<&'a str>);

impl<'a> Taken<'a> {
    fn add(&mut self, file: &'a str, shown: &str, path: &Path<'_>, r: &mut Report) {
        if self.0.contains(&file) {
            r.invalid(path, shown, "conflicting duplicate paths");
        } else {
            self.0.push(file);
        }
    }
}

pub(super) fn check(volume: &Value, path: &Path<'_>, r: &mut Report) {
    mode(volume, "defaultMode", path, r);
    let mut taken = Taken(Vec::new());
    let all = path.child("sources");
    for (i, source) in items(volume, "sources").iter().enumerate() {
        let at = all.index(i);
        let mut found = 0;
        for key in ["secret", "configMap"] {
            let Some(part) = get(source, key) else { continue };
            found += 1;
            let at = at.child(key);
            r.present(part, "name", &at);
            let files = at.child("items");
            for (j, item) in items(part, "items").iter().enumerate() {
                key_file(item, &files.index(j), r);
                let file = text(item, "path");
                if !file.is_empty() {
                    taken.add(file, text(part, "name"), path, r);
                }
            }
        }
        if let Some(part) = get(source, "downwardAPI") {
            found += 1;
            for file in items(part, "items") {
                shown_file(file, &at.child("downwardAPI"), r);
                let file = text(file, "path");
                if !file.is_empty() {
                    taken.add(file, file, path, r);
                }
            }
        }
        if let Some(part) = get(source, "serviceAccountToken") {
            found += 1;
            token(part, &at.child("serviceAccountToken"), path, r);
        }
        if let Some(part) = get(source, "clusterTrustBundle") {
            found += 1;
            trust_bundle(part, &at.child("clusterTrustBundle"), r);
            taken.add(text(part, "path"), text(part, "path"), path, r);
        }
        if let Some(part) = get(source, "podCertificate") {
            found += 1;
            certificate(part, &mut taken, &at.child("podCertificate"), path, r);
        }
        if found > 1 {
            r.forbidden(&at, "may not specify more than 1 volume type per source");
        }
    }
}

fn token(part: &Value, at: &Path<'_>, volume: &Path<'_>, r: &mut Report) {
    let seconds = int(part, "expirationSeconds").unwrap_or(0);
    let path = at.child("expirationSeconds");
    if seconds < 600 {
        r.invalid(&path, seconds, "may not specify a duration less than 10 minutes");
    }
    if seconds > 1 << 32 {
        r.invalid(&path, seconds, "may not specify a duration larger than 2^32 seconds");
    }
    match text(part, "path") {
        "" => r.required(&volume.child("path"), ""),
        file => mounts::local(file, &volume.child("path"), r),
    }
}

fn trust_bundle(part: &Value, at: &Path<'_>, r: &mut Report) {
    let (name, signer) = (get(part, "name"), get(part, "signerName"));
    match (name.and_then(Value::as_str), signer.and_then(Value::as_str)) {
        (Some(_), Some(_)) => r.invalid(at, part.clone(), "only one of name and signerName may be used"),
        (Some(name), None) => {
            if name.is_empty() {
                r.required(&at.child("name"), "must be a valid object name");
            }
            let last = name.rsplit(':').next().unwrap_or_default();
            for why in names::dns1123_subdomain(last) {
                let why = format!("not a valid clustertrustbundlename: {why}");
                r.invalid(&at.child("name"), name, &why);
            }
            if let Some(selector) = get(part, "labelSelector") {
                let why = "labelSelector must be unset if name is specified";
                r.invalid(&at.child("labelSelector"), selector.clone(), why);
            }
        }
        (None, Some(signer)) => {
            if signer.is_empty() {
                r.required(&at.child("signerName"), "must be a valid signer name");
            }
            signer_name(signer, &at.child("signerName"), r);
            r.selector(get(part, "labelSelector"), &at.child("labelSelector"));
        }
        (None, None) => r.required(at, "either name or signerName must be specified"),
    }
    r.present(part, "path", at);
    mounts::local(text(part, "path"), &at.child("path"), r);
}

/// A domain and a path with a slash between.
fn signer_name(name: &str, path: &Path<'_>, r: &mut Report) {
    if name.is_empty() {
        return r.required(path, "");
    }
    let (domain, rest) = name.split_once('/').unwrap_or((name, ""));
    if rest.is_empty() {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return r.invalid(path, name, why);
    }
    r.name(path, domain, names::dns1123_subdomain);
    for part in rest.split('.') {
        r.name(path, part, names::dns1123_subdomain);
    }
}

fn certificate<'a>(part: &'a Value, taken: &mut Taken<'a>, at: &Path<'_>, volume: &Path<'_>, r: &mut Report) {
    let signer = text(part, "signerName");
    signer_name(signer, &at.child("signerName"), r);
    annotations::users(part.get("userAnnotations"), &at.child("userAnnotations"), r);
    let kind = text(part, "keyType");
    if !KEY_TYPES.contains(&kind) {
        r.unsupported(&at.child("keyType"), kind, KEY_TYPES);
    }
    if let Some(seconds) = int(part, "maxExpirationSeconds") {
        let path = at.child("maxExpirationSeconds");
        let most = if signer.starts_with("kubernetes.io/") { DAY } else { LONGEST };
        if seconds < 3600 {
            r.invalid(&path, seconds, "if provided, maxExpirationSeconds must be >= 3600");
        }
        if seconds > most {
            r.invalid(&path, seconds, &format!("if provided, maxExpirationSeconds must be <= {most}"));
        }
    }
    let mut paths = 0;
    for key in ["credentialBundlePath", "keyPath", "certificateChainPath"] {
        let file = text(part, key);
        if !file.is_empty() {
            paths += 1;
            mounts::local(file, &at.child(key), r);
            taken.add(file, file, volume, r);
        }
    }
    if paths == 0 {
        r.required(at, "specify at least one of credentialBundlePath, keyPath, and certificateChainPath");
    }
}
