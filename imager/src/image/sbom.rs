//! The software bill of materials, as SPDX 2.3 JSON.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    manifest::Runtime,
    partition::{derive_uuid, uuid_text},
};
use crate::{
    packages::{Metadata, Pin},
    profile::ContainerImage,
    toolchain::Crate,
};

const DOCUMENT: &str = "SPDXRef-DOCUMENT";
const IMAGE: &str = "SPDXRef-Image";
const RUNTIME: &str = "SPDXRef-Package-kiln";
const NOTHING: &str = "NOASSERTION";

/// What a document is about.
#[derive(Debug)]
pub(crate) struct Subject<'a> {
    /// Its name.
    pub(crate) name: String,
    /// The version of Kiln.
    pub(crate) version: &'a str,
    /// SPDX's word for what it is for.
    pub(crate) purpose: &'a str,
    /// Container images in it.
    pub(crate) images: &'a [ContainerImage],
    /// The file's name.
    pub(crate) file: &'a str,
    /// Its SHA-256, hexadecimal.
    pub(crate) sha256: &'a str,
}

/// The document's text. `time` is seconds since 1970.
pub(crate) fn render(
    subject: &Subject<'_>,
    packages: &[(Pin, Metadata)],
    (runtime, crates): (&Runtime<'_>, &[Crate]),
    time: i64,
) -> Vec<u8> {
    let created = Timestamp::from_second(time).unwrap_or_default().to_string();
    let Subject { name, version, purpose, images, file, sha256 } = subject;
    let namespace = uuid_text(derive_uuid(sha256.as_bytes()));
    let mut items = vec![
        json!({
            "SPDXID": IMAGE,
            "name": name,
            "versionInfo": version,
            "packageFileName": file,
            "primaryPackagePurpose": purpose,
            "downloadLocation": NOTHING,
            "filesAnalyzed": false,
            "licenseConcluded": NOTHING,
            "licenseDeclared": NOTHING,
            "copyrightText": NOTHING,
            "checksums": [{ "algorithm": "SHA256", "checksumValue": sha256 }],
        }),
        json!({
            "SPDXID": RUNTIME,
            "name": "kiln",
            "versionInfo": version,
            "primaryPackagePurpose": "APPLICATION",
            "downloadLocation": NOTHING,
            "filesAnalyzed": false,
            "licenseConcluded": "MIT OR Apache-2.0",
            "licenseDeclared": "MIT OR Apache-2.0",
            "copyrightText": NOTHING,
            "checksums": [{ "algorithm": "SHA256", "checksumValue": runtime.sha256 }],
            "comment": format!("compiled by {}", runtime.toolchain),
        }),
    ];
    let mut relations = vec![relation(DOCUMENT, "DESCRIBES", IMAGE), relation(IMAGE, "CONTAINS", RUNTIME)];
    for (pin, metadata) in packages {
        let id = format!("SPDXRef-Package-deb-{}", id_text(&pin.name));
        relations.push(relation(IMAGE, "CONTAINS", &id));
        items.push(package(&id, pin, metadata));
    }
    for image in *images {
        for name in &image.names {
            let id = format!("SPDXRef-Package-oci-{}", id_text(name));
            relations.push(relation(IMAGE, "CONTAINS", &id));
            items.push(container_image(&id, name, image));
        }
    }
    for item in crates {
        let id = format!("SPDXRef-Package-crate-{}-{}", id_text(&item.name), id_text(&item.version));
        relations.push(relation(RUNTIME, "STATIC_LINK", &id));
        items.push(runtime_crate(&id, item));
    }
    let document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": DOCUMENT,
        "name": name,
        "documentNamespace": format!("urn:uuid:{namespace}"),
        "creationInfo": {
            "created": created,
            "creators": [format!("Tool: kiln-imager-{version}")],
        },
        "packages": items,
        "relationships": relations,
    });
    let mut text = serde_json::to_vec_pretty(&document).unwrap_or_default();
    text.push(b'\n');
    text
}

fn package(id: &str, pin: &Pin, metadata: &Metadata) -> Value {
    let suite = pin.source.split('/').next().unwrap_or_default();
    let purl = format!(
        "pkg:deb/debian/{}@{}?arch={}&distro={}",
        escape(&pin.name),
        escape(&pin.version),
        escape(&pin.arch),
        escape(suite)
    );
    let mut item = json!({
        "SPDXID": id,
        "name": pin.name,
        "versionInfo": pin.version,
        "packageFileName": pin.filename.rsplit('/').next().unwrap_or_default(),
        "supplier": "Organization: Debian",
        "downloadLocation": NOTHING,
        "filesAnalyzed": false,
        "licenseConcluded": NOTHING,
        "licenseDeclared": NOTHING,
        "copyrightText": NOTHING,
        "checksums": [{ "algorithm": "SHA256", "checksumValue": pin.sha256 }],
        "sourceInfo": format!("built from Debian source package {} {}", metadata.source, metadata.source_version),
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": purl,
        }],
    });
    if let (Some(homepage), Value::Object(fields)) = (&metadata.homepage, &mut item) {
        fields.insert("homepage".to_owned(), json!(homepage));
    }
    item
}

fn container_image(id: &str, name: &str, image: &ContainerImage) -> Value {
    json!({
        "SPDXID": id,
        "name": name,
        "packageFileName": image.path,
        "primaryPackagePurpose": "CONTAINER",
        "downloadLocation": NOTHING,
        "filesAnalyzed": false,
        "licenseConcluded": NOTHING,
        "licenseDeclared": NOTHING,
        "copyrightText": NOTHING,
        "checksums": [{ "algorithm": "SHA256", "checksumValue": image.sha256 }],
        "comment": "checksum of the archive that it is in",
    })
}

fn runtime_crate(id: &str, item: &Crate) -> Value {
    let mut package = json!({
        "SPDXID": id,
        "name": item.name,
        "versionInfo": item.version,
        "primaryPackagePurpose": "LIBRARY",
        "downloadLocation": NOTHING,
        "filesAnalyzed": false,
        "licenseConcluded": NOTHING,
        "licenseDeclared": item.licence.as_deref().unwrap_or(NOTHING),
        "copyrightText": NOTHING,
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": format!("pkg:cargo/{}@{}", escape(&item.name), escape(&item.version)),
        }],
    });
    if let (Some(sha256), Value::Object(fields)) = (&item.sha256, &mut package) {
        fields.insert("checksums".to_owned(), json!([{ "algorithm": "SHA256", "checksumValue": sha256 }]));
    }
    package
}

fn relation(from: &str, kind: &str, to: &str) -> Value {
    json!({ "spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to })
}

/// A package name in an SPDX identifier, which has letters, digits, dots and dashes only.
fn id_text(name: &str) -> String {
    name.replace('+', "-plus").chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect()
}

/// Percent-encoding as package URLs have it.
fn escape(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' => char::from(b).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_versions_become_valid_identifiers_and_package_urls() {
        assert_eq!(id_text("libstdc++6"), "libstdc-plus-plus6");
        assert_eq!(escape("2:1.0~rc1+b2"), "2%3A1.0~rc1%2Bb2");
    }
}
