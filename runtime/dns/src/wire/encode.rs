//! Answers as octets, ready to be sent again and again.

use std::collections::HashMap;

use super::{Answer, Edns, HEADER, IN, Name, Query, Record, UDP_MAX, code, kind, records};

/// No message is longer than this (RFC 1035, over TCP); room is left for EDNS.
const MESSAGE_MAX: usize = 65535 - 32;
/// Pointers lead no further.
const POINTER_MAX: usize = 0x3fff;
/// Octets of EDNS's record in an answer.
const OPT: usize = 11;

/// An answer behind its question: header, number, question and EDNS are each client's own. Names in it point at the question, so
/// it fits any question of the name it was made for, and keeps the letters' case that the client chose.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    body: Box<[u8]>,
    /// Octets of header and question before the body.
    base: u16,
    /// Flags and code as the header's third and fourth octets.
    flags: [u8; 2],
    counts: [u16; 3],
    /// Where lifetimes are.
    ttls: Box<[u16]>,
    /// Addresses that may come in any order: where the first one begins, how long each is, and how many there are.
    run: Option<(u16, u16, u16)>,
}

/// What an answer is sent with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reply {
    /// The most octets that the client takes.
    pub(crate) limit: usize,
    /// The lifetime that all records get; as they are, if none.
    pub(crate) ttl: Option<u32>,
    /// Which of several addresses comes first.
    pub(crate) turn: usize,
}

impl Packed {
    /// Packs an answer to a question about `name`. Records that `alias` owns are shown as the name's own.
    pub(crate) fn new(answer: &Answer, name: &Name, alias: Option<&Name>) -> Self {
        let base = HEADER + name.octets().len() + 4;
        let mut writer = Writer { base, body: Vec::with_capacity(128), known: HashMap::new(), ttls: Vec::new() };
        writer.know(name.octets(), HEADER);
        if let Some(alias) = alias {
            writer.known.insert(alias.octets(), HEADER as u16);
        }
        let sections = [&answer.answers, &answer.authority, &answer.additional];
        let mut counts = [0; 3];
        let mut run = None;
        let mut is_cut = false;
        for (section, count) in sections.into_iter().zip(&mut counts) {
            for record in section {
                let start = writer.body.len();
                if is_cut || !writer.record(record) {
                    is_cut = true;
                    break;
                }
                *count += 1;
                run = extend(run, &writer.body, start, record.kind);
            }
        }
        let mut flags = [0x80, 0x80 | answer.code & 0xf];
        flags[0] |= if answer.authoritative { 4 } else { 0 } | if is_cut { 2 } else { 0 };
        flags[1] |= if answer.authentic { 0x20 } else { 0 };
        Self {
            body: writer.body.into(),
            base: base as u16,
            flags,
            counts,
            ttls: writer.ttls.into(),
            run: run.filter(|(_, _, count)| *count > 1),
        }
    }

    /// Octets that it takes in memory.
    pub(crate) fn weight(&self) -> usize {
        size_of::<Self>() + self.body.len() + 2 * self.ttls.len()
    }

    /// The response code.
    pub(crate) fn code(&self) -> u8 {
        self.flags[1] & 0xf
    }

    /// Writes the answer to this client's message to the end of `out`.
    pub(crate) fn write(&self, query: &Query, message: &[u8], reply: Reply, out: &mut Vec<u8>) {
        let start = out.len();
        header(query, self.flags, self.counts, out);
        out.extend_from_slice(query.question(message));
        let body = out.len();
        match self.run {
            Some((from, length, count)) => {
                let (from, length, count) = (usize::from(from), usize::from(length), usize::from(count));
                let first = from + length * (reply.turn % count);
                let end = from + length * count;
                for part in [&self.body[..from], &self.body[first..end], &self.body[from..first], &self.body[end..]] {
                    out.extend_from_slice(part);
                }
            }
            None => out.extend_from_slice(&self.body),
        }
        if let Some(ttl) = reply.ttl {
            let octets = ttl.to_be_bytes();
            for at in &self.ttls {
                let at = body + usize::from(*at);
                out[at..at + 4].copy_from_slice(&octets);
            }
        }
        let room = reply.limit.saturating_sub(if query.edns.is_some() { OPT } else { 0 });
        if out.len() - start > room {
            self.cut(start, room, out);
        }
        if let Some(edns) = query.edns {
            opt(edns, 0, out);
            let count = u16::from_be_bytes([out[start + 10], out[start + 11]]) + 1;
            out[start + 10..start + 12].copy_from_slice(&count.to_be_bytes());
        }
    }

    /// Leaves as many whole records as there is room for: a client that can't ask again over TCP has some of them at least. The
    /// answer counts as cut off unless nothing but help was left out (RFC 2181, 9).
    fn cut(&self, start: usize, room: usize, out: &mut Vec<u8>) {
        let counts = self.counts.map(usize::from);
        let (mut kept, mut end) = (0, usize::from(self.base));
        for next in records(&out[start..], end, counts.iter().sum()) {
            if next > room {
                break;
            }
            (kept, end) = (kept + 1, next);
        }
        out.truncate(start + end);
        for (index, count) in counts.into_iter().enumerate() {
            let now = count.min(kept);
            kept -= now;
            let at = start + 6 + 2 * index;
            out[at..at + 2].copy_from_slice(&(now as u16).to_be_bytes());
            if now < count && index < 2 {
                out[start + 2] |= 2;
            }
        }
    }
}

/// Takes a record into the run of addresses that can change places, if it is one: all of one name that is a pointer.
fn extend(run: Option<(u16, u16, u16)>, body: &[u8], start: usize, kind: u16) -> Option<(u16, u16, u16)> {
    let length = body.len() - start;
    let expected = match kind {
        kind::A => 16,
        kind::AAAA => 28,
        _ => return run,
    };
    let (Ok(at), Ok(size)) = (u16::try_from(start), u16::try_from(length)) else { return run };
    if length != expected {
        return run;
    }
    match run {
        None => Some((at, size, 1)),
        Some((from, of, count)) => {
            let follows = usize::from(from) + usize::from(of) * usize::from(count) == start && of == size;
            let owner = |at: usize| body.get(at..at + 2);
            if follows && owner(usize::from(from)) == owner(start) { Some((from, of, count + 1)) } else { run }
        }
    }
}

struct Writer<'a> {
    base: usize,
    body: Vec<u8>,
    /// Names that were written, and what they end in, with where.
    known: HashMap<&'a [u8], u16>,
    ttls: Vec<u16>,
}

impl<'a> Writer<'a> {
    /// Remembers that a name and all that it ends in are at an offset in the message.
    fn know(&mut self, name: &'a [u8], offset: usize) {
        let mut at = 0;
        while name.get(at).is_some_and(|label| *label != 0) && offset + at <= POINTER_MAX {
            self.known.entry(&name[at..]).or_insert((offset + at) as u16);
            at += 1 + usize::from(name[at]);
        }
    }

    /// Answers whether there was room for it.
    fn record(&mut self, record: &'a Record) -> bool {
        let start = self.body.len();
        self.owner(record.owner.octets());
        self.body.extend(record.kind.to_be_bytes());
        self.body.extend(record.class.to_be_bytes());
        let ttl = self.body.len();
        self.body.extend(record.ttl.to_be_bytes());
        // No record that was read or made is longer than its length can say.
        self.body.extend((record.data.len() as u16).to_be_bytes());
        let data = self.base + self.body.len();
        self.body.extend_from_slice(&record.data);
        if self.base + self.body.len() > MESSAGE_MAX {
            self.body.truncate(start);
            return false;
        }
        self.ttls.push(ttl as u16);
        match record.kind {
            kind::CNAME | kind::PTR | kind::NS => self.know(&record.data, data),
            kind::SRV => self.know(record.data.get(6..).unwrap_or_default(), data + 6),
            _ => {}
        }
        true
    }

    fn owner(&mut self, name: &'a [u8]) {
        let mut at = 0;
        while name.get(at).is_some_and(|label| *label != 0) {
            if let Some(offset) = self.known.get(&name[at..]) {
                self.body.extend((0xc000 | offset).to_be_bytes());
                return;
            }
            let offset = self.base + self.body.len();
            if offset <= POINTER_MAX {
                self.known.insert(&name[at..], offset as u16);
            }
            let end = at + 1 + usize::from(name[at]);
            self.body.extend_from_slice(&name[at..end]);
            at = end;
        }
        self.body.push(0);
    }
}

fn header(query: &Query, flags: [u8; 2], counts: [u16; 3], out: &mut Vec<u8>) {
    let mut head = [0; HEADER];
    head[..2].copy_from_slice(&query.id.to_be_bytes());
    head[2] = flags[0] | u8::from(query.recursion_desired);
    head[3] = flags[1] | if query.checking_disabled { 0x10 } else { 0 };
    head[5] = 1;
    for (index, count) in counts.into_iter().enumerate() {
        head[6 + 2 * index..8 + 2 * index].copy_from_slice(&count.to_be_bytes());
    }
    out.extend_from_slice(&head);
}

fn opt(edns: Edns, extended_code: u8, out: &mut Vec<u8>) {
    out.extend([0, 0, kind::OPT as u8]);
    out.extend((UDP_MAX as u16).to_be_bytes());
    out.extend([extended_code, 0, if edns.wants_signatures { 0x80 } else { 0 }, 0, 0, 0]);
}

/// The answer to a message that holds no question we take; none is due to some.
pub(crate) fn refusal(message: &[u8], refusal: super::Refusal, out: &mut Vec<u8>) -> bool {
    let (code, version) = match refusal {
        super::Refusal::Silence => return false,
        super::Refusal::Code(code) => (code, false),
        super::Refusal::Version => (code::NO_ERROR, true),
    };
    let Some(head) = message.first_chunk::<HEADER>() else { return false };
    let mut reply = [0; HEADER];
    reply[..2].copy_from_slice(&head[..2]);
    reply[2] = 0x80 | head[2] & 0x79;
    reply[3] = code;
    reply[11] = u8::from(version);
    out.extend_from_slice(&reply);
    if version {
        // BADVERS is 16: its upper part stands in EDNS's record.
        opt(Edns { size: 0, wants_signatures: false }, 1, out);
    }
    true
}

/// A question to another server.
pub(crate) fn question(id: u16, name: &Name, kind: u16, wants_signatures: bool, checking_disabled: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + name.octets().len() + 4 + OPT);
    out.extend(id.to_be_bytes());
    out.extend([1, if checking_disabled { 0x10 } else { 0 }, 0, 1, 0, 0, 0, 0, 0, 1]);
    out.extend_from_slice(name.octets());
    out.extend(kind.to_be_bytes());
    out.extend(IN.to_be_bytes());
    opt(Edns { size: 0, wants_signatures }, 0, &mut out);
    out
}
