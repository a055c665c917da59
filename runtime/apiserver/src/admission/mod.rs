//! Checks between "may they" and "is it valid": what depends on other objects or on who writes. Objects come in stored form.

mod account;
mod escalation;
mod identity;
mod namespace;
mod node;
mod owners;
mod signer;

use kiln_apimachinery::Status;
use serde_json::Value;

use crate::verbs::Cx;
use crate::{allocate, classes};

/// What must happen right before the object is stored, if it is.
#[derive(Default)]
pub(crate) struct Plan {
    identity: Option<identity::Claim>,
}

/// Before a create; may change the object.
pub(crate) async fn create(cx: &Cx<'_>, object: &mut Value) -> Result<Plan, Status> {
    namespace::create(cx, object).await?;
    node::create(cx, object).await?;
    account::create(cx, object).await?;
    classes::create(cx, object).await?;
    escalation::check(cx, object, None).await?;
    owners::check(cx, object, None).await?;
    let identity = identity::check(cx, object).await?;
    allocate::prepare_create(cx, object).await?;
    Ok(Plan { identity })
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
    node::update(cx, new, old)?;
    account::update(cx, new, old).await?;
    classes::update(cx, new, old).await?;
    escalation::check(cx, new, Some(old)).await?;
    owners::check(cx, new, Some(old)).await?;
    signer::update(cx, new, old).await?;
    allocate::prepare_update(cx, new, old).await
}

/// Before a delete.
pub(crate) async fn delete(cx: &Cx<'_>, object: &Value) -> Result<(), Status> {
    namespace::delete(cx, object)?;
    node::delete(cx, object)
}
