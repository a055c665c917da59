//! Who asks, and whether he may: client certificates of the cluster's CA and bearer tokens by TokenReview, then
//! SubjectAccessReview on the Node's subresources, as fine-grained as Kubernetes has them since 1.33 (KEP-2862).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::{Method, Request, StatusCode, header};
use kiln_client::Client;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::answer::Refusal;

const TOKEN_REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const ACCESS_REVIEWS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
/// How long an answer is good, as upstream's defaults: of a token, of a right, of a missing right.
const TOKEN_GOOD: Duration = Duration::from_secs(120);
const ALLOWED_GOOD: Duration = Duration::from_secs(300);
const DENIED_GOOD: Duration = Duration::from_secs(30);
/// The most answers that are kept.
const KEPT: usize = 1000;

/// Who makes a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Who {
    /// The API server, which has asked these questions itself.
    ApiServer,
    /// Someone at the port, with the user of his certificate, if he showed one.
    Peer(Option<User>),
}

/// A user, as the API knows him.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) groups: Vec<String>,
    /// As a SubjectAccessReview has it, or null.
    pub(super) extra: Value,
}

type Kept<T> = Mutex<HashMap<[u8; 32], (Instant, T)>>;

/// Asks the API, and remembers the answers for a while.
pub(super) struct Access {
    client: Client,
    node_name: String,
    tokens: Kept<User>,
    rights: Kept<bool>,
}

impl Access {
    pub(super) fn new(client: Client, node_name: String) -> Self {
        Self { client, node_name, tokens: Mutex::default(), rights: Mutex::default() }
    }

    /// Lets a request through, or not.
    pub(super) async fn check<B>(&self, who: &Who, request: &Request<B>) -> Result<(), Refusal> {
        let Who::Peer(shown) = who else { return Ok(()) };
        let user = match (shown, bearer(request)) {
            (Some(user), _) => user.clone(),
            (None, Some(token)) => self.holder(token).await?,
            (None, None) => return Err(Refusal(StatusCode::UNAUTHORIZED, "Unauthorized".into())),
        };
        let verb = match *request.method() {
            Method::POST => "create",
            Method::GET => "get",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "",
        };
        let subresources = subresources(request.uri().path());
        for subresource in subresources {
            if self.may(&user, verb, subresource).await? {
                return Ok(());
            }
        }
        let why = format!(
            "Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{}])\n",
            user.name,
            subresources.join(" ")
        );
        Err(Refusal(StatusCode::FORBIDDEN, why))
    }

    /// Whose token this is.
    async fn holder(&self, token: &str) -> Result<User, Refusal> {
        let key = digest(&[token]);
        if let Some(user) = find(&self.tokens, &key) {
            return Ok(user);
        }
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
        let unauthorized = || Refusal(StatusCode::UNAUTHORIZED, "Unauthorized".to_owned());
        let answer: Value = self.client.create(TOKEN_REVIEWS, &review).await.map_err(|error| {
            tracing::warn!(%error, "a token could not be reviewed");
            unauthorized()
        })?;
        let status = &answer["status"];
        if status["authenticated"] != json!(true) {
            return Err(unauthorized());
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let user = User {
            name: text(&status["user"]["username"]),
            uid: text(&status["user"]["uid"]),
            groups: status["user"]["groups"].as_array().into_iter().flatten().map(text).collect(),
            extra: status["user"]["extra"].clone(),
        };
        keep(&self.tokens, key, TOKEN_GOOD, user.clone());
        Ok(user)
    }

    async fn may(&self, user: &User, verb: &str, subresource: &str) -> Result<bool, Refusal> {
        let groups = user.groups.join("\0");
        let extra = user.extra.to_string();
        let key = digest(&[&user.name, &user.uid, &groups, &extra, verb, subresource]);
        if let Some(allowed) = find(&self.rights, &key) {
            return Ok(allowed);
        }
        let mut spec = json!({
            "user": user.name, "groups": user.groups,
            "resourceAttributes": {
                "verb": verb, "version": "v1", "resource": "nodes", "subresource": subresource, "name": self.node_name,
            },
        });
        if !user.uid.is_empty() {
            spec["uid"] = user.uid.as_str().into();
        }
        if !user.extra.is_null() {
            spec["extra"] = user.extra.clone();
        }
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec});
        let answer: Value = self.client.create(ACCESS_REVIEWS, &review).await.map_err(|error| {
            tracing::warn!(%error, "an access could not be reviewed");
            Refusal::internal(format!(
                "Authorization error (user={}, verb={verb}, resource=nodes, subresource={subresource})",
                user.name
            ))
        })?;
        let allowed = answer["status"]["allowed"] == json!(true);
        keep(&self.rights, key, if allowed { ALLOWED_GOOD } else { DENIED_GOOD }, allowed);
        Ok(allowed)
    }
}

fn bearer<B>(request: &Request<B>) -> Option<&str> {
    let (scheme, token) = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Tokens are secrets: what is kept is a hash.
fn digest(parts: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().into()
}

fn find<T: Clone>(kept: &Kept<T>, key: &[u8; 32]) -> Option<T> {
    let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    kept.get(key).filter(|(until, _)| *until > Instant::now()).map(|(_, value)| value.clone())
}

fn keep<T>(kept: &Kept<T>, key: [u8; 32], good: Duration, value: T) {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    if kept.len() >= KEPT {
        kept.retain(|_, (until, _)| *until > now);
    }
    if kept.len() < KEPT {
        kept.insert(key, (now + good, value));
    }
}

/// The subresources of the Node of which any gives the right to a path.
fn subresources(path: &str) -> &'static [&'static str] {
    let below = |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let table: [(&str, &[&str]); 9] = [
        ("/pods", &["pods", "proxy"]),
        ("/runningpods", &["pods", "proxy"]),
        ("/healthz", &["healthz", "proxy"]),
        ("/configz", &["configz", "proxy"]),
        ("/stats", &["stats"]),
        ("/metrics", &["metrics"]),
        ("/logs", &["log"]),
        ("/checkpoint", &["checkpoint"]),
        ("/statusz", &["statusz"]),
    ];
    table.iter().find(|(root, _)| below(root)).map_or(&["proxy"], |(_, found)| found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_asks_for_the_right_that_the_reference_asks_for() {
        let rows: [(&str, &[&str]); 9] = [
            ("/pods", &["pods", "proxy"]),
            ("/runningpods/", &["pods", "proxy"]),
            ("/healthz/syncloop", &["healthz", "proxy"]),
            ("/stats/summary", &["stats"]),
            ("/metrics/cadvisor", &["metrics"]),
            ("/metricsx", &["proxy"]),
            ("/containerLogs/d/p/c", &["proxy"]),
            ("/exec/d/p/c", &["proxy"]),
            ("/logs/", &["log"]),
        ];
        for (path, expected) in rows {
            assert_eq!(subresources(path), expected, "{path}");
        }
    }
}
