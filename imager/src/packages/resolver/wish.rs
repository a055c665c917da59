//! Items of the wanted list.

use std::fmt::{self, Display};

/// An item of the wanted list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Wish {
    /// Package name.
    pub(super) name: String,
    /// `name=version`.
    pub(super) version: Option<String>,
    /// `name/suite`.
    pub(super) suite: Option<String>,
}

impl Wish {
    pub(super) fn parse(item: &str) -> Self {
        let item = item.trim();
        if let Some((name, version)) = item.split_once('=') {
            return Self { name: name.trim().into(), version: Some(version.trim().into()), suite: None };
        }
        match item.split_once('/') {
            Some((name, suite)) => Self { name: name.trim().into(), version: None, suite: Some(suite.trim().into()) },
            None => Self { name: item.into(), version: None, suite: None },
        }
    }
}

impl Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.version, &self.suite) {
            (Some(version), _) => write!(f, "{}={version}", self.name),
            (None, Some(suite)) => write!(f, "{}/{suite}", self.name),
            (None, None) => f.write_str(&self.name),
        }
    }
}
