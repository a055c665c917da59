//! Makes the table out of rules, the most important first.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Canary, Gateways, Host, Route, Table};
use crate::annotations::Settings;
use crate::upstream::Backend;

/// How a rule's path is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The whole path.
    Exact,
    /// Its first elements. What is specific to the implementation is this too.
    Prefix,
    /// All paths of the host that no rule covers.
    Default,
}

/// Takes rules in the order of their importance: of several for one place the first holds.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    rules: BTreeMap<(String, Kind, String), Draft>,
    default: Option<Draft>,
    /// Rules of HTTPRoutes.
    pub(crate) gateways: Gateways,
}

#[derive(Debug, Default)]
struct Draft {
    main: Option<(Arc<Settings>, Option<Arc<Backend>>)>,
    canaries: Vec<Canary>,
}

impl Draft {
    fn add(&mut self, settings: &Arc<Settings>, backend: Option<Arc<Backend>>) {
        if settings.canary.is_none() {
            self.main.get_or_insert_with(|| (settings.clone(), backend));
        } else if let Some(backend) = backend {
            self.canaries.push(Canary { settings: settings.clone(), backend });
        }
    }

    /// A canary without anything to be the canary of is nothing.
    fn route(self) -> Option<Arc<Route>> {
        let (settings, main) = self.main?;
        Some(Arc::new(Route { settings, main, canaries: self.canaries, action: None }))
    }
}

impl Builder {
    /// Adds a rule. `host` is empty for one that is about all hosts. A backend that is none is answered with 503.
    pub(crate) fn add(
        &mut self,
        host: &str,
        kind: Kind,
        path: &str,
        settings: &Arc<Settings>,
        backend: Option<Arc<Backend>>,
    ) {
        // Prefixes are the same with a slash at their end and without.
        let path = match kind {
            Kind::Exact => path,
            Kind::Prefix if path.len() > 1 => path.strip_suffix('/').unwrap_or(path),
            Kind::Prefix => "/",
            Kind::Default => "",
        };
        let place = (host.to_ascii_lowercase(), kind, path.to_owned());
        self.rules.entry(place).or_default().add(settings, backend);
    }

    /// Adds a backend for all requests that no rule covers.
    pub(crate) fn add_default(&mut self, settings: &Arc<Settings>, backend: Option<Arc<Backend>>) {
        self.default.get_or_insert_default().add(settings, backend);
    }

    /// The table.
    pub(crate) fn build(self) -> Table {
        let mut table = Table::default();
        for ((host, kind, path), draft) in self.rules {
            let Some(route) = draft.route() else { continue };
            let rules: &mut Host = match host.strip_prefix("*.") {
                Some(rest) => table.wildcards.entry(rest.into()).or_default(),
                None if host.is_empty() => &mut table.any,
                None => table.exact.entry(host.into()).or_default(),
            };
            match kind {
                Kind::Exact => rules.paths.add_exact(&path, route),
                Kind::Prefix => rules.paths.add_prefix(&path, route),
                Kind::Default => rules.default = Some(route),
            }
        }
        table.default = self.default.and_then(Draft::route);
        table.gateways = self.gateways;
        table.gateways.sort();
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Protocol;

    fn backend(name: &str) -> Arc<Backend> {
        Arc::new(Backend::new("ns", name, Protocol::Http))
    }

    fn name(table: &Table, host: &str, path: &str) -> String {
        let route = table.find(host, path).map(|(route, _)| route.clone());
        route.map_or("404".to_owned(), |route| match &route.main {
            Some(backend) => backend.service().to_owned(),
            None => "503".to_owned(),
        })
    }

    #[test]
    fn the_most_specific_host_with_a_rule_for_the_path_decides() {
        let settings = Arc::new(Settings::default());
        let mut builder = Builder::default();
        for (host, kind, path, service) in [
            ("foo.bar.com", Kind::Prefix, "/a", "exact"),
            ("*.bar.com", Kind::Prefix, "/", "wildcard"),
            ("", Kind::Prefix, "/any", "any"),
            ("*.bar.com", Kind::Prefix, "/", "too late"),
            ("UPPER.com", Kind::Exact, "/x", "upper"),
            ("foo.bar.com", Kind::Default, "", "its default"),
            ("only.default.com", Kind::Default, "", "only default"),
        ] {
            builder.add(host, kind, path, &settings, Some(backend(service)));
        }
        builder.add("resource.com", Kind::Prefix, "/", &settings, None);
        let table = builder.build();
        for (host, path, expected) in [
            ("foo.bar.com", "/a/b", "exact"),
            ("foo.bar.com", "/b", "wildcard"),
            ("x.bar.com", "/", "wildcard"),
            ("x.y.bar.com", "/", "404"),
            ("bar.com", "/", "404"),
            ("bar.com", "/any/1", "any"),
            ("upper.com", "/x", "upper"),
            ("upper.com", "/y", "404"),
            ("only.default.com", "/y", "only default"),
            ("resource.com", "/", "503"),
            ("", "/any", "any"),
        ] {
            assert_eq!(name(&table, host, path), expected, "{host}{path}");
        }
    }

    #[test]
    fn the_default_backend_gets_what_no_rule_covers() {
        let settings = Arc::new(Settings::default());
        let mut builder = Builder::default();
        builder.add("a.com", Kind::Exact, "/x", &settings, Some(backend("x")));
        builder.add_default(&settings, Some(backend("default")));
        builder.add_default(&settings, Some(backend("too late")));
        let table = builder.build();
        assert_eq!(name(&table, "a.com", "/x"), "x");
        assert_eq!(name(&table, "a.com", "/y"), "default");
        assert_eq!(name(&table, "b.com", "/"), "default");
    }
}
