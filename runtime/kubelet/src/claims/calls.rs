//! Calls of a driver's plugin.

use std::collections::HashMap;
use std::time::Duration;

use prost::Message;

use super::checkpoint::Device;
use super::messages::{Claim, ClaimsRequest, PrepareResponse, UnprepareResponse};
use super::plugins::Plugin;
use crate::csi::client::{CsiError, call};

/// How long a call may take, as with upstream's kubelet.
const PATIENCE: Duration = Duration::from_secs(45);

async fn ask<A: Message + Default>(plugin: &Plugin, name: &str, claims: &[Claim]) -> Result<A, CsiError> {
    let path = format!("/k8s.io.kubelet.pkg.apis.dra.{}/{name}", plugin.service);
    call(&plugin.socket, &path, &ClaimsRequest { claims: claims.to_vec() }, PATIENCE).await
}

/// The claims with what was answered of them: one answer to each.
fn matched<T>(
    name: &str,
    claims: &[Claim],
    answers: HashMap<String, T>,
    error: impl Fn(&T) -> &str,
) -> Result<Vec<(Claim, T)>, String> {
    let mut all = Vec::new();
    for (uid, answer) in answers {
        let claim = claims.iter().find(|claim| claim.uid == uid);
        let claim = claim.ok_or_else(|| format!("{name} returned result for unknown claim UID {uid}"))?;
        let why = error(&answer);
        if !why.is_empty() {
            return Err(format!("{name} failed for ResourceClaim {}: {why}", claim.name));
        }
        all.push((claim.clone(), answer));
    }
    match claims.len().saturating_sub(all.len()) {
        0 => Ok(all),
        missing => Err(format!("{name} skipped {missing} ResourceClaims")),
    }
}

/// Has a plugin prepare claims: its devices for each.
pub(super) async fn prepare(plugin: &Plugin, claims: &[Claim]) -> Result<Vec<(Claim, Vec<Device>)>, String> {
    const NAME: &str = "NodePrepareResources";
    let answer: PrepareResponse = ask(plugin, NAME, claims).await.map_err(|error| format!("{NAME}: {error}"))?;
    let answers = matched(NAME, claims, answer.claims, |prepared| &prepared.error)?;
    let devices = answers.into_iter().map(|(claim, prepared)| {
        let devices = prepared.devices.into_iter().map(|device| Device {
            pool: device.pool_name,
            device: device.device_name,
            share: device.share_id,
            requests: device.request_names,
            cdi: device.cdi_device_ids,
        });
        (claim, devices.collect())
    });
    Ok(devices.collect())
}

/// Has a plugin take back what it prepared.
pub(super) async fn unprepare(plugin: &Plugin, claims: &[Claim]) -> Result<(), String> {
    const NAME: &str = "NodeUnprepareResources";
    let answer: UnprepareResponse = ask(plugin, NAME, claims).await.map_err(|error| format!("{NAME}: {error}"))?;
    matched(NAME, claims, answer.claims, |answer| &answer.error).map(|_| ())
}
