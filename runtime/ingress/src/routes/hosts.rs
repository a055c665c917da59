//! Values by hostnames, whole ones and those with a wildcard for one or more labels in front.

use std::collections::HashMap;

/// Values by hostnames.
#[derive(Debug)]
pub(crate) struct Hosts<T> {
    exact: HashMap<Box<str>, T>,
    /// By what stands behind `*.`.
    wildcards: HashMap<Box<str>, T>,
    any: Option<T>,
}

impl<T> Default for Hosts<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), wildcards: HashMap::new(), any: None }
    }
}

impl<T: Default> Hosts<T> {
    /// The value of a hostname in lower case, which is made if there is none; an empty one is for all hosts.
    pub(crate) fn of(&mut self, hostname: &str) -> &mut T {
        match hostname.strip_prefix("*.") {
            Some(rest) => self.wildcards.entry(rest.into()).or_default(),
            None if hostname.is_empty() => self.any.get_or_insert_default(),
            None => self.exact.entry(hostname.into()).or_default(),
        }
    }
}

impl<T> Hosts<T> {
    /// The values that are for a host, the most specific first.
    pub(crate) fn covering<'a, 'h>(&'a self, host: &'h str) -> impl Iterator<Item = &'a T> + use<'a, 'h, T> {
        let suffixes = host.match_indices('.').map(|(at, _)| &host[at + 1..]);
        let wildcards = suffixes.filter_map(|suffix| self.wildcards.get(suffix));
        self.exact.get(host).into_iter().chain(wildcards).chain(&self.any)
    }

    /// All values.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.exact.values_mut().chain(self.wildcards.values_mut()).chain(&mut self.any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_hostname_comes_first() {
        let mut hosts = Hosts::<&str>::default();
        for hostname in ["", "*.a.com", "*.x.a.com", "y.x.a.com"] {
            *hosts.of(hostname) = hostname;
        }
        for (host, expected) in [
            ("y.x.a.com", &["y.x.a.com", "*.x.a.com", "*.a.com", ""][..]),
            ("z.y.x.a.com", &["*.x.a.com", "*.a.com", ""]),
            ("x.a.com", &["*.a.com", ""]),
            ("a.com", &[""]),
            ("", &[""]),
        ] {
            assert_eq!(hosts.covering(host).copied().collect::<Vec<_>>(), expected, "{host}");
        }
    }
}
