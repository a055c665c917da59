//! Records, while an answer is put together.

use std::net::IpAddr;

use super::{IN, Name, code, kind};

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Whose it is.
    pub owner: Name,
    /// Its type.
    pub kind: u16,
    /// Its class.
    pub class: u16,
    /// How long it holds, in seconds.
    pub ttl: u32,
    /// What it says; names in it are whole.
    pub data: Box<[u8]>,
}

impl Record {
    fn new(owner: &Name, kind: u16, ttl: u32, data: impl Into<Box<[u8]>>) -> Self {
        Self { owner: owner.clone(), kind, class: IN, ttl, data: data.into() }
    }

    /// An address of a name: A or AAAA.
    pub fn address(owner: &Name, ttl: u32, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::new(owner, kind::A, ttl, v4.octets()),
            IpAddr::V6(v6) => Self::new(owner, kind::AAAA, ttl, v6.octets()),
        }
    }

    /// A record that is a name: CNAME, PTR or NS.
    pub fn name(owner: &Name, kind: u16, ttl: u32, target: &Name) -> Self {
        Self::new(owner, kind, ttl, target.octets())
    }

    /// A place of a service.
    pub fn srv(owner: &Name, ttl: u32, weight: u16, port: u16, target: &Name) -> Self {
        let mut data = vec![0, 0];
        data.extend(weight.to_be_bytes());
        data.extend(port.to_be_bytes());
        data.extend(target.octets());
        Self::new(owner, kind::SRV, ttl, data)
    }

    /// A short text, up to 255 octets.
    pub fn text(owner: &Name, ttl: u32, text: &str) -> Self {
        let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
        let mut data = vec![length];
        data.extend_from_slice(&text.as_bytes()[..usize::from(length)]);
        Self::new(owner, kind::TXT, ttl, data)
    }

    /// The start of a zone, with the times that CoreDNS gives.
    pub fn soa(zone: &Name, ttl: u32, server: &Name, mailbox: &Name, serial: u32) -> Self {
        let mut data = server.octets().to_vec();
        data.extend(mailbox.octets());
        for field in [serial, 7200, 1800, 86400, ttl] {
            data.extend(field.to_be_bytes());
        }
        Self::new(zone, kind::SOA, ttl, data)
    }
}

/// What is answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// The response code.
    pub code: u8,
    /// Whether it comes from whose the zone is.
    pub authoritative: bool,
    /// Whether its signatures were checked by who was asked.
    pub authentic: bool,
    /// What was asked for.
    pub answers: Vec<Record>,
    /// Whose the zone is.
    pub authority: Vec<Record>,
    /// What may help.
    pub additional: Vec<Record>,
}

impl Answer {
    /// Nothing but a code.
    pub fn code(code: u8) -> Self {
        Self { code, ..Self::default() }
    }

    /// What a zone of ours has.
    pub fn of_zone(answers: Vec<Record>, additional: Vec<Record>) -> Self {
        Self { authoritative: true, answers, additional, ..Self::default() }
    }

    /// How long it holds, in seconds: for what there is by its records, for what there is not by the zone's start (RFC 2308).
    /// None if it says neither.
    pub fn ttl(&self) -> Option<u32> {
        if self.is_negative() {
            let soa = self.authority.iter().find(|record| record.kind == kind::SOA)?;
            let minimum = soa.data.last_chunk().map(|octets| u32::from_be_bytes(*octets))?;
            return Some(soa.ttl.min(minimum));
        }
        let of = |records: &[Record]| records.iter().map(|record| record.ttl).min();
        [of(&self.answers), of(&self.authority), of(&self.additional)].into_iter().flatten().min()
    }

    /// Whether it says that there is nothing of the kind.
    pub fn is_negative(&self) -> bool {
        self.code == code::NO_NAME || (self.code == code::NO_ERROR && self.answers.is_empty())
    }
}
