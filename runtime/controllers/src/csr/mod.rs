//! Certificate requests: approves those that the cluster's own nodes make, signs what is approved, and removes what is
//! old.

mod policy;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use kiln_apimachinery::{meta, time};
use kiln_client::{Client, Clock, Informer, ListParams, ObjectRef, Store, WorkQueue};
use kiln_pki::{Authority, Csr, LEAF_LIFETIME, PkiError, Signer};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

pub use self::policy::Reserved;
use self::policy::{Requester, Verdict};
use crate::reconcile::{Failure, Next, keys_to, work};

const PATH: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

/// How long a decided request is kept, and one that nobody decides, as in Kubernetes.
const KEEP_DECIDED: Duration = Duration::from_secs(60 * 60);
const KEEP_PENDING: Duration = Duration::from_secs(24 * 60 * 60);

/// What the controller needs to know.
pub struct Config {
    /// The CA.
    pub authority: Arc<Authority>,
    /// What no node may serve as.
    pub reserved: Reserved,
    /// The time of day.
    pub clock: Clock,
}

/// Runs the controller until the shutdown.
pub async fn run(client: Client, config: Config, shutdown: CancellationToken) {
    let requests = Informer::new(client.clone(), PATH, ListParams::default());
    let queue = WorkQueue::default();
    let controller = Controller { client, config, requests: requests.store() };
    tokio::join!(
        requests.run(shutdown.clone(), keys_to(&queue)),
        work("csr", &queue, &shutdown, |key| controller.reconcile(key)),
    );
}

struct Controller {
    client: Client,
    config: Config,
    requests: Store,
}

/// How far a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Pending,
    Approved,
    /// Signed, denied or failed.
    Decided,
}

impl State {
    fn of(request: &Value) -> Self {
        let conditions = meta::at(request, &["status", "conditions"]).and_then(Value::as_array);
        let has = |kind: &str| conditions.is_some_and(|all| all.iter().any(|condition| condition["type"] == kind));
        if has("Denied") || has("Failed") || !meta::text(request, &["status", "certificate"]).is_empty() {
            Self::Decided
        } else if has("Approved") {
            Self::Approved
        } else {
            Self::Pending
        }
    }
}

impl Controller {
    async fn reconcile(&self, key: ObjectRef) -> Result<Next, Failure> {
        let Some(request) = self.requests.get(&key) else { return Ok(Next::Settled) };
        let state = State::of(&request);
        let now = self.config.clock.now();
        let keep = if state == State::Pending { KEEP_PENDING } else { KEEP_DECIDED };
        let left = left(&request, keep, now);
        if left.is_zero() {
            return self.remove(&request).await;
        }
        match state {
            State::Decided => {}
            State::Approved => self.sign(&request, now).await?,
            State::Pending => self.judge(&request, now).await?,
        }
        Ok(Next::After(left))
    }

    /// Approves or denies a request, if it is of a kind that is decided here.
    async fn judge(&self, request: &Value, now: Timestamp) -> Result<(), Failure> {
        let Some(signer) = Signer::from_name(meta::text(request, &["spec", "signerName"])) else { return Ok(()) };
        let requester = Requester {
            user: meta::text(request, &["spec", "username"]),
            groups: meta::strings(meta::at(request, &["spec", "groups"])),
        };
        let verdict = match parse(request) {
            Ok(csr) => self.config.reserved.judge(signer, &csr, &usages(request), &requester),
            Err(error) => Verdict::Denied(error.to_string()),
        };
        let name = meta::name(request);
        let condition = match verdict {
            Verdict::Approved(why) => condition("Approved", "AutoApproved", &why, now),
            Verdict::Denied(why) => {
                tracing::warn!(request = name, user = requester.user, why, "a certificate request is denied");
                condition("Denied", "AutoDenied", &why, now)
            }
            Verdict::Undecided => return Ok(()),
        };
        let mut decided = request.clone();
        push_condition(&mut decided, condition);
        self.client.update::<Value>(&format!("{PATH}/{name}/approval"), &decided).await?;
        Ok(())
    }

    /// Signs an approved request, or says why it cannot be signed.
    async fn sign(&self, request: &Value, now: Timestamp) -> Result<(), Failure> {
        let Some(signer) = Signer::from_name(meta::text(request, &["spec", "signerName"])) else { return Ok(()) };
        let asked = meta::at(request, &["spec", "expirationSeconds"]).and_then(Value::as_u64);
        let lifetime = asked.map_or(LEAF_LIFETIME, Duration::from_secs).min(LEAF_LIFETIME);
        let signed = parse(request).and_then(|csr| {
            let csr = if signer == Signer::KubeletServing { self.config.reserved.narrow(csr) } else { csr };
            self.config.authority.sign(&csr, signer, &usages(request), lifetime, SystemTime::from(now))
        });
        let mut answered = request.clone();
        match signed {
            Ok(certificate) => answered["status"]["certificate"] = json!(STANDARD.encode(certificate)),
            Err(error @ (PkiError::Random | PkiError::Sign(_))) => return Err(error.into()),
            Err(error) => {
                push_condition(&mut answered, condition("Failed", "SignerValidationFailure", &error.to_string(), now));
            }
        }
        let path = format!("{PATH}/{}/status", meta::name(request));
        self.client.update::<Value>(&path, &answered).await?;
        Ok(())
    }

    async fn remove(&self, request: &Value) -> Result<Next, Failure> {
        let options = json!({"preconditions": {"uid": meta::uid(request)}});
        match self.client.delete(&format!("{PATH}/{}", meta::name(request)), &options).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(Next::Settled),
        }
    }
}

/// How much of the time that a request is kept is left.
fn left(request: &Value, keep: Duration, now: Timestamp) -> Duration {
    let created = time::parse(meta::text(request, &["metadata", "creationTimestamp"])).unwrap_or(now);
    let age = Duration::try_from(now.duration_since(created)).unwrap_or(Duration::ZERO);
    keep.saturating_sub(age)
}

fn parse(request: &Value) -> Result<Csr, PkiError> {
    let encoded = meta::text(request, &["spec", "request"]);
    let pem = STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    Csr::from_pem(&pem.unwrap_or_default())
}

fn usages(request: &Value) -> Vec<String> {
    meta::strings(meta::at(request, &["spec", "usages"])).into_iter().map(str::to_owned).collect()
}

fn condition(kind: &str, reason: &str, message: &str, now: Timestamp) -> Value {
    let now = time::rfc3339(now);
    json!({"type": kind, "status": "True", "reason": reason, "message": message,
        "lastUpdateTime": now, "lastTransitionTime": now})
}

fn push_condition(request: &mut Value, condition: Value) {
    match &mut request["status"]["conditions"] {
        Value::Array(conditions) => conditions.push(condition),
        none => *none = json!([condition]),
    }
}
