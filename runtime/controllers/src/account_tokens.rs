//! Secrets of type `kubernetes.io/service-account-token`: one whose account is gone, or is another of its name, is removed; one
//! that lacks its token, namespace or CA gets it; and an account does not go on naming one that is gone.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kiln_apimachinery::{Status, meta};
use kiln_client::{BoxFuture, Change, Client, ClientError, Informer, ListParams, ObjectRef, Store, WorkQueue};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::reconcile::{Failure, Next, work};

const TYPE: &str = "kubernetes.io/service-account-token";
const NAME: &str = "kubernetes.io/service-account.name";
const UID: &str = "kubernetes.io/service-account.uid";
const SECRETS: &str = "/api/v1/secrets";
const ACCOUNTS: &str = "/api/v1/serviceaccounts";

/// Puts what is missing into such a Secret; only the API server has the key to sign tokens with.
pub type Fill = Arc<dyn Fn(Value) -> BoxFuture<'static, Result<Value, Status>> + Send + Sync>;

/// What there is to look at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    /// A Secret.
    Secret(ObjectRef),
    /// An account that may name a Secret that is gone.
    Account {
        account: ObjectRef,
        /// Empty if the Secret did not say.
        uid: String,
        secret: String,
        secret_uid: String,
    },
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Secret(key) | Self::Account { account: key, .. }) = self;
        key.fmt(f)
    }
}

/// Runs the controller until the shutdown. `ca` is the CA of the API server, in PEM.
pub async fn run(client: Client, fill: Fill, ca: &str, shutdown: CancellationToken) {
    let of_type = ListParams { fields: format!("type={TYPE}"), ..ListParams::default() };
    let secrets = Informer::new(client.clone(), SECRETS, of_type);
    let accounts = Informer::new(client.clone(), ACCOUNTS, ListParams::default());
    let queue = WorkQueue::<Key>::default();
    let (tokens, ca) = (secrets.store(), STANDARD.encode(ca));
    let controller = Controller { client, fill, ca, secrets: secrets.store(), accounts: accounts.store() };
    tokio::join!(
        secrets.run(shutdown.clone(), |change| queue_secret(&queue, change)),
        accounts.run(shutdown.clone(), |change| {
            let (Change::Applied { key, .. } | Change::Deleted { key, .. }) = change else { return };
            for token in tokens.list().iter().filter(|token| is_of(token, key)) {
                queue.add(Key::Secret(ObjectRef::of(token)));
            }
        }),
        work("service-account-token", &queue, &shutdown, |key| controller.reconcile(key)),
    );
}

fn queue_secret(queue: &WorkQueue<Key>, change: &Change) {
    match change {
        Change::Applied { key, .. } => queue.add(Key::Secret(key.clone())),
        Change::Deleted { key, object } => queue.add(Key::Account {
            account: ObjectRef::namespaced(&key.namespace, account_name(object)),
            uid: account_uid(object).to_owned(),
            secret: key.name.clone(),
            secret_uid: meta::uid(object).to_owned(),
        }),
        Change::Synced => {}
    }
}

fn account_name(secret: &Value) -> &str {
    meta::annotation(secret, NAME).unwrap_or_default()
}

fn account_uid(secret: &Value) -> &str {
    meta::annotation(secret, UID).unwrap_or_default()
}

/// Whether a Secret says that it is this account's.
fn is_of(secret: &Value, account: &ObjectRef) -> bool {
    meta::namespace(secret) == account.namespace && account_name(secret) == account.name
}

/// Whether an account is the one of this uid, if there is one.
fn is_it(account: &Value, uid: &str) -> bool {
    uid.is_empty() || meta::uid(account) == uid
}

struct Controller {
    client: Client,
    fill: Fill,
    /// As Secrets have it.
    ca: String,
    secrets: Store,
    accounts: Store,
}

impl Controller {
    async fn reconcile(&self, key: Key) -> Result<Next, Failure> {
        self.secrets.synced().await;
        self.accounts.synced().await;
        match key {
            Key::Secret(key) => self.secret(&key).await?,
            Key::Account { account, uid, secret, secret_uid } => {
                let is_back = |found: &Arc<Value>| meta::uid(found) == secret_uid;
                let place = ObjectRef::namespaced(&account.namespace, &secret);
                if !self.secrets.get(&place).as_ref().is_some_and(is_back) {
                    self.strike_off(&account, &uid, &secret).await?;
                }
            }
        }
        Ok(Next::Settled)
    }

    async fn secret(&self, key: &ObjectRef) -> Result<(), ClientError> {
        let Some(secret) = self.secrets.get(key) else { return Ok(()) };
        let account = ObjectRef::namespaced(&key.namespace, account_name(&secret));
        if account.name.is_empty() {
            return Ok(());
        }
        let path = format!("/api/v1/namespaces/{}/secrets/{}", key.namespace, key.name);
        if !self.exists(&account, account_uid(&secret)).await? {
            let options = json!({"preconditions": {"uid": meta::uid(&secret)}});
            return settled(self.client.delete(&path, &options).await);
        }
        if self.is_whole(&secret) {
            return Ok(());
        }
        let filled = (self.fill)((*secret).clone()).await?;
        if filled == *secret {
            return Ok(());
        }
        settled(self.client.update::<Value>(&path, &filled).await)
    }

    /// Whether the account is there, by the server if the mirror does not have it.
    async fn exists(&self, account: &ObjectRef, uid: &str) -> Result<bool, ClientError> {
        if self.accounts.get(account).is_some_and(|found| is_it(&found, uid)) {
            return Ok(true);
        }
        let found = self.client.find::<Value>(&account_path(account)).await?;
        Ok(found.is_some_and(|found| is_it(&found, uid)))
    }

    fn is_whole(&self, secret: &Value) -> bool {
        let data = |key: &str| meta::text(secret, &["data", key]);
        data("ca.crt") == self.ca && !data("namespace").is_empty() && !data("token").is_empty()
    }

    /// Takes a Secret's name out of an account.
    async fn strike_off(&self, account: &ObjectRef, uid: &str, secret: &str) -> Result<(), Failure> {
        if !self.accounts.get(account).is_some_and(|found| is_it(&found, uid)) {
            return Ok(());
        }
        let path = account_path(account);
        let Some(mut live) = self.client.find::<Value>(&path).await?.filter(|found| is_it(found, uid)) else {
            return Ok(());
        };
        let Some(named) = live.get_mut("secrets").and_then(Value::as_array_mut) else { return Ok(()) };
        let before = named.len();
        named.retain(|reference| meta::text(reference, &["name"]) != secret);
        if named.len() == before {
            return Ok(());
        }
        match self.client.update::<Value>(&path, &live).await {
            // A conflict is tried again with what is there then.
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }
}

fn account_path(account: &ObjectRef) -> String {
    format!("/api/v1/namespaces/{}/serviceaccounts/{}", account.namespace, account.name)
}

/// What became of a write to a Secret: one that is gone is settled, and so is one that was changed, as that is told.
fn settled<T>(written: Result<T, ClientError>) -> Result<(), ClientError> {
    match written {
        Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error),
        _ => Ok(()),
    }
}
