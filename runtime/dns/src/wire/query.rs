//! A client's question.

use super::{HEADER, NAME_MAX, Name, UDP_MAX, UDP_MIN, code, kind, u16_at};

/// What a client wants to know. It holds no memory of its own: reading one is the first thing that each packet costs.
#[derive(Debug, Clone)]
pub struct Query {
    /// The client's number of it.
    pub id: u16,
    /// Whether the client wants the server to ask others.
    pub recursion_desired: bool,
    /// Whether the client checks signatures itself (RFC 4035).
    pub checking_disabled: bool,
    /// The type of records.
    pub kind: u16,
    /// The class of records.
    pub class: u16,
    /// What the client says of itself, if it knows EDNS.
    pub edns: Option<Edns>,
    name: [u8; NAME_MAX],
    name_length: u8,
}

/// What a client says of itself (RFC 6891).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edns {
    /// Octets that it takes over UDP.
    pub size: u16,
    /// Whether it wants signatures.
    pub wants_signatures: bool,
}

/// Why there is no query in a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No answer is due: it is no question, or too short to be answered.
    Silence,
    /// The question is answered with this code.
    Code(u8),
    /// It is of a version of EDNS that does not exist yet.
    Version,
}

impl Query {
    /// Reads a client's message.
    ///
    /// # Errors
    /// What is to be answered in place of an answer.
    pub fn parse(message: &[u8]) -> Result<Self, Refusal> {
        let head: &[u8; HEADER] = message.first_chunk().ok_or(Refusal::Silence)?;
        if head[2] & 0x80 != 0 {
            return Err(Refusal::Silence);
        }
        let malformed = Refusal::Code(code::FORMAT);
        if head[2] & 0x78 != 0 {
            return Err(Refusal::Code(code::NOT_IMPLEMENTED));
        }
        let count = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        if count(4) != 1 || count(6) != 0 || count(8) != 0 {
            return Err(malformed);
        }
        let mut query = Query {
            id: count(0),
            recursion_desired: head[2] & 1 != 0,
            checking_disabled: head[3] & 0x10 != 0,
            kind: 0,
            class: 0,
            edns: None,
            name: [0; NAME_MAX],
            name_length: 0,
        };
        let mut at = query.read_name(message).ok_or(malformed)?;
        query.kind = u16_at(message, at).ok_or(malformed)?;
        query.class = u16_at(message, at + 2).ok_or(malformed)?;
        at += 4;
        for _ in 0..count(10) {
            at = query.read_additional(message, at)?;
        }
        Ok(query)
    }

    /// Answers where the name ends.
    fn read_name(&mut self, message: &[u8]) -> Option<usize> {
        let mut length = 0;
        loop {
            let label = *message.get(HEADER + length)?;
            if label > 63 {
                return None;
            }
            let end = length + 1 + usize::from(label);
            // One more for what follows a label, be it the root.
            if end + usize::from(label != 0) > NAME_MAX {
                return None;
            }
            let from = message.get(HEADER + length..HEADER + end)?;
            for (to, octet) in self.name[length..end].iter_mut().zip(from) {
                *to = octet.to_ascii_lowercase();
            }
            length = end;
            if label == 0 {
                self.name_length = u8::try_from(length).ok()?;
                return Some(HEADER + length);
            }
        }
    }

    /// A record behind the question: only EDNS's is of interest. Answers where it ends.
    fn read_additional(&mut self, message: &[u8], at: usize) -> Result<usize, Refusal> {
        let malformed = Refusal::Code(code::FORMAT);
        let mut end = at;
        loop {
            match *message.get(end).ok_or(malformed)? {
                0 => break end += 1,
                pointer if pointer >= 0xc0 => break end += 2,
                label if label > 63 => return Err(malformed),
                label => end += 1 + usize::from(label),
            }
        }
        let field = |offset: usize| u16_at(message, end + offset).ok_or(malformed);
        let (record, size, flags, data) = (field(0)?, field(2)?, field(6)?, field(8)?);
        let next = end + 10 + usize::from(data);
        if next > message.len() {
            return Err(malformed);
        }
        if record == kind::OPT {
            if self.edns.is_some() || message[at] != 0 {
                return Err(malformed);
            }
            if message[end + 5] != 0 {
                return Err(Refusal::Version);
            }
            self.edns = Some(Edns { size, wants_signatures: flags & 0x8000 != 0 });
        }
        Ok(next)
    }

    /// The name, in lower case, as a message has it.
    pub fn octets(&self) -> &[u8] {
        &self.name[..usize::from(self.name_length)]
    }

    /// The name, in lower case.
    pub fn name(&self) -> Name {
        Name::of_octets(self.octets())
    }

    /// The octets of the client's message that are the question.
    pub(crate) fn question<'a>(&self, message: &'a [u8]) -> &'a [u8] {
        message.get(HEADER..HEADER + usize::from(self.name_length) + 4).unwrap_or_default()
    }

    /// The most octets that the client takes over UDP.
    pub(crate) fn udp_limit(&self) -> usize {
        self.edns.map_or(UDP_MIN, |edns| usize::from(edns.size).clamp(UDP_MIN, UDP_MAX))
    }

    /// Whether the client wants signatures.
    pub(crate) fn wants_signatures(&self) -> bool {
        self.edns.is_some_and(|edns| edns.wants_signatures)
    }
}
