//! Names whose questions go to other servers.

use std::net::{IpAddr, SocketAddr};

use super::tokens::Directive;
use super::{Wrong, name, wrong};
use crate::wire::Name;

const PORT: u16 = 53;
/// The most servers for one domain: CoreDNS'.
const SERVERS: usize = 15;

/// Where questions about a domain go.
#[derive(Debug, Clone)]
pub(crate) struct Forward {
    pub(crate) from: Name,
    /// Domains below it that do not.
    except: Vec<Name>,
    pub(crate) to: Vec<Target>,
    pub(crate) policy: Policy,
    /// Whether servers are asked over TCP at once.
    pub(crate) over_tcp: bool,
}

/// A server, or a place that names some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Server(SocketAddr),
    /// A file such as `/etc/resolv.conf`.
    File(String),
}

/// Which of several servers is asked first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// The first one that answers, as resolv.conf(5) has it.
    Sequential,
    /// Any.
    Random,
    /// Each in turn.
    RoundRobin,
}

impl Forward {
    /// To the servers that the machine itself asks.
    pub(super) fn of_system(from: Name) -> Self {
        let to = vec![Target::File("/etc/resolv.conf".to_owned())];
        Self { from, except: Vec::new(), to, policy: Policy::Sequential, over_tcp: false }
    }

    /// `FROM TO... { except DOMAIN...; policy POLICY; force_tcp }`
    pub(super) fn parse(words: &[String], body: &[Directive]) -> Result<Self, Wrong> {
        let Some((from, to)) = words.split_first().filter(|(_, to)| !to.is_empty()) else {
            return wrong("`forward` takes a domain and servers: `forward . 10.0.0.1`");
        };
        if to.len() > SERVERS {
            return wrong(format!("there are more than {SERVERS} servers"));
        }
        let to: Vec<Target> = to.iter().map(|word| target(word)).collect::<Result<_, _>>()?;
        // Of servers that are named here CoreDNS takes any.
        let is_file = to.iter().any(|target| matches!(target, Target::File(_)));
        let policy = if is_file { Policy::Sequential } else { Policy::Random };
        let mut forward = Self { from: name(from)?, except: Vec::new(), to, policy, over_tcp: false };
        for line in body {
            forward.option(line).map_err(|(_, what)| (Some(line.line), what))?;
        }
        Ok(forward)
    }

    fn option(&mut self, line: &Directive) -> Result<(), Wrong> {
        let words: Vec<&str> = line.words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["except", domains @ ..] => {
                for domain in domains {
                    self.except.push(name(domain)?);
                }
            }
            ["policy", "random"] => self.policy = Policy::Random,
            ["policy", "round_robin"] => self.policy = Policy::RoundRobin,
            ["policy", "sequential"] => self.policy = Policy::Sequential,
            ["force_tcp"] => self.over_tcp = true,
            // Servers are judged by what they answer, and connections are not kept.
            ["prefer_udp"] | ["expire" | "max_fails" | "max_concurrent" | "health_check" | "failover" | "next", ..] => {
            }
            ["tls" | "tls_servername", ..] => return wrong("servers are asked over plain DNS only"),
            _ => return wrong(format!("`{}` is not known in `forward`", line.words.join(" "))),
        }
        Ok(())
    }

    pub(super) fn is_for(&self, name: &Name) -> bool {
        name.is_under(&self.from) && !self.except.iter().any(|domain| name.is_under(domain))
    }
}

/// `10.0.0.1`, `10.0.0.1:5353`, `[fd00::1]:53`, `dns://10.0.0.1` or a file.
fn target(word: &str) -> Result<Target, Wrong> {
    if word.starts_with('/') {
        return Ok(Target::File(word.to_owned()));
    }
    let text = word.strip_prefix("dns://").unwrap_or(word);
    let address = text.parse::<IpAddr>().map(|address| SocketAddr::new(address, PORT));
    match address.or_else(|_| text.parse()) {
        Ok(address) => Ok(Target::Server(address)),
        Err(_) => {
            wrong(format!("`{word}` is no server; servers are given by their addresses, as 10.0.0.1 or 10.0.0.1:5353"))
        }
    }
}
