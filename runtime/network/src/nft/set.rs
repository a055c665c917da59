//! Sets, maps and verdict maps, and their elements.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::expression::Verdict;
use super::key::{Key, Type};
use super::uapi::{self, element, set};
use super::wire::Writer;

/// What a key leads to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum Value {
    /// Nothing: the element of a set.
    #[default]
    None,
    /// A verdict.
    Verdict(Verdict),
    /// Data.
    Data(Key),
}

/// An element of a set or a map.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Element {
    /// Its key, or the first of a range.
    pub key: Key,
    /// The last key of a range.
    pub last: Option<Key>,
    /// What it leads to.
    pub value: Value,
    /// After how long it goes; as the set says if it is none.
    pub timeout: Option<Duration>,
    /// How much of that is left.
    pub expires: Option<Duration>,
}

impl Element {
    /// An element of a set.
    pub fn new(key: Key) -> Self {
        Self { key, ..Self::default() }
    }

    /// A range of keys, both ends included.
    pub fn range(first: Key, last: Key) -> Self {
        Self { key: first, last: Some(last), ..Self::default() }
    }

    /// All addresses that share the first `prefix` bits with this one.
    pub fn network(address: IpAddr, prefix: u8) -> Self {
        let (first, last) = ends(address, prefix);
        Self::range(Key::new().address(first), Key::new().address(last))
    }

    /// The same key with a verdict.
    #[must_use]
    pub fn verdict(self, verdict: Verdict) -> Self {
        Self { value: Value::Verdict(verdict), ..self }
    }

    /// The same key with data.
    #[must_use]
    pub fn data(self, data: Key) -> Self {
        Self { value: Value::Data(data), ..self }
    }

    /// Writes it as the kernel wants it in this kind of set.
    pub(super) fn write(&self, into: &mut Writer, intervals: Intervals) {
        self.write_one(into, &self.key, if intervals == Intervals::Concatenated { self.end() } else { None }, 0);
        if intervals == Intervals::Ends
            && let Some(end) = self.end().and_then(Key::successor)
        {
            Self::new(end.clone()).write_one(into, &end, None, element::F_INTERVAL_END);
        }
    }

    fn end(&self) -> Option<&Key> {
        Some(self.last.as_ref().unwrap_or(&self.key))
    }

    fn write_one(&self, into: &mut Writer, key: &Key, last: Option<&Key>, flags: u32) {
        let open = into.nest(uapi::LIST_ELEMENT);
        if flags != 0 {
            into.put_u32(element::FLAGS, flags);
        }
        write_data(into, element::KEY, key.bytes());
        if let Some(last) = last {
            write_data(into, element::KEY_END, last.bytes());
        }
        match &self.value {
            Value::None => {}
            Value::Data(data) => write_data(into, element::DATA, data.bytes()),
            Value::Verdict(verdict) => verdict.write(into, element::DATA),
        }
        if let Some(timeout) = self.timeout {
            into.put_u64(element::TIMEOUT, millis(timeout));
        }
        if let Some(expires) = self.expires {
            into.put_u64(element::EXPIRATION, millis(expires));
        }
        into.end(&open);
    }
}

impl From<Key> for Element {
    fn from(key: Key) -> Self {
        Self::new(key)
    }
}

impl From<Ipv4Addr> for Element {
    fn from(address: Ipv4Addr) -> Self {
        Self::new(address.into())
    }
}

impl From<Ipv6Addr> for Element {
    fn from(address: Ipv6Addr) -> Self {
        Self::new(address.into())
    }
}

/// The first and the last address of a network.
fn ends(address: IpAddr, prefix: u8) -> (IpAddr, IpAddr) {
    match address {
        IpAddr::V4(address) => {
            let host = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
            let bits = u32::from(address);
            (Ipv4Addr::from(bits & !host).into(), Ipv4Addr::from(bits | host).into())
        }
        IpAddr::V6(address) => {
            let host = u128::MAX.checked_shr(prefix.into()).unwrap_or(0);
            let bits = u128::from(address);
            (Ipv6Addr::from(bits & !host).into(), Ipv6Addr::from(bits | host).into())
        }
    }
}

pub(super) fn write_data(into: &mut Writer, kind: u16, bytes: &[u8]) {
    let open = into.nest(kind);
    into.put(uapi::data::VALUE, bytes);
    into.end(&open);
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How a set wants ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Intervals {
    /// It has none.
    None,
    /// As two elements, the second one behind the range.
    Ends,
    /// As one element with two keys.
    Concatenated,
}

/// A set or a map.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Set {
    /// Its name.
    pub name: String,
    key: Vec<Type>,
    value: Values,
    intervals: bool,
    dynamic: bool,
    timeout: Option<Duration>,
    size: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Values {
    None,
    Verdicts,
    Data(Vec<Type>),
}

impl Set {
    /// A set of keys of these parts.
    pub fn new(name: &str, key: &[Type]) -> Self {
        Self {
            name: name.to_owned(),
            key: key.to_vec(),
            value: Values::None,
            intervals: false,
            dynamic: false,
            timeout: None,
            size: None,
        }
    }

    /// A map from keys to verdicts.
    pub fn verdicts(name: &str, key: &[Type]) -> Self {
        Self { value: Values::Verdicts, ..Self::new(name, key) }
    }

    /// A map from keys to values.
    pub fn map(name: &str, key: &[Type], value: &[Type]) -> Self {
        Self { value: Values::Data(value.to_vec()), ..Self::new(name, key) }
    }

    /// The same with ranges of keys, which may not overlap.
    #[must_use]
    pub fn intervals(self) -> Self {
        Self { intervals: true, ..self }
    }

    /// The same, filled by rules with up to `size` elements that go after a time in which no rule renewed them.
    #[must_use]
    pub fn dynamic(self, timeout: Duration, size: u32) -> Self {
        Self { dynamic: true, timeout: Some(timeout), size: Some(size), ..self }
    }

    /// How its ranges are written.
    pub(super) fn ranges(&self) -> Intervals {
        match (self.intervals, self.key.len()) {
            (false, _) => Intervals::None,
            (true, 0 | 1) => Intervals::Ends,
            (true, _) => Intervals::Concatenated,
        }
    }

    /// Writes what makes it; `anonymous` belongs to one rule.
    pub(super) fn write(&self, into: &mut Writer, id: u32, anonymous: Option<usize>) {
        into.put_text(set::NAME, &self.name);
        let mut flags = 0;
        for (when, flag) in [
            (anonymous.is_some(), set::F_ANONYMOUS | set::F_CONSTANT),
            (self.intervals, set::F_INTERVAL),
            (self.value != Values::None, set::F_MAP),
            (self.timeout.is_some(), set::F_TIMEOUT),
            (self.dynamic, set::F_EVAL),
            (self.ranges() == Intervals::Concatenated, set::F_CONCAT),
        ] {
            flags |= if when { flag } else { 0 };
        }
        into.put_u32(set::FLAGS, flags);
        into.put_u32(set::KEY_TYPE, Type::ids(&self.key));
        into.put_u32(set::KEY_LENGTH, Type::total(&self.key));
        match &self.value {
            Values::None => {}
            Values::Verdicts => into.put_u32(set::DATA_TYPE, set::VERDICTS),
            Values::Data(types) => {
                into.put_u32(set::DATA_TYPE, Type::ids(types));
                into.put_u32(set::DATA_LENGTH, Type::total(types));
            }
        }
        into.put_u32(set::ID, id);
        if let Some(timeout) = self.timeout {
            into.put_u64(set::TIMEOUT, millis(timeout));
        }
        // A range may be two elements, so only a set without ranges is as big as what it holds.
        let held = anonymous.filter(|_| !self.intervals).and_then(|count| u32::try_from(count).ok());
        let size = self.size.or(held);
        if size.is_some() || self.ranges() == Intervals::Concatenated {
            let open = into.nest(set::DESCRIPTION);
            if let Some(size) = size {
                into.put_u32(set::DESCRIPTION_SIZE, size);
            }
            if self.ranges() == Intervals::Concatenated {
                self.write_fields(into);
            }
            into.end(&open);
        }
        if self.key == [Type::Integer] {
            // For whoever lists it: the key is in the machine's byte order.
            into.put(set::USER_DATA, &[0, 4, 1, 0, 0, 0]);
        }
    }

    fn write_fields(&self, into: &mut Writer) {
        let concat = into.nest(set::DESCRIPTION_CONCAT);
        for part in &self.key {
            let field = into.nest(uapi::LIST_ELEMENT);
            into.put_u32(set::FIELD_LENGTH, part.length());
            into.end(&field);
        }
        into.end(&concat);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_a_range() {
        let network = Element::network("10.1.2.3".parse().unwrap(), 8);
        assert_eq!(
            (network.key.bytes(), network.last.unwrap().bytes()),
            (&[10, 0, 0, 0][..], &[10, 255, 255, 255][..])
        );
        let all: IpAddr = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap();
        assert_eq!(ends("fd00::1".parse().unwrap(), 0).1, all);
    }
}
