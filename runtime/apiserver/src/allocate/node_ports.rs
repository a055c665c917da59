//! Node ports out of the configured range. They are no objects of the API: each has a key with its Service.

use std::collections::HashSet;

use kiln_apimachinery::{Status, meta, random, time};
use kiln_storage::{ListOptions, NewValue, StorageError};
use serde_json::{Value, json};

use super::ips::Refused;
use super::service::node_ports;
use crate::server::ApiServer;
use crate::verbs::errors;

/// Keys of the node ports.
const PREFIX: &str = "/registry/ranges/servicenodeports/";
/// How many ports are tried at random before all that are taken are looked at.
const GUESSES: usize = 4;
/// Seconds after which a port whose Service is not there is no longer one that is about to be.
const GRACE: i64 = 60;

/// The key that takes a port.
pub(super) fn key(port: i64) -> String {
    format!("{PREFIX}{port}")
}

/// Takes a port that was asked for.
pub(super) async fn take(server: &ApiServer, service: &Value, port: i64, dry_run: bool) -> Result<(), Refused> {
    let range = &server.config().node_ports;
    if !u16::try_from(port).is_ok_and(|p| range.contains(&p)) {
        let (first, last) = (range.start(), range.end());
        let why = format!("provided port is not in the valid range. The range of valid ports is {first}-{last}");
        return Err(Refused::Because(why));
    }
    let free = if dry_run {
        server.storage().get(&key(port)).await.map_err(errors::storage)?.is_none()
    } else {
        create(server, service, port).await? || take_over(server, service, port).await?
    };
    if free { Ok(()) } else { Err(Refused::Because("provided port is already allocated".into())) }
}

/// Takes any port; for a dry run one that is free and none of `seen`.
pub(super) async fn take_any(server: &ApiServer, service: &Value, dry_run: bool, seen: &[i64]) -> Result<i64, Refused> {
    let range = &server.config().node_ports;
    let (first, last) = (i64::from(*range.start()), i64::from(*range.end()));
    let size = last - first + 1;
    // The beginning is left to those who ask for one of them.
    let reserved = if size <= 16 { 0 } else { (size / 32).clamp(16, 128) };
    let (from, span) = (first + reserved, size - reserved);
    let random = || -> Result<i64, Status> {
        let number = random::bytes::<4>().map(u32::from_ne_bytes).map_err(Status::internal)?;
        Ok(i64::from(number) % span.max(1))
    };
    for _ in 0..GUESSES {
        let port = from + random()?;
        if !dry_run && create(server, service, port).await? {
            return Ok(port);
        }
    }
    let mut taken = taken(server).await?;
    taken.extend(seen);
    let start = random()?;
    let beyond = (0..span).map(|i| from + (start + i) % span);
    for port in beyond.chain(first..from) {
        if taken.insert(port) && (dry_run || create(server, service, port).await?) {
            return Ok(port);
        }
    }
    Err(Refused::Full)
}

async fn taken(server: &ApiServer) -> Result<HashSet<i64>, Status> {
    let page = server.storage().list(PREFIX, ListOptions::default()).await.map_err(errors::storage)?;
    Ok(page.records.iter().filter_map(|r| r.key.strip_prefix(PREFIX)?.parse().ok()).collect())
}

fn value(server: &ApiServer, service: &Value) -> NewValue {
    let service = json!({"namespace": meta::namespace(service), "name": meta::name(service)});
    NewValue::plain(json!({"service": service, "since": time::rfc3339(server.now())}).to_string())
}

/// Creates the key of a port; false if there is one.
pub(super) async fn create(server: &ApiServer, service: &Value, port: i64) -> Result<bool, Status> {
    match server.storage().create(key(port), value(server, service)).await {
        Ok(_) => Ok(true),
        Err(StorageError::Exists) => Ok(false),
        Err(error) => Err(errors::storage(error)),
    }
}

/// Takes the port of a Service that is not there, as one whose writer was cut off leaves it; false if it is in use.
async fn take_over(server: &ApiServer, service: &Value, port: i64) -> Result<bool, Status> {
    let Some((found, revision)) = super::read(server, &key(port)).await? else {
        return create(server, service, port).await;
    };
    let since = time::parse(meta::text(&found, &["since"]));
    if since.is_none_or(|t| server.now().as_second() - t.as_second() < GRACE) {
        return Ok(false);
    }
    let owner = |k: &str| meta::text(&found, &["service", k]);
    let owner = server.store().read("", "services", owner("namespace"), owner("name")).await?;
    if owner.is_some_and(|o| node_ports(&o.object).contains(&port)) {
        return Ok(false);
    }
    match server.storage().update(key(port), value(server, service), revision).await {
        Ok(_) => Ok(true),
        Err(StorageError::Conflict { .. } | StorageError::NotFound) => Ok(false),
        Err(error) => Err(errors::storage(error)),
    }
}
