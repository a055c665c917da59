//! The routing table: which route a request takes, by its host and path.
//!
//! It is compiled anew when an Ingress changes and put in the place of the old one; a request only reads it. A host is looked
//! for by its whole name, then by the wildcard that covers it, then among the rules without a host; the first of these that has a
//! rule for the path decides. What is left goes to the default backends. What HTTPRoutes of the Gateway API say is looked at before.

mod action;
mod builder;
mod cors;
mod gateways;
mod hosts;
mod paths;

use std::collections::HashMap;
use std::sync::Arc;

pub(crate) use action::{Action, HeaderChanges, Mirror, PathChange, Redirect, Retry, Share};
pub(crate) use builder::{Builder, Kind};
pub(crate) use cors::Cors;
pub(crate) use gateways::{Conditions, Gateways, Path};
use paths::Paths;

use crate::annotations::Settings;
use crate::upstream::Backend;

/// Where requests that match a rule go.
#[derive(Debug)]
pub(crate) struct Route {
    /// What the annotations of the Ingress say.
    pub(crate) settings: Arc<Settings>,
    /// The Service; none if the rule names something that is no Service.
    pub(crate) main: Option<Arc<Backend>>,
    /// Further Services that get a part of the requests.
    pub(crate) canaries: Vec<Canary>,
    /// What an HTTPRoute says; it then says all.
    pub(crate) action: Option<Box<Action>>,
}

/// A Service that gets a part of the requests of a route.
#[derive(Debug, Clone)]
pub(crate) struct Canary {
    /// Its settings: which part it gets.
    pub(crate) settings: Arc<Settings>,
    /// The Service.
    pub(crate) backend: Arc<Backend>,
}

/// The rules of one host.
#[derive(Debug, Default)]
struct Host {
    paths: Paths<Arc<Route>>,
    /// For paths that no rule of the host covers.
    default: Option<Arc<Route>>,
}

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Table {
    exact: HashMap<Box<str>, Host>,
    /// By what stands behind `*.`.
    wildcards: HashMap<Box<str>, Host>,
    any: Host,
    default: Option<Arc<Route>>,
    /// Rules of HTTPRoutes.
    pub(crate) gateways: Gateways,
}

impl Table {
    /// The route for a host, in lower case and without a port, and a path; and how many bytes of the path the rule covers.
    pub(crate) fn find(&self, host: &str, path: &str) -> Option<(&Arc<Route>, usize)> {
        let exact = self.exact.get(host);
        let wildcard = || host.split_once('.').and_then(|(_, rest)| self.wildcards.get(rest));
        let with_host = exact.and_then(|host| host.paths.find(path)).or_else(|| wildcard()?.paths.find(path));
        let found = with_host.or_else(|| self.any.paths.find(path));
        found.or_else(|| {
            let default = exact.and_then(|host| host.default.as_ref()).or_else(|| wildcard()?.default.as_ref());
            default.or(self.any.default.as_ref()).or(self.default.as_ref()).map(|route| (route, 0))
        })
    }
}
