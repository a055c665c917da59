//! Webhook configurations as requests need them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kiln_apimachinery::meta;
use kiln_storage::Record;
use serde_json::Value;

use super::client::Target;
use super::matching::{Conditions, Rule, Selector};
use crate::authz::follow::View;
use crate::registry::cells::items;

const MUTATING: &str = "/registry/admissionregistration.k8s.io/mutatingwebhookconfigurations/";
const VALIDATING: &str = "/registry/admissionregistration.k8s.io/validatingwebhookconfigurations/";

/// One webhook.
#[derive(Debug)]
pub(crate) struct Webhook {
    pub(crate) configuration: String,
    pub(crate) name: String,
    /// Both.
    pub(super) id: String,
    pub(super) target: Target,
    pub(super) rules: Vec<Rule>,
    /// A call that fails is let pass.
    pub(super) ignores_failure: bool,
    pub(super) equivalent: bool,
    pub(super) namespaces: Selector,
    pub(super) objects: Selector,
    pub(super) may_dry_run: bool,
    pub(super) timeout: Duration,
    /// The version of the review that both sides know.
    pub(super) review: &'static str,
    pub(super) reinvoked: bool,
    pub(super) conditions: Conditions,
}

impl Webhook {
    fn read(configuration: &str, webhook: &Value) -> Self {
        let text = |key: &str| meta::text(webhook, &[key]);
        let versions = meta::strings(webhook.get("admissionReviewVersions"));
        let review = versions.iter().find_map(|v| ["v1", "v1beta1"].into_iter().find(|known| known == v));
        let seconds = webhook.get("timeoutSeconds").and_then(Value::as_u64).unwrap_or(10);
        Self {
            configuration: configuration.to_owned(),
            name: text("name").to_owned(),
            id: format!("{configuration}/{}", text("name")),
            target: Target::of(webhook.get("clientConfig").unwrap_or(&Value::Null)),
            rules: items(webhook, &["rules"]).iter().map(Rule::read).collect(),
            ignores_failure: text("failurePolicy") == "Ignore",
            equivalent: text("matchPolicy") != "Exact",
            namespaces: Selector::read(webhook.get("namespaceSelector")),
            objects: Selector::read(webhook.get("objectSelector")),
            may_dry_run: matches!(text("sideEffects"), "None" | "NoneOnDryRun"),
            timeout: Duration::from_secs(seconds),
            review: review.unwrap_or("v1"),
            reinvoked: text("reinvocationPolicy") == "IfNeeded",
            conditions: Conditions::read(items(webhook, &["matchConditions"])),
        }
    }
}

/// All webhooks, by configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hooks {
    pub(super) mutating: BTreeMap<String, Vec<Arc<Webhook>>>,
    pub(super) validating: BTreeMap<String, Vec<Arc<Webhook>>>,
}

impl Hooks {
    pub(super) fn mutating(&self) -> impl Iterator<Item = &Arc<Webhook>> {
        self.mutating.values().flatten()
    }

    pub(super) fn validating(&self) -> impl Iterator<Item = &Arc<Webhook>> {
        self.validating.values().flatten()
    }

    fn of(&mut self, key: &str) -> &mut BTreeMap<String, Vec<Arc<Webhook>>> {
        if key.starts_with(MUTATING) { &mut self.mutating } else { &mut self.validating }
    }
}

impl View for Hooks {
    const PREFIXES: &'static [&'static str] = &[MUTATING, VALIDATING];

    fn put(&mut self, record: &Record) {
        // What can't be read was not written here.
        let Ok(configuration) = serde_json::from_slice::<Value>(&record.value) else { return };
        let name = meta::name(&configuration).to_owned();
        let webhooks = items(&configuration, &["webhooks"]).iter();
        let read: Vec<_> = webhooks.map(|webhook| Arc::new(Webhook::read(&name, webhook))).collect();
        let all = self.of(&record.key);
        if read.is_empty() {
            all.remove(&name);
        } else {
            all.insert(name, read);
        }
    }

    fn remove(&mut self, record: &Record) {
        let name = record.key.rsplit('/').next().unwrap_or_default();
        self.of(&record.key).remove(name);
    }
}
