//! Manifests that an image brings along for its server to apply: read before anything is built, since on a card in the field a wrong
//! one would only be told by an Event.
//!
//! In flow the files that the user names; out flow their places in the root, in the folder that the server reads at each start.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_yaml_ng::Value;
use sha2::{Digest, Sha256};

use super::ProfileError;

/// The folder of the root that the server reads manifests from.
const FOLDER: &str = "/etc/kiln/manifests";
/// How names of files end that it reads.
const ENDINGS: [&str; 3] = [".yaml", ".yml", ".json"];

/// A file of Kubernetes objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Manifest {
    /// The file on this machine.
    #[serde(skip)]
    pub source: PathBuf,
    /// Where it lies in the root.
    pub path: String,
    /// Its objects, as `Kind/name`, in order.
    pub objects: Vec<String>,
    /// Bytes.
    pub size: usize,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
}

impl Manifest {
    /// Reads a file and holds what is in it against what an object has to have.
    ///
    /// # Errors
    /// The file can't be read, has a name that the server passes over, is no YAML, or holds something that is no object.
    pub fn open(source: &Path) -> Result<Self, ProfileError> {
        let name = source.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let lower = name.to_ascii_lowercase();
        if name.starts_with('.') || !ENDINGS.iter().any(|ending| lower.ends_with(ending)) {
            let message = format!("the server reads files whose names end in {}", ENDINGS.join(", "));
            return Err(ProfileError::Manifest { path: source.to_owned(), message });
        }
        let unreadable =
            |error: std::io::Error| ProfileError::Manifest { path: source.to_owned(), message: error.to_string() };
        let text = std::fs::read_to_string(source).map_err(unreadable)?;
        let mut objects = Vec::new();
        for (line, text) in documents(&text) {
            let invalid = |(line, column, message): (usize, usize, String)| ProfileError::Invalid {
                file: source.display().to_string(),
                line,
                column,
                message,
            };
            objects.extend(object(text, line).map_err(invalid)?);
        }
        if objects.is_empty() {
            let message = "there is no object in it".to_owned();
            return Err(ProfileError::Manifest { path: source.to_owned(), message });
        }
        let (size, sha256) = (text.len(), hex::encode(Sha256::digest(text.as_bytes())));
        Ok(Self { source: source.to_owned(), path: format!("{FOLDER}/{name}"), objects, size, sha256 })
    }

    /// Opens files in the order of their places in the root.
    ///
    /// # Errors
    /// As [`Manifest::open`], and when two files are the same Addon to the server.
    pub(super) fn all(sources: &[PathBuf]) -> Result<Vec<Self>, ProfileError> {
        let mut manifests = sources.iter().map(|source| Self::open(source)).collect::<Result<Vec<_>, _>>()?;
        manifests.sort_by(|a, b| a.path.cmp(&b.path));
        let mut known: BTreeMap<&str, &Self> = BTreeMap::new();
        for manifest in &manifests {
            let name = manifest.path.rsplit('/').next().and_then(|name| name.split('.').next()).unwrap_or_default();
            if let Some(other) = known.insert(name, manifest) {
                let message = format!("{} has the same name up to the first dot; rename one", other.source.display());
                return Err(ProfileError::Manifest { path: manifest.source.clone(), message });
            }
        }
        Ok(manifests)
    }
}

/// The documents of a text, with the line that each begins in, from 1.
fn documents(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let (mut start, mut first, mut at) = (0, 1, 0);
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let is_mark =
            line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
        if is_mark && at > start {
            found.push((first, &text[start..at]));
            (start, first) = (at, index + 1);
        }
        at += line.len();
    }
    found.push((first, &text[start..]));
    found
}

/// The object of a document that begins in a line, as `Kind/name`; none of an empty one. What is wrong comes with line and column.
fn object(text: &str, line: usize) -> Result<Option<String>, (usize, usize, String)> {
    let mut documents = serde_yaml_ng::Deserializer::from_str(text);
    let Some(document) = documents.next() else { return Ok(None) };
    let value = Value::deserialize(document).map_err(|error| {
        let place = error.location().map_or((line, 1), |place| (line + place.line().max(1) - 1, place.column()));
        // Its own words about the place count from the document's begin.
        let message = error.to_string();
        (place.0, place.1, message.split(" at line ").next().unwrap_or(&message).to_owned())
    })?;
    if value.is_null() {
        return Ok(None);
    }
    let field = |keys: &[&str]| {
        let found = keys.iter().try_fold(&value, |value, key| value.get(*key));
        found.and_then(Value::as_str).filter(|text| !text.is_empty())
    };
    // Where the object itself begins: behind marks, comments and empty lines.
    let is_before = |text: &&str| text.trim().is_empty() || text.starts_with(['#']) || text.starts_with("---");
    let begin = line + text.lines().take_while(is_before).count();
    let missing = |what: &str| Err((begin, 1, format!("this object has no {what}")));
    let Some(kind) = field(&["kind"]) else { return missing("kind") };
    if field(&["apiVersion"]).is_none() {
        return missing("apiVersion");
    }
    match field(&["metadata", "name"]) {
        Some(name) => Ok(Some(format!("{kind}/{name}"))),
        None if kind.ends_with("List") && value.get("items").is_some_and(Value::is_sequence) => {
            Ok(Some(kind.to_owned()))
        }
        None => missing("metadata.name"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Result<Manifest, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.yaml");
        std::fs::write(&path, text).expect("written");
        Manifest::open(&path).map_err(|error| error.to_string().replace(&*path.to_string_lossy(), "a.yaml"))
    }

    #[test]
    fn a_manifest_is_objects_one_after_the_other() {
        let text = "# Mine\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\n---\n# Empty\n---\n\
                    apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: text\ndata:\n  a: |\n    ---\n    b\n\
                    --- {apiVersion: v1, kind: ConfigMapList, items: []}\n";
        let manifest = told(text).expect("right");
        assert_eq!(manifest.objects, ["Namespace/shop", "ConfigMap/text", "ConfigMapList"]);
        assert_eq!((manifest.path.as_str(), manifest.size), ("/etc/kiln/manifests/a.yaml", text.len()));
        let json = told("{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"metadata\": {\"name\": \"p\"}}").expect("right");
        assert_eq!(json.objects, ["Pod/p"]);
    }

    #[test]
    fn a_mistake_is_told_with_its_file_and_line() {
        let fine = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\n";
        let rows = [
            ("a: [1\n".to_owned(), "a.yaml:2:1: "),
            (format!("{fine}a: b: c\n"), "a.yaml:5:5: "),
            (format!("{fine}\n# x\nkind: Pod\n"), "a.yaml:7:1: this object has no apiVersion"),
            ("apiVersion: v1\n".to_owned(), "a.yaml:1:1: this object has no kind"),
            ("apiVersion: v1\nkind: Pod\n".to_owned(), "a.yaml:1:1: this object has no metadata.name"),
            ("just text\n".to_owned(), "a.yaml:1:1: this object has no kind"),
            ("# nothing\n".to_owned(), "a.yaml: there is no object in it"),
        ];
        for (text, expected) in rows {
            let error = told(&text).expect_err("wrong");
            assert!(error.starts_with(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn names_are_those_that_the_server_takes() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, "{apiVersion: v1, kind: Pod, metadata: {name: p}}").expect("written");
            path
        };
        let all = |names: &[&str]| {
            let paths: Vec<PathBuf> = names.iter().map(|name| write(name)).collect();
            Manifest::all(&paths).map_err(|error| error.to_string())
        };
        let paths: Vec<String> = all(&["b.YML", "a.json"]).expect("right").into_iter().map(|m| m.path).collect();
        assert_eq!(paths, ["/etc/kiln/manifests/a.json", "/etc/kiln/manifests/b.YML"]);
        assert!(all(&["notes.txt"]).expect_err("wrong").ends_with("end in .yaml, .yml, .json"));
        assert!(all(&["a.x.yaml", "a.json"]).expect_err("wrong").ends_with("up to the first dot; rename one"));
    }
}
