//! gRPC's health check, `grpc.health.v1.Health/Check`.

use std::time::Duration;

use kiln_grpc::{Code, Connection, Options};
use prost::Message;
use tokio::net::TcpStream;

use super::check::Found;
use super::http;

#[derive(Clone, PartialEq, Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

const SERVING: i32 = 1;
const STATUSES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];

pub(super) async fn check(host: &str, port: u16, service: &str, limit: Duration) -> Found {
    let address = http::authority(host, port);
    let seconds = limit.as_secs();
    let late = || {
        Found::Failure(format!(
            "timeout: failed to connect service \"{address}\" within {seconds}s: context deadline exceeded"
        ))
    };
    let asking = async {
        let stream = match TcpStream::connect((host, port)).await {
            Ok(stream) => stream,
            Err(_) => return late(),
        };
        let options = Options { probe: None, window: 1 << 16, headers: &[("user-agent", "kube-probe/1.36")] };
        let connection = match Connection::start(stream, format!("http://{address}"), options).await {
            Ok(connection) => connection,
            Err(error) => return Found::Failure(format!("error: failed to connect service at {address:?}: {error}")),
        };
        let request = HealthCheckRequest { service: service.to_owned() };
        match connection.unary::<_, HealthCheckResponse>("/grpc.health.v1.Health/Check", &request).await {
            Ok(answer) if answer.status == SERVING => Found::Success,
            Ok(answer) => {
                let index = usize::try_from(answer.status).unwrap_or_default();
                let status = STATUSES.get(index).copied().unwrap_or("UNKNOWN");
                Found::Failure(format!("service unhealthy (responded with \"{status}\")"))
            }
            Err(error) if error.is(Code::UNIMPLEMENTED) => Found::Failure(format!(
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {error}"
            )),
            Err(error) => Found::Failure(format!("error: health rpc probe failed: {error}")),
        }
    };
    tokio::time::timeout(limit, asking).await.unwrap_or_else(|_| late())
}
