//! Dependency fields: `a (>= 1) | b, c:any`.

use std::{
    cmp::Ordering,
    fmt::{self, Display},
};

use super::version;

/// How a version must stand to the one in a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Operator {
    /// `<<`
    Earlier,
    /// `<=`
    AtMost,
    /// `=`
    Exactly,
    /// `>=`
    AtLeast,
    /// `>>`
    Later,
}

/// One package name with an optional demand on its version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Relation {
    /// Package name. One of another architecture keeps its `:arch` and so matches nothing.
    pub(super) name: String,
    /// Demand on the version.
    pub(super) version: Option<(Operator, String)>,
}

/// Alternatives of which one is enough, in order of preference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Clause(pub(super) Vec<Relation>);

impl Relation {
    /// Whether a package of that version fits; names are the caller's affair.
    pub(super) fn accepts(&self, candidate: &str) -> bool {
        let Some((operator, wanted)) = &self.version else {
            return true;
        };
        let order = version::compare(candidate, wanted);
        match operator {
            Operator::Earlier => order == Ordering::Less,
            Operator::AtMost => order != Ordering::Greater,
            Operator::Exactly => order == Ordering::Equal,
            Operator::AtLeast => order != Ordering::Less,
            Operator::Later => order == Ordering::Greater,
        }
    }

    /// Whether a `Provides` entry fits: one without a version never meets a demand on it.
    pub(super) fn accepts_provided(&self, provided: Option<&str>) -> bool {
        match provided {
            Some(version) => self.accepts(version),
            None => self.version.is_none(),
        }
    }

    /// Reads `name[:qualifier] [(op version)]`; `arch` is the architecture that is being resolved for.
    fn parse(text: &str, arch: &str) -> Result<Self, String> {
        let unreadable = || format!("cannot read the relation `{text}`");
        let (name, rest) = match text.split_once('(') {
            Some((name, rest)) => (name.trim(), Some(rest.split_once(')').ok_or_else(unreadable)?.0.trim())),
            None => (text.trim(), None),
        };
        let name = match name.split_once(':') {
            Some((plain, qualifier)) if matches!(qualifier, "any" | "native") || qualifier == arch => plain,
            _ => name,
        };
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(unreadable());
        }
        let version = match rest {
            None => None,
            Some(rest) => {
                let at = rest.find(|c| !matches!(c, '<' | '=' | '>')).ok_or_else(unreadable)?;
                let operator = match &rest[..at] {
                    "<<" => Operator::Earlier,
                    // The single signs are old spellings of these two.
                    "<=" | "<" => Operator::AtMost,
                    "=" => Operator::Exactly,
                    ">=" | ">" => Operator::AtLeast,
                    ">>" => Operator::Later,
                    _ => return Err(unreadable()),
                };
                Some((operator, rest[at..].trim().to_owned()))
            }
        };
        Ok(Self { name: name.into(), version })
    }
}

/// Reads a whole field.
pub(super) fn parse(field: &str, arch: &str) -> Result<Vec<Clause>, String> {
    field
        .split(',')
        .filter(|clause| !clause.trim().is_empty())
        .map(|clause| {
            let alternatives = clause.split('|').map(|text| Relation::parse(text, arch));
            alternatives.collect::<Result<Vec<_>, _>>().map(Clause)
        })
        .collect()
}

impl Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Earlier => "<<",
            Self::AtMost => "<=",
            Self::Exactly => "=",
            Self::AtLeast => ">=",
            Self::Later => ">>",
        })
    }
}

impl Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match &self.version {
            Some((operator, version)) => write!(f, " ({operator} {version})"),
            None => Ok(()),
        }
    }
}

impl Display for Clause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, relation) in self.0.iter().enumerate() {
            write!(f, "{}{relation}", if at == 0 { "" } else { " | " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_read_with_versions_alternatives_and_qualifiers() {
        let clauses =
            parse("libc6 (>= 2.38), debconf (>= 0.5)|debconf-2.0, python3:any, a:arm64, b:i386 (<< 2)", "arm64");
        let shown: Vec<_> = clauses.unwrap().iter().map(Clause::to_string).collect();
        assert_eq!(shown, ["libc6 (>= 2.38)", "debconf (>= 0.5) | debconf-2.0", "python3", "a", "b:i386 (<< 2)"]);
    }

    #[test]
    fn each_operator_accepts_what_it_says() {
        for (text, accepted) in [
            ("a (<< 2)", [true, false, false]),
            ("a (<= 2)", [true, true, false]),
            ("a (= 2)", [false, true, false]),
            ("a (>= 2)", [false, true, true]),
            ("a (>> 2)", [false, false, true]),
            ("a", [true, true, true]),
        ] {
            let relation = Relation::parse(text, "arm64").unwrap();
            assert_eq!(["1", "2", "3"].map(|v| relation.accepts(v)), accepted, "{text}");
        }
    }

    #[test]
    fn an_unversioned_provision_meets_only_an_unversioned_demand() {
        let plain = Relation::parse("a", "arm64").unwrap();
        let versioned = Relation::parse("a (>= 1)", "arm64").unwrap();
        assert!(plain.accepts_provided(None) && plain.accepts_provided(Some("1")));
        assert!(!versioned.accepts_provided(None) && versioned.accepts_provided(Some("1")));
    }

    #[test]
    fn nonsense_is_named() {
        assert_eq!(parse("a (?? 1)", "x").unwrap_err(), "cannot read the relation `a (?? 1)`");
    }
}
