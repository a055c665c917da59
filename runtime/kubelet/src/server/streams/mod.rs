//! `/exec`, `/attach`, `/portForward` and `/run`: streams into containers, which the runtime's own streaming server carries.
//!
//! The runtime is asked for a URL, and the client's upgrade is passed on to it as it is: SPDY, or WebSockets of the older
//! protocols (`forward`). Two kinds of WebSockets no runtime speaks: those that can close single streams (`v5`), which become
//! SPDY (`translate`), and those that carry SPDY (port-forward's), which are unpacked (`tunnelled`). `websocket` has the frames.

mod forward;
mod translate;
mod tunnelled;
mod websocket;

use http::{Request, Response};
use hyper::body::Incoming;
use kiln_client::Body;

use super::answer::{Refusal, text};
use super::routes::Asked;
use super::{PodView, Server};
use crate::cri::{AttachRequest, ExecRequest, ExecSyncRequest, PortForwardRequest};

/// The protocol of WebSockets by which a client can close its input.
const V5: &str = "v5.channel.k8s.io";

/// What a stream is of.
#[derive(Clone, Copy)]
pub(super) struct Of<'a> {
    pub(super) namespace: &'a str,
    pub(super) pod: &'a str,
    /// Empty for whichever pod has the name.
    pub(super) uid: &'a str,
    /// Empty for the pod as a whole.
    pub(super) container: &'a str,
}

/// Which of a command's streams are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

impl Wanted {
    fn read(asked: &Asked) -> Result<Self, Refusal> {
        let set = |key: &str| asked.get(key) == Some("1");
        let tty = set("tty");
        // A terminal has one output.
        let wanted = Self { stdin: set("input"), stdout: set("output"), stderr: set("error") && !tty, tty };
        if wanted.stdin || wanted.stdout || wanted.stderr {
            return Ok(wanted);
        }
        Err(Refusal::bad_request("you must specify at least 1 of stdin, stdout, stderr"))
    }
}

fn pod(server: &Server, of: Of<'_>) -> Result<PodView, Refusal> {
    let found = server.0.host.pod(of.namespace, of.pod);
    let view = found.ok_or_else(|| Refusal::not_found("pod does not exist"))?;
    if !of.uid.is_empty() && of.uid != view.uid() {
        return Err(Refusal::not_found("pod not found"));
    }
    Ok(view)
}

/// The runtime's id of the container, which must run.
fn container(view: &PodView, name: &str) -> Result<String, Refusal> {
    let running = view.running(name).map(|c| c.id.clone());
    running.ok_or_else(|| Refusal::internal(format!("container not found ({name:?})\n")))
}

/// Runs a command in a container, with its streams.
pub(super) async fn exec(
    server: &Server,
    of: Of<'_>,
    asked: &Asked,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let wanted = Wanted::read(asked)?;
    let container_id = container(&pod(server, of)?, of.container)?;
    let Wanted { stdin, stdout, stderr, tty } = wanted;
    let exec = ExecRequest { container_id, cmd: asked.all("command"), tty, stdin, stdout, stderr };
    let url = server.0.runtime.exec(&exec).await?.url;
    command(server, request, &url, wanted).await
}

/// Attaches to the streams of a container's own process.
pub(super) async fn attach(
    server: &Server,
    of: Of<'_>,
    asked: &Asked,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let mut wanted = Wanted::read(asked)?;
    let view = pod(server, of)?;
    let Some(container_id) = view.running(of.container).map(|c| c.id.clone()) else {
        let why = format!("container {} not found in pod {}_{}\n", of.container, of.pod, of.namespace);
        return Err(Refusal::internal(why));
    };
    // Whether there is a terminal was decided when the process began.
    wanted.tty = view.has_tty(of.container);
    wanted.stderr &= !wanted.tty;
    let Wanted { stdin, stdout, stderr, tty } = wanted;
    let url = server.0.runtime.attach(&AttachRequest { container_id, stdin, tty, stdout, stderr }).await?.url;
    command(server, request, &url, wanted).await
}

async fn command(
    server: &Server,
    request: Request<Incoming>,
    url: &str,
    wanted: Wanted,
) -> Result<Response<Body>, Refusal> {
    if websocket::offers(&request).iter().any(|p| p == V5) {
        return translate::serve(request, url, wanted, server.0.shutdown.clone()).await;
    }
    forward::serve(request, url, server.0.shutdown.clone()).await
}

/// Carries connections to ports of a pod.
pub(super) async fn port_forward(
    server: &Server,
    of: Of<'_>,
    asked: &Asked,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let tunnelled = tunnelled::protocols(&request);
    let port = if tunnelled.is_empty() { ports(asked, &request)? } else { Vec::new() };
    let view = pod(server, of)?;
    let Some(pod_sandbox_id) = view.sandbox else {
        return Err(Refusal::internal(format!("pod not found (\"{}_{}\")\n", of.pod, of.namespace)));
    };
    let url = server.0.runtime.port_forward(&PortForwardRequest { pod_sandbox_id, port }).await?.url;
    let shutdown = server.0.shutdown.clone();
    if tunnelled.is_empty() {
        return forward::serve(request, &url, shutdown).await;
    }
    tunnelled::serve(request, &url, &tunnelled, shutdown).await
}

/// The ports that a WebSocket of the older protocols names; SPDY names them in its streams.
fn ports(asked: &Asked, request: &Request<Incoming>) -> Result<Vec<i32>, Refusal> {
    if !websocket::is_wanted(request) {
        return Ok(Vec::new());
    }
    let given = asked.all("port");
    if given.is_empty() {
        return Err(Refusal::bad_request("query parameter \"port\" is required"));
    }
    let port = |text: &str| {
        let number = text.parse::<i32>().ok().filter(|n| (1..=65535).contains(n));
        number.ok_or_else(|| Refusal::bad_request(format!("query parameter \"port\" must be a port: {text:?}")))
    };
    given.iter().flat_map(|list| list.split(',')).map(port).collect()
}

/// Runs a command without input and answers what it wrote.
pub(super) async fn run(server: &Server, of: Of<'_>, asked: &Asked) -> Result<Response<Body>, Refusal> {
    let container_id = container(&pod(server, of)?, of.container)?;
    let cmd = asked.get("cmd").unwrap_or_default().split(' ').map(str::to_owned).collect();
    let ran = server.0.runtime.exec_sync(&ExecSyncRequest { container_id, cmd, timeout: 0 }).await?;
    let mut output = ran.stdout;
    output.extend_from_slice(&ran.stderr);
    if ran.exit_code != 0 {
        let why = format!("command terminated with exit code {}: {}", ran.exit_code, String::from_utf8_lossy(&output));
        return Err(Refusal::internal(why));
    }
    Ok(text(http::StatusCode::OK, "application/json", output))
}
