//! Helm's charts: what a `HelmChart` asks for is installed, upgraded when that changes, and uninstalled when it goes, as K3s'
//! helm-controller has it, but for the pod: charts are rendered in this process by `kiln_charts`.
//!
//! In flow HelmCharts, HelmChartConfigs of the same names, Secrets with values, and archives; out flow the chart's objects by
//! server-side apply, its hooks, and one Secret a revision in Helm's own form, so that `helm list` and `helm get` see the release.

mod fetch;
mod hooks;
mod release;
mod rendering;
mod spec;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kiln_apimachinery::meta;
use kiln_charts::{Event, Manifest, Rendered};
use kiln_client::{
    Client, Clock, Informer, Informers, ListParams, Object as _, ObjectRef, PatchKind, RateLimit, Store, WorkQueue,
};
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use self::release::{Releases, Stored};
use self::spec::{Chart, ChartConfig, Secret, Spec};
use crate::events::{EventKind, Recorder, Regarding};
use crate::object_set::{Kind, Sets};
use crate::reconcile::{Failure, Next, work};
use crate::status_patch::unless_gone;
use crate::{Context, installed};

const API_VERSION: &str = "helm.cattle.io/v1";
const CHARTS: &str = "/apis/helm.cattle.io/v1/helmcharts";
const CONFIGS: &str = "/apis/helm.cattle.io/v1/helmchartconfigs";
const SECRETS: &str = "/api/v1/secrets";
const FINALIZER: &str = "wrangler.cattle.io/on-helm-chart-remove";
const UNMANAGED: &str = "helmcharts.helm.cattle.io/unmanaged";
/// Keeps an object when its release goes or drops it.
const POLICY: &str = "helm.sh/resource-policy";
const MANAGER: &str = "helm";
const RETRY: RateLimit = RateLimit { first: Duration::from_secs(2), most: Duration::from_secs(300) };

/// What the controller needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Speaks to the API with all rights.
    pub client: Client,
}

/// Adds the controller to the mirrors; what is returned runs it until the shutdown.
pub fn build(informers: &mut Informers, context: &Context, config: Config) -> impl Future<Output = ()> + use<> {
    let queue = WorkQueue::<ObjectRef>::new(RETRY);
    let client = config.client;
    let charts = Informer::<Chart>::new(client.clone(), CHARTS, ListParams::default());
    let configs = Informer::<ChartConfig>::new(client.clone(), CONFIGS, ListParams::default());
    let secrets = Informer::<Secret>::new(client.clone(), SECRETS, ListParams::default());
    let controller = Arc::new(Controller {
        sets: Sets::new(client.clone(), MANAGER, informers),
        releases: Releases::new(client.clone()),
        clock: context.clock.clone(),
        events: context.events.recorder("helm-controller"),
        charts: charts.store(),
        configs: configs.store(),
        client,
    });
    let shutdown = context.shutdown.clone();
    async move {
        let definitions = [spec::chart_definition(), spec::config_definition()];
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = installed::ensure(&controller.client, &definitions) => {}
        }
        for definition in &definitions {
            if let Err(failure) = controller.sets.definitions.established(meta::name(definition)).await {
                tracing::warn!(%failure, "charts are looked for all the same");
            }
        }
        let tell = |queue: &WorkQueue<ObjectRef>, key: Option<&ObjectRef>| {
            key.into_iter().for_each(|key| queue.add(key.clone()))
        };
        tokio::join!(
            charts.run(shutdown.clone(), |change| tell(&queue, change.key())),
            configs.run(shutdown.clone(), |change| tell(&queue, change.key())),
            secrets.run(shutdown.clone(), |change| {
                change.key().into_iter().flat_map(|key| controller.followers(key)).for_each(|key| queue.add(key));
            }),
            work("helm-controller", &queue, &shutdown, |key| controller.reconcile(key)),
        );
    }
}

struct Controller {
    client: Client,
    sets: Sets,
    releases: Releases,
    clock: Clock,
    events: Recorder,
    charts: Store<Chart>,
    configs: Store<ChartConfig>,
}

/// What is to be installed, with what belongs to it.
struct Wanted<'a> {
    chart: &'a Chart,
    /// Where.
    namespace: String,
    /// What it was asked for with.
    hash: String,
    values: serde_json::Map<String, Value>,
}

impl Controller {
    /// The charts whose values a Secret is a part of.
    fn followers(&self, secret: &ObjectRef) -> Vec<ObjectRef> {
        let follows = |namespace: &str, spec: &Spec| namespace == secret.namespace && spec.follows(&secret.name);
        let charts = self.charts.list().into_iter().filter(|chart| follows(&chart.metadata.namespace, &chart.spec));
        let configs =
            self.configs.list().into_iter().filter(|config| follows(&config.metadata.namespace, &config.spec));
        charts.map(|chart| chart.key()).chain(configs.map(|config| config.key())).collect()
    }

    async fn reconcile(&self, key: ObjectRef) -> Result<Next, Failure> {
        tokio::join!(self.charts.synced(), self.configs.synced());
        let Some(chart) = self.charts.get(&key) else { return Ok(Next::Settled) };
        let is_another = chart.metadata.annotations.contains_key(UNMANAGED);
        if is_another || (chart.spec.chart.is_empty() && chart.spec.chart_content.is_empty()) {
            return Ok(Next::Settled);
        }
        let path = format!("/apis/{API_VERSION}/namespaces/{}/helmcharts/{}", key.namespace, key.name);
        let held = chart.metadata.finalizers.iter().any(|finalizer| finalizer == FINALIZER);
        if chart.metadata.deletion_timestamp.is_some() {
            if held {
                self.uninstall(&chart).await?;
                self.finalizers(&path, &chart, |finalizers| finalizers.retain(|finalizer| finalizer != FINALIZER))
                    .await?;
            }
            return Ok(Next::Settled);
        }
        if !held {
            self.finalizers(&path, &chart, |finalizers| finalizers.push(FINALIZER.to_owned())).await?;
        }
        let config = self.configs.get(&key);
        let done = self.deploy(&chart, config.as_deref()).await;
        let condition = match &done {
            Ok(()) => json!({"type": "Failed", "status": "False"}),
            Err(failure) => {
                json!({"type": "Failed", "status": "True", "reason": "ChartFailed", "message": failure.to_string()})
            }
        };
        if chart.status.conditions.first() != Some(&condition) {
            let status = json!({"status": {"conditions": [condition]}});
            unless_gone(self.client.patch::<IgnoredAny>(&format!("{path}/status"), PatchKind::Merge, &status).await)?;
        }
        match done {
            Ok(()) => Ok(Next::Settled),
            Err(failure) => {
                self.tell(
                    &chart,
                    EventKind::Warning,
                    "ApplyChartFailed",
                    format!("Applying HelmChart failed: {failure}"),
                );
                let policy = config
                    .as_ref()
                    .map(|config| config.spec.failure_policy.as_str())
                    .filter(|policy| !policy.is_empty());
                // Only another wish changes what these come to.
                if matches!(policy.unwrap_or(&chart.spec.failure_policy), "abort" | "retry") {
                    return Ok(Next::Settled);
                }
                Err(failure)
            }
        }
    }

    async fn finalizers(&self, path: &str, chart: &Chart, change: impl Fn(&mut Vec<String>)) -> Result<(), Failure> {
        let mut finalizers = chart.metadata.finalizers.clone();
        change(&mut finalizers);
        let version = &chart.metadata.resource_version;
        let patch = json!({"metadata": {"resourceVersion": version, "finalizers": finalizers}});
        unless_gone(self.client.patch::<IgnoredAny>(path, PatchKind::Merge, &patch).await)
    }

    fn tell(&self, chart: &Chart, kind: EventKind, reason: &str, text: String) {
        let metadata = &chart.metadata;
        let regarding = Regarding {
            api_version: Some(API_VERSION.to_owned()),
            kind: Some("HelmChart".to_owned()),
            namespace: Some(metadata.namespace.clone()),
            name: Some(metadata.name.clone()),
            uid: Some(metadata.uid.clone()),
            resource_version: Some(metadata.resource_version.clone()),
            field_path: None,
        };
        self.events.tell(regarding, kind, reason, text);
    }

    async fn deploy(&self, chart: &Chart, config: Option<&ChartConfig>) -> Result<(), Failure> {
        let namespace = chart.namespace().to_owned();
        let values = self.values(chart, config, true).await?;
        let counted = self.values(chart, config, false).await?;
        let asked = json!([chart.spec.wish, config.map(|config| &config.spec.wish), counted]);
        // As long as a label may be.
        let hash: String = Sha256::digest(asked.to_string())[..31].iter().map(|byte| format!("{byte:02X}")).collect();
        let releases = self.releases.of(&namespace, &chart.metadata.name).await?;
        if releases.last().is_some_and(|last| last.is_deployed() && last.hash == hash) {
            return Ok(());
        }
        let source = if chart.spec.chart_content.is_empty() { &chart.spec.chart } else { "its chartContent" };
        self.tell(chart, EventKind::Normal, "ApplyChart", format!("Applying HelmChart from {source}"));
        let wanted = Wanted { chart, namespace, hash, values };
        self.install(&wanted, &releases).await?;
        self.tell(chart, EventKind::Normal, "AppliedChart", format!("Applied HelmChart from {source}"));
        Ok(())
    }

    async fn install(&self, wanted: &Wanted<'_>, releases: &[Stored]) -> Result<(), Failure> {
        let archive = self.archive(wanted.chart).await?;
        if wanted.chart.spec.create_namespace {
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": wanted.namespace}});
            match self.client.create::<IgnoredAny>("/api/v1/namespaces", &namespace).await {
                Err(error) if !error.is_already_exists() => return Err(error.into()),
                _ => {}
            }
        }
        let last = releases.iter().rev().find(|release| release.is_deployed());
        let revision = releases.last().map_or(0, |release| release.revision) + 1;
        let (metadata, rendered) = self.rendered(wanted, archive, revision, last.is_some()).await?;
        let name = &wanted.chart.metadata.name;
        let began = self.clock.now();
        let record = |status: &str, description: &str| {
            release::record(&release::Record {
                name,
                namespace: &wanted.namespace,
                revision,
                status,
                description,
                metadata: &metadata,
                config: &wanted.values,
                rendered: &rendered,
                first: releases.first().map_or(began, |first| first.first_deployed.unwrap_or(began)),
                last: began,
            })
        };
        match self.carry_out(wanted, &rendered, last).await {
            Ok(()) => {
                let description = if last.is_some() { "Upgrade complete" } else { "Install complete" };
                self.releases.add(&wanted.namespace, name, &wanted.hash, record("deployed", description)).await?;
                self.releases.supersede(&wanted.namespace, releases).await
            }
            Err(failure) => {
                let known = releases.last().is_some_and(|last| last.hash == wanted.hash && !last.is_deployed());
                // One record of a wish that fails is enough.
                if !known {
                    let description = format!("Release {name:?} failed: {failure}");
                    self.releases.add(&wanted.namespace, name, &wanted.hash, record("failed", &description)).await?;
                }
                Err(failure)
            }
        }
    }

    /// Brings the cluster to what was rendered.
    async fn carry_out(&self, wanted: &Wanted<'_>, rendered: &Rendered, last: Option<&Stored>) -> Result<(), Failure> {
        let (before, after) = match last {
            Some(_) => (Event::PreUpgrade, Event::PostUpgrade),
            None => (Event::PreInstall, Event::PostInstall),
        };
        if last.is_none() {
            for definition in &rendered.definitions {
                self.sets.put(definition.clone(), &Kind::of(definition), "").await?;
            }
        }
        let patience = wanted.chart.spec.patience();
        self.run_hooks(&rendered.hooks, before, &wanted.namespace, patience).await?;
        let mut kept = Vec::new();
        for manifest in &rendered.manifests {
            let mut objects = Vec::new();
            crate::object_set::flatten(manifest.object.clone(), &mut objects).map_err(Failure::Waiting)?;
            for object in objects {
                let kind = Kind::of(&object);
                let named = |failure: Failure| {
                    Failure::Waiting(format!("{}: {} {:?}: {failure}", manifest.source, kind.kind, meta::name(&object)))
                };
                let marked = self.owned(wanted, object.clone(), &kind).await.map_err(named)?;
                kept.push(self.sets.put(marked, &kind, &wanted.namespace).await.map_err(named)?);
            }
        }
        if let Some(last) = last {
            for object in last.objects().iter().rev() {
                let identity = self.sets.identity(object, &wanted.namespace).await?;
                if identity.is_some_and(|identity| !kept.contains(&identity)) {
                    self.delete(object, &wanted.namespace).await?;
                }
            }
        }
        self.run_hooks(&rendered.hooks, after, &wanted.namespace, patience).await
    }

    /// Marks an object as the release's, unless it is another's already.
    async fn owned(&self, wanted: &Wanted<'_>, mut object: Value, kind: &Kind) -> Result<Value, Failure> {
        let name = &wanted.chart.metadata.name;
        let marks = [("meta.helm.sh/release-name", name), ("meta.helm.sh/release-namespace", &wanted.namespace)];
        if !wanted.chart.spec.take_ownership
            && let Some(known) = self.sets.find(&object, kind, &wanted.namespace).await?
        {
            let is_helms = meta::labels(&known).get("app.kubernetes.io/managed-by") == Some(&"Helm");
            let is_ours = marks.iter().all(|(key, value)| meta::annotation(&known, key) == Some(value.as_str()));
            if !is_helms || !is_ours {
                return Err(Failure::Waiting(format!(
                    "exists and cannot be imported into the current release: invalid ownership metadata; it must have the label \
                     app.kubernetes.io/managed-by=Helm and the annotations {}={name} and {}={}",
                    marks[0].0, marks[1].0, wanted.namespace
                )));
            }
        }
        for (key, value) in marks {
            meta::set_annotation(&mut object, key, value);
        }
        let labels = meta::metadata_mut(&mut object).entry("labels").or_insert(Value::Null);
        meta::object_mut(labels).insert("app.kubernetes.io/managed-by".to_owned(), json!("Helm"));
        Ok(object)
    }

    /// Deletes an object of a release, unless it is to stay.
    async fn delete(&self, object: &Value, namespace: &str) -> Result<(), Failure> {
        if meta::annotation(object, POLICY) == Some("keep") {
            return Ok(());
        }
        match self.sets.path(object, namespace).await? {
            Some(path) => unless_gone(self.client.delete(&path, &json!({"propagationPolicy": "Background"})).await),
            None => Ok(()),
        }
    }

    async fn uninstall(&self, chart: &Chart) -> Result<(), Failure> {
        let (namespace, name) = (chart.namespace(), &chart.metadata.name);
        let releases = self.releases.of(namespace, name).await?;
        let patience = chart.spec.patience();
        if let Some(last) = releases.iter().rev().find(|release| release.is_deployed()).or(releases.last()) {
            self.tell(chart, EventKind::Normal, "RemoveChart", format!("Uninstalling HelmChart {name}"));
            let hooks = last.hooks();
            // What is to go goes even if its last words fail.
            if let Err(failure) = self.run_hooks(&hooks, Event::PreDelete, namespace, patience).await {
                self.tell(chart, EventKind::Warning, "HookFailed", failure.to_string());
            }
            for object in last.objects().iter().rev() {
                self.delete(object, namespace).await?;
            }
            if let Err(failure) = self.run_hooks(&hooks, Event::PostDelete, namespace, patience).await {
                self.tell(chart, EventKind::Warning, "HookFailed", failure.to_string());
            }
        }
        self.releases.remove(namespace, &releases).await
    }
}

/// The objects of a text of manifests, as a release keeps them.
fn manifest_text(manifests: &[Manifest]) -> String {
    manifests.iter().map(|manifest| format!("---\n# Source: {}\n{}\n", manifest.source, manifest.text.trim())).collect()
}
