//! Tokens of an OpenID Connect issuer outside of the cluster: who signs in there has a name here.

mod fetch;
mod keys;

use jiff::Timestamp;
use serde_json::Value;

use super::accounts::CREDENTIAL_ID;
use super::jwt::keys::Algorithm;
use super::jwt::{Claims, Unverified};
use super::{Authenticated, Verdict, go_list};
use crate::user::UserInfo;
use fetch::Fetcher;
pub use fetch::TrustError;
use keys::Keys;

/// How far ahead of this server's clock a token's `nbf` may be, in seconds.
const NOT_BEFORE_LEEWAY: i64 = 5 * 60;

/// Settings of the issuer, under the names of kube-apiserver's flags.
#[derive(Clone, Debug)]
pub struct OidcConfig {
    /// `--oidc-issuer-url`: an https URL.
    pub issuer_url: String,
    /// `--oidc-client-id`: whom tokens must be meant for.
    pub client_id: String,
    /// `--oidc-username-claim`, `sub` by default.
    pub username_claim: String,
    /// `--oidc-username-prefix`. Absent, it is the issuer and `#`, but for the claim `email`; `-` is none.
    pub username_prefix: Option<String>,
    /// `--oidc-groups-claim`.
    pub groups_claim: Option<String>,
    /// `--oidc-groups-prefix`.
    pub groups_prefix: String,
    /// `--oidc-required-claim`: claims with the values they must have.
    pub required_claims: Vec<(String, String)>,
    /// `--oidc-signing-algs`, `RS256` by default.
    pub signing_algs: Vec<String>,
    /// The text of `--oidc-ca-file`; the system's CAs count if absent.
    pub ca_pem: Option<String>,
}

impl OidcConfig {
    /// The usual settings for an issuer and a client.
    pub fn new(issuer_url: impl Into<String>, client_id: impl Into<String>) -> Self {
        Self {
            issuer_url: issuer_url.into(),
            client_id: client_id.into(),
            username_claim: "sub".into(),
            username_prefix: None,
            groups_claim: None,
            groups_prefix: String::new(),
            required_claims: Vec::new(),
            signing_algs: vec!["RS256".into()],
            ca_pem: None,
        }
    }
}

/// The settings can't be used.
#[derive(Debug, thiserror::Error)]
pub enum OidcError {
    /// The issuer is no https URL.
    #[error("the OIDC issuer {0:?} must be an https URL without query and fragment")]
    Issuer(String),
    /// There is nobody tokens could be meant for.
    #[error("the OIDC client id must not be empty")]
    Client,
    /// An algorithm that is not understood.
    #[error("oidc: unsupported signing alg: {0:?}")]
    Algorithm(String),
    /// The CA is none.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

/// The issuer, and what is known of its keys.
pub(crate) struct Oidc {
    config: OidcConfig,
    algorithms: Vec<Algorithm>,
    prefix: String,
    keys: Keys,
}

impl Oidc {
    pub(crate) fn new(config: OidcConfig) -> Result<Self, OidcError> {
        let issuer = config.issuer_url.as_str();
        if !issuer.starts_with("https://") || issuer.contains(['?', '#']) || issuer.parse::<::http::Uri>().is_err() {
            return Err(OidcError::Issuer(issuer.to_owned()));
        }
        if config.client_id.is_empty() {
            return Err(OidcError::Client);
        }
        let known = |name: &String| Algorithm::from_name(name).ok_or_else(|| OidcError::Algorithm(name.clone()));
        let algorithms = config.signing_algs.iter().map(known).collect::<Result<Vec<_>, _>>()?;
        let prefix = match config.username_prefix.as_deref() {
            Some("-") => String::new(),
            Some(prefix) => prefix.to_owned(),
            None if config.username_claim == "email" => String::new(),
            None => format!("{issuer}#"),
        };
        let keys = Keys::new(issuer.to_owned(), Fetcher::new(config.ca_pem.as_deref())?);
        Ok(Self { algorithms, prefix, keys, config })
    }

    /// Judges a token; `None` if it is none of this issuer's. `audiences` are the server's own if asked for.
    pub(crate) async fn authenticate(&self, token: &str, audiences: &[String], now: Timestamp) -> Option<Verdict> {
        let read = Unverified::parse(token)?;
        if read.claims().text("iss") != self.config.issuer_url {
            return None;
        }
        let judged = match self.verify(read, now).await {
            Ok(claims) => self.user(&claims),
            Err(why) => Err(why),
        };
        Some(judged.map(|user| Authenticated { user, audiences: audiences.to_vec() }))
    }

    async fn verify(&self, token: Unverified<'_>, now: Timestamp) -> Result<Claims, String> {
        let failed = |why: String| format!("oidc: verify token: {why}");
        let audiences = token.claims().audiences();
        if !audiences.contains(&self.config.client_id.as_str()) {
            let (wanted, found) = (go_list(&[&self.config.client_id]), go_list(&audiences));
            return Err(failed(format!("oidc: expected audience in {wanted} got {found}")));
        }
        let seconds = now.as_second();
        match token.claims().seconds("exp") {
            Some(exp) if exp >= seconds => {}
            Some(exp) => return Err(failed(format!("oidc: token is expired (Token Expiry: {exp})"))),
            None => return Err(failed("oidc: token is expired (it has no exp)".into())),
        }
        if token.claims().seconds("nbf").is_some_and(|nbf| seconds + NOT_BEFORE_LEEWAY < nbf) {
            return Err(failed("oidc: current time is before the nbf (not before) time".into()));
        }
        if !token.algorithm().is_some_and(|a| self.algorithms.contains(&a)) {
            return Err(failed(format!(
                "oidc: id token signed with unsupported algorithm, expected {}",
                go_list(&self.config.signing_algs)
            )));
        }
        if !self.keys.signed(&token, now).await? {
            return Err(failed("failed to verify signature: failed to verify id token signature".into()));
        }
        Ok(token.into_claims())
    }

    fn user(&self, claims: &Claims) -> Result<UserInfo, String> {
        let config = &self.config;
        let claim = config.username_claim.as_str();
        let name = text(claims, claim).map_err(|why| format!("oidc: parse username claims {claim:?}: {why}"))?;
        if claim == "email" {
            match claims.0.get("email_verified") {
                None | Some(Value::Bool(true)) => {}
                Some(Value::Bool(false)) => return Err("oidc: email not verified".into()),
                Some(_) => return Err("oidc: parse 'email_verified' claim: it is no boolean".into()),
            }
        }
        let mut groups: Vec<String> = Vec::new();
        if let Some(claim) = &config.groups_claim {
            match claims.0.get(claim) {
                None | Some(Value::Null) => {}
                Some(Value::String(one)) => groups.push(format!("{}{one}", config.groups_prefix)),
                Some(Value::Array(all)) if all.iter().all(Value::is_string) => {
                    let all = all.iter().filter_map(Value::as_str);
                    groups.extend(all.map(|g| format!("{}{g}", config.groups_prefix)));
                }
                Some(_) => return Err(format!("oidc: parse groups claim {claim:?}: it is no list of texts")),
            }
        }
        for (claim, wanted) in &config.required_claims {
            if !claims.0.contains_key(claim) {
                return Err(format!("oidc: required claim {claim} not present in ID token"));
            }
            let found = text(claims, claim).map_err(|why| format!("oidc: parse claim {claim}: {why}"))?;
            if found != wanted {
                let why = format!("Got = {found}, want = {wanted}");
                return Err(format!("oidc: required claim {claim} value does not match. {why}"));
            }
        }
        let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
        let mut user = UserInfo::new(format!("{}{name}", self.prefix), &groups);
        let id = claims.text("jti");
        if !id.is_empty() {
            user.extra.insert(CREDENTIAL_ID.into(), vec![format!("JTI={id}")]);
        }
        Ok(user)
    }
}

/// A claim that must be a text.
fn text<'a>(claims: &'a Claims, claim: &str) -> Result<&'a str, &'static str> {
    match claims.0.get(claim) {
        None => Err("claim not present"),
        Some(value) => value.as_str().ok_or("it is no text"),
    }
}
