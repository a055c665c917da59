//! Names of domains.

use std::fmt;

/// The most octets of a name in a message.
pub(crate) const NAME_MAX: usize = 255;
const LABEL_MAX: usize = 63;

/// A name as a message has it: labels behind their lengths, and the root's zero at the end. Names of this cluster and of
/// questions are in lower case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

impl Name {
    /// A name from text, dots between its labels; in lower case. A dot at the end makes no difference. None if it is too long or
    /// has empty labels.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text);
        Self::join(text.split('.').filter(|_| !text.is_empty()), &[0])
    }

    /// A name of labels before another, which is given as octets; in lower case. None if it gets too long or a label is no label.
    pub(crate) fn join<'a>(labels: impl IntoIterator<Item = &'a str>, zone: &[u8]) -> Option<Self> {
        let mut octets = Vec::with_capacity(64);
        for label in labels {
            if label.is_empty() || label.len() > LABEL_MAX {
                return None;
            }
            octets.push(u8::try_from(label.len()).ok()?);
            octets.extend(label.bytes().map(|b| b.to_ascii_lowercase()));
        }
        octets.extend_from_slice(zone);
        (octets.len() <= NAME_MAX).then(|| Self(octets.into()))
    }

    /// A name that was read from a message.
    pub(crate) fn of_octets(octets: &[u8]) -> Self {
        Self(octets.into())
    }

    /// As a message has it.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }

    /// Its labels, the first one first.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        labels(&self.0)
    }

    /// How many labels it has.
    pub fn depth(&self) -> usize {
        self.labels().count()
    }

    /// Whether it is the zone's or below it; both in lower case.
    pub fn is_under(&self, zone: &Name) -> bool {
        under(&self.0, &zone.0)
    }
}

/// The labels of a name as a message has it.
pub(crate) fn labels(octets: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = octets;
    std::iter::from_fn(move || {
        let (length, behind) = rest.split_first()?;
        if *length == 0 {
            return None;
        }
        let (label, behind) = behind.split_at_checked(usize::from(*length))?;
        rest = behind;
        Some(label)
    })
}

/// Whether a name is a zone's or below it.
fn under(name: &[u8], zone: &[u8]) -> bool {
    let Some(above) = name.len().checked_sub(zone.len()) else { return false };
    if &name[above..] != zone {
        return false;
    }
    // The zone must begin where a label does.
    let mut at = 0;
    while at < above {
        at += 1 + usize::from(name[at]);
    }
    at == above
}

/// As text, with a dot at the end; what is no letter, digit, `-` or `_` is written as RFC 1035 has it.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for label in self.labels() {
            for &octet in label {
                match octet {
                    b'.' | b'\\' | b'"' => write!(f, "\\{}", char::from(octet))?,
                    0x21..=0x7e => write!(f, "{}", char::from(octet))?,
                    _ => write!(f, "\\{octet:03}")?,
                }
            }
            f.write_str(".")?;
        }
        if self.0.len() <= 1 { f.write_str(".") } else { Ok(()) }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn a_name_is_below_a_zone_only_where_labels_meet() {
        assert!(name("a.cluster.local").is_under(&name("Cluster.Local.")));
        assert!(name("cluster.local").is_under(&name("cluster.local")));
        assert!(name("x").is_under(&name(".")));
        assert!(!name("acluster.local").is_under(&name("cluster.local")));
        assert!(!name("local").is_under(&name("cluster.local")));
        // A label that holds what looks like the zone with its lengths.
        let odd = Name::of_octets(b"\x07x\x05local\0");
        assert!(!odd.is_under(&name("local")), "{odd}");
    }

    #[test]
    fn names_too_long_are_none_and_odd_octets_are_shown_by_their_numbers() {
        assert!(Name::parse(&"a".repeat(64)).is_none());
        assert!(Name::parse(&vec!["a".repeat(60); 5].join(".")).is_none());
        assert!(Name::parse("a..b").is_none());
        assert_eq!(Name::of_octets(b"\x03a.\x00\0").to_string(), "a\\.\\000.");
        assert_eq!((name(".").to_string(), name("A.b").to_string()), (".".to_owned(), "a.b.".to_owned()));
    }
}
