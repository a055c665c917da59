//! Semantic versions and constraints on them, as Masterminds/semver reads them.

use std::cmp::Ordering;
use std::fmt;

/// A version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) major: u64,
    pub(crate) minor: u64,
    pub(crate) patch: u64,
    pub(crate) prerelease: String,
    pub(crate) metadata: String,
    /// As it was written.
    pub(crate) original: String,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)?;
        if !self.prerelease.is_empty() {
            write!(f, "-{}", self.prerelease)?;
        }
        if !self.metadata.is_empty() {
            write!(f, "+{}", self.metadata)?;
        }
        Ok(())
    }
}

impl Version {
    /// Reads a version; a leading `v` and missing parts are let through.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (version, parts) = partial(text)?;
        (parts > 0).then_some(version)
    }

    /// By precedence: metadata does not count.
    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        let numbers = |v: &Self| (v.major, v.minor, v.patch);
        numbers(self).cmp(&numbers(other)).then_with(|| {
            match (self.prerelease.is_empty(), other.prerelease.is_empty()) {
                (true, true) => Ordering::Equal,
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                (false, false) => prereleases(&self.prerelease, &other.prerelease),
            }
        })
    }
}

fn prereleases(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        let order = match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, _) => return Ordering::Less,
            (_, None) => return Ordering::Greater,
            (Some(a), Some(b)) => match (a.parse::<u64>(), b.parse::<u64>()) {
                (Ok(a), Ok(b)) => a.cmp(&b),
                (Ok(_), Err(_)) => Ordering::Less,
                (Err(_), Ok(_)) => Ordering::Greater,
                _ => a.cmp(b),
            },
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// A version, and how many of its numbers were there: `1.2.x` has two.
fn partial(text: &str) -> Option<(Version, usize)> {
    let original = text.to_owned();
    let text = text.strip_prefix('v').unwrap_or(text);
    let (text, metadata) = text.split_once('+').unwrap_or((text, ""));
    let (numbers, prerelease) = text.split_once('-').unwrap_or((text, ""));
    let is_name = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    if !is_name(metadata) || !is_name(prerelease) || numbers.is_empty() {
        return None;
    }
    let mut found = [0; 3];
    let mut parts = 0;
    let mut wild = false;
    for (at, part) in numbers.split('.').enumerate() {
        if at > 2 {
            return None;
        }
        if matches!(part, "x" | "X" | "*") {
            wild = true;
        } else if wild || part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        } else {
            found[at] = part.parse().ok()?;
            parts = at + 1;
        }
    }
    let [major, minor, patch] = found;
    let (prerelease, metadata) = (prerelease.to_owned(), metadata.to_owned());
    Some((Version { major, minor, patch, prerelease, metadata, original }, parts))
}

/// Whether a version is within a constraint such as `>=1.2, <2 || ~3.1`; `None` if it is no constraint.
pub(crate) fn satisfies(constraint: &str, version: &Version) -> Option<bool> {
    let mut any = false;
    for alternative in constraint.split("||") {
        let mut all = true;
        for (operator, bound) in terms(alternative)? {
            all &= holds(&operator, &bound, version)?;
        }
        any |= all;
    }
    Some(any)
}

/// The operators and versions of a text without `||`.
fn terms(text: &str) -> Option<Vec<(String, String)>> {
    // A range: `1.2 - 1.4.5`.
    let text = match text.split_once(" - ") {
        Some((from, to)) => format!(">={} <={}", from.trim(), to.trim()),
        None => text.replace(',', " "),
    };
    let mut terms = Vec::new();
    let mut operator = String::new();
    for word in text.split_whitespace() {
        let at = word.find(|c: char| !"=!<>~^".contains(c)).unwrap_or(word.len());
        operator.push_str(&word[..at]);
        if at < word.len() {
            terms.push((std::mem::take(&mut operator), word[at..].to_owned()));
        }
    }
    (operator.is_empty() && !terms.is_empty()).then_some(terms)
}

fn holds(operator: &str, bound: &str, version: &Version) -> Option<bool> {
    let (bound, parts) = partial(bound)?;
    // A prerelease is only within what names one.
    if !version.prerelease.is_empty() && bound.prerelease.is_empty() && operator != "!=" {
        return Some(false);
    }
    let order = version.compare(&bound);
    let same = |count: usize| {
        let (a, b) = ([version.major, version.minor, version.patch], [bound.major, bound.minor, bound.patch]);
        a[..count] == b[..count]
    };
    Some(match operator {
        "" | "=" if parts < 3 => same(parts),
        "" | "=" => order == Ordering::Equal,
        "!=" if parts < 3 => !same(parts),
        "!=" => order != Ordering::Equal,
        ">" if parts < 3 => order == Ordering::Greater && !same(parts),
        ">" => order == Ordering::Greater,
        "<" => order == Ordering::Less,
        ">=" | "=>" => order != Ordering::Less,
        "<=" | "=<" if parts < 3 => order == Ordering::Less || same(parts),
        "<=" | "=<" => order != Ordering::Greater,
        "~" | "~>" => order != Ordering::Less && same(parts.min(2)),
        "^" => {
            let fixed = match (bound.major, bound.minor, parts) {
                (1.., _, _) | (0, _, 1) => 1,
                (0, 1.., _) | (0, 0, 2) => 2,
                (0, 0, 0) => 0,
                _ => 3,
            };
            order != Ordering::Less && same(fixed.min(parts))
        }
        _ => return None,
    })
}
