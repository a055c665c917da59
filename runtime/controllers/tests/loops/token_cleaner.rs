//! Bootstrap tokens and their time.

use crate::common;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{World, pass};
use kiln_controllers::token_cleaner;
use serde_json::{Value, json};

const TOKEN: &str = "/api/v1/namespaces/kube-system/secrets/bootstrap-token-abcdef";

fn token(kind: &str, expiration: Option<&str>) -> Value {
    let mut secret = json!({"type": kind, "data": {}});
    if let Some(time) = expiration {
        secret["data"]["expiration"] = json!(STANDARD.encode(time));
    }
    secret
}

fn start(secret: Value) -> World {
    let world = World::new();
    world.api.put(TOKEN, secret);
    tokio::spawn(token_cleaner::run(world.api.client(), world.clock.clone(), world.shutdown.clone()));
    world
}

#[tokio::test(start_paused = true)]
async fn a_token_is_removed_at_its_time_and_not_before() {
    let world = start(token("bootstrap.kubernetes.io/token", Some("2026-03-01T13:00:00Z")));
    let after = world.until("removed", |api| api.object(TOKEN).is_none()).await;
    assert!((3599.0..3602.0).contains(&after.as_secs_f64()), "after {after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_prolonged_lives_on() {
    let world = start(token("bootstrap.kubernetes.io/token", Some("2026-03-01T13:00:00Z")));
    pass(3000).await;
    world.api.put(TOKEN, token("bootstrap.kubernetes.io/token", Some("2026-03-01T14:00:00Z")));
    pass(3000).await;
    assert!(world.api.object(TOKEN).is_some());
    world.until("removed", |api| api.object(TOKEN).is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn a_token_without_expiry_and_other_secrets_stay() {
    let eternal = start(token("bootstrap.kubernetes.io/token", None));
    let other = start(token("Opaque", Some("2020-01-01T00:00:00Z")));
    pass(100_000).await;
    assert!(eternal.api.object(TOKEN).is_some() && other.api.object(TOKEN).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_token_whose_expiry_cannot_be_read_is_removed() {
    let world = start(token("bootstrap.kubernetes.io/token", Some("tomorrow")));
    world.until("removed", |api| api.object(TOKEN).is_none()).await;
}
