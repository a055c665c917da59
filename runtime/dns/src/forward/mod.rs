//! Questions that others answer: each goes to the servers for its domain, one after the other, until one has an answer.

mod exchange;
mod servers;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use thiserror::Error;
use tokio::time::{Instant, timeout_at};

pub(crate) use self::exchange::Question;
use self::servers::Servers;
use crate::corefile::Forward;
use crate::wire::{Answer, code};

/// How long a client is let wait: most try again or give up after as long.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long one server is waited for: CoreDNS'.
const WAIT: Duration = Duration::from_secs(2);
/// How often all servers are asked: over UDP a question may get lost.
const ROUNDS: usize = 2;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum ForwardError {
    /// There is nobody to ask: the settings or the file that they point at name no server but this one.
    #[error("no server is known to ask about this name")]
    NoServer,
    /// Nobody answered in time.
    #[error("none of {0} answered in time")]
    Silence(String),
    /// The servers answered, and said that they can't.
    #[error("{server} answered {answer}")]
    Refused {
        /// The last one asked.
        server: SocketAddr,
        /// Its response code.
        answer: &'static str,
    },
}

/// Asks other servers.
pub(crate) struct Forwarder {
    servers: Servers,
}

impl Forwarder {
    pub(crate) fn new() -> Self {
        Self { servers: Servers::default() }
    }

    /// Tells which addresses are this service's own: it never asks itself.
    pub(crate) fn set_own(&self, addresses: &[IpAddr]) {
        self.servers.set_own(addresses);
    }

    /// Asks until there is an answer.
    ///
    /// # Errors
    /// [`ForwardError`] when all servers were asked, or the client waits no longer.
    pub(crate) async fn ask(&self, forward: &Forward, question: &Question) -> Result<Answer, ForwardError> {
        let servers = self.servers.of(forward);
        if servers.is_empty() {
            return Err(ForwardError::NoServer);
        }
        let end = Instant::now() + PATIENCE;
        let mut refused = None;
        for server in std::iter::repeat_n(&servers, ROUNDS).flatten().copied() {
            let until = end.min(Instant::now() + WAIT);
            if Instant::now() >= end {
                break;
            }
            match timeout_at(until, question.ask(server, forward.over_tcp)).await {
                Ok(Ok(answer)) if answer.code == code::FAILURE || answer.code == code::REFUSED => {
                    self.servers.answered(server);
                    refused = Some(ForwardError::Refused { server, answer: code::text(answer.code) });
                }
                Ok(Ok(answer)) => {
                    self.servers.answered(server);
                    return Ok(answer);
                }
                Ok(Err(error)) => {
                    tracing::debug!(%server, %error, name = %question.name, "cannot ask");
                    self.servers.failed(server);
                }
                Err(_) => self.servers.failed(server),
            }
            // Who refuses once does so again.
            if refused.is_some() && servers.len() == 1 {
                break;
            }
        }
        let names = || servers.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ");
        Err(refused.unwrap_or_else(|| ForwardError::Silence(names())))
    }
}
