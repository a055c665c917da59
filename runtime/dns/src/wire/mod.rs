//! Messages of DNS (RFC 1035, RFC 6891) as octets: questions in, answers out. Answers are held as records while they are put
//! together and as octets afterwards, so that a question that was asked before costs a copy. Nothing here knows what a name
//! means.
//!
//! The codec is our own: what a library of general use makes of a message, a tree of owned names and records, costs more than
//! all the rest of an answer.

mod decode;
mod encode;
mod name;
mod query;
mod record;

pub use decode::{Malformed, decode};
pub(crate) use decode::{is_reply, records};
pub(crate) use encode::{Packed, Reply, question, refusal};
pub(crate) use name::NAME_MAX;
pub use name::Name;
pub use query::{Edns, Query, Refusal};
pub use record::{Answer, Record};

/// Types of records that are known here.
pub mod kind {
    /// An IPv4 address.
    pub const A: u16 = 1;
    /// A name server.
    pub const NS: u16 = 2;
    /// Another name for this one.
    pub const CNAME: u16 = 5;
    /// The start of a zone.
    pub const SOA: u16 = 6;
    /// A name for an address.
    pub const PTR: u16 = 12;
    /// A mail server.
    pub const MX: u16 = 15;
    /// Text.
    pub const TXT: u16 = 16;
    /// An AFS database; its form is MX's.
    pub const AFSDB: u16 = 18;
    /// An IPv6 address.
    pub const AAAA: u16 = 28;
    /// A place of a service.
    pub const SRV: u16 = 33;
    /// Other names for a whole tree.
    pub const DNAME: u16 = 39;
    /// What the sender can do (RFC 6891).
    pub const OPT: u16 = 41;
    /// Changes of a zone.
    pub const IXFR: u16 = 251;
    /// A whole zone.
    pub const AXFR: u16 = 252;

    /// The name of a type, as logs have it.
    pub fn text(kind: u16) -> std::borrow::Cow<'static, str> {
        match kind {
            A => "A".into(),
            NS => "NS".into(),
            CNAME => "CNAME".into(),
            SOA => "SOA".into(),
            PTR => "PTR".into(),
            MX => "MX".into(),
            TXT => "TXT".into(),
            AAAA => "AAAA".into(),
            SRV => "SRV".into(),
            65 => "HTTPS".into(),
            other => format!("TYPE{other}").into(),
        }
    }
}

/// Response codes.
pub mod code {
    /// All is well.
    pub const NO_ERROR: u8 = 0;
    /// The question can't be read.
    pub const FORMAT: u8 = 1;
    /// The server could not find out.
    pub const FAILURE: u8 = 2;
    /// There is no such name.
    pub const NO_NAME: u8 = 3;
    /// The server does not do this.
    pub const NOT_IMPLEMENTED: u8 = 4;
    /// The server does not want to.
    pub const REFUSED: u8 = 5;

    /// The name of a code, as logs have it.
    pub fn text(code: u8) -> &'static str {
        match code {
            NO_ERROR => "NOERROR",
            FORMAT => "FORMERR",
            FAILURE => "SERVFAIL",
            NO_NAME => "NXDOMAIN",
            NOT_IMPLEMENTED => "NOTIMP",
            REFUSED => "REFUSED",
            _ => "other",
        }
    }
}

/// The class of the internet.
pub const IN: u16 = 1;
/// Octets before the question.
pub const HEADER: usize = 12;
/// What a client that says nothing takes over UDP (RFC 1035).
pub const UDP_MIN: usize = 512;
/// What is said to be taken, and the most that is sent, over UDP: no fragments on any usual path (DNS flag day 2020).
pub const UDP_MAX: usize = 1232;

/// Two octets of a message.
pub(crate) fn u16_at(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?))
}

/// Four octets of a message.
pub(crate) fn u32_at(message: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(message.get(at..at + 4)?.try_into().ok()?))
}
