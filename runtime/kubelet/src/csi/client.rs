//! Calls of a driver. Each makes a connection of its own, as they are seldom and the driver may be another process by then.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use kiln_grpc::{CallError, Code, Connection, Options};
use prost::Message;
use tokio::net::UnixStream;

use super::messages::{
    Capability, Empty, NodeGetCapabilitiesResponse, NodeGetVolumeStatsRequest, NodeGetVolumeStatsResponse,
};

/// How long a call may take, as with upstream's kubelet.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// How long a socket may take to be connected to.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a driver may take to measure a volume: who monitors a node does not wait for longer.
const MEASURING: Duration = Duration::from_secs(10);
/// Bytes in flight.
const WINDOW: u32 = 1 << 16;

/// A call that failed, in the words that gRPC's Go library has for it.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum CsiError {
    /// The driver was not reached, or its connection broke: what was asked may go on.
    #[error("rpc error: code = Unavailable desc = {0}")]
    Unavailable(String),
    /// The driver's answer is no.
    #[error("rpc error: code = {code} desc = {message}")]
    Refused {
        /// The kind of refusal.
        code: Code,
        /// The driver's words.
        message: String,
    },
    /// No answer came in time.
    #[error("rpc error: code = DeadlineExceeded desc = context deadline exceeded")]
    Timeout,
}

impl CsiError {
    /// Whether what was asked for certainly does not go on.
    pub(crate) fn is_final(&self) -> bool {
        // Cancelled, deadline exceeded, resource exhausted, aborted, unavailable: see CSI's table of errors.
        matches!(self, Self::Refused { code, .. } if ![1, 4, 8, 10, 14].contains(&code.0))
    }
}

impl From<CallError> for CsiError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Unreached(why) | CallError::Broken(why) => Self::Unavailable(why),
            CallError::Refused { code, message } => Self::Refused { code, message },
        }
    }
}

/// Asks whoever listens at a socket.
pub(crate) async fn call<Q, A>(socket: &Path, path: &str, ask: &Q, limit: Duration) -> Result<A, CsiError>
where
    Q: Message,
    A: Message + Default,
{
    let exchange = async {
        let failed = |why: String| CsiError::Unavailable(format!("{}: {why}", socket.display()));
        let stream = tokio::time::timeout(CONNECT, UnixStream::connect(socket)).await;
        let stream = stream.map_err(|_| failed("it does not answer".to_owned()))?;
        let stream = stream.map_err(|error| failed(error.to_string()))?;
        let options = Options { probe: None, window: WINDOW, headers: &[] };
        let connection = Connection::start(stream, "http://localhost".to_owned(), options).await;
        Ok(connection.map_err(|error| failed(error.to_string()))?.unary(path, ask).await?)
    };
    tokio::time::timeout(limit, exchange).await.unwrap_or(Err(CsiError::Timeout))
}

/// Asks a driver's node service.
pub(crate) async fn node<Q, A>(socket: &Path, name: &str, ask: &Q) -> Result<A, CsiError>
where
    Q: Message,
    A: Message + Default,
{
    call(socket, &format!("/csi.v1.Node/{name}"), ask, PATIENCE).await
}

/// What a driver can do on this node.
pub(crate) async fn capabilities(socket: &Path) -> Result<HashSet<Capability>, CsiError> {
    let answer: NodeGetCapabilitiesResponse = node(socket, "NodeGetCapabilities", &Empty {}).await?;
    let kinds = answer.capabilities.into_iter().filter_map(|capability| capability.rpc);
    Ok(kinds.filter_map(|rpc| Capability::try_from(rpc.kind).ok()).collect())
}

/// What a driver says of a volume at a path of this node; nothing, if it does not measure volumes. How the volume is it says only if
/// it is one that can.
pub(crate) async fn volume_stats(
    socket: &Path,
    handle: &str,
    path: &Path,
) -> Result<Option<NodeGetVolumeStatsResponse>, CsiError> {
    let can = capabilities(socket).await?;
    if !can.contains(&Capability::GetVolumeStats) {
        return Ok(None);
    }
    let request =
        NodeGetVolumeStatsRequest { volume_id: handle.to_owned(), volume_path: path.to_string_lossy().into_owned() };
    let mut answer: NodeGetVolumeStatsResponse =
        call(socket, "/csi.v1.Node/NodeGetVolumeStats", &request, MEASURING).await?;
    answer.volume_condition = answer.volume_condition.filter(|_| can.contains(&Capability::VolumeCondition));
    Ok(Some(answer))
}
