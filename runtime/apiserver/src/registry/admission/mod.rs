//! What else has a say about writes: webhooks and policies.

mod matching;
mod policy;
mod webhook;

use jiff::Timestamp;
use kiln_apimachinery::meta;
use serde_json::Value;

use crate::registry::cells::UNSET;
use crate::registry::columns::Cell::{Count, Path, With};
use crate::registry::columns::{AGE, Column, NAME, number, text};
use crate::registry::resource::{Resource, v1};

const GROUP: &str = "admissionregistration.k8s.io";

const WEBHOOKS: &[Column] = &[NAME, number("Webhooks", Count(&["webhooks"])), AGE];
const VALIDATING: &[Column] =
    &[NAME, number("Validations", Count(&["spec", "validations"])), text("ParamKind", With(param_kind)), AGE];
const MUTATING: &[Column] =
    &[NAME, number("Mutations", Count(&["spec", "mutations"])), text("ParamKind", With(param_kind)), AGE];
const BINDING: &[Column] =
    &[NAME, text("PolicyName", Path(&["spec", "policyName"])), text("ParamRef", With(param_ref)), AGE];

fn param_kind(policy: &Value, _: Timestamp) -> Value {
    match meta::at(policy, &["spec", "paramKind"]).filter(|k| k.is_object()) {
        Some(kind) => format!("{}/{}", meta::text(kind, &["apiVersion"]), meta::text(kind, &["kind"])).into(),
        None => UNSET.into(),
    }
}

fn param_ref(binding: &Value, _: Timestamp) -> Value {
    let Some(param) = meta::at(binding, &["spec", "paramRef"]).filter(|p| p.is_object()) else { return UNSET.into() };
    match (meta::text(param, &["namespace"]), meta::text(param, &["name"])) {
        (_, "") => param.get("selector").map_or(UNSET.into(), |s| s.to_string().into()),
        ("", name) => format!("*/{name}").into(),
        (namespace, name) => format!("{namespace}/{name}").into(),
    }
}

fn row(kind: &str, plural: &str) -> Resource {
    v1(GROUP, kind, plural).cluster().categories(&["api-extensions"]).generations().conditional_update()
}

/// The rows. One kind, one paragraph: a table reads better than a tower.
#[rustfmt::skip]
pub(crate) fn rows() -> Vec<Resource> {
    vec![
        row("MutatingWebhookConfiguration", "mutatingwebhookconfigurations")
            .columns(WEBHOOKS).strategy(webhook::Webhooks { mutating: true }),
        row("ValidatingWebhookConfiguration", "validatingwebhookconfigurations")
            .columns(WEBHOOKS).strategy(webhook::Webhooks { mutating: false }),
        row("ValidatingAdmissionPolicy", "validatingadmissionpolicies").with_status()
            .columns(VALIDATING).strategy(policy::Policies { mutating: false }),
        row("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings")
            .columns(BINDING).strategy(policy::Bindings { mutating: false }),
        row("MutatingAdmissionPolicy", "mutatingadmissionpolicies")
            .columns(MUTATING).strategy(policy::Policies { mutating: true }),
        row("MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings")
            .columns(BINDING).strategy(policy::Bindings { mutating: true }),
    ]
}
