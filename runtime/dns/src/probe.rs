//! One question to one server, for who wants to know whether DNS works.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use thiserror::Error;

use crate::forward::Question;
use crate::wire::{Name, code, kind};

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// The name is none.
    #[error("`{0}` is no DNS name")]
    Name(String),
    /// Nobody answered.
    #[error("no answer within {0:?}")]
    Silence(Duration),
    /// The question could not be sent, or was turned away: nobody listens there.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The server said that it can't, or that there is no such name.
    #[error("the answer is {0}")]
    Code(&'static str),
}

/// Asks for a name's addresses of a family, or for its name servers, over UDP.
///
/// # Errors
/// [`ProbeError`].
pub async fn ask(server: SocketAddr, name: &str, what: Asked, patience: Duration) -> Result<Vec<IpAddr>, ProbeError> {
    let kind = match what {
        Asked::V4 => kind::A,
        Asked::V6 => kind::AAAA,
        Asked::Servers => kind::NS,
    };
    let name = Name::parse(name).ok_or_else(|| ProbeError::Name(name.to_owned()))?;
    let question = Question { name, kind, wants_signatures: false, checking_disabled: false };
    let answer = tokio::time::timeout(patience, question.ask(server, false)).await;
    let answer = answer.map_err(|_| ProbeError::Silence(patience))??;
    if answer.code != code::NO_ERROR {
        return Err(ProbeError::Code(code::text(answer.code)));
    }
    let addresses = answer.answers.iter().filter(|record| record.kind == kind).filter_map(|record| match kind {
        kind::A => Some(Ipv4Addr::from(<[u8; 4]>::try_from(&*record.data).ok()?).into()),
        kind::AAAA => Some(Ipv6Addr::from(<[u8; 16]>::try_from(&*record.data).ok()?).into()),
        _ => None,
    });
    Ok(addresses.collect())
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// IPv4 addresses.
    V4,
    /// IPv6 addresses.
    V6,
    /// Name servers, of which no addresses are answered.
    Servers,
}
