//! Tokens of service accounts: signed here for `serviceaccounts/token`, and believed as long as their account and whatever
//! they are bound to exist with the uid that they name.

pub(crate) mod claims;
mod discovery;
pub(crate) mod legacy;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kiln_apimachinery::{Status, time};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::jwt::keys::Key;
use super::jwt::signer::{KeyError, Signer};
use super::jwt::{Claims, LEEWAY, TimeError, Unverified};
use super::{Authenticated, Verdict, common, go_list};
use crate::server::ApiServer;
use crate::user::UserInfo;
use crate::verbs::errors;

/// What every service account's user name begins with.
pub(crate) const USER_PREFIX: &str = "system:serviceaccount:";
const ALL_ACCOUNTS: &str = "system:serviceaccounts";
/// The key of a user's extra that names the credential shown.
pub(crate) const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";
/// Tokens whose signature was found good and that are remembered for it.
const REMEMBERED: usize = 1024;

/// Settings of service account tokens.
#[derive(Clone)]
pub struct ServiceAccountConfig {
    /// PKCS#8 PEM of an ECDSA P-256 key. Absent: a key that is gone with the process, as tests want it.
    pub signing_key_pem: Option<String>,
    /// PEM of further public keys (`--service-account-key-file`) whose tokens are believed.
    pub verification_keys_pem: Vec<String>,
    /// `--service-account-issuer`: the first signs, tokens of any are believed.
    pub issuers: Vec<String>,
    /// `--api-audiences`: whom a token must be meant for; the first issuer if empty.
    pub audiences: Vec<String>,
    /// `--service-account-jwks-uri`: where verifiers find the keys; below the first issuer if absent.
    pub jwks_uri: Option<String>,
    /// `--service-account-max-token-expiration`.
    pub max_expiration: Option<Duration>,
    /// `--service-account-extend-token-expiration`: pods' tokens hold a year, and say when they should have been renewed.
    pub extend_expiration: bool,
}

impl Default for ServiceAccountConfig {
    fn default() -> Self {
        Self {
            signing_key_pem: None,
            verification_keys_pem: Vec::new(),
            issuers: vec!["https://kubernetes.default.svc.cluster.local".into()],
            audiences: Vec::new(),
            jwks_uri: None,
            max_expiration: None,
            extend_expiration: true,
        }
    }
}

/// The keys and what is known of tokens.
pub(crate) struct Accounts {
    signer: Signer,
    keys: Vec<Key>,
    pub(crate) config: ServiceAccountConfig,
    /// Claims of tokens by their hash, since a signature costs more than a look-up.
    verified: Mutex<HashMap<[u8; 32], Arc<Claims>>>,
}

impl Accounts {
    pub(crate) fn new(config: &ServiceAccountConfig) -> Result<Self, KeyError> {
        let mut config = config.clone();
        let signer = match config.signing_key_pem.take() {
            Some(pem) => Signer::from_pem(&pem)?,
            None => Signer::generate()?,
        };
        if config.audiences.is_empty() {
            config.audiences = config.issuers.first().cloned().into_iter().collect();
        }
        let mut keys = vec![signer.public().clone()];
        for pem in &config.verification_keys_pem {
            let blocks = x509_parser::pem::Pem::iter_from_buffer(pem.as_bytes()).filter_map(Result::ok);
            let found: Vec<Key> = blocks.filter_map(|p| Key::from_spki(&p.contents)).collect();
            if found.is_empty() {
                return Err(KeyError::Pem("PUBLIC KEY"));
            }
            // The signing key's other half may be among them.
            keys.extend(found.into_iter().filter(|k| k.id != signer.public().id));
        }
        Ok(Self { signer, keys, config, verified: Mutex::default() })
    }

    /// Who signs.
    pub(crate) fn issuer(&self) -> &str {
        self.config.issuers.first().map_or("", String::as_str)
    }

    pub(crate) fn sign(&self, claims: &serde_json::Value) -> Result<String, Status> {
        self.signer.sign(claims).map_err(|e| Status::internal(format!("failed to generate token: {e}")))
    }

    fn memory(&self) -> MutexGuard<'_, HashMap<[u8; 32], Arc<Claims>>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The claims of a token if one of the keys signed it; `None` if it is none of a service account.
    fn verified(&self, token: &str) -> Option<Result<Arc<Claims>, String>> {
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(claims) = self.memory().get(&hash) {
            return Some(Ok(claims.clone()));
        }
        let read = Unverified::parse(token)?;
        let issuer = read.claims().text("iss");
        if issuer != legacy::ISSUER && !self.config.issuers.iter().any(|i| i == issuer) {
            return None;
        }
        let id = read.key_id();
        let mut keys = self.keys.iter().filter(|k| id.is_empty() || k.id == id).peekable();
        if keys.peek().is_none() {
            return Some(Err("invalid signature, no keys found".into()));
        }
        if !keys.any(|k| read.is_signed_by(k)) {
            return Some(Err("go-jose/go-jose: error in cryptographic primitive".into()));
        }
        let claims = Arc::new(read.into_claims());
        let mut memory = self.memory();
        if memory.len() >= REMEMBERED {
            memory.clear();
        }
        memory.insert(hash, claims.clone());
        Some(Ok(claims))
    }

    /// Judges a token; `None` if it is none of a service account.
    pub(crate) async fn authenticate(
        &self,
        server: &ApiServer,
        token: &str,
        audiences: &[String],
    ) -> Result<Option<Verdict>, Status> {
        let claims = match self.verified(token) {
            None => return Ok(None),
            Some(Err(why)) => return Ok(Some(Err(why))),
            Some(Ok(claims)) => claims,
        };
        let is_legacy = claims.text("iss") == legacy::ISSUER;
        let mut own = claims.audiences();
        if own.is_empty() {
            own = self.config.audiences.iter().map(String::as_str).collect();
        }
        let shared = common(&own, audiences);
        if shared.is_empty() {
            let (own, wanted) = (go_list(&own), go_list(audiences));
            return Ok(Some(Err(format!("token audiences {own} is invalid for the target audiences {wanted}"))));
        }
        let judged =
            if is_legacy { legacy::judge(server, token, &claims).await? } else { judge(server, &claims).await? };
        Ok(Some(judged.map(|user| Authenticated { user, audiences: shared })))
    }
}

/// What of an object decides on the tokens that are bound to it.
#[derive(Default, Deserialize)]
struct Head {
    #[serde(default)]
    metadata: HeadMeta,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HeadMeta {
    #[serde(default)]
    uid: String,
    deletion_timestamp: Option<String>,
}

impl HeadMeta {
    /// True if the object should have been gone for longer than clocks differ.
    fn is_gone(&self, now: Timestamp) -> bool {
        let since = self.deletion_timestamp.as_deref().and_then(time::parse);
        since.is_some_and(|t| t.as_second() < now.as_second() - LEEWAY)
    }
}

async fn head(server: &ApiServer, plural: &str, namespace: &str, name: &str) -> Result<Option<HeadMeta>, Status> {
    let resource = server.registry().any_version("", plural).ok_or_else(|| Status::internal("no such resource"))?;
    let record = server.storage().get(&resource.key(namespace, name)).await.map_err(errors::storage)?;
    let read = |r: kiln_storage::Record| serde_json::from_slice::<Head>(&r.value).map_err(Status::internal);
    Ok(record.map(read).transpose()?.map(|h| h.metadata))
}

/// The groups of a namespace's accounts.
pub(crate) fn groups(namespace: &str) -> Vec<String> {
    vec![ALL_ACCOUNTS.to_owned(), format!("{ALL_ACCOUNTS}:{namespace}")]
}

/// The user of an account.
pub(crate) fn user(namespace: &str, name: &str, uid: &str) -> UserInfo {
    let groups = groups(namespace);
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    UserInfo { uid: uid.into(), ..UserInfo::new(format!("{USER_PREFIX}{namespace}:{name}"), &groups) }
}

/// Namespace and name in the user name of an account.
pub(crate) fn split_user_name(name: &str) -> Option<(&str, &str)> {
    use kiln_apimachinery::names;
    let (namespace, name) = name.strip_prefix(USER_PREFIX)?.split_once(':').filter(|(_, name)| !name.contains(':'))?;
    let valid = names::dns1123_label(namespace).is_empty() && names::dns1123_subdomain(name).is_empty();
    valid.then_some((namespace, name))
}

/// Judges the claims of a token of this cluster whose signature and audience are good.
async fn judge(server: &ApiServer, claims: &Claims) -> Result<Result<UserInfo, String>, Status> {
    let now = server.now();
    if let Err(error) = claims.check_times(now) {
        let why = match error {
            TimeError::Expired => "service account token has expired",
            TimeError::NotYet => "service account token is not valid yet",
            TimeError::IssuedInFuture => "service account token is issued in the future",
        };
        return Ok(Err(why.into()));
    }
    let Some(bound) = claims::Bound::read(claims) else {
        return Ok(Err("service account token claims could not be validated".into()));
    };
    let (namespace, account) = (&bound.namespace, &bound.service_account);
    let Some(found) = head(server, "serviceaccounts", namespace, &account.name).await? else {
        return Ok(Err(format!("serviceaccounts {:?} not found", account.name)));
    };
    if found.uid != account.uid {
        let why = format!("service account UID ({}) does not match claim ({})", found.uid, account.uid);
        return Ok(Err(why));
    }
    if found.is_gone(now) {
        return Ok(Err(format!("service account {namespace}/{} has been deleted", account.name)));
    }
    // A node that came with the pod is only told; one the token is bound to must be there.
    let node = bound.node.as_ref().filter(|_| bound.pod.is_none());
    for (kind, plural, place, named) in [
        ("secret", "secrets", namespace.as_str(), bound.secret.as_ref()),
        ("pod", "pods", namespace.as_str(), bound.pod.as_ref()),
        ("node", "nodes", "", node),
    ] {
        let Some(named) = named else { continue };
        let found = head(server, plural, place, &named.name).await?;
        let Some(found) = found.filter(|f| f.uid != named.uid || !f.is_gone(now)) else {
            return Ok(Err("service account token has been invalidated".into()));
        };
        if found.uid != named.uid {
            let why =
                format!("{kind} UID ({}) does not match service account {kind} ref claim ({})", found.uid, named.uid);
            return Ok(Err(why));
        }
    }
    let mut user = user(namespace, &account.name, &account.uid);
    let mut tell = |key: &str, value: &str| {
        if !value.is_empty() {
            user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
        }
    };
    for (kind, named) in [("pod", &bound.pod), ("node", &bound.node)] {
        let Some(named) = named else { continue };
        tell(&format!("{kind}-name"), &named.name);
        tell(&format!("{kind}-uid"), &named.uid);
    }
    let id = claims.text("jti");
    if !id.is_empty() {
        tell("credential-id", &format!("JTI={id}"));
    }
    Ok(Ok(user))
}
