//! Calls of a plugin, and what it goes on telling of its devices.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use kiln_grpc::{Connection, Messages, Options};
use prost::Message;
use tokio::net::UnixStream;

use super::messages::{
    AllocateRequest, AllocateResponse, Allocation, ContainerPreferredRequest, DeviceIds, Empty, HEALTHY,
    ListAndWatchResponse, PluginOptions, PreferredAllocationRequest, PreferredAllocationResponse,
};
use super::table::Plan;

/// How long a socket may take to be connected to: upstream's limit.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a plugin may take to answer, of which upstream says nothing but for a start.
const ANSWER: Duration = Duration::from_secs(30);
/// Bytes in flight.
const WINDOW: u32 = 1 << 16;

async fn connect(socket: &Path) -> Result<Connection, String> {
    let failed = |why: String| format!("failed to dial device plugin: {}: {why}", socket.display());
    let opened = async {
        let stream = UnixStream::connect(socket).await.map_err(|error| failed(error.to_string()))?;
        let options = Options { probe: None, window: WINDOW, headers: &[] };
        let started = Connection::start(stream, "http://localhost".to_owned(), options).await;
        started.map_err(|error| failed(error.to_string()))
    };
    tokio::time::timeout(CONNECT, opened).await.unwrap_or_else(|_| Err(failed("it does not answer".to_owned())))
}

async fn call<Q: Message, A: Message + Default>(socket: &Path, name: &str, ask: &Q) -> Result<A, String> {
    let path = format!("/v1beta1.DevicePlugin/{name}");
    let answer = async { connect(socket).await?.unary(&path, ask).await.map_err(|error| error.to_string()) };
    let late = || Err(format!("device plugin {name} rpc took longer than {} s", ANSWER.as_secs()));
    tokio::time::timeout(ANSWER, answer).await.unwrap_or_else(|_| late())
}

/// What a plugin wants to be asked.
pub(super) async fn options(socket: &Path) -> Result<PluginOptions, String> {
    let asked = call(socket, "GetDevicePluginOptions", &Empty {}).await;
    asked.map_err(|why| format!("failed to get device plugin options: {why}"))
}

/// Which of the devices a plugin would rather give, of so many in all.
pub(super) async fn preferred(socket: &Path, plan: &Plan, wanted: usize) -> Result<Vec<String>, String> {
    let request = ContainerPreferredRequest {
        available: plan.available.union(&plan.chosen).cloned().collect(),
        must_include: plan.chosen.iter().cloned().collect(),
        size: i32::try_from(wanted).unwrap_or(i32::MAX),
    };
    let request = PreferredAllocationRequest { containers: vec![request] };
    let answer: PreferredAllocationResponse = call(socket, "GetPreferredAllocation", &request)
        .await
        .map_err(|why| format!("device plugin GetPreferredAllocation rpc failed with err: {why}"))?;
    Ok(answer.containers.into_iter().next().map(|container| container.ids).unwrap_or_default())
}

/// What a container needs to use these devices.
pub(super) async fn allocate(socket: &Path, ids: &BTreeSet<String>) -> Result<Allocation, String> {
    let request = AllocateRequest { containers: vec![DeviceIds { ids: ids.iter().cloned().collect() }] };
    let answer: AllocateResponse = call(socket, "Allocate", &request).await?;
    answer.containers.into_iter().next().ok_or_else(|| "no containers return in allocation response".to_owned())
}

/// A container with these devices starts.
pub(super) async fn starts(socket: &Path, ids: &BTreeSet<String>) -> Result<(), String> {
    let request = DeviceIds { ids: ids.iter().cloned().collect() };
    let told: Result<Empty, String> = call(socket, "PreStartContainer", &request).await;
    told.map(drop).map_err(|why| format!("device plugin PreStartContainer rpc failed with err: {why}"))
}

/// A plugin that tells of its devices.
pub(super) struct Watch {
    /// The stream ends with the connection.
    _connection: Connection,
    messages: Messages,
}

impl Watch {
    pub(super) async fn open(socket: &Path) -> Result<Self, String> {
        let connection = connect(socket).await?;
        let messages = connection.stream("/v1beta1.DevicePlugin/ListAndWatch", &Empty {}).await;
        let messages = messages.map_err(|error| format!("ListAndWatch: {error}"))?;
        Ok(Self { _connection: connection, messages })
    }

    /// All devices, once more: ids, and whether each is healthy. `None` when the plugin ended the stream.
    pub(super) async fn next(&mut self) -> Result<Option<BTreeMap<String, bool>>, String> {
        let told: Option<ListAndWatchResponse> = self.messages.next().await.map_err(|error| error.to_string())?;
        let devices = |told: ListAndWatchResponse| {
            told.devices.into_iter().map(|device| (device.id, device.health == HEALTHY)).collect()
        };
        Ok(told.map(devices))
    }
}
