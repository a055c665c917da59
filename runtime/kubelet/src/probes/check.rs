//! One look at a container: by a command in it, or by a connection to it.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container as Spec, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;

use super::{grpc, http};
use crate::cri::{ExecSyncRequest, Runtime};

/// The most bytes of a command's output that are shown.
const MAX_OUTPUT: usize = 10 << 10;

/// What a look has found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Success,
    /// It is well, with something to tell.
    Warning(String),
    Failure(String),
    /// The look itself failed: nothing is known.
    Error(String),
}

pub(super) struct Check {
    pub(super) runtime: Runtime,
    pub(super) container: String,
    pub(super) spec: Spec,
    pub(super) probe: Probe,
    /// The pod's address.
    pub(super) ip: String,
}

impl Check {
    pub(super) async fn run(&self) -> Found {
        let seconds = self.probe.timeout_seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(1).max(1);
        let limit = Duration::from_secs(seconds);
        if let Some(exec) = &self.probe.exec {
            self.exec(exec.command.clone().unwrap_or_default(), seconds).await
        } else if let Some(get) = &self.probe.http_get {
            self.http(get, limit).await
        } else if let Some(socket) = &self.probe.tcp_socket {
            match port(&socket.port, &self.spec) {
                Ok(port) => {
                    tcp(socket.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(&self.ip), port, limit).await
                }
                Err(error) => Found::Error(error),
            }
        } else if let Some(action) = &self.probe.grpc {
            let port = u16::try_from(action.port).unwrap_or_default();
            grpc::check(&self.ip, port, action.service.as_deref().unwrap_or_default(), limit).await
        } else {
            Found::Error(format!("missing probe handler for {}", self.spec.name))
        }
    }

    async fn exec(&self, cmd: Vec<String>, seconds: u64) -> Found {
        let timeout = i64::try_from(seconds).unwrap_or(1);
        let request = ExecSyncRequest { container_id: self.container.clone(), cmd, timeout };
        match self.runtime.exec_sync(&request).await {
            Ok(answer) if answer.exit_code == 0 => Found::Success,
            Ok(answer) => {
                let mut output = answer.stdout;
                output.extend(answer.stderr);
                output.truncate(MAX_OUTPUT);
                Found::Failure(String::from_utf8_lossy(&output).into_owned())
            }
            Err(error) if error.is_timeout() => {
                let command = request.cmd.join(" ");
                Found::Failure(format!("command timed out: \"{command}\" timed out after {seconds}s"))
            }
            Err(error) => Found::Error(error.to_string()),
        }
    }

    async fn http(&self, get: &HTTPGetAction, limit: Duration) -> Found {
        let request = match http::Request::of(get, &self.spec, &self.ip, "kube-probe") {
            Ok(request) => request,
            Err(error) => return Found::Error(error),
        };
        match tokio::time::timeout(limit, http::get(&request)).await {
            Err(_) => {
                let url = request.url();
                Found::Failure(format!(
                    "Get \"{url}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
                ))
            }
            Ok(Err(error)) => Found::Failure(error),
            Ok(Ok(answer)) => match answer.status {
                200..300 => Found::Success,
                300..400 => Found::Warning(format!("Probe terminated redirects, Response body: {}", answer.body)),
                status => Found::Failure(format!("HTTP probe failed with statuscode: {status}")),
            },
        }
    }
}

/// A port by its number, or by its name in the container's spec.
pub(crate) fn port(port: &IntOrString, spec: &Spec) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let known = spec.ports.iter().flatten().find(|port| port.name.as_ref() == Some(name));
            match known.map(|port| port.container_port).or_else(|| name.parse().ok()) {
                Some(number) => number,
                None => return Err(format!("couldn't find port: {name:?}")),
            }
        }
    };
    u16::try_from(number).ok().filter(|number| *number > 0).ok_or_else(|| format!("invalid port number: {number}"))
}

async fn tcp(host: &str, port: u16, limit: Duration) -> Found {
    let address = http::authority(host, port);
    match tokio::time::timeout(limit, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Found::Success,
        Ok(Err(error)) => Found::Failure(format!("dial tcp {address}: {}", http::reason(&error))),
        Err(_) => Found::Failure(format!("dial tcp {address}: i/o timeout")),
    }
}
