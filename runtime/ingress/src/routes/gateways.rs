//! Rules of HTTPRoutes, by port, listener, hostname and path.
//!
//! Of a port's listeners the one with the most specific hostname takes a request, and no other. Among its rules hostnames go before
//! paths, an exact path before a prefix, a longer prefix before a shorter one, then a method, more headers, more parameters, and last
//! the older route and the earlier rule, as the Gateway API orders them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderName, Method};

use super::Route;
use super::hosts::Hosts;
use super::paths::Paths;

/// A port, and whether it is for TLS.
pub(crate) type Place = (u16, bool);

/// The rules of one listener.
pub(crate) type Listener = Hosts<Paths<Vec<Rule>>>;

/// All listeners of Gateways.
#[derive(Debug, Default)]
pub(crate) struct Gateways {
    ports: HashMap<Place, Hosts<Listener>>,
}

/// What of a request a rule asks for, besides its host and path.
#[derive(Debug, Default)]
pub(crate) struct Conditions {
    /// Its method.
    pub(crate) method: Option<Method>,
    /// Headers with their values.
    pub(crate) headers: Vec<(HeaderName, Box<str>)>,
    /// Parameters of the query with their values.
    pub(crate) parameters: Vec<(Box<str>, Box<str>)>,
}

#[derive(Debug)]
pub(crate) struct Rule {
    conditions: Conditions,
    route: Arc<Route>,
}

/// A path as a rule has it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Path<'a> {
    /// The whole.
    Exact(&'a str),
    /// Its first elements.
    Prefix(&'a str),
}

impl Gateways {
    /// The listener for a hostname, which is made if there is none.
    pub(crate) fn listener(&mut self, place: Place, hostname: &str) -> &mut Listener {
        self.ports.entry(place).or_default().of(hostname)
    }

    /// Adds a rule to a listener. Those that come first go before others of the same rank.
    pub(crate) fn add(
        listener: &mut Listener,
        hostname: &str,
        path: Path<'_>,
        conditions: Conditions,
        route: &Arc<Route>,
    ) {
        let paths = listener.of(hostname);
        let rules = match path {
            Path::Exact(path) => paths.exact_mut(path),
            Path::Prefix(path) => paths.prefix_mut(path),
        };
        rules.push(Rule { conditions, route: route.clone() });
    }

    /// Puts all in order.
    pub(crate) fn sort(&mut self) {
        let listeners = self.ports.values_mut().flat_map(Hosts::values_mut);
        for rules in listeners.flat_map(Hosts::values_mut).flat_map(Paths::values_mut) {
            // The sort is stable, so what came first stays before its equals.
            rules.sort_by_key(|Rule { conditions, .. }| {
                let Conditions { method, headers, parameters } = conditions;
                std::cmp::Reverse((method.is_some(), headers.len(), parameters.len()))
            });
        }
    }

    /// The route for a request to a host, in lower case and without a port, and a path; and how many bytes of the path the rule covers.
    pub(crate) fn find(&self, place: Place, host: &str, path: &str, parts: &Parts) -> Option<(&Arc<Route>, usize)> {
        let listener = self.ports.get(&place)?.covering(host).next()?;
        listener.covering(host).find_map(|paths| {
            paths
                .find_where(path, |rules| rules.iter().find(|rule| rule.conditions.hold(parts)).map(|rule| &rule.route))
        })
    }
}

impl Conditions {
    fn hold(&self, parts: &Parts) -> bool {
        let query = parts.uri.query().unwrap_or_default();
        self.method.as_ref().is_none_or(|method| *method == parts.method)
            && self
                .headers
                .iter()
                .all(|(name, value)| parts.headers.get(name).is_some_and(|sent| sent.as_bytes() == value.as_bytes()))
            && self.parameters.iter().all(|(name, value)| parameter(query, name).is_some_and(|sent| *sent == **value))
    }
}

/// The first value of a parameter in a query.
fn parameter<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|(known, _)| *decoded(known) == *name).map(|(_, value)| decoded(value))
}

/// A part of a query as what it stands for (the URL standard's `application/x-www-form-urlencoded`).
fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = (first == b'%')
            .then(|| after.get(..2))
            .flatten()
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(if first == b'+' { b' ' } else { first });
                rest = after;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_as_forms_write_them() {
        for (query, name, expected) in [
            ("a=1&b=2", "b", Some("2")),
            ("a=1&a=2", "a", Some("1")),
            ("a", "a", Some("")),
            ("x%20y=1+2%2B", "x y", Some("1 2+")),
            ("a=%zz", "a", Some("%zz")),
            ("a=%2", "a", Some("%2")),
            ("", "a", None),
        ] {
            assert_eq!(parameter(query, name).as_deref(), expected, "{query}");
        }
    }
}
