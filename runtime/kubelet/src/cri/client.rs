//! The handle: one connection that is made when needed, and a method for each call.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kiln_grpc::{CallError, Connection, Messages, Options};
use prost::Message;
use tokio::net::UnixStream;
use tokio::sync::Mutex;

use super::error::CriError;
use super::messages::*;
use crate::metrics::Metrics;

/// How long a call may take that does no lasting work: upstream's `runtimeRequestTimeout`.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long the making of a sandbox may take: its network is set up meanwhile.
const SANDBOX: Duration = Duration::from_secs(240);
/// How long a socket may take to be connected to.
const CONNECT: Duration = Duration::from_secs(3);
/// Bytes in flight. Lists of all containers are the longest answers.
const WINDOW: u32 = 1 << 20;

/// A container runtime. Clones share the connection.
#[derive(Clone)]
pub struct Runtime(Arc<Shared>);

struct Shared {
    socket: PathBuf,
    connection: Mutex<Option<Connection>>,
    metrics: Metrics,
}

/// What a call that goes on tells, message by message.
pub struct Stream<M> {
    messages: Messages,
    message: std::marker::PhantomData<fn() -> M>,
}

impl<M: Message + Default> Stream<M> {
    /// The next message; `None` when the runtime has ended the stream.
    ///
    /// # Errors
    /// When the runtime is gone, or does not have the call: the stream has ended then.
    pub async fn next(&mut self) -> Result<Option<M>, CriError> {
        Ok(self.messages.next().await?)
    }
}

impl Runtime {
    /// The runtime behind a unix socket, which need not be there yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self::counted(socket, Metrics::default())
    }

    /// Likewise; its calls are counted.
    pub fn counted(socket: impl Into<PathBuf>, metrics: Metrics) -> Self {
        Self(Arc::new(Shared { socket: socket.into(), connection: Mutex::new(None), metrics }))
    }

    /// Its socket.
    pub fn socket(&self) -> &Path {
        &self.0.socket
    }

    async fn connection(&self) -> Result<Connection, CriError> {
        let mut current = self.0.connection.lock().await;
        if let Some(connection) = &*current
            && !connection.is_closed()
        {
            return Ok(connection.clone());
        }
        let failed = |why: String| CriError::Unavailable(format!("{}: {why}", self.0.socket.display()));
        let dial = async {
            let stream = UnixStream::connect(&self.0.socket).await.map_err(|error| failed(error.to_string()))?;
            // The end of a peer behind a unix socket is always told: no probes.
            let options = Options { probe: None, window: WINDOW, headers: &[] };
            let connected = Connection::start(stream, "http://localhost".to_owned(), options).await;
            connected.map_err(|error| failed(error.to_string()))
        };
        let connected = tokio::time::timeout(CONNECT, dial).await;
        let connection = connected.unwrap_or_else(|_| Err(failed("it does not answer".to_owned())))?;
        *current = Some(connection.clone());
        Ok(connection)
    }

    async fn open<Q: Message, A>(&self, call: &str, ask: &Q) -> Result<Stream<A>, CriError> {
        let messages = self.connection().await?.stream(&format!("/runtime.v1.{call}"), ask).await?;
        Ok(Stream { messages, message: std::marker::PhantomData })
    }

    async fn ask<Q, A>(&self, call: &str, ask: &Q, limit: Option<Duration>) -> Result<A, CriError>
    where
        Q: Message,
        A: Message + Default,
    {
        let (path, began) = (format!("/runtime.v1.{call}"), Instant::now());
        let exchange = async {
            match self.connection().await?.unary(&path, ask).await {
                // The runtime was restarted since, and was not asked yet.
                Err(CallError::Unreached(_)) => Ok(self.connection().await?.unary(&path, ask).await?),
                answered => Ok(answered?),
            }
        };
        let answer = match limit {
            None => exchange.await,
            Some(limit) => tokio::time::timeout(limit, exchange).await.unwrap_or(Err(CriError::Timeout(limit))),
        };
        self.0.metrics.operation(call, began.elapsed(), answer.is_err());
        answer
    }

    /// Runs a command in a container and waits for its end. A command past the request's `timeout` (seconds; 0 for none) is
    /// killed by the runtime.
    ///
    /// # Errors
    /// See [`CriError`]; [`CriError::is_timeout`] for a command that took too long.
    pub async fn exec_sync(&self, request: &ExecSyncRequest) -> Result<ExecSyncResponse, CriError> {
        self.ask("RuntimeService/ExecSync", request, after(request.timeout).filter(|_| request.timeout > 0)).await
    }

    /// Asks a container to end, and kills it after the request's `timeout` (seconds).
    ///
    /// # Errors
    /// See [`CriError`].
    pub async fn stop_container(&self, request: &StopContainerRequest) -> Result<StopContainerResponse, CriError> {
        self.ask("RuntimeService/StopContainer", request, after(request.timeout)).await
    }

    /// Fetches an image, however long that takes; to stop, drop the future.
    ///
    /// # Errors
    /// See [`CriError`].
    pub async fn pull_image(&self, request: &PullImageRequest) -> Result<PullImageResponse, CriError> {
        self.ask("ImageService/PullImage", request, None).await
    }
}

/// The limit of a call during which the runtime waits for some seconds itself.
fn after(seconds: i64) -> Option<Duration> {
    Some(PATIENCE.saturating_add(Duration::from_secs(u64::try_from(seconds).unwrap_or(0))))
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Runtime").field(&self.0.socket).finish()
    }
}

/// The calls that are only passed on: method, path and messages of each, and its limit if it is not the usual one.
macro_rules! calls {
    ($($method:ident: $path:literal($ask:ident) -> $answer:ident $(within $limit:ident)?;)*) => {
        impl Runtime {
            $(
                #[doc = concat!("The CRI's call `", $path, "`.")]
                ///
                /// # Errors
                /// See [`CriError`].
                pub async fn $method(&self, request: &$ask) -> Result<$answer, CriError> {
                    self.ask($path, request, Some(calls!(@limit $($limit)?))).await
                }
            )*
        }
    };
    (@limit) => { PATIENCE };
    (@limit $limit:ident) => { $limit };
}

/// The calls that are answered by a stream.
macro_rules! streams {
    ($($method:ident: $path:literal($ask:ident) -> $answer:ident;)*) => {
        impl Runtime {
            $(
                #[doc = concat!("The CRI's call `", $path, "`, which is answered by a stream.")]
                ///
                /// # Errors
                /// See [`CriError`]; a runtime that does not have the call may say so here or at the first message.
                pub async fn $method(&self, request: &$ask) -> Result<Stream<$answer>, CriError> {
                    self.open($path, request).await
                }
            )*
        }
    };
}

calls! {
    version: "RuntimeService/Version"(VersionRequest) -> VersionResponse;
    run_pod_sandbox: "RuntimeService/RunPodSandbox"(RunPodSandboxRequest) -> RunPodSandboxResponse within SANDBOX;
    stop_pod_sandbox: "RuntimeService/StopPodSandbox"(StopPodSandboxRequest) -> StopPodSandboxResponse;
    remove_pod_sandbox: "RuntimeService/RemovePodSandbox"(RemovePodSandboxRequest) -> RemovePodSandboxResponse;
    pod_sandbox_status: "RuntimeService/PodSandboxStatus"(PodSandboxStatusRequest) -> PodSandboxStatusResponse;
    list_pod_sandbox: "RuntimeService/ListPodSandbox"(ListPodSandboxRequest) -> ListPodSandboxResponse;
    create_container: "RuntimeService/CreateContainer"(CreateContainerRequest) -> CreateContainerResponse;
    start_container: "RuntimeService/StartContainer"(StartContainerRequest) -> StartContainerResponse;
    remove_container: "RuntimeService/RemoveContainer"(RemoveContainerRequest) -> RemoveContainerResponse;
    list_containers: "RuntimeService/ListContainers"(ListContainersRequest) -> ListContainersResponse;
    container_status: "RuntimeService/ContainerStatus"(ContainerStatusRequest) -> ContainerStatusResponse;
    update_container_resources: "RuntimeService/UpdateContainerResources"(UpdateContainerResourcesRequest) -> UpdateContainerResourcesResponse;
    reopen_container_log: "RuntimeService/ReopenContainerLog"(ReopenContainerLogRequest) -> ReopenContainerLogResponse;
    exec: "RuntimeService/Exec"(ExecRequest) -> ExecResponse;
    attach: "RuntimeService/Attach"(AttachRequest) -> AttachResponse;
    port_forward: "RuntimeService/PortForward"(PortForwardRequest) -> PortForwardResponse;
    container_stats: "RuntimeService/ContainerStats"(ContainerStatsRequest) -> ContainerStatsResponse;
    list_container_stats: "RuntimeService/ListContainerStats"(ListContainerStatsRequest) -> ListContainerStatsResponse;
    pod_sandbox_stats: "RuntimeService/PodSandboxStats"(PodSandboxStatsRequest) -> PodSandboxStatsResponse;
    list_pod_sandbox_stats: "RuntimeService/ListPodSandboxStats"(ListPodSandboxStatsRequest) -> ListPodSandboxStatsResponse;
    update_runtime_config: "RuntimeService/UpdateRuntimeConfig"(UpdateRuntimeConfigRequest) -> UpdateRuntimeConfigResponse;
    status: "RuntimeService/Status"(StatusRequest) -> StatusResponse;
    checkpoint_container: "RuntimeService/CheckpointContainer"(CheckpointContainerRequest) -> CheckpointContainerResponse;
    list_metric_descriptors: "RuntimeService/ListMetricDescriptors"(ListMetricDescriptorsRequest) -> ListMetricDescriptorsResponse;
    list_pod_sandbox_metrics: "RuntimeService/ListPodSandboxMetrics"(ListPodSandboxMetricsRequest) -> ListPodSandboxMetricsResponse;
    runtime_config: "RuntimeService/RuntimeConfig"(RuntimeConfigRequest) -> RuntimeConfigResponse;
    update_pod_sandbox_resources: "RuntimeService/UpdatePodSandboxResources"(UpdatePodSandboxResourcesRequest) -> UpdatePodSandboxResourcesResponse;
    list_images: "ImageService/ListImages"(ListImagesRequest) -> ListImagesResponse;
    image_status: "ImageService/ImageStatus"(ImageStatusRequest) -> ImageStatusResponse;
    remove_image: "ImageService/RemoveImage"(RemoveImageRequest) -> RemoveImageResponse;
    image_fs_info: "ImageService/ImageFsInfo"(ImageFsInfoRequest) -> ImageFsInfoResponse;
}

streams! {
    stream_pod_sandboxes: "RuntimeService/StreamPodSandboxes"(StreamPodSandboxesRequest) -> StreamPodSandboxesResponse;
    stream_containers: "RuntimeService/StreamContainers"(StreamContainersRequest) -> StreamContainersResponse;
    stream_container_stats: "RuntimeService/StreamContainerStats"(StreamContainerStatsRequest) -> StreamContainerStatsResponse;
    stream_pod_sandbox_stats: "RuntimeService/StreamPodSandboxStats"(StreamPodSandboxStatsRequest) -> StreamPodSandboxStatsResponse;
    get_container_events: "RuntimeService/GetContainerEvents"(GetEventsRequest) -> ContainerEventResponse;
    stream_pod_sandbox_metrics: "RuntimeService/StreamPodSandboxMetrics"(StreamPodSandboxMetricsRequest) -> StreamPodSandboxMetricsResponse;
    stream_images: "ImageService/StreamImages"(StreamImagesRequest) -> StreamImagesResponse;
}
