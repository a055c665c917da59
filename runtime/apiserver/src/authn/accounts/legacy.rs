//! Tokens that don't expire, kept in Secrets of type `kubernetes.io/service-account-token`: filled in as such a Secret is
//! created (and later, if it lost them, for a controller), and believed as long as it holds them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kiln_apimachinery::{Status, meta};
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;

use super::{split_user_name, user};
use crate::authn::jwt::Claims;
use crate::server::ApiServer;
use crate::user::UserInfo;
use crate::verbs::store::Stored;

/// Who signs such tokens.
pub(super) const ISSUER: &str = "kubernetes/serviceaccount";
/// The Secrets' type.
const SECRET_TYPE: &str = "kubernetes.io/service-account-token";
const NAME: &str = "kubernetes.io/service-account.name";
const UID: &str = "kubernetes.io/service-account.uid";
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
const NAMESPACE_CLAIM: &str = "kubernetes.io/serviceaccount/namespace";
const SECRET_CLAIM: &str = "kubernetes.io/serviceaccount/secret.name";
const ACCOUNT_CLAIM: &str = "kubernetes.io/serviceaccount/service-account.name";
const UID_CLAIM: &str = "kubernetes.io/serviceaccount/service-account.uid";

/// Fills a Secret of the type in; one whose account is not there (or is another one) stays as it is.
pub(crate) async fn fill(server: &ApiServer, namespace: &str, secret: &mut Value) -> Result<(), Status> {
    if meta::text(secret, &["type"]) != SECRET_TYPE {
        return Ok(());
    }
    let Some(name) = meta::annotation(secret, NAME).map(str::to_owned) else { return Ok(()) };
    let Some(account) = server.store().read("", "serviceaccounts", namespace, &name).await? else { return Ok(()) };
    let uid = meta::uid(&account.object).to_owned();
    if meta::annotation(secret, UID).is_some_and(|u| !u.is_empty() && u != uid) {
        return Ok(());
    }
    meta::set_annotation(secret, UID, &uid);
    let claims = json!({
        "iss": ISSUER, "sub": format!("{}{namespace}:{name}", super::USER_PREFIX), NAMESPACE_CLAIM: namespace,
        SECRET_CLAIM: meta::name(secret), ACCOUNT_CLAIM: name, UID_CLAIM: uid,
    });
    let token = server.accounts().sign(&claims)?;
    let ca = server.config().ca_pem.clone();
    let data = meta::child(secret, "data");
    for (key, text) in [("ca.crt", ca), ("namespace", namespace.to_owned()), ("token", token)] {
        // Another CA's certificate is of no use; what else is there stays.
        if key == "ca.crt" || data.get(key).is_none_or(|v| v.as_str().is_none_or(str::is_empty)) {
            data.insert(key.into(), STANDARD.encode(text).into());
        }
    }
    Ok(())
}

/// Judges the claims of such a token whose signature is good.
pub(super) async fn judge(
    server: &ApiServer,
    token: &str,
    claims: &Claims,
) -> Result<Result<UserInfo, String>, Status> {
    let (subject, namespace) = (claims.text("sub"), claims.text(NAMESPACE_CLAIM));
    let (secret_name, name, uid) = (claims.text(SECRET_CLAIM), claims.text(ACCOUNT_CLAIM), claims.text(UID_CLAIM));
    for (claim, value) in [
        ("sub", subject),
        ("namespace", namespace),
        ("secretName", secret_name),
        ("serviceAccountName", name),
        ("serviceAccountUID", uid),
    ] {
        if value.is_empty() {
            return Ok(Err(format!("{claim} claim is missing")));
        }
    }
    if split_user_name(subject) != Some((namespace, name)) {
        return Ok(Err("sub claim is invalid".into()));
    }
    let secret = server.store().read("", "secrets", namespace, secret_name).await?;
    let Some(secret) = secret.filter(|s| !meta::is_terminating(&s.object)) else {
        return Ok(Err("Token has been invalidated".into()));
    };
    let kept = STANDARD.decode(meta::text(&secret.object, &["data", "token"])).unwrap_or_default();
    if !bool::from(kept.ct_eq(token.as_bytes())) {
        return Ok(Err("Token does not match server's copy".into()));
    }
    let Some(account) = server.store().read("", "serviceaccounts", namespace, name).await? else {
        return Ok(Err(format!("serviceaccounts {name:?} not found")));
    };
    if meta::is_terminating(&account.object) {
        return Ok(Err(format!("ServiceAccount {namespace}/{name} has been deleted")));
    }
    if meta::uid(&account.object) != uid {
        let why = format!("ServiceAccount UID ({}) does not match claim ({uid})", meta::uid(&account.object));
        return Ok(Err(why));
    }
    if meta::labels(&secret.object).get(INVALID_SINCE).is_some_and(|v| !v.is_empty()) {
        let why = format!(
            "the token in secret {namespace}/{secret_name} for service account {namespace}/{name} has been marked \
             invalid. Use tokens from the TokenRequest API or manually created secret-based tokens, or remove the \
             '{INVALID_SINCE}' label from the secret to temporarily allow use of this token"
        );
        return Ok(Err(why));
    }
    note_use(server, &secret).await;
    Ok(Ok(user(namespace, name, uid)))
}

/// Notes the day on which the token was used. Another's write that comes between is as good as this one.
async fn note_use(server: &ApiServer, secret: &Stored) {
    let today = server.now().strftime("%Y-%m-%d").to_string();
    if meta::labels(&secret.object).get(LAST_USED).is_some_and(|day| *day >= today.as_str()) {
        return;
    }
    let mut new = secret.object.clone();
    let labels = meta::metadata_mut(&mut new).entry("labels").or_insert_with(|| json!({}));
    if let Some(labels) = labels.as_object_mut() {
        labels.insert(LAST_USED.into(), today.into());
    }
    if let Err(status) = server.store().replace("", "secrets", secret, &new).await {
        tracing::debug!("the last use of a token is not noted: {}", status.message);
    }
}
