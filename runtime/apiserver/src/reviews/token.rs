//! `TokenReview`: whose token is this, and is it meant for one of these audiences.

use kiln_apimachinery::{Status, meta};
use serde_json::{Value, json};

use super::user_info;
use crate::verbs::Cx;
use crate::{admission, authn};

/// What is said of every token that is not good; a reason may follow.
const INVALID: &str = "invalid bearer token";

pub(super) async fn answer(cx: &Cx<'_>, object: &mut Value) -> Result<Value, Status> {
    if meta::text(object, &["spec", "token"]).is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    admission::create(cx, object).await?;
    let asked = meta::strings(meta::at(object, &["spec", "audiences"]));
    let audiences: Vec<String> = match asked.is_empty() {
        true => cx.server.accounts().config.audiences.clone(),
        false => asked.into_iter().map(Into::into).collect(),
    };
    let token = meta::text(object, &["spec", "token"]).trim();
    Ok(match authn::bearer(cx.server, token, &audiences).await? {
        Ok(found) => {
            json!({"authenticated": true, "user": user_info(&found.user), "audiences": found.audiences})
        }
        Err(why) if why.is_empty() => json!({"user": {}, "error": INVALID}),
        Err(why) => json!({"user": {}, "error": format!("[{INVALID}, {why}]")}),
    })
}
