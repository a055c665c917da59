//! Trying one out, and what its failure means.

use std::io::{self, ErrorKind};
use std::time::Duration;

use kiln_dns::probe::{Asked, ProbeError, ask};
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::Reached;
use super::plan::How;

/// What became of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "result", rename_all = "camelCase")]
pub(in crate::cli::status) enum Outcome {
    /// It is there.
    Reached {
        /// How long that took.
        milliseconds: f64,
        /// What it said.
        #[serde(skip_serializing_if = "Option::is_none")]
        answer: Option<String>,
    },
    /// It is not.
    Failed {
        /// Why, and what may be the cause.
        reason: String,
    },
    /// There was nothing to try.
    Untried {
        /// Why.
        reason: String,
    },
}

impl Outcome {
    pub(super) fn reached(took: Duration, answer: Option<String>) -> Self {
        Self::Reached { milliseconds: (took.as_secs_f64() * 10_000.0).round() / 10.0, answer }
    }

    pub(super) fn failed(reason: impl Into<String>) -> Self {
        Self::Failed { reason: reason.into() }
    }
}

/// Tries one out.
pub(super) async fn run(how: How, patience: Duration) -> Outcome {
    let began = Instant::now();
    match how {
        How::Not(reason) => Outcome::Untried { reason },
        How::Connect(address) => match timeout(patience, TcpStream::connect(address)).await {
            Ok(Ok(_)) => Outcome::reached(began.elapsed(), None),
            Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => Outcome::failed(
                "refused: its endpoint does not listen at the port, or this node's service proxy does not run",
            ),
            Ok(Err(error)) => Outcome::failed(io_reason(&error)),
            Err(_) => Outcome::failed(format!(
                "no answer within {patience:?}: its endpoint is on a node whose pods are not reached, or a NetworkPolicy forbids it"
            )),
        },
        How::Knock(address) => match timeout(patience, TcpStream::connect(address)).await {
            Ok(Ok(_)) => Outcome::reached(began.elapsed(), None),
            Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => Outcome::reached(began.elapsed(), None),
            Ok(Err(error)) => Outcome::failed(io_reason(&error)),
            Err(_) => Outcome::failed(format!("no answer within {patience:?}")),
        },
        How::Name { server, name, wanted } => {
            let what = if wanted.is_some() { Asked::V4 } else { Asked::V6 };
            match ask(server, &name, what, patience).await {
                Ok(found) if wanted.is_some_and(|wanted| !found.contains(&wanted)) => Outcome::failed(format!(
                    "the answer is {found:?}, not the Service's address: another DNS serves there"
                )),
                Ok(found) => Outcome::reached(began.elapsed(), found.first().map(ToString::to_string)),
                Err(error) => Outcome::failed(dns_reason(&error)),
            }
        }
        How::Outside(server) => match ask(server, ".", Asked::Servers, patience).await {
            Ok(_) => Outcome::reached(began.elapsed(), None),
            Err(ProbeError::Code(code)) => Outcome::failed(format!(
                "the answer is {code}: the servers in /etc/resolv.conf of this node, or those that the ConfigMap \
                 kube-system/coredns-custom names, do not answer"
            )),
            Err(error) => Outcome::failed(dns_reason(&error)),
        },
    }
}

fn io_reason(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::HostUnreachable => "the host does not answer on its link: it is down, or cut off".to_owned(),
        ErrorKind::NetworkUnreachable => "this node has no route there".to_owned(),
        _ => error.to_string(),
    }
}

fn dns_reason(error: &ProbeError) -> String {
    match error {
        ProbeError::Io(error) if error.kind() == ErrorKind::ConnectionRefused => {
            "nobody listens there: kiln does not run on this node, or another program has port 53 (see its log)"
                .to_owned()
        }
        ProbeError::Io(error) => io_reason(error),
        other => other.to_string(),
    }
}

/// What it means that pods are not reached, by whether their node is.
pub(super) fn explain(node: &Reached, mut pods: Reached) -> Reached {
    if let Outcome::Failed { reason } = &mut pods.outcome {
        reason.push_str(match node.outcome {
            Outcome::Reached { .. } => {
                ": the node itself answers, so the way between pods is blocked (UDP 8472 for vxlan, 51820 for wireguard), or a NetworkPolicy forbids it"
            }
            _ => ": the node itself is not reached",
        });
    }
    pods
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, UdpSocket};

    const PATIENCE: Duration = Duration::from_millis(200);

    #[tokio::test]
    async fn who_refuses_is_reached_where_only_the_way_matters_and_not_where_a_service_is_meant() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        assert!(matches!(run(How::Connect(address), PATIENCE).await, Outcome::Reached { .. }));
        drop(listener);
        assert!(matches!(run(How::Knock(address), PATIENCE).await, Outcome::Reached { .. }));
        let Outcome::Failed { reason } = run(How::Connect(address), PATIENCE).await else { panic!("refused") };
        assert!(reason.starts_with("refused: "), "{reason}");
    }

    #[tokio::test]
    async fn a_dns_that_is_mute_is_told_from_one_that_is_not_there() {
        let mute = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let server = mute.local_addr().unwrap();
        let told = async |server| match run(How::Outside(server), PATIENCE).await {
            Outcome::Failed { reason } => reason,
            other => format!("{other:?}"),
        };
        assert_eq!(told(server).await, "no answer within 200ms");
        drop(mute);
        assert!(told(server).await.starts_with("nobody listens there"));
    }

    #[test]
    fn why_pods_are_not_reached_depends_on_their_node() {
        let reached = |outcome| Reached { what: String::new(), at: None, outcome };
        let failed = || reached(Outcome::failed("no answer"));
        let told = |node| match explain(&reached(node), failed()).outcome {
            Outcome::Failed { reason } => reason,
            other => format!("{other:?}"),
        };
        assert!(told(Outcome::reached(PATIENCE, None)).contains("UDP 8472"));
        assert!(told(Outcome::failed("x")).ends_with("the node itself is not reached"));
    }
}
