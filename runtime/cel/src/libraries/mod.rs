//! What Kubernetes adds to CEL: lists, URLs, amounts, addresses, versions, formats, optionals, sets, and the authorizer.

mod authority;
mod lists;

use std::cmp::Ordering;
use std::net::IpAddr;
use std::sync::Arc;

use kiln_apimachinery::names;
use kiln_apimachinery::quantity::Quantity;

use authority::of_authority;
use lists::of_list;

use crate::eval::{EvalError, Host};
use crate::functions::part_of_time;
use crate::value::Value;

type Result<T> = std::result::Result<T, EvalError>;

/// Functions that give a format.
pub(crate) const FORMATS: [&str; 12] = [
    "format.dns1123Label",
    "format.dns1123Subdomain",
    "format.dns1035Label",
    "format.qualifiedName",
    "format.dns1123LabelPrefix",
    "format.dns1123SubdomainPrefix",
    "format.dns1035LabelPrefix",
    "format.labelValue",
    "format.uri",
    "format.uuid",
    "format.byte",
    "format.datetime",
];

/// A format of texts, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format(&'static str);

/// A URL in its parts.
#[derive(Debug, PartialEq, Eq)]
pub struct Url {
    scheme: String,
    host: String,
    path: String,
    query: String,
}

/// A semantic version.
#[derive(Debug, PartialEq, Eq)]
pub struct Semver {
    numbers: [u64; 3],
    before: Vec<String>,
}

/// A question to the authorizer, built step by step.
#[derive(Clone, Debug, Default)]
pub struct Authority {
    /// A path that is no resource.
    pub path: Option<String>,
    /// API group.
    pub group: String,
    /// Plural.
    pub resource: String,
    /// Part of the resource.
    pub subresource: String,
    /// Namespace, or empty.
    pub namespace: String,
    /// Name of an object, or empty.
    pub name: String,
    /// Namespace and name of an account who is asked about in place of the user.
    pub account: Option<(String, String)>,
    /// The verb that is asked about.
    pub verb: String,
    /// The answer: whether, and why.
    pub answer: Option<std::result::Result<(bool, String), String>>,
}

impl Url {
    fn read(text: &str) -> Option<Self> {
        let (rest, query) = text.split_once('?').unwrap_or((text, ""));
        if text.chars().any(|c| c.is_control() || c == ' ') {
            return None;
        }
        if rest.starts_with('/') {
            let (host, path) = match rest.strip_prefix("//") {
                Some(after) => after.split_at(after.find('/').unwrap_or(after.len())),
                None => ("", rest),
            };
            return Some(Self { scheme: String::new(), host: host.into(), path: path.into(), query: query.into() });
        }
        let (scheme, after) = rest.split_once("://")?;
        let good = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
        let (host, path) = after.split_at(after.find('/').unwrap_or(after.len()));
        let host = host.rsplit_once('@').map_or(host, |(_, h)| h);
        good.then(|| Self { scheme: scheme.into(), host: host.into(), path: path.into(), query: query.into() })
    }

    fn host_and_port(&self) -> (&str, &str) {
        match self.host.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host.trim_matches(['[', ']']), port),
            _ => (self.host.trim_matches(['[', ']']), ""),
        }
    }

    fn query<'a>(&self) -> Value<'a> {
        let mut out: Vec<(Value<'a>, Vec<Value<'a>>)> = Vec::new();
        for part in self.query.split('&').filter(|p| !p.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            match out.iter_mut().find(|(k, _)| k.as_text() == Some(key)) {
                Some((_, values)) => values.push(Value::text(value)),
                None => out.push((Value::text(key), vec![Value::text(value)])),
            }
        }
        Value::Map(Arc::new(out.into_iter().map(|(k, v)| (k, Value::list(v))).collect()))
    }
}

impl Semver {
    fn read(text: &str) -> Option<Self> {
        let text = text.split('+').next()?;
        let (core, before) = text.split_once('-').map_or((text, None), |(c, b)| (c, Some(b)));
        let parts: Vec<&str> = core.split('.').collect();
        let number = |part: &&str| {
            let plain = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            if plain && (part.len() == 1 || !part.starts_with('0')) { part.parse().ok() } else { None }
        };
        let numbers: Vec<u64> = parts.iter().map(number).collect::<Option<_>>()?;
        let numbers = <[u64; 3]>::try_from(numbers).ok()?;
        let before: Vec<String> = before.map(|b| b.split('.').map(str::to_owned).collect()).unwrap_or_default();
        (!before.iter().any(String::is_empty)).then_some(Self { numbers, before })
    }

    /// The order of versions: what comes before a release is smaller.
    pub(crate) fn order(&self, other: &Self) -> Ordering {
        let part = |a: &String, b: &String| match (a.parse::<u64>(), b.parse::<u64>()) {
            (Ok(a), Ok(b)) => a.cmp(&b),
            (Ok(_), Err(_)) => Ordering::Less,
            (Err(_), Ok(_)) => Ordering::Greater,
            _ => a.cmp(b),
        };
        self.numbers.cmp(&other.numbers).then_with(|| match (self.before.is_empty(), other.before.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            _ => {
                let mut pairs = self.before.iter().zip(&other.before).map(|(a, b)| part(a, b));
                pairs.find(|o| o.is_ne()).unwrap_or_else(|| self.before.len().cmp(&other.before.len()))
            }
        })
    }
}

impl Format {
    fn check(self, text: &str) -> Vec<String> {
        let prefix = |rule: fn(&str) -> Vec<String>| rule(&format!("{}a", text.trim_end_matches('-')));
        match self.0 {
            "format.dns1123Label" => names::dns1123_label(text),
            "format.dns1123Subdomain" => names::dns1123_subdomain(text),
            "format.dns1035Label" => names::dns1035_label(text),
            "format.qualifiedName" => names::qualified_name(text),
            "format.dns1123LabelPrefix" => prefix(names::dns1123_label),
            "format.dns1123SubdomainPrefix" => prefix(names::dns1123_subdomain),
            "format.dns1035LabelPrefix" => prefix(names::dns1035_label),
            "format.labelValue" => names::label_value(text),
            "format.uri" if Url::read(text).is_none() => vec!["parse error: invalid URI".into()],
            "format.datetime" if text.parse::<jiff::Timestamp>().is_err() => vec!["invalid datetime".into()],
            "format.uuid" if text.replace('-', "").len() != 32 => vec!["does not match the UUID format".into()],
            _ => Vec::new(),
        }
    }
}

fn address(text: &str) -> Result<IpAddr> {
    let plain = !text.contains('%') && !text.to_lowercase().starts_with("::ffff:");
    let read = text.parse().ok().filter(|_| plain);
    read.ok_or_else(|| EvalError::new(format!("IP Address {text:?} parse error during conversion from string")))
}

fn network(text: &str) -> Result<(IpAddr, u8)> {
    let bad = || EvalError::new(format!("network address parse error during conversion from string: {text:?}"));
    let (ip, bits) = text.split_once('/').ok_or_else(bad)?;
    let ip = address(ip).map_err(|_| bad())?;
    let bits: u8 = bits.parse().map_err(|_| bad())?;
    if bits > if ip.is_ipv4() { 32 } else { 128 } { Err(bad()) } else { Ok((ip, bits)) }
}

fn bits_of(ip: IpAddr) -> (u128, u32) {
    match ip {
        IpAddr::V4(ip) => (u128::from(u32::from(ip)) << 96, 32),
        IpAddr::V6(ip) => (u128::from(ip), 128),
    }
}

fn contains(network: (IpAddr, u8), ip: IpAddr) -> bool {
    let ((a, wide), (b, other)) = (bits_of(network.0), bits_of(ip));
    let mask = if network.1 == 0 { 0 } else { u128::MAX << (128 - u32::from(network.1)) };
    wide == other && a & mask == b & mask
}

fn masked((ip, bits): (IpAddr, u8)) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => {
            let mask = if bits == 0 { 0 } else { u32::MAX << (32 - u32::from(bits)) };
            IpAddr::V4((u32::from(v4) & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = if bits == 0 { 0 } else { u128::MAX << (128 - u32::from(bits)) };
            IpAddr::V6((u128::from(v6) & mask).into())
        }
    }
}

/// Calls a function of a library, if there is one of that name for these values.
pub(crate) fn call<'a>(
    host: Option<&dyn Host>,
    name: &str,
    values: &[Value<'a>],
    method: bool,
) -> Option<Result<Value<'a>>> {
    let found = if method { None } else { plain(name, values) };
    found
        .or_else(|| method.then(|| of_value(name, values)).flatten())
        .or_else(|| method.then(|| of_list(name, values)).flatten())
        .or_else(|| method.then(|| of_authority(host, name, values)).flatten())
}

fn plain<'a>(name: &str, values: &[Value<'a>]) -> Option<Result<Value<'a>>> {
    use Value::{Bool, Text};
    let some = |value: Value<'a>| Value::Optional(Some(Arc::new(value)));
    if let Some(format) = FORMATS.iter().find(|f| **f == name) {
        return values.is_empty().then_some(Ok(Value::Format(Format(format))));
    }
    Some(match (name, values) {
        ("optional.of", [value]) => Ok(some(value.clone())),
        ("optional.none", []) => Ok(Value::Optional(None)),
        ("optional.ofNonZeroValue", [value]) => {
            let zero = match value {
                Value::Null | Bool(false) | Value::Int(0) | Value::Uint(0) => true,
                Value::Double(n) => *n == 0.0,
                value => value.size() == Some(0),
            };
            Ok(if zero { Value::Optional(None) } else { some(value.clone()) })
        }
        ("format.named", [Text(text)]) => {
            let whole = format!("format.{}", &**text);
            let found = FORMATS.iter().find(|f| **f == whole);
            Ok(Value::Optional(found.map(|f| Arc::new(Value::Format(Format(f))))))
        }
        ("url", [Text(t)]) => match Url::read(t) {
            Some(url) => Ok(Value::Url(Arc::new(url))),
            None => Err(EvalError::new(format!("URL parse error during conversion from string: {:?}", &**t))),
        },
        ("isURL", [Text(t)]) => Ok(Bool(Url::read(t).is_some())),
        ("quantity", [Text(t)]) => Quantity::parse(t).map(Value::Quantity).map_err(|e| EvalError::new(e.to_string())),
        ("isQuantity", [Text(t)]) => Ok(Bool(Quantity::parse(t).is_ok())),
        ("ip", [Text(t)]) => address(t).map(Value::Ip),
        ("isIP", [Text(t)]) => Ok(Bool(address(t).is_ok())),
        ("ip.isCanonical", [Text(t)]) => address(t).map(|ip| Bool(ip.to_string() == **t)),
        ("cidr", [Text(t)]) => network(t).map(|(ip, bits)| Value::Cidr(ip, bits)),
        ("isCIDR", [Text(t)]) => Ok(Bool(network(t).is_ok())),
        ("semver", [Text(t)]) => match Semver::read(t) {
            Some(version) => Ok(Value::Semver(Arc::new(version))),
            None => Err(EvalError::new(format!("semver parse error: {:?}", &**t))),
        },
        ("isSemver", [Text(t)]) => Ok(Bool(Semver::read(t).is_some())),
        ("sets.contains", [a, b]) => {
            let (a, b) = (a.items()?, b.items()?);
            Ok(Bool(b.iter().all(|b| a.iter().any(|a| a.equals(b)))))
        }
        ("sets.equivalent", [a, b]) => {
            let (a, b) = (a.items()?, b.items()?);
            let within = |a: &[Value<'_>], b: &[Value<'_>]| b.iter().all(|b| a.iter().any(|a| a.equals(b)));
            Ok(Bool(within(&a, &b) && within(&b, &a)))
        }
        ("sets.intersects", [a, b]) => {
            let (a, b) = (a.items()?, b.items()?);
            Ok(Bool(b.iter().any(|b| a.iter().any(|a| a.equals(b)))))
        }
        _ => return None,
    })
}

fn of_value<'a>(name: &str, values: &[Value<'a>]) -> Option<Result<Value<'a>>> {
    use Value::{Bool, Int, Optional, Semver as Version, Text};
    Some(match (name, values) {
        ("hasValue", [Optional(value)]) => Ok(Bool(value.is_some())),
        ("value", [Optional(Some(value))]) => Ok((**value).clone()),
        ("value", [Optional(None)]) => Err(EvalError::new("optional.none() dereference")),
        ("or", [Optional(Some(value)), _]) => Ok(Optional(Some(value.clone()))),
        ("or", [Optional(None), other]) => Ok(other.clone()),
        ("orValue", [Optional(Some(value)), _]) => Ok((**value).clone()),
        ("orValue", [Optional(None), other]) => Ok(other.clone()),
        ("getScheme", [Value::Url(url)]) => Ok(Value::text(url.scheme.clone())),
        ("getHost", [Value::Url(url)]) => Ok(Value::text(url.host.clone())),
        ("getHostname", [Value::Url(url)]) => Ok(Value::text(url.host_and_port().0)),
        ("getPort", [Value::Url(url)]) => Ok(Value::text(url.host_and_port().1)),
        ("getEscapedPath", [Value::Url(url)]) => Ok(Value::text(url.path.clone())),
        ("getQuery", [Value::Url(url)]) => Ok(url.query()),
        ("isInteger", [Value::Quantity(q)]) => Ok(Bool(q.milli_value() % 1000 == 0)),
        ("asInteger", [Value::Quantity(q)]) if q.milli_value() % 1000 == 0 => Ok(Int(q.value())),
        ("asInteger", [Value::Quantity(_)]) => Err(EvalError::new("cannot convert value to integer")),
        ("asApproximateFloat", [Value::Quantity(q)]) => Ok(Value::Double(q.milli_value() as f64 / 1000.0)),
        ("sign", [Value::Quantity(q)]) => Ok(Int(if q.is_zero() {
            0
        } else if q.is_negative() {
            -1
        } else {
            1
        })),
        ("add", [Value::Quantity(a), Value::Quantity(b)]) => Ok(Value::Quantity(a.plus(*b))),
        ("sub", [Value::Quantity(a), Value::Quantity(b)]) => Ok(Value::Quantity(a.minus(*b))),
        ("add", [Value::Quantity(a), Int(b)]) => Ok(Value::Quantity(a.plus(Quantity::parse(&b.to_string()).ok()?))),
        ("sub", [Value::Quantity(a), Int(b)]) => Ok(Value::Quantity(a.minus(Quantity::parse(&b.to_string()).ok()?))),
        ("compareTo", [a, b]) if matches!(a, Value::Quantity(_) | Version(_)) => Ok(Int(a.compare(b)? as i64)),
        ("isLessThan", [a, b]) if matches!(a, Value::Quantity(_) | Version(_)) => Ok(Bool(a.compare(b)?.is_lt())),
        ("isGreaterThan", [a, b]) if matches!(a, Value::Quantity(_) | Version(_)) => Ok(Bool(a.compare(b)?.is_gt())),
        ("major", [Version(v)]) => Ok(Int(v.numbers[0].cast_signed())),
        ("minor", [Version(v)]) => Ok(Int(v.numbers[1].cast_signed())),
        ("patch", [Version(v)]) => Ok(Int(v.numbers[2].cast_signed())),
        ("family", [Value::Ip(ip)]) => Ok(Int(if ip.is_ipv4() { 4 } else { 6 })),
        ("isUnspecified", [Value::Ip(ip)]) => Ok(Bool(ip.is_unspecified())),
        ("isLoopback", [Value::Ip(ip)]) => Ok(Bool(ip.is_loopback())),
        ("isLinkLocalMulticast", [Value::Ip(ip)]) => Ok(Bool(match ip {
            IpAddr::V4(ip) => ip.octets()[..3] == [224, 0, 0],
            IpAddr::V6(ip) => ip.segments()[0] & 0xff0f == 0xff02,
        })),
        ("isLinkLocalUnicast", [Value::Ip(ip)]) => Ok(Bool(match ip {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.segments()[0] & 0xffc0 == 0xfe80,
        })),
        ("isGlobalUnicast", [Value::Ip(ip)]) => {
            let local = match ip {
                IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
                IpAddr::V6(ip) => ip.segments()[0] & 0xffc0 == 0xfe80,
            };
            Ok(Bool(!ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast() && !local))
        }
        ("containsIP", [Value::Cidr(of, bits), Value::Ip(ip)]) => Ok(Bool(contains((*of, *bits), *ip))),
        ("containsIP", [Value::Cidr(of, bits), Text(t)]) => address(t).map(|ip| Bool(contains((*of, *bits), ip))),
        ("containsCIDR", [Value::Cidr(of, bits), other]) => {
            let inner = match other {
                Value::Cidr(ip, bits) => Ok((*ip, *bits)),
                other => network(other.as_text()?),
            };
            inner.map(|(ip, narrow)| Bool(narrow >= *bits && contains((*of, *bits), ip)))
        }
        ("ip", [Value::Cidr(ip, _)]) => Ok(Value::Ip(*ip)),
        ("masked", [Value::Cidr(ip, bits)]) => Ok(Value::Cidr(masked((*ip, *bits)), *bits)),
        ("prefixLength", [Value::Cidr(_, bits)]) => Ok(Int(i64::from(*bits))),
        ("validate", [Value::Format(format), Text(t)]) => {
            let found = format.check(t);
            let list = || Arc::new(Value::list(found.iter().map(Value::text).collect()));
            Ok(Optional((!found.is_empty()).then(list)))
        }
        (part, [Value::Time(at)]) => return part_of_time(part, *at, None).map(|r| r.map(Int)),
        (part, [Value::Time(at), Text(zone)]) => return part_of_time(part, *at, Some(zone)).map(|r| r.map(Int)),
        ("getHours", [Value::Duration(d)]) => Ok(Int(d / 3_600_000_000_000)),
        ("getMinutes", [Value::Duration(d)]) => Ok(Int(d / 60_000_000_000)),
        ("getSeconds", [Value::Duration(d)]) => Ok(Int(d / 1_000_000_000)),
        ("getMilliseconds", [Value::Duration(d)]) => Ok(Int(d / 1_000_000)),
        _ => return None,
    })
}
