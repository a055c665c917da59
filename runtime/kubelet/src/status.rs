//! Shows the machine's state in the Node's status: at once when it changed, and every five minutes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kiln_apimachinery::meta;
use kiln_client::{Backoff, ClientError, ObjectRef, PatchKind, Store};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::devices::Devices;
use crate::machine::Pressure;
use crate::{Kubelet, NODES, Progress, node};

/// How often the status is written though nothing changed.
const REPORT: Duration = Duration::from_secs(300);
/// How often memory, disk and process ids are looked at.
const LOOK: Duration = Duration::from_secs(10);
/// How long a pressure that is over goes on being shown, so that it does not flutter.
const HOLD: Duration = Duration::from_secs(300);

/// Pressures as they are shown: a pressure that was seen stays for a while.
#[derive(Default)]
struct Held {
    until: [Option<Instant>; 3],
}

impl Held {
    fn see(&mut self, now: Instant, seen: Pressure) -> Pressure {
        let seen = [seen.memory, seen.disk, seen.pids];
        for (until, seen) in self.until.iter_mut().zip(seen) {
            if seen {
                *until = Some(now + HOLD);
            }
        }
        let [memory, disk, pids] = self.until.map(|until| until.is_some_and(|until| now < until));
        Pressure { memory, disk, pids }
    }
}

/// Waits until plugins offer other devices.
async fn changed_devices(offered: Option<&mut watch::Receiver<u64>>) {
    match offered {
        // The sender is in the kubelet itself.
        Some(offered) => _ = offered.changed().await,
        None => std::future::pending().await,
    }
}

impl<T: Fn(Progress) + Send + Sync> Kubelet<T> {
    /// Keeps the Node's status like the machine, without end. `changed` tells that the mirror has a new Node.
    pub(super) async fn keep_status(&self, mirror: &Store, changed: &Notify) {
        let key = ObjectRef::cluster(self.config.node_name.as_str());
        let (mut addresses, mut is_watched) = (self.machine.addresses.clone(), true);
        let mut backoff = Backoff::new(Duration::from_secs(1), LOOK);
        let mut held = Held::default();
        let mut health = self.signals.health.clone();
        let mut pressures = self.signals.pressure.clone();
        let ends = self.config.pods.as_ref().map(|pods| pods.end.begins.clone()).unwrap_or_default();
        let mut is_ending = false;
        let mut in_use = self.signals.in_use.subscribe();
        let mut offered = self.signals.devices.as_ref().map(Devices::subscribe);
        let mut reported: Option<Instant> = None;
        let mut node: Option<Arc<Value>> = None;
        loop {
            let mut wait = LOOK;
            if let Some(known) = &node {
                let pressure =
                    self.known_pressure().unwrap_or_else(|| held.see(Instant::now(), (self.machine.pressure)()));
                let health = health.borrow_and_update().clone();
                let in_use = in_use.borrow_and_update().clone();
                let devices = self.devices();
                let wanted = node::status(&self.config, &self.machine, known, pressure, &health, &in_use, &devices);
                let is_due = reported.is_none_or(|at| at.elapsed() >= REPORT);
                if is_due || node::differs(known, &wanted) {
                    match self.write_status(known, &wanted).await {
                        Ok(written) => {
                            node = Some(Arc::new(written));
                            reported = Some(Instant::now());
                            backoff.reset();
                        }
                        // Someone else wrote it: the mirror will tell.
                        Err(error) if error.is_conflict() => wait = backoff.next_wait(),
                        Err(error) => {
                            tracing::warn!(node = key.name, %error, "cannot write the status; will try again");
                            wait = backoff.next_wait();
                        }
                    }
                }
            }
            tokio::select! {
                () = changed.notified() => node = mirror.get(&key),
                // Whoever watches the addresses may be gone: those known are the last then.
                changed = addresses.changed(), if is_watched => is_watched = changed.is_ok(),
                // The sender is in the kubelet itself.
                _ = health.changed() => {}
                // Likewise.
                _ = pressures.changed() => {}
                _ = in_use.changed() => {}
                () = changed_devices(offered.as_mut()) => {}
                () = ends.cancelled(), if !is_ending => is_ending = true,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// The status for a Node that is yet to be made.
    pub(super) fn status(&self, known: &Value) -> Value {
        let pressure = self.known_pressure().unwrap_or_else(|| (self.machine.pressure)());
        let (health, in_use) = (self.signals.health.borrow().clone(), self.signals.in_use.borrow().clone());
        node::status(&self.config, &self.machine, known, pressure, &health, &in_use, &self.devices())
    }

    /// How many devices of each resource plugins offer, and how many of them are healthy.
    fn devices(&self) -> BTreeMap<String, (usize, usize)> {
        self.signals.devices.as_ref().map(Devices::capacity).unwrap_or_default()
    }

    /// What the machine is short of, by whoever ends pods for it: how long that is shown was decided there.
    fn known_pressure(&self) -> Option<Pressure> {
        *self.signals.pressure.borrow()
    }

    async fn write_status(&self, known: &Value, status: &Value) -> Result<Value, ClientError> {
        // The revision guards the conditions of others, which are written along with ours.
        let patch = json!({"metadata": {"resourceVersion": meta::resource_version(known)}, "status": status});
        let path = format!("{NODES}/{}/status", self.config.node_name);
        self.client.patch(&path, PatchKind::Merge, &patch).await
    }
}
