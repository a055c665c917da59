//! Certificates of Ingresses from an ACME server, in the Secrets that the Ingresses name.
//!
//! In flow Ingresses of Kiln's own class that ask for it, and the Secrets that they name; out flow these Secrets with a certificate each.
//! While one is being made, its Secret has the answers to the server's challenges, which every node's ingress tells. What is tried is
//! noted in the Secret before the server hears of it: whatever ends this process, the server is asked no more often than its limits
//! bear. Nothing is polled: a certificate is looked at again when it is due, and when its Ingress or its Secret changes.

mod account;
mod kept;
mod wish;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kiln_acme::{AcmeError, Session, marks};
use kiln_client::{Change, Client, Clock, Informers, ObjectRef, PatchKind, Store, WorkQueue, path};
use kiln_gateway::Secrets;
use kiln_pki::{Certificate, PrivateKey, key_matches};
use serde::de::IgnoredAny;
use serde_json::{Value, json};

pub use kiln_acme::{LETS_ENCRYPT, Server};

use self::kept::{Kept, is_ours};
use self::wish::Wish;
use crate::events::{EventKind, Recorder};
use crate::reconcile::{Failure, Next, work};
use crate::{Context, ingress_status};

/// A certificate is looked at this often at least: the time of day may be set meanwhile, on boards that don't keep it for years.
const LOOK: Duration = Duration::from_secs(24 * 3_600);

/// Secrets with what they are to hold.
type Wishes = BTreeMap<ObjectRef, Wish>;

/// What is to be seen to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    /// What Ingresses ask for.
    Wishes,
    /// A Secret.
    Secret(ObjectRef),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wishes => f.write_str("Ingresses"),
            Self::Secret(secret) => secret.fmt(f),
        }
    }
}

/// Why no certificate came.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    /// The server, or the way to it.
    #[error(transparent)]
    Acme(#[from] AcmeError),
    /// The cluster's own API.
    #[error(transparent)]
    Here(#[from] Failure),
}

/// Adds the controller to the mirrors; what is returned runs it until the shutdown.
pub fn build(informers: &mut Informers, context: &Context, server: Server) -> impl Future<Output = ()> + use<> {
    let queue = WorkQueue::<Key>::default();
    let ingresses = informers.of::<Ingress>();
    ingresses.subscribe({
        let queue = queue.clone();
        move |change| {
            if is_of_wishes(change) {
                queue.add(Key::Wishes);
            }
        }
    });
    let ingresses = ingresses.store();
    let classes = informers.of::<IngressClass>();
    classes.subscribe({
        let queue = queue.clone();
        move |_| queue.add(Key::Wishes)
    });
    let classes = classes.store();
    let wishes = Arc::<Mutex<Wishes>>::default();
    // What is in one is read when it is seen to: a mirror would not show yet what was written last.
    let secrets = Secrets::new(context.client.clone(), |_| (), {
        let (queue, wishes) = (queue.clone(), wishes.clone());
        move || lock(&wishes).keys().for_each(|secret| queue.add(Key::Secret(secret.clone())))
    });
    let controller = Controller {
        client: context.client.clone(),
        clock: context.clock.clone(),
        events: context.events.recorder("acme"),
        server,
        ingresses,
        classes,
        secrets,
        wishes,
        told: Mutex::default(),
        queue: queue.clone(),
    };
    let shutdown = context.shutdown.clone();
    async move {
        work("acme", &queue, &shutdown, |key| controller.reconcile(key)).await;
    }
}

/// Whether a change of an Ingress may change what it asks for: one of its status does not.
fn is_of_wishes(change: &Change<Ingress>) -> bool {
    let Change::Applied { object, previous: Some(previous), .. } = change else { return true };
    object.spec != previous.spec || object.metadata.annotations != previous.metadata.annotations
}

/// No code panics while it holds the lock.
fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Controller {
    client: Client,
    clock: Clock,
    events: Recorder,
    server: Server,
    ingresses: Store<Ingress>,
    classes: Store<IngressClass>,
    secrets: Secrets<()>,
    wishes: Arc<Mutex<Wishes>>,
    /// What was told of Secrets and is so still: once is enough.
    told: Mutex<BTreeMap<ObjectRef, String>>,
    queue: WorkQueue<Key>,
}

impl Controller {
    async fn reconcile(&self, key: Key) -> Result<Next, Failure> {
        match key {
            Key::Wishes => self.gather().await,
            Key::Secret(secret) => self.see_to(&secret).await,
        }
    }

    /// Takes up what Ingresses ask for now.
    async fn gather(&self) -> Result<Next, Failure> {
        tokio::join!(self.ingresses.synced(), self.classes.synced());
        let (ingresses, classes) = (self.ingresses.list(), self.classes.list());
        let ours = ingresses.iter().filter(|ingress| ingress_status::is_ours(&classes, ingress));
        let wishes = wish::wishes(ours.map(|ingress| &**ingress));
        let old = std::mem::replace(&mut *lock(&self.wishes), wishes.clone());
        lock(&self.told).retain(|secret, _| wishes.contains_key(secret));
        self.secrets.want(wishes.keys().cloned().collect());
        for (secret, wish) in wishes {
            if old.get(&secret).is_none_or(|old| !old.is_same(&wish)) {
                self.queue.add(Key::Secret(secret));
            }
        }
        Ok(Next::Settled)
    }

    /// Has a Secret hold its certificate.
    async fn see_to(&self, key: &ObjectRef) -> Result<Next, Failure> {
        let Some(wish) = lock(&self.wishes).get(key).cloned() else { return Ok(Next::Settled) };
        if !wish.wildcards.is_empty() {
            let names = wish.wildcards.join(", ");
            self.refuse(
                key,
                &wish,
                format!("secret {key}: {names} can't be proven over HTTP, so it gets no certificate"),
            );
            return Ok(Next::Settled);
        }
        let secret = self.client.find::<Secret>(&path_of(key)).await?;
        if secret.as_ref().is_some_and(|secret| !is_ours(secret)) {
            let text = format!("secret {key} is there and lacks the annotation {}: it is left alone", marks::DIRECTORY);
            self.refuse(key, &wish, text);
            return Ok(Next::Settled);
        }
        lock(&self.told).remove(key);
        let (kept, now) = (Kept::read(secret.as_ref()), self.clock.now());
        let due = kept.certificate(&self.server.directory, &wish.hosts).map(renewal).filter(|due| *due > now);
        let next = due.or_else(|| kept.not_before(&self.server.directory, &wish.hosts)).filter(|next| *next > now);
        match next {
            Some(next) => Ok(wait(now, next)),
            None => self.issue(key, &wish, &kept).await,
        }
    }

    /// Tells that a Secret is not seen to, once.
    fn refuse(&self, key: &ObjectRef, wish: &Wish, text: String) {
        if lock(&self.told).insert(key.clone(), text.clone()).is_none_or(|told| told != text) {
            tracing::warn!("{text}");
            self.tell(wish, EventKind::Warning, "CertificateRefused", &text);
        }
    }

    fn tell(&self, wish: &Wish, kind: EventKind, reason: &str, text: &str) {
        for ingress in &wish.ingresses {
            self.events.tell(ingress.clone(), kind, reason, text.to_owned());
        }
    }

    /// Gets a certificate, or notes that it did not come.
    async fn issue(&self, key: &ObjectRef, wish: &Wish, kept: &Kept) -> Result<Next, Failure> {
        let mut attempt = kept.attempt_at(&self.server.directory, &wish.hosts, self.clock.now());
        self.change(key, json!({marks::ATTEMPT: attempt.to_text()}), Value::Null).await?;
        match self.obtain(key, wish).await {
            Ok(certificate) => {
                let (until, next) = (time(certificate.not_after), renewal(&certificate));
                let text = format!("secret {key}: certificate for {} until {until}", wish.hosts.join(", "));
                tracing::info!("{text}");
                self.tell(wish, EventKind::Normal, "CertificateIssued", &text);
                Ok(wait(self.clock.now(), next))
            }
            Err(trouble) => {
                let now = self.clock.now();
                if let Trouble::Acme(error) = &trouble
                    && let Some(wanted) = error.retry_after().and_then(|wait| now.checked_add(wait).ok())
                {
                    attempt.next = Time(wanted.max(attempt.next.0));
                }
                let text = format!("secret {key}: {trouble}; tried again at {:.0}", attempt.next.0);
                tracing::warn!("{text}");
                self.tell(wish, EventKind::Warning, "CertificateFailed", &text);
                let done = json!({marks::ATTEMPT: attempt.to_text(), marks::CHALLENGES: null});
                self.change(key, done, Value::Null).await?;
                Ok(wait(now, attempt.next.0))
            }
        }
    }

    /// Gets a certificate from the server into the Secret.
    async fn obtain(&self, key: &ObjectRef, wish: &Wish) -> Result<Certificate, Trouble> {
        let account = self.account_key().await?;
        let mut session = Session::open(&self.server, account, &self.clock).await?;
        let order = session.order(&wish.hosts).await?;
        self.change(key, json!({marks::CHALLENGES: json!(order.answers()).to_string()}), Value::Null).await?;
        session.prove(&order).await?;
        let private = PrivateKey::generate().map_err(AcmeError::from)?;
        let request = private.names_request(&wish.hosts).map_err(AcmeError::from)?;
        let chain = session.certificate(order, &request).await?;
        let certificate = Certificate::from_pem(&chain).map_err(AcmeError::from)?;
        let private = private.to_pem();
        if !covers(&certificate, &wish.hosts) || !key_matches(&certificate, &private).map_err(AcmeError::from)? {
            let why = "the certificate is not for what was asked for".to_owned();
            return Err(AcmeError::Answer { url: self.server.directory.clone(), why }.into());
        }
        let done = json!({marks::DIRECTORY: self.server.directory, marks::ATTEMPT: null, marks::CHALLENGES: null});
        self.change(key, done, json!({kept::CERTIFICATE: encode(&chain), kept::KEY: encode(&private)})).await?;
        Ok(certificate)
    }

    /// Changes annotations and data of a Secret, which is made if there is none. Somebody else's is left alone.
    async fn change(&self, key: &ObjectRef, mut annotations: Value, data: Value) -> Result<(), Failure> {
        let Some(known) = self.client.find::<Secret>(&path_of(key)).await? else {
            if let Some(annotations) = annotations.as_object_mut() {
                annotations.retain(|_, text| !text.is_null());
                annotations.entry(marks::DIRECTORY).or_insert_with(|| json!(self.server.directory));
            }
            let data = if data.is_null() { json!({kept::CERTIFICATE: "", kept::KEY: ""}) } else { data };
            let secret = json!({
                "apiVersion": "v1",
                "kind": "Secret",
                "type": "kubernetes.io/tls",
                "metadata": {"name": key.name, "annotations": annotations},
                "data": data,
            });
            self.client.create::<IgnoredAny>(&path::<Secret>(&key.namespace, ""), &secret).await?;
            return Ok(());
        };
        if !is_ours(&known) {
            return Err(Failure::Waiting("the Secret was replaced by another meanwhile".to_owned()));
        }
        let metadata = &known.metadata;
        let mut patch = json!({"metadata": {
            "uid": metadata.uid,
            "resourceVersion": metadata.resource_version,
            "annotations": annotations,
        }});
        if !data.is_null() {
            patch["data"] = data;
        }
        self.client.patch::<IgnoredAny>(&path_of(key), PatchKind::Merge, &patch).await?;
        Ok(())
    }
}

fn path_of(key: &ObjectRef) -> String {
    path::<Secret>(&key.namespace, &key.name)
}

fn encode(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}

/// Whether a certificate is for all these hosts.
fn covers(certificate: &Certificate, hosts: &[String]) -> bool {
    hosts.iter().all(|host| certificate.dns_names.iter().any(|name| name.eq_ignore_ascii_case(host)))
}

fn time(time: std::time::SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or(Timestamp::MAX)
}

/// When a certificate is to be replaced.
fn renewal(certificate: &Certificate) -> Timestamp {
    time(certificate.renew_at())
}

fn wait(now: Timestamp, next: Timestamp) -> Next {
    let wait = Duration::try_from(next.duration_since(now)).unwrap_or_default();
    Next::After(wait.min(LOOK))
}
