//! Removes bootstrap tokens when they expire.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use kiln_apimachinery::{meta, time};
use kiln_client::{Client, Clock, Informer, ListParams, ObjectRef, Store, WorkQueue};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::reconcile::{Failure, Next, keys_to, work};

const SECRETS: &str = "/api/v1/namespaces/kube-system/secrets";
const TYPE: &str = "bootstrap.kubernetes.io/token";

/// Runs the controller until the shutdown.
pub async fn run(client: Client, clock: Clock, shutdown: CancellationToken) {
    let tokens = ListParams { fields: format!("type={TYPE}"), ..ListParams::default() };
    let informer = Informer::new(client.clone(), SECRETS, tokens);
    let (queue, store) = (WorkQueue::default(), informer.store());
    tokio::join!(
        informer.run(shutdown.clone(), keys_to(&queue)),
        work("token-cleaner", &queue, &shutdown, |key| reconcile(&client, &clock, &store, key)),
    );
}

async fn reconcile(client: &Client, clock: &Clock, store: &Store, key: ObjectRef) -> Result<Next, Failure> {
    let Some(secret) = store.get(&key).filter(|secret| secret["type"] == TYPE) else { return Ok(Next::Settled) };
    match left(&secret, clock.now()) {
        None => Ok(Next::Settled),
        Some(left) if !left.is_zero() => Ok(Next::After(left)),
        Some(_) => {
            // Only what was seen: a token that was prolonged meanwhile stays.
            let seen = json!({"uid": meta::uid(&secret), "resourceVersion": meta::resource_version(&secret)});
            let removed = client.delete(&format!("{SECRETS}/{}", key.name), &json!({"preconditions": seen})).await;
            match removed {
                Err(error) if !error.is_not_found() => Err(error.into()),
                _ => {
                    tracing::info!(token = key.name, "an expired bootstrap token is removed");
                    Ok(Next::Settled)
                }
            }
        }
    }
}

/// How long the token is still good, if it expires at all. One whose expiry cannot be read is refused by the API
/// server, so it counts as expired.
fn left(secret: &Value, now: Timestamp) -> Option<Duration> {
    let encoded = meta::at(secret, &["data", "expiration"])?.as_str().unwrap_or_default();
    let text = STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let expires = text.and_then(|text| time::parse(&text)).unwrap_or(now);
    Some(Duration::try_from(expires.duration_since(now)).unwrap_or(Duration::ZERO))
}
