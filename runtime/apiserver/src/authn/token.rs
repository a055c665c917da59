//! Bootstrap tokens, `<id>.<secret>`: Secrets of type `bootstrap.kubernetes.io/token` in `kube-system`, whose secret is kept as
//! text (as kubeadm writes it) or as its SHA-256.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kiln_apimachinery::{Status, meta, time};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::server::ApiServer;
use crate::user::UserInfo;

/// Where the Secrets are.
pub(crate) const NAMESPACE: &str = "kube-system";
/// The Secrets' type.
pub(crate) const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
/// What the names of the Secrets and of the users begin with.
const SECRET_PREFIX: &str = "bootstrap-token-";
const USER_PREFIX: &str = "system:bootstrap:";
const GROUP: &str = "system:bootstrappers";
/// Group of a token that names no group of its own.
pub(crate) const DEFAULT_GROUP: &str = "system:bootstrappers:kiln:default-node-token";

/// The token id in a bootstrap user's name.
pub(crate) fn id_of(user: &UserInfo) -> Option<&str> {
    user.name.strip_prefix(USER_PREFIX).filter(|_| user.in_group(GROUP))
}

/// Name of the Secret of a token id.
pub(crate) fn secret_name(id: &str) -> String {
    format!("{SECRET_PREFIX}{id}")
}

/// The decoded text of one key of a Secret; `None` if absent or no text.
pub(crate) fn field(secret: &Value, key: &str) -> Option<String> {
    let bytes = STANDARD.decode(meta::at(secret, &["data", key])?.as_str()?).ok()?;
    String::from_utf8(bytes).ok()
}

/// The user of a bootstrap token; `None` if the text is none, or is wrong, expired or of no use here.
pub(crate) async fn bootstrap(server: &ApiServer, token: &str) -> Result<Option<UserInfo>, Status> {
    let word = |s: &str, len: usize| s.len() == len && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let Some((id, secret)) = token.split_once('.').filter(|(id, secret)| word(id, 6) && word(secret, 16)) else {
        return Ok(None);
    };
    let Some(stored) = server.store().read("", "secrets", NAMESPACE, &secret_name(id)).await? else { return Ok(None) };
    let object = &stored.object;
    let good = meta::text(object, &["type"]) == SECRET_TYPE
        && !meta::is_terminating(object)
        && field(object, "token-id").is_none_or(|i| i == id)
        && field(object, "usage-bootstrap-authentication").as_deref() == Some("true")
        && secret_matches(object, secret)
        && field(object, "expiration").is_none_or(|e| time::parse(&e).is_some_and(|t| t > server.now()));
    if !good {
        return Ok(None);
    }
    let mut groups = vec![GROUP.to_owned()];
    match field(object, "auth-extra-groups").filter(|g| !g.is_empty()) {
        Some(extra) => {
            groups.extend(extra.split(',').filter(|g| g.starts_with("system:bootstrappers:")).map(Into::into))
        }
        None => groups.push(DEFAULT_GROUP.into()),
    }
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    Ok(Some(UserInfo::new(format!("{USER_PREFIX}{id}"), &groups)))
}

fn secret_matches(object: &Value, secret: &str) -> bool {
    let hash = hex(&Sha256::digest(secret.as_bytes()));
    let by_hash = field(object, "token-secret-sha256")
        .is_some_and(|h| h.trim().to_ascii_lowercase().as_bytes().ct_eq(hash.as_bytes()).into());
    let by_text = field(object, "token-secret").is_some_and(|s| s.as_bytes().ct_eq(secret.as_bytes()).into());
    by_hash || by_text
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
