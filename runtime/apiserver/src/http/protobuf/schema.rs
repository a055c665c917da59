//! The table of messages, read out of `messages.txt` at first use.

use std::collections::HashMap;
use std::sync::OnceLock;

const TABLE: &str = include_str!("messages.txt");

/// How a field stands in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flag {
    /// Once; its zero means absent.
    Plain,
    /// Once; its zero counts.
    Pointer,
    List,
    Map,
    /// A message whose fields are the parent's own.
    Inline,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Bytes,
    Bool,
    Integer,
    Double,
    Time,
    MicroTime,
    Quantity,
    IntOrString,
    Json,
    Texts,
    Message(&'static str),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    number: u32,
    pub(super) flag: Flag,
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) struct Message(Vec<Field>);

impl Message {
    pub(super) fn field(&self, number: u32) -> Option<&Field> {
        self.0.iter().find(|f| f.number == number)
    }
}

fn table() -> &'static HashMap<&'static str, Message> {
    static PARSED: OnceLock<HashMap<&'static str, Message>> = OnceLock::new();
    PARSED.get_or_init(|| TABLE.lines().filter(|l| !l.starts_with('#')).filter_map(line).collect())
}

fn line(line: &'static str) -> Option<(&'static str, Message)> {
    let mut words = line.split(' ');
    let name = words.next()?;
    Some((name, Message(words.filter_map(field).collect())))
}

fn field(word: &'static str) -> Option<Field> {
    let mut parts = word.splitn(3, ':');
    let (number, name, kind) = (parts.next()?, parts.next()?, parts.next()?);
    let digits = number.trim_end_matches(|c: char| !c.is_ascii_digit());
    let flag = match &number[digits.len()..] {
        "*" => Flag::Pointer,
        "[" => Flag::List,
        "{" => Flag::Map,
        "~" => Flag::Inline,
        _ => Flag::Plain,
    };
    let kind = match kind {
        "s" => Kind::Text,
        "y" => Kind::Bytes,
        "b" => Kind::Bool,
        "i" => Kind::Integer,
        "d" => Kind::Double,
        "T" => Kind::Time,
        "U" => Kind::MicroTime,
        "Q" => Kind::Quantity,
        "I" => Kind::IntOrString,
        "R" => Kind::Json,
        "V" => Kind::Texts,
        name => Kind::Message(name),
    };
    Some(Field { number: digits.parse().ok()?, flag, name, kind })
}

/// A message by its name in the table.
pub(super) fn message(name: &str) -> Option<&'static Message> {
    table().get(name)
}

/// The message of a kind.
pub(super) fn message_of(group: &str, version: &str, kind: &str) -> Option<&'static Message> {
    // Options are the same in every group.
    if kind == "DeleteOptions" {
        return message("meta.v1.DeleteOptions");
    }
    let group = if group.is_empty() { "core" } else { group.split('.').next().unwrap_or_default() };
    message(&format!("{group}.{version}.{kind}"))
}

/// Messages that fields refer to and the table has not.
#[cfg(test)]
pub(super) fn unknown_names() -> Vec<&'static str> {
    let fields = table().values().flat_map(|m| m.0.iter());
    fields
        .filter_map(|f| match f.kind {
            Kind::Message(name) if message(name).is_none() => Some(name),
            _ => None,
        })
        .collect()
}
