//! Checks that depend on other objects or on who writes: some between "may they" and "is it valid", which may change the
//! object, some after that, which may not. Objects come in stored form.

mod account;
mod escalation;
pub(crate) mod host;
mod identity;
mod namespace;
mod node;
mod owners;
mod plugins;
mod signer;

pub use plugins::{Plugin, Plugins};

use std::time::Instant;

use kiln_apimachinery::Status;
use serde_json::Value;

use crate::classes;
use crate::pod_security;
use crate::policies;
use crate::verbs::Cx;
use crate::webhooks;
use crate::webhooks::rounds::Rounds;

/// What must happen right before the object is stored, if it is.
#[derive(Default)]
pub(crate) struct Plan {
    identity: Option<identity::Claim>,
}

/// Before a create; may change the object.
pub(crate) async fn create(cx: &Cx<'_>, object: &mut Value) -> Result<Plan, Status> {
    let changes = async {
        namespace::create(cx, object).await?;
        let mut rounds = Rounds::default();
        loop {
            node::create(cx, object).await?;
            account::create(cx, object).await?;
            classes::create(cx, object).await?;
            policies::mutate(cx, "CREATE", object, None, &mut rounds).await?;
            webhooks::mutate(cx, "CREATE", object, None, &mut rounds).await?;
            if !rounds.next() {
                break;
            }
        }
        // Rights that somebody has added are rights as well.
        escalation::check(cx, object, None).await?;
        let identity = identity::check(cx, object).await?;
        Ok(Plan { identity })
    };
    step(cx, "admit", "CREATE", changes).await
}

/// Counts a step of admission.
async fn step<T>(
    cx: &Cx<'_>,
    kind: &'static str,
    operation: &'static str,
    work: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let began = Instant::now();
    let done = work.await;
    cx.server.metrics().admission.step(kind, operation, began.elapsed(), done.is_err());
    done
}

/// After the validation of a new object, which stays as it is.
pub(crate) async fn allow_create(cx: &Cx<'_>, object: &Value) -> Result<(), Status> {
    let judgement = async {
        classes::allow_create(cx, object).await?;
        pod_security::check(cx, object, None).await?;
        owners::check(cx, object, None).await?;
        policies::validate(cx, "CREATE", Some(object), None).await?;
        webhooks::validate(cx, "CREATE", Some(object), None).await
    };
    step(cx, "validate", "CREATE", judgement).await
}

/// Before a create of a part of an object that is no write of the object itself, such as a token or an eviction.
pub(crate) async fn create_part(cx: &Cx<'_>, part: &Value) -> Result<(), Status> {
    namespace::create(cx, part).await?;
    node::create(cx, part).await
}

/// The last step before a create that is valid and no dry run.
pub(crate) async fn before_create(cx: &Cx<'_>, plan: Plan) -> Result<(), Status> {
    match plan.identity {
        Some(claim) => identity::record(cx, claim).await,
        None => Ok(()),
    }
}

/// Before an update; may change the object.
pub(crate) async fn update(cx: &Cx<'_>, new: &mut Value, old: &Value) -> Result<(), Status> {
    let changes = async {
        let mut rounds = Rounds::default();
        loop {
            node::update(cx, new, old)?;
            account::update(cx, new, old).await?;
            classes::update(cx, new, old).await?;
            policies::mutate(cx, "UPDATE", new, Some(old), &mut rounds).await?;
            webhooks::mutate(cx, "UPDATE", new, Some(old), &mut rounds).await?;
            if !rounds.next() {
                break;
            }
        }
        escalation::check(cx, new, Some(old)).await
    };
    step(cx, "admit", "UPDATE", changes).await
}

/// After the validation of a change, which stays as it is.
pub(crate) async fn allow_update(cx: &Cx<'_>, new: &Value, old: &Value) -> Result<(), Status> {
    let judgement = async {
        classes::allow_update(cx, new, old).await?;
        pod_security::check(cx, new, Some(old)).await?;
        owners::check(cx, new, Some(old)).await?;
        signer::update(cx, new, old).await?;
        policies::validate(cx, "UPDATE", Some(new), Some(old)).await?;
        webhooks::validate(cx, "UPDATE", Some(new), Some(old)).await
    };
    step(cx, "validate", "UPDATE", judgement).await
}

/// Before a delete.
pub(crate) async fn delete(cx: &Cx<'_>, object: &Value) -> Result<(), Status> {
    let judgement = async {
        namespace::delete(cx, object)?;
        node::delete(cx, object)?;
        policies::validate(cx, "DELETE", None, Some(object)).await?;
        webhooks::judge(cx, "DELETE", None, Some(object)).await
    };
    step(cx, "validate", "DELETE", judgement).await
}
