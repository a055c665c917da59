//! Files from several sources in one volume.

use kiln_apimachinery::path::Path;
use serde_json::Value;

use super::volumes::{key_file, mode, shown_file};
use super::{Report, mounts};
use crate::registry::workloads::view::{get, int, items, text};

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
