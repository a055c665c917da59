//! The issuer's keys: found by discovery, remembered, and looked for again when a token names one that is not known or when
//! what is known has grown old.

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::Mutex;

use super::fetch::Fetcher;
use crate::authn::jwt::Unverified;
use crate::authn::jwt::keys::Key;

/// Seconds after which keys are fetched anew.
const OLD: i64 = 60 * 60;
/// Seconds between two looks for a key that is not known: anybody may send tokens with made-up keys.
const PAUSE: i64 = 10;

pub(super) struct Keys {
    issuer: String,
    fetcher: Fetcher,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    keys: Vec<Key>,
    /// Second of the last fetch that succeeded.
    fetched: Option<i64>,
    /// Second of the last try.
    tried: Option<i64>,
}

impl Keys {
    pub(super) fn new(issuer: String, fetcher: Fetcher) -> Self {
        Self { issuer, fetcher, known: Mutex::default() }
    }

    /// True if one of the keys signed the token. The error says that there are no keys to check it with.
    pub(super) async fn signed(&self, token: &Unverified<'_>, now: Timestamp) -> Result<bool, String> {
        let now = now.as_second();
        let fresh = |at: Option<i64>, span: i64| at.is_some_and(|at| now - at < span);
        // Whoever comes while keys are fetched waits for them.
        let mut known = self.known.lock().await;
        if fresh(known.fetched, OLD) {
            if fits(&known.keys, token) {
                return Ok(true);
            }
            let id = token.key_id();
            let is_known = !id.is_empty() && known.keys.iter().any(|k| k.id == id);
            if is_known || fresh(known.tried, PAUSE) {
                return Ok(false);
            }
        } else if known.fetched.is_none() && fresh(known.tried, PAUSE) {
            return Err(self.uninitialised());
        }
        known.tried = Some(now);
        match self.fetch().await {
            Ok(keys) => {
                known.keys = keys;
                known.fetched = Some(now);
            }
            Err(error) => {
                tracing::warn!(issuer = self.issuer, error, "the keys of the OIDC issuer can't be fetched");
                // Old keys are better than none.
                if known.fetched.is_none() {
                    return Err(self.uninitialised());
                }
            }
        }
        Ok(fits(&known.keys, token))
    }

    fn uninitialised(&self) -> String {
        format!("oidc: authenticator for issuer {:?} is not initialized", self.issuer)
    }

    async fn fetch(&self) -> Result<Vec<Key>, String> {
        let issuer = self.issuer.trim_end_matches('/');
        let configuration = self.fetcher.json(&format!("{issuer}/.well-known/openid-configuration")).await?;
        let text = |key: &str| configuration.get(key).and_then(Value::as_str).unwrap_or_default();
        if text("issuer") != self.issuer {
            return Err(format!("issuer did not match the issuer returned by provider: {:?}", text("issuer")));
        }
        Ok(Key::set(&self.fetcher.json(text("jwks_uri")).await?))
    }
}

fn fits(keys: &[Key], token: &Unverified<'_>) -> bool {
    let id = token.key_id();
    keys.iter().filter(|k| id.is_empty() || k.id == id).any(|k| token.is_signed_by(k))
}
