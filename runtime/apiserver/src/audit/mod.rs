//! The audit log: who did what, when, and how it ended, as a policy wants it. In flows each request with its user and its
//! answer, out flow `audit.k8s.io/v1` Events, one a line, to a file. Without a policy nothing of this runs.

mod body;
mod event;
mod log;
pub(crate) mod policy;

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use ::http::request::Parts;
use ::http::{HeaderMap, HeaderName, HeaderValue, Response};
use bytes::Bytes;
use jiff::Timestamp;
use kiln_apimachinery::{Status, random};
use serde_json::{Map, Value, json};

use crate::authz::Decision;
use crate::config::Clock;
use crate::http::body::Body;
use crate::request_info::RequestInfo;
use crate::user::UserInfo;

use event::Draft;
pub(crate) use event::user_value;
pub use log::AuditLog;
pub use policy::PolicyError;
use policy::{Level, Policy, Scope, Stage};

/// The header that carries the request's id both ways.
const ID: HeaderName = HeaderName::from_static("audit-id");
/// Longest id that is taken from a client.
const LONGEST_ID: usize = 64;

/// What to audit, and where to.
#[derive(Clone, Debug)]
pub struct AuditConfig {
    /// The text of `--audit-policy-file`.
    pub policy: String,
    /// `--audit-log-path` and what goes with it.
    pub log: AuditLog,
}

/// Auditing can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The policy is none.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The log can't be opened.
    #[error("the audit log {path} can't be opened: {source}")]
    Log {
        /// Its path.
        path: String,
        /// The system's reason.
        source: std::io::Error,
    },
}

/// A policy and the log it fills.
pub(crate) struct Audit {
    policy: Policy,
    log: Arc<log::Log>,
    clock: Clock,
}

/// The address that a request came from, among its extensions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) std::net::IpAddr);

/// What is learnt about a request while it is served.
#[derive(Default)]
struct Notes {
    annotations: Map<String, Value>,
    impersonated: Option<Value>,
}

tokio::task_local! {
    static NOTES: Arc<Mutex<Notes>>;
}

/// Changes the notes of the request that is being served, if it is audited.
fn note(change: impl FnOnce(&mut Notes)) {
    let noted = NOTES.try_with(|notes| change(&mut notes.lock().unwrap_or_else(PoisonError::into_inner)));
    // Outside of an audited request there is nothing to note.
    noted.unwrap_or_default();
}

/// Notes how authorization decided on the request.
pub(crate) fn decided(decision: &Decision) {
    note(|notes| {
        let word = if decision.allowed { "allow" } else { "forbid" };
        notes.annotations.insert("authorization.k8s.io/decision".into(), word.into());
        notes.annotations.insert("authorization.k8s.io/reason".into(), decision.reason.as_str().into());
    });
}

/// Notes a fact about the request.
pub(crate) fn annotate(key: &str, value: String) {
    note(|notes| {
        notes.annotations.insert(key.into(), value.into());
    });
}

/// Notes whom the request acts as, and within which limit.
pub(crate) fn impersonated(user: &UserInfo, constraint: &str) {
    note(|notes| {
        notes.impersonated = Some(user_value(user));
        if !constraint.is_empty() {
            let key = "authentication.k8s.io/impersonation-constraint";
            notes.annotations.insert(key.into(), constraint.into());
        }
    });
}

/// The id of a request: the client's, or a new one.
pub(crate) fn id(headers: &HeaderMap) -> Option<HeaderValue> {
    let given = headers.get(ID).filter(|v| !v.is_empty() && v.len() <= LONGEST_ID).cloned();
    given.or_else(|| HeaderValue::try_from(random::uid().ok()?).ok())
}

/// Tells the client the request's id.
pub(crate) fn mark(response: &mut Response<Body>, id: Option<HeaderValue>) {
    if let Some(id) = id {
        response.headers_mut().insert(ID, id);
    }
}

impl Audit {
    /// Reads the policy and opens the log.
    pub(crate) fn new(config: AuditConfig, clock: Clock) -> Result<Self, AuditError> {
        let policy = Policy::parse(&config.policy)?;
        let path = config.log.path.display().to_string();
        let log = log::Log::open(config.log).map_err(|source| AuditError::Log { path, source })?;
        Ok(Self { policy, log: Arc::new(log), clock })
    }

    /// Begins the record of a request; `None` if the policy wants none. `user` is the one who makes it.
    pub(crate) fn begin(
        &self,
        user: &UserInfo,
        info: &RequestInfo,
        parts: &Parts,
        body: &Bytes,
        id: Option<&HeaderValue>,
    ) -> Option<Recording> {
        let scope = self.policy.scope(user, info);
        if scope.level == Level::None {
            return None;
        }
        let id = id.and_then(|v| v.to_str().ok()).unwrap_or_default();
        let now = (self.clock)();
        let mut draft = Draft::new(&scope, user, info, parts, id, now);
        draft.request(parts, body, info, &scope);
        let recording = Recording {
            draft,
            scope,
            log: self.log.clone(),
            clock: self.clock.clone(),
            notes: Arc::default(),
            streams: info.is_long_running(),
            ended: false,
        };
        recording.emit(Stage::RequestReceived, None);
        Some(recording)
    }

    /// Records a request whose credentials were refused.
    pub(crate) fn refused(&self, info: &RequestInfo, parts: &Parts, id: Option<&HeaderValue>, status: &Status) {
        let scope = self.policy.scope(&UserInfo::default(), info);
        if scope.level == Level::None || scope.omit_stages.contains(&Stage::ResponseStarted) {
            return;
        }
        let id = id.and_then(|v| v.to_str().ok()).unwrap_or_default();
        let now = (self.clock)();
        let draft = Draft::new(&scope, &UserInfo::default(), info, parts, id, now);
        let way = if parts.headers.contains_key(::http::header::AUTHORIZATION) { "bearer" } else { "x509" };
        let message = format!("Authentication failed, attempted: {way}");
        let answer = json!({"metadata": {}, "code": status.code, "message": message});
        self.log.write(draft.event(Stage::ResponseStarted, now, Some(&answer), &Notes::default()));
    }
}

/// The record of one request.
pub(crate) struct Recording {
    draft: Draft,
    scope: Scope,
    log: Arc<log::Log>,
    clock: Clock,
    notes: Arc<Mutex<Notes>>,
    streams: bool,
    ended: bool,
}

impl Recording {
    /// Serves the request with notes taken.
    pub(crate) async fn follow<T>(&self, work: impl Future<Output = T>) -> T {
        NOTES.scope(self.notes.clone(), work).await
    }

    fn now(&self) -> Timestamp {
        (self.clock)()
    }

    fn emit(&self, stage: Stage, answer: Option<&Value>) {
        if !self.scope.omit_stages.contains(&stage) {
            let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
            self.log.write(self.draft.event(stage, self.now(), answer, &notes));
        }
    }

    /// Records the answer: at once, or a stream as it begins and as it ends.
    pub(crate) async fn answered(mut self, response: Response<Body>) -> Response<Body> {
        let code = response.status().as_u16();
        if self.streams && code < 400 {
            let answer = json!({"metadata": {}, "code": code});
            self.emit(Stage::ResponseStarted, Some(&answer));
            return response.map(|stream| body::Recorded::new(stream, self, answer).into_body());
        }
        // A refusal is told in whole at any level.
        let wanted = self.scope.level == Level::RequestResponse;
        let (response, object) = match wanted || code >= 400 {
            true => body::read(response).await,
            false => (response, None),
        };
        let answer = event::outcome(code, object.as_ref());
        if let Some(object) = object.filter(|_| wanted) {
            self.draft.response(object, &self.scope);
        }
        self.end(&answer);
        response
    }

    fn end(&mut self, answer: &Value) {
        self.ended = true;
        self.emit(Stage::ResponseComplete, Some(answer));
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        // A handler has panicked, or the client is gone.
        if std::thread::panicking() {
            let answer = json!({"metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500});
            self.emit(Stage::Panic, Some(&answer));
        } else {
            self.emit(Stage::ResponseComplete, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ::http::Request;
    use kiln_apimachinery::query::Query;

    use super::*;

    #[test]
    fn a_handler_that_panics_leaves_a_record() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let log = AuditLog { path: path.clone(), max_age: Duration::ZERO, max_backups: 0, max_size: 0 };
        let policy = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]".to_owned();
        let audit = Audit::new(AuditConfig { policy, log }, Arc::new(Timestamp::now)).unwrap();
        let (parts, ()) = Request::get("/version").body(()).unwrap().into_parts();
        let info = RequestInfo::new(&parts.method, parts.uri.path(), &Query::default());
        let recording = audit.begin(&UserInfo::new("bob", &[]), &info, &parts, &Bytes::new(), None).unwrap();
        let handler = std::thread::spawn(move || {
            let _held = recording;
            panic!("a handler's fault");
        });
        assert!(handler.join().is_err());
        drop(audit);
        let text = std::fs::read_to_string(path).unwrap();
        let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!((&last["stage"], &last["responseStatus"]["code"]), (&json!("Panic"), &json!(500)));
    }
}
