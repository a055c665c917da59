//! What is wrong with values, in the words of the validator that Helm uses.

use std::fmt::Write as _;

use serde_json::{Number, Value};

/// What a fault is to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rank {
    /// A fault of its own.
    Own,
    /// Several faults at one place.
    Group,
    /// What a referenced schema says; not told if that is one thing.
    Reference,
}

/// A fault, with those that led to it.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub(super) rank: Rank,
    /// A JSON pointer into the values.
    pub(super) at: String,
    pub(super) what: String,
    pub(super) causes: Vec<Fault>,
}

impl Fault {
    /// Several faults as one; `None` of none.
    pub(super) fn of(at: &str, mut faults: Vec<Fault>) -> Option<Self> {
        match faults.len() {
            0 => None,
            1 => faults.pop(),
            _ => Some(Self::failed(Rank::Group, at, faults)),
        }
    }

    /// What a reference led to.
    pub(super) fn referenced(at: &str, fault: Fault) -> Self {
        let causes = if fault.rank == Rank::Group { fault.causes } else { vec![fault] };
        Self::failed(Rank::Reference, at, causes)
    }

    fn failed(rank: Rank, at: &str, causes: Vec<Fault>) -> Self {
        Self { rank, at: at.to_owned(), what: "validation failed".to_owned(), causes }
    }

    /// One line for each fault, those that led to it below it.
    pub(super) fn lines(self) -> String {
        let mut out = String::new();
        let faults = if self.rank == Rank::Group { self.causes } else { vec![self] };
        faults.iter().for_each(|fault| fault.line(0, &mut out));
        out
    }

    fn line(&self, depth: usize, out: &mut String) {
        let is_told = self.rank != Rank::Reference || self.causes.len() != 1;
        if is_told {
            // Writing to a String cannot fail.
            _ = writeln!(out, "{}- at {}: {}", "  ".repeat(depth), quoted(&self.at), self.what);
        }
        self.causes.iter().for_each(|cause| cause.line(depth + usize::from(is_told), out));
    }
}

/// A text in single quotes, with what is not printed escaped.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("'");
    for c in text.chars() {
        match c {
            '\'' => out.push_str("\\'"),
            '"' => out.push('"'),
            c => out.extend(c.escape_debug()),
        }
    }
    out.push('\'');
    out
}

/// Texts in quotes, with commas between.
pub(super) fn all_quoted<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    texts.into_iter().map(quoted).collect::<Vec<_>>().join(", ")
}

/// A value that is no list and no map.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Null => "<nil>".to_owned(),
        other => other.to_string(),
    }
}

/// A number as English has it: `70,000`.
pub(super) fn number(value: &Number) -> String {
    let text = value.as_f64().map_or_else(|| value.to_string(), |value| value.to_string());
    let (whole, rest) = text.split_once('.').map_or((text.as_str(), String::new()), |(a, b)| (a, format!(".{b}")));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{rest}")
}
