//! A driver for tests, which prepares whatever it is asked for. It is its own registrar.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use kiln_grpc::frame;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::messages::{ClaimsRequest, PrepareResponse, Prepared, PreparedDevice, UnprepareResponse, Unprepared};
use crate::csi::messages::{Empty, PluginInfo, RegistrationStatus};
use crate::csi::testing::{Answer, read, serve};

/// Its name.
pub(crate) const NAME: &str = "gpu.example.org";

#[derive(Default)]
struct State {
    /// The calls' names, each with the uids of claims.
    calls: Vec<(String, Vec<String>)>,
    /// Why claims fail, by their names.
    refused: HashMap<String, String>,
    /// Claims that it leaves out.
    skipped: Vec<String>,
}

pub(crate) struct FakePlugin {
    pub(crate) socket: PathBuf,
    state: Arc<Mutex<State>>,
    /// How it was told that its registration went.
    pub(crate) told: watch::Receiver<Option<RegistrationStatus>>,
    task: JoinHandle<()>,
}

impl Drop for FakePlugin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakePlugin {
    pub(crate) fn start(socket: &Path) -> Self {
        let state = Arc::<Mutex<State>>::default();
        let (sender, told) = watch::channel(None);
        let noted = state.clone();
        let task = serve(socket, move |call, body| {
            let mut state = noted.lock().unwrap_or_else(PoisonError::into_inner);
            answer(call, body, &mut state, &sender)
        });
        Self { socket: socket.to_owned(), state, told, task }
    }

    fn edit<T>(&self, edit: impl FnOnce(&mut State) -> T) -> T {
        edit(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What it was asked since the last time: calls with the uids of their claims.
    pub(crate) fn calls(&self) -> Vec<(String, Vec<String>)> {
        self.edit(|state| std::mem::take(&mut state.calls))
    }

    /// Has a claim fail from now on, or work again.
    pub(crate) fn refuse(&self, claim: &str, why: Option<&str>) {
        self.edit(|state| match why {
            Some(why) => _ = state.refused.insert(claim.to_owned(), why.to_owned()),
            None => _ = state.refused.remove(claim),
        });
    }

    /// Leaves a claim out of answers.
    pub(crate) fn skip(&self, claim: &str) {
        self.edit(|state| state.skipped.push(claim.to_owned()));
    }
}

/// Two devices a claim, for the requests `a` and `b`, and one for the whole claim.
fn devices(claim: &str) -> Vec<PreparedDevice> {
    let device = |name: &str, requests: &[&str]| PreparedDevice {
        request_names: requests.iter().map(|&name| name.to_owned()).collect(),
        pool_name: "pool".to_owned(),
        device_name: name.to_owned(),
        cdi_device_ids: vec![format!("example.org/gpu={claim}-{name}")],
        share_id: None,
    };
    vec![device("one", &["a"]), device("two", &["b"]), device("all", &[])]
}

fn answer(call: &str, body: Bytes, state: &mut State, told: &watch::Sender<Option<RegistrationStatus>>) -> Answer {
    match call {
        "GetInfo" => Ok(frame(&PluginInfo {
            kind: super::KIND.to_owned(),
            name: NAME.to_owned(),
            endpoint: String::new(),
            supported_versions: vec!["v1.DRAPlugin".to_owned(), "v1beta1.DRAPlugin".to_owned()],
        })),
        "NotifyRegistrationStatus" => {
            told.send_replace(Some(read(body)));
            Ok(frame(&Empty {}))
        }
        "NodePrepareResources" | "NodeUnprepareResources" => {
            let mut claims = read::<ClaimsRequest>(body).claims;
            state.calls.push((call.to_owned(), claims.iter().map(|claim| claim.uid.clone()).collect()));
            claims.retain(|claim| !state.skipped.contains(&claim.name));
            let error = |name: &String| state.refused.get(name).cloned().unwrap_or_default();
            if call == "NodePrepareResources" {
                let prepared = claims
                    .iter()
                    .map(|c| (c.uid.clone(), Prepared { devices: devices(&c.name), error: error(&c.name) }));
                Ok(frame(&PrepareResponse { claims: prepared.collect() }))
            } else {
                let unprepared = claims.iter().map(|c| (c.uid.clone(), Unprepared { error: error(&c.name) }));
                Ok(frame(&UnprepareResponse { claims: unprepared.collect() }))
            }
        }
        other => Err((12, format!("no such call: {other}"))),
    }
}
