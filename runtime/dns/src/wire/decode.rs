//! An answer that another server gave.

use thiserror::Error;

use super::{Answer, HEADER, NAME_MAX, Name, Record, kind, u16_at, u32_at};

/// The message is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the message is malformed")]
pub struct Malformed;

/// The most pointers that a name may follow.
const JUMPS: usize = 32;

/// Whether this is the answer to the question with this number; names are compared without regard to case.
pub(crate) fn is_reply(message: &[u8], id: u16, question: &[u8]) -> bool {
    let Some(head) = message.first_chunk::<HEADER>() else { return false };
    let has_one = u16_at(head, 4) == Some(1);
    let asked = message.get(HEADER..HEADER + question.len());
    u16_at(head, 0) == Some(id)
        && head[2] & 0xf8 == 0x80
        && has_one
        && asked.is_some_and(|asked| asked.eq_ignore_ascii_case(question))
}

/// Reads an answer, without its EDNS record. The second part tells whether it was cut off.
///
/// # Errors
/// [`Malformed`].
pub fn decode(message: &[u8]) -> Result<(Answer, bool), Malformed> {
    let read = || {
        let head: &[u8; HEADER] = message.first_chunk()?;
        let mut at = HEADER;
        for _ in 0..u16_at(head, 4)? {
            at = skip_name(message, at)?.checked_add(4)?;
        }
        let mut answer = Answer { code: head[3] & 0xf, authentic: head[3] & 0x20 != 0, ..Answer::default() };
        answer.answers = section(message, &mut at, u16_at(head, 6)?)?;
        answer.authority = section(message, &mut at, u16_at(head, 8)?)?;
        answer.additional = section(message, &mut at, u16_at(head, 10)?)?;
        Some((answer, head[2] & 2 != 0))
    };
    read().ok_or(Malformed)
}

fn section(message: &[u8], at: &mut usize, count: u16) -> Option<Vec<Record>> {
    let mut out = Vec::new();
    for _ in 0..count {
        let owner = read_name(message, *at)?;
        let fields = skip_name(message, *at)?;
        let (kind, class, ttl) = (u16_at(message, fields)?, u16_at(message, fields + 2)?, u32_at(message, fields + 4)?);
        let from = fields + 10;
        let end = from + usize::from(u16_at(message, fields + 8)?);
        message.get(from..end)?;
        *at = end;
        if kind == kind::OPT {
            continue;
        }
        // A lifetime with the highest bit set counts as none (RFC 2181).
        let ttl = if ttl > u32::MAX / 2 { 0 } else { ttl };
        out.push(Record { owner, kind, class, ttl, data: data(message, kind, from, end)? });
    }
    Some(out)
}

/// What a record says, with whole names.
fn data(message: &[u8], kind: u16, from: usize, end: usize) -> Option<Box<[u8]>> {
    // How much comes before the name, and how much must come behind it.
    let (before, names, behind) = match kind {
        kind::NS | kind::CNAME | kind::PTR | kind::DNAME => (0, 1, 0),
        kind::MX | kind::AFSDB => (2, 1, 0),
        kind::SRV => (6, 1, 0),
        kind::SOA => (0, 2, 20),
        _ => return message.get(from..end).map(Into::into),
    };
    let mut at = from + before;
    let mut out = message.get(from..at)?.to_vec();
    for _ in 0..names {
        out.extend_from_slice(read_name(message, at)?.octets());
        at = skip_name(message, at)?;
    }
    if at + behind != end {
        return None;
    }
    out.extend_from_slice(message.get(at..end)?);
    Some(out.into())
}

/// A name, its pointers followed.
fn read_name(message: &[u8], mut at: usize) -> Option<Name> {
    let (mut octets, mut jumps) = ([0; NAME_MAX], 0);
    let mut length = 0;
    loop {
        let label = *message.get(at)?;
        match label {
            0xc0.. => {
                jumps += 1;
                let to = usize::from(u16_at(message, at)? & 0x3fff);
                // Pointers lead back, so that they come to an end.
                if jumps > JUMPS || to >= at {
                    return None;
                }
                at = to;
            }
            64.. => return None,
            _ => {
                let end = 1 + usize::from(label);
                let from = message.get(at..at + end)?;
                octets.get_mut(length..length + end)?.copy_from_slice(from);
                length += end;
                at += end;
                if label == 0 {
                    return Some(Name::of_octets(&octets[..length]));
                }
            }
        }
    }
}

/// Where what is behind a name begins.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            0xc0.. => return Some(at + 2),
            64.. => return None,
            label => at += 1 + usize::from(label),
        }
    }
}

/// Where each record of a message ends whose first record begins at `at`; as many as there are whole.
pub(crate) fn records(message: &[u8], at: usize, count: usize) -> impl Iterator<Item = usize> {
    let mut at = at;
    (0..count).map_while(move |_| {
        let fields = skip_name(message, at)?;
        at = fields + 10 + usize::from(u16_at(message, fields + 8)?);
        (at <= message.len()).then_some(at)
    })
}
