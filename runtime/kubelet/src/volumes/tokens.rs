//! Tokens of service accounts, bound to their pods (KEP-1205), and bundles of trust anchors (KEP-3257).

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ClusterTrustBundleProjection, Pod, ServiceAccountTokenProjection};
use kiln_apimachinery::{LabelSelector, meta, random, time};
use kiln_client::{ClientError, ListParams};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::dirs::Plugin;
use super::{Volumes, name, namespace, uid};

/// A token is never used longer than this, however long it lives.
const OLDEST: SignedDuration = SignedDuration::from_hours(24);
/// Refreshes are spread over this time, so that many pods do not ask at once.
const SPREAD: u64 = 10_000;
/// How soon a refresh that failed is tried again, while the old token goes on being used.
const RETRY: SignedDuration = SignedDuration::from_secs(10);
/// Nothing is looked at more often than this, whatever the clock does.
const LEAST_WAIT: Duration = Duration::from_secs(1);
/// How often the clock is looked at: no wait tells that it was set forward. Upstream's kubelet looks at each pod about as often.
pub(super) const LOOK: Duration = Duration::from_secs(60);
/// How long a token lives whose projection does not say it; the API fills it in.
const LIFE: i64 = 3600;
const BUNDLES: &str = "/apis/certificates.k8s.io/v1beta1/clustertrustbundles";

/// A token that was fetched.
pub(super) struct Granted {
    pub(super) token: String,
    /// By the server's clock.
    pub(super) expires: Timestamp,
    /// How long after it was made that is.
    lives: SignedDuration,
}

/// When a token must be fetched anew: after so much time, whatever the clock was set to meanwhile, or by the clock, whatever time
/// has passed: the server's clock is likely to have been set as well.
#[derive(Debug, Clone, Copy)]
pub(super) struct Due {
    after: Instant,
    by: Timestamp,
}

impl Due {
    fn within(wait: SignedDuration, now: Timestamp) -> Self {
        Self { after: Instant::now() + Duration::try_from(wait).unwrap_or_default(), by: now + wait }
    }

    /// How long until it is.
    fn wait(self, now: Timestamp) -> Duration {
        let left = Duration::try_from(self.by.duration_since(now)).unwrap_or_default();
        left.min(self.after.duration_since(Instant::now()))
    }
}

impl Volumes {
    /// The token of a projection: the one that is in its file, unless that is due for a refresh.
    pub(super) async fn token(
        &self,
        pod: &Arc<Pod>,
        volume: &str,
        source: &ServiceAccountTokenProjection,
    ) -> Result<String, String> {
        let key = (volume.to_owned(), source.path.clone());
        let due = self.0.pods().get(uid(pod)).and_then(|entry| entry.tokens.get(&key).copied());
        let now = self.0.config.clock.now();
        let file = self.dirs().volume(uid(pod), Plugin::Projected, volume).join(&source.path);
        if due.is_some_and(|due| !due.wait(now).is_zero())
            && let Ok(token) = fs::read_to_string(&file)
        {
            return Ok(token);
        }
        match self.fetch_token(pod, source).await {
            Ok(Granted { token, lives, .. }) => {
                self.refresh_at(pod, key, Due::within(refresh_after(lives), now));
                Ok(token)
            }
            // The old token, if there is one, goes on being good for a while.
            Err(error) => match fs::read_to_string(&file).ok().filter(|_| due.is_some()) {
                Some(token) => {
                    tracing::warn!(pod = name(pod), volume, %error, "cannot refresh the token; will try again");
                    self.refresh_at(pod, key, Due::within(RETRY, now));
                    Ok(token)
                }
                None => Err(format!("failed to fetch token: {error}")),
            },
        }
    }

    fn refresh_at(&self, pod: &Pod, key: (String, String), at: Due) {
        if let Some(entry) = self.0.pods().get_mut(uid(pod)) {
            entry.tokens.insert(key, at);
        }
    }

    /// Has a pod's files looked at again when the first of its tokens is due.
    pub(super) fn await_tokens(&self, uid: &str) {
        let now = self.0.config.clock.now();
        let first = self.0.pods().get(uid).and_then(|entry| entry.tokens.values().map(|due| due.wait(now)).min());
        if let Some(wait) = first {
            self.0.stale.add_after(uid.to_owned(), wait.max(LEAST_WAIT));
        }
    }

    /// Has pods looked at whose tokens are due by the clock, as it may have been set.
    pub(super) fn look_at_clock(&self) {
        let now = self.0.config.clock.now();
        let pods = self.0.pods();
        let due = pods.iter().filter(|(_, entry)| entry.tokens.values().any(|due| due.by <= now));
        due.for_each(|(uid, _)| self.0.stale.add(uid.clone()));
    }

    pub(super) async fn fetch_token(
        &self,
        pod: &Pod,
        source: &ServiceAccountTokenProjection,
    ) -> Result<Granted, String> {
        let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or_default();
        let audiences: Vec<&String> = source.audience.iter().filter(|audience| !audience.is_empty()).collect();
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": audiences,
                "expirationSeconds": source.expiration_seconds.unwrap_or(LIFE),
                "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": name(pod), "uid": uid(pod)},
            },
        });
        let path = format!("/api/v1/namespaces/{}/serviceaccounts/{account}/token", namespace(pod));
        let answer: Result<Value, ClientError> = self.0.client.create(&path, &request).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let token = meta::text(&answer, &["status", "token"]);
        let expires = time::parse(meta::text(&answer, &["status", "expirationTimestamp"]));
        match expires {
            Some(expires) if !token.is_empty() => {
                // The server may give it another life than was asked for.
                let given = meta::at(&answer, &["spec", "expirationSeconds"]).and_then(Value::as_i64);
                let lives = SignedDuration::from_secs(given.or(source.expiration_seconds).unwrap_or(LIFE));
                Ok(Granted { token: token.to_owned(), expires, lives })
            }
            _ => Err("the answer has no token".to_owned()),
        }
    }

    /// The trust anchors of a bundle, or of all bundles of a signer that a selector picks.
    pub(super) async fn trust_anchors(&self, source: &ClusterTrustBundleProjection) -> Result<String, String> {
        let optional = source.optional == Some(true);
        let bundles = if let Some(name) = &source.name {
            let found = self.0.client.find::<Value>(&format!("{BUNDLES}/{name}")).await;
            let found = found.map_err(|error| format!("error getting ClusterTrustBundle: {error}"))?;
            if found.is_none() && !optional {
                return Err(format!("clustertrustbundle.certificates.k8s.io \"{name}\" not found"));
            }
            found.into_iter().collect()
        } else if let Some(signer) = &source.signer_name {
            let selector = source.label_selector.as_ref().map(|selector| json!(selector)).unwrap_or(Value::Null);
            let selector = LabelSelector::from_object(&selector).map_err(|error| error.to_string())?;
            let params = ListParams { fields: format!("spec.signerName={signer}"), ..ListParams::default() };
            let list = self.0.client.list::<Value>(BUNDLES, &params).await;
            let mut items = list.map_err(|error| format!("error listing ClusterTrustBundles: {error}"))?.items;
            // No selector picks none, an empty one all.
            items.retain(|bundle| source.label_selector.is_some() && selector.matches(&meta::labels(bundle)));
            items
        } else {
            return Err("ClusterTrustBundle projection requires either name or signerName to be set".to_owned());
        };
        let anchors = anchors(&bundles);
        if anchors.is_empty() && !optional {
            return Err("combined signerName and labelSelector matched zero ClusterTrustBundles".to_owned());
        }
        Ok(anchors)
    }
}

/// The certificates of all bundles, each once, in an order that nobody can rely on (as KEP-3257 asks) but that stays the same.
fn anchors(bundles: &[Value]) -> String {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    let texts = bundles.iter().map(|bundle| meta::text(bundle, &["spec", "trustBundle"]));
    let certificates: BTreeSet<String> = texts
        .flat_map(|text| text.split(BEGIN).skip(1))
        .filter_map(|rest| rest.split_once("-----END CERTIFICATE-----"))
        .map(|(body, _)| format!("{BEGIN}\n{}\n-----END CERTIFICATE-----\n", body.trim()))
        .collect();
    certificates.into_iter().collect()
}

/// When four fifths of a token's life are over, or a day.
fn refresh_after(lives: SignedDuration) -> SignedDuration {
    let random = random::bytes::<8>().map_or(0, u64::from_be_bytes) % SPREAD;
    let spread = SignedDuration::try_from(Duration::from_millis(random)).unwrap_or_default();
    OLDEST.min(lives - lives / 5) - spread
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_refreshed_after_four_fifths_of_its_life_or_a_day() {
        for (hours, expected_minutes) in [(1, 48), (10, 480), (24, 24 * 48), (365 * 24, 24 * 60)] {
            let lives = SignedDuration::from_hours(hours);
            let early = SignedDuration::from_mins(expected_minutes) - refresh_after(lives);
            assert!((0..=10).contains(&early.as_secs()), "{hours} h: {early}");
        }
    }

    #[test]
    fn certificates_of_several_bundles_are_shown_once_each() {
        let bundle = |text: &str| json!({"spec": {"trustBundle": text}});
        let cert = |body: &str| format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
        let shown = anchors(&[bundle(&format!("# one\n{}{}", cert("B"), cert("A"))), bundle(&cert("B"))]);
        assert_eq!(shown, format!("{}{}", cert("A"), cert("B")));
        assert_eq!(anchors(&[]), "");
    }
}
