//! Checks that depend on other objects or on who writes: some between "may they" and "is it valid", which may change the
//! object, some after that, which may not. Objects come in stored form.

mod account;
mod escalation;
mod identity;
mod namespace;
mod node;
mod owners;
mod signer;

use kiln_apimachinery::Status;
use serde_json::Value;

use crate::classes;
use crate::verbs::Cx;

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
    let identity = identity::check(cx, object).await?;
    Ok(Plan { identity })
}

/// After the validation of a new object, which stays as it is.
pub(crate) async fn allow_create(cx: &Cx<'_>, object: &Value) -> Result<(), Status> {
    classes::allow_create(cx, object).await?;
    owners::check(cx, object, None).await
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
    escalation::check(cx, new, Some(old)).await
}

/// After the validation of a change, which stays as it is.
pub(crate) async fn allow_update(cx: &Cx<'_>, new: &Value, old: &Value) -> Result<(), Status> {
    classes::allow_update(cx, new, old).await?;
    owners::check(cx, new, Some(old)).await?;
    signer::update(cx, new, old).await
}

/// Before a delete.
pub(crate) async fn delete(cx: &Cx<'_>, object: &Value) -> Result<(), Status> {
    namespace::delete(cx, object)?;
    node::delete(cx, object)
}
