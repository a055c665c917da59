//! Releases as Helm keeps them: a Secret `sh.helm.release.v1.NAME.vN` for each revision, with the release as gzipped JSON.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use kiln_apimachinery::meta;
use kiln_charts::{Hook, Rendered, gzip};
use kiln_client::{Client, ListParams, PatchKind};
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};

use super::manifest_text;
use crate::object_set;
use crate::reconcile::Failure;
use crate::status_patch::unless_gone;

const HASH: &str = "helmcharts.helm.cattle.io/configHash";
const TYPE: &str = "helm.sh/release.v1";
/// Revisions that are kept.
const HISTORY: usize = 10;
/// The largest record that is read.
const LARGEST: usize = 64 << 20;

/// A revision that is kept.
pub(super) struct Stored {
    pub(super) revision: i64,
    pub(super) status: String,
    pub(super) hash: String,
    pub(super) first_deployed: Option<Timestamp>,
    secret: String,
    release: Value,
}

impl Stored {
    fn of(secret: &Value) -> Option<Self> {
        let labels = meta::labels(secret);
        let label = |name: &str| labels.get(name).copied().unwrap_or_default();
        // Once by the API, once by Helm.
        let data = BASE64_STANDARD.decode(secret["data"]["release"].as_str()?).ok()?;
        let packed = BASE64_STANDARD.decode(data).ok()?;
        let release: Value = serde_json::from_slice(&gzip::unpack(&packed, LARGEST).ok()?).ok()?;
        Some(Self {
            revision: label("version").parse().ok()?,
            status: label("status").to_owned(),
            hash: label(HASH).to_owned(),
            first_deployed: release["info"]["first_deployed"].as_str().and_then(|text| text.parse().ok()),
            secret: meta::name(secret).to_owned(),
            release,
        })
    }

    pub(super) fn is_deployed(&self) -> bool {
        self.status == "deployed"
    }

    /// The objects that it made, in the order that they were made in.
    pub(super) fn objects(&self) -> Vec<Value> {
        object_set::objects(self.release["manifest"].as_str().unwrap_or_default()).unwrap_or_default()
    }

    pub(super) fn hooks(&self) -> Vec<Hook> {
        let hooks = self.release["hooks"].as_array().into_iter().flatten();
        let texts =
            hooks.filter_map(|hook| Some((hook["path"].as_str()?.to_owned(), hook["manifest"].as_str()?.to_owned())));
        kiln_charts::hooks(texts.collect()).unwrap_or_default()
    }
}

/// The releases of all charts.
pub(super) struct Releases {
    client: Client,
}

fn secrets(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/secrets")
}

impl Releases {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// The revisions of a release, the oldest first.
    pub(super) async fn of(&self, namespace: &str, name: &str) -> Result<Vec<Stored>, Failure> {
        let params = ListParams { labels: format!("owner=helm,name={name}"), fields: format!("type={TYPE}") };
        let list = self.client.list::<Value>(&secrets(namespace), &params).await?;
        let mut found: Vec<Stored> = list.items.iter().filter_map(Stored::of).collect();
        found.sort_by_key(|release| release.revision);
        Ok(found)
    }

    pub(super) async fn add(&self, namespace: &str, name: &str, hash: &str, release: Value) -> Result<(), Failure> {
        let (revision, status) = (release["version"].to_string(), release["info"]["status"].clone());
        let packed = BASE64_STANDARD.encode(gzip::pack(release.to_string().as_bytes()));
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "type": TYPE,
            "metadata": {
                "name": format!("sh.helm.release.v1.{name}.v{revision}"),
                "labels": {"name": name, "owner": "helm", "status": status, "version": revision, HASH: hash},
            },
            "data": {"release": BASE64_STANDARD.encode(packed)},
        });
        self.client.create::<IgnoredAny>(&secrets(namespace), &secret).await?;
        Ok(())
    }

    /// Notes that others came after these, and drops those that are too many.
    pub(super) async fn supersede(&self, namespace: &str, releases: &[Stored]) -> Result<(), Failure> {
        let kept = releases.len().saturating_sub(HISTORY - 1);
        for release in &releases[..kept] {
            self.drop(namespace, release).await?;
        }
        for release in releases[kept..].iter().filter(|release| release.is_deployed()) {
            let mut record = release.release.clone();
            record["info"]["status"] = json!("superseded");
            let packed = BASE64_STANDARD.encode(gzip::pack(record.to_string().as_bytes()));
            let patch = json!({
                "metadata": {"labels": {"status": "superseded"}},
                "data": {"release": BASE64_STANDARD.encode(packed)},
            });
            let path = format!("{}/{}", secrets(namespace), release.secret);
            unless_gone(self.client.patch::<IgnoredAny>(&path, PatchKind::Merge, &patch).await)?;
        }
        Ok(())
    }

    async fn drop(&self, namespace: &str, release: &Stored) -> Result<(), Failure> {
        let path = format!("{}/{}", secrets(namespace), release.secret);
        unless_gone(self.client.delete(&path, &Value::Null).await)
    }

    pub(super) async fn remove(&self, namespace: &str, releases: &[Stored]) -> Result<(), Failure> {
        for release in releases {
            self.drop(namespace, release).await?;
        }
        Ok(())
    }
}

/// What a record is made of.
pub(super) struct Record<'a> {
    pub(super) name: &'a str,
    pub(super) namespace: &'a str,
    pub(super) revision: i64,
    pub(super) status: &'a str,
    pub(super) description: &'a str,
    /// What Chart.yaml says.
    pub(super) metadata: &'a Map<String, Value>,
    /// The values that were asked for.
    pub(super) config: &'a Map<String, Value>,
    pub(super) rendered: &'a Rendered,
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
}

/// A release as Helm writes it. Of the chart only the metadata is kept: a Secret holds no more than a MiB.
pub(super) fn record(of: &Record<'_>) -> Value {
    let hooks: Vec<Value> = of
        .rendered
        .hooks
        .iter()
        .map(|hook| {
            json!({
                "name": meta::name(&hook.manifest.object),
                "kind": hook.manifest.object["kind"],
                "path": hook.manifest.source,
                "manifest": hook.manifest.text,
                "events": hook.events.iter().map(|event| event.as_str()).collect::<Vec<_>>(),
                "weight": hook.weight,
                "last_run": {"phase": ""},
            })
        })
        .collect();
    json!({
        "name": of.name,
        "namespace": of.namespace,
        "version": of.revision,
        "info": {
            "first_deployed": of.first.to_string(),
            "last_deployed": of.last.to_string(),
            "deleted": "",
            "description": of.description,
            "status": of.status,
            "notes": of.rendered.notes,
        },
        "chart": {"metadata": of.metadata, "templates": [], "values": {}},
        "config": of.config,
        "manifest": manifest_text(&of.rendered.manifests),
        "hooks": hooks,
    })
}
