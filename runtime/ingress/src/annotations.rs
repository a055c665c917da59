//! What annotations of an Ingress say.
#![doc = include_str!("annotations.md")]

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use http::HeaderName;
use kiln_apimachinery::net::Cidr;

use crate::upstream::Protocol;

/// What the names of all annotations begin with.
const PREFIX: &str = "kiln.dev/";
/// The name of the cookie for sticky sessions, unless another is given.
const COOKIE: &str = "INGRESSCOOKIE";

/// What holds for the rules of one Ingress.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    /// How long connecting to an endpoint may take.
    pub(crate) connect_timeout: Duration,
    /// How long the head of an answer may take.
    pub(crate) read_timeout: Duration,
    /// How long an answer under way, or an upgraded connection, may be silent.
    pub(crate) idle_timeout: Duration,
    /// How many endpoints are tried, as long as none can be connected to.
    pub(crate) tries: u32,
    /// The most bytes of a request's body.
    pub(crate) body_limit: Option<u64>,
    /// Whether requests without TLS are sent to HTTPS.
    pub(crate) redirect: bool,
    /// What takes the place of the part of the path that the rule covers.
    pub(crate) rewrite: Option<Box<str>>,
    /// Sticky sessions.
    pub(crate) affinity: Option<Box<Affinity>>,
    /// Who may send requests; empty: anyone.
    pub(crate) sources: Box<[Cidr]>,
    /// What the endpoints speak, whatever the Service says.
    pub(crate) protocol: Option<Protocol>,
    /// If the Ingress gets a part of another's requests: which.
    pub(crate) canary: Option<Box<CanaryRule>>,
}

/// How a client is kept at the endpoint that it had first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Affinity {
    /// Name of the cookie.
    pub(crate) cookie: Box<str>,
    /// What is behind the cookie's value: its attributes.
    pub(crate) attributes: Box<str>,
}

/// Which requests a canary gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CanaryRule {
    /// So many of `total`.
    pub(crate) weight: u32,
    pub(crate) total: u32,
    /// A header that says `always` or `never`, or has the value.
    pub(crate) header: Option<(HeaderName, Option<Box<str>>)>,
    /// A cookie that says `always` or `never`.
    pub(crate) cookie: Option<Box<str>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(3_600),
            tries: 3,
            body_limit: None,
            redirect: false,
            rewrite: None,
            affinity: None,
            sources: Box::default(),
            protocol: None,
            canary: None,
        }
    }
}

/// Reads annotations; those that can't be read change nothing and are told.
struct Reader<'a> {
    annotations: Option<&'a BTreeMap<String, String>>,
    problems: Vec<String>,
}

impl Reader<'_> {
    fn text(&self, name: &str) -> Option<&str> {
        let annotations = self.annotations?;
        // Most Ingresses have none of ours: nothing is put together for these.
        let mut ours = annotations.range(PREFIX.to_owned()..).take_while(|(key, _)| key.starts_with(PREFIX));
        ours.find(|(key, _)| &key[PREFIX.len()..] == name).map(|(_, value)| value.trim())
    }

    fn read<T>(&mut self, name: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let text = self.text(name)?;
        let (value, text) = (read(text), text.to_owned());
        if value.is_none() {
            self.problems.push(format!("annotation {PREFIX}{name}: {text:?} can't be understood"));
        }
        value
    }

    fn number<T: FromStr>(&mut self, name: &str) -> Option<T> {
        self.read(name, |text| text.parse().ok())
    }

    fn flag(&mut self, name: &str) -> bool {
        let read = |text: &str| match text {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        };
        self.read(name, read).unwrap_or(false)
    }

    fn seconds(&mut self, name: &str) -> Option<Duration> {
        let read = |text: &str| text.trim_end_matches('s').parse().ok().filter(|seconds| *seconds > 0);
        self.read(name, read).map(Duration::from_secs)
    }

    fn canary(&mut self) -> Option<Box<CanaryRule>> {
        if !self.flag("canary") {
            return None;
        }
        let header = self.number::<HeaderName>("canary-by-header");
        let value = self.text("canary-by-header-value").map(Box::from);
        Some(Box::new(CanaryRule {
            weight: self.number("canary-weight").unwrap_or(0),
            total: self.number("canary-weight-total").filter(|total| *total > 0).unwrap_or(100),
            header: header.map(|header| (header, value)),
            cookie: self.text("canary-by-cookie").map(Box::from),
        }))
    }

    fn affinity(&mut self) -> Option<Box<Affinity>> {
        self.read("affinity", |text| (text == "cookie").then_some(()))?;
        let token = |text: &str| {
            let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            (!text.is_empty() && text.bytes().all(is_token)).then(|| Box::from(text))
        };
        let cookie = self.read("session-cookie-name", token).unwrap_or_else(|| COOKIE.into());
        let path = |text: &str| (text.starts_with('/') && !text.contains([';', '\r', '\n'])).then(|| text.to_owned());
        let path = self.read("session-cookie-path", path).unwrap_or_else(|| "/".to_owned());
        let mut attributes = format!("; Path={path}; HttpOnly");
        if let Some(age) = self.number::<u64>("session-cookie-max-age") {
            attributes.push_str(&format!("; Max-Age={age}"));
        }
        if self.flag("session-cookie-secure") {
            attributes.push_str("; Secure");
        }
        let same_site = |text: &str| ["None", "Lax", "Strict"].into_iter().find(|known| *known == text);
        if let Some(same_site) = self.read("session-cookie-samesite", same_site) {
            attributes.push_str(&format!("; SameSite={same_site}"));
        }
        Some(Box::new(Affinity { cookie, attributes: attributes.into() }))
    }
}

impl Settings {
    /// Reads annotations. What can't be understood is told and changes nothing.
    pub(crate) fn read(annotations: Option<&BTreeMap<String, String>>) -> (Self, Vec<String>) {
        let mut reader = Reader { annotations, problems: Vec::new() };
        let default = Self::default();
        let path = |text: &str| (text.starts_with('/') && is_path(text)).then(|| Box::from(text));
        let rewrite = reader.read("rewrite-target", path);
        let strip = reader.flag("strip-prefix").then(Box::default);
        let sources = |text: &str| text.split(',').map(|part| network(part.trim())).collect::<Option<Box<[Cidr]>>>();
        let settings = Self {
            connect_timeout: reader.seconds("proxy-connect-timeout").unwrap_or(default.connect_timeout),
            read_timeout: reader.seconds("proxy-read-timeout").unwrap_or(default.read_timeout),
            idle_timeout: reader.seconds("proxy-idle-timeout").unwrap_or(default.idle_timeout),
            tries: reader.number("proxy-next-upstream-tries").unwrap_or(default.tries).max(1),
            body_limit: reader.read("proxy-body-size", size).filter(|limit| *limit > 0),
            redirect: reader.flag("ssl-redirect"),
            rewrite: rewrite.or(strip),
            affinity: reader.affinity(),
            sources: reader.read("allowlist-source-range", sources).unwrap_or_default(),
            protocol: reader.read("backend-protocol", Protocol::of_annotation),
            canary: reader.canary(),
        };
        (settings, reader.problems)
    }
}

/// Whether this can stand in a request's target.
fn is_path(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(&b))
}

/// A network, or one address.
fn network(text: &str) -> Option<Cidr> {
    let whole = |text: &str| format!("{text}/{}", if text.contains(':') { 128 } else { 32 });
    if text.contains('/') { Cidr::parse_loosely(text) } else { Cidr::parse_loosely(&whole(text)) }
}

/// Bytes, as nginx writes them: `8m`.
fn size(text: &str) -> Option<u64> {
    let text = text.to_ascii_lowercase();
    let digits = text.trim_end_matches(['k', 'm', 'g']);
    let unit = match &text[digits.len()..] {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(annotations: &[(&str, &str)]) -> (Settings, Vec<String>) {
        let all = annotations.iter().map(|(name, value)| (format!("{PREFIX}{name}"), (*value).to_owned())).collect();
        Settings::read(Some(&all))
    }

    #[test]
    fn annotations_say_what_their_table_says() {
        assert_eq!(Settings::read(None), (Settings::default(), Vec::new()));
        let (settings, problems) = read(&[
            ("proxy-connect-timeout", "2"),
            ("proxy-read-timeout", "90s"),
            ("proxy-body-size", "8m"),
            ("ssl-redirect", "true"),
            ("strip-prefix", "true"),
            ("affinity", "cookie"),
            ("session-cookie-name", "route"),
            ("session-cookie-max-age", "60"),
            ("session-cookie-samesite", "Lax"),
            ("allowlist-source-range", "10.0.0.0/8, 192.168.1.1"),
            ("backend-protocol", "GRPC"),
        ]);
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(settings.connect_timeout, Duration::from_secs(2));
        assert_eq!(settings.read_timeout, Duration::from_secs(90));
        assert_eq!(settings.body_limit, Some(8 << 20));
        assert!(settings.redirect && settings.rewrite.as_deref() == Some(""));
        let affinity = settings.affinity.unwrap();
        assert_eq!(&*affinity.cookie, "route");
        assert_eq!(&*affinity.attributes, "; Path=/; HttpOnly; Max-Age=60; SameSite=Lax");
        assert_eq!(settings.sources.len(), 2);
        assert_eq!(settings.protocol, Some(Protocol::H2c));
        let (settings, _) = read(&[("canary", "true"), ("canary-weight", "20")]);
        assert_eq!(settings.canary, Some(Box::new(CanaryRule { weight: 20, total: 100, ..CanaryRule::default() })));
    }

    #[test]
    fn what_cannot_be_understood_changes_nothing_and_is_told() {
        for (name, value) in [
            ("proxy-read-timeout", "soon"),
            ("proxy-connect-timeout", "0"),
            ("proxy-body-size", "1t"),
            ("ssl-redirect", "yes"),
            ("affinity", "ip"),
            ("allowlist-source-range", "10.0.0.0/33"),
            ("rewrite-target", "no-slash"),
            ("rewrite-target", "/a b"),
            ("backend-protocol", "FCGI"),
        ] {
            let (settings, problems) = read(&[(name, value)]);
            assert_eq!(settings, Settings::default(), "{name}");
            assert_eq!(problems, [format!("annotation kiln.dev/{name}: {value:?} can't be understood")]);
        }
    }
}
