//! What a namespace's labels ask for: a level and the version of it, for each of what is refused, noted and warned of.

use std::collections::BTreeMap;
use std::fmt;

use kiln_apimachinery::FieldError;

/// What the labels and the audit annotations begin with.
pub(super) const PREFIX: &str = "pod-security.kubernetes.io/";

/// The Pod Security Standards, from what allows everything to what allows least.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    #[default]
    Privileged,
    Baseline,
    Restricted,
}

const LEVELS: [(&str, Level); 3] =
    [("privileged", Level::Privileged), ("baseline", Level::Baseline), ("restricted", Level::Restricted)];

/// A level as a minor version of Kubernetes had it; `None` for the latest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Standard {
    pub(super) level: Level,
    pub(super) minor: Option<u64>,
}

/// The newest minor version of Kubernetes whose standards are known.
const NEWEST: u64 = 36;

/// What is said of a text that is no level.
pub(super) const NO_LEVEL: &str = "must be one of privileged, baseline, restricted";
/// What is said of a text that is no version.
pub(super) const NO_VERSION: &str = "must be \"latest\" or \"v1.x\"";

impl Level {
    pub(super) fn name(self) -> &'static str {
        LEVELS.into_iter().find(|(_, level)| *level == self).map_or("", |(name, _)| name)
    }
}

impl Standard {
    /// The level and the version, as metrics have them: versions that are not known yet are one.
    pub(super) fn words(self) -> (&'static str, String) {
        let version = match self.minor.filter(|_| self.level != Level::Privileged) {
            None => "latest".to_owned(),
            Some(minor) if minor > NEWEST => "future".to_owned(),
            Some(minor) => format!("v1.{minor}"),
        };
        (self.level.name(), version)
    }
}

impl fmt::Display for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.level.name();
        match self.minor {
            None => write!(f, "{name}:latest"),
            Some(minor) => write!(f, "{name}:v1.{minor}"),
        }
    }
}

/// What is asked for in a namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) enforce: Standard,
    pub(super) audit: Standard,
    pub(super) warn: Standard,
}

impl Policy {
    /// Reads a namespace's labels, as far as they can be read, over what is asked for without them, and says what is wrong with
    /// the others. What is to be enforced and can't be read is the strictest; what is only told is nothing then.
    pub(super) fn read(labels: &BTreeMap<&str, &str>, defaults: Self) -> (Self, Vec<FieldError>) {
        let mut errors = Vec::new();
        let mut mode = |name: &str, default: Standard, unread: Level| {
            let label = format!("{PREFIX}{name}");
            let level = labels.get(label.as_str()).map(|text| (*text, known(text)));
            if let Some((text, None)) = level {
                errors.push(wrong(&label, text, NO_LEVEL));
            }
            let label = format!("{PREFIX}{name}-version");
            let version = labels.get(label.as_str()).map(|text| (*text, minor(text)));
            if let Some((text, None)) = version {
                errors.push(wrong(&label, text, NO_VERSION));
            }
            let is_given = (level.is_some(), version.is_some());
            let level = level.map_or(default.level, |(_, level)| level.unwrap_or(unread));
            (Standard { level, minor: version.map_or(default.minor, |(_, minor)| minor.flatten()) }, is_given)
        };
        let (enforce, _) = mode("enforce", defaults.enforce, Level::Restricted);
        let (audit, _) = mode("audit", defaults.audit, Level::Privileged);
        let (mut warn, (has_level, has_version)) = mode("warn", defaults.warn, Level::Privileged);
        // Who enforces wants to be warned by what makes pods, too, unless told otherwise.
        let is_readable = labels.get(format!("{PREFIX}enforce").as_str()).is_some_and(|text| known(text).is_some());
        if !has_level && is_readable && enforce.level > warn.level {
            warn.level = enforce.level;
            if !has_version {
                warn.minor = enforce.minor;
            }
        }
        (Self { enforce, audit, warn }, errors)
    }

    /// Whether nothing is asked for.
    pub(super) fn is_open(&self) -> bool {
        [self.enforce, self.audit, self.warn].iter().all(|standard| standard.level == Level::Privileged)
    }
}

fn wrong(label: &str, text: &str, why: &str) -> FieldError {
    FieldError::invalid(format!("metadata.labels[{label}]"), &text.into(), why)
}

/// The level of a name, if there is one.
pub(super) fn known(text: &str) -> Option<Level> {
    LEVELS.into_iter().find(|(name, _)| *name == text).map(|(_, level)| level)
}

/// The minor version that a text names, if it names any.
pub(super) fn minor(text: &str) -> Option<Option<u64>> {
    if text == "latest" {
        return Some(None);
    }
    let digits = text.strip_prefix("v1.")?;
    let is_plain = digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    digits.parse().ok().filter(|_| is_plain).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands behind the prefix, the three standards, and how many faults there are.
    type Row = (&'static [(&'static str, &'static str)], [&'static str; 3], usize);

    #[test]
    fn labels_ask_for_levels_and_what_cannot_be_read_is_strict_where_it_is_enforced_and_open_where_it_is_told() {
        let rows: [Row; 9] = [
            (&[], ["privileged:latest"; 3], 0),
            (&[("enforce", "baseline")], ["baseline:latest", "privileged:latest", "baseline:latest"], 0),
            (
                &[("enforce", "restricted"), ("enforce-version", "v1.25")],
                ["restricted:v1.25", "privileged:latest", "restricted:v1.25"],
                0,
            ),
            (
                &[("enforce", "baseline"), ("enforce-version", "v1.25"), ("warn-version", "v1.30")],
                ["baseline:v1.25", "privileged:latest", "baseline:v1.30"],
                0,
            ),
            (
                &[("enforce", "baseline"), ("warn", "privileged"), ("audit", "restricted")],
                ["baseline:latest", "restricted:latest", "privileged:latest"],
                0,
            ),
            (&[("enforce", "no")], ["restricted:latest", "privileged:latest", "privileged:latest"], 1),
            (&[("audit", "no"), ("warn", "Baseline")], ["privileged:latest"; 3], 2),
            (
                &[("enforce", "baseline"), ("enforce-version", "v1.01")],
                ["baseline:latest", "privileged:latest", "baseline:latest"],
                1,
            ),
            (
                &[("enforce-version", "v2.0"), ("audit-version", "1.5"), ("warn-version", "v1.")],
                ["privileged:latest"; 3],
                3,
            ),
        ];
        for (given, expected, faults) in rows {
            let labels: BTreeMap<String, &str> =
                given.iter().map(|(name, value)| (format!("{PREFIX}{name}"), *value)).collect();
            let labels = labels.iter().map(|(name, value)| (name.as_str(), *value)).collect();
            let (policy, errors) = Policy::read(&labels, Policy::default());
            let told = [policy.enforce, policy.audit, policy.warn].map(|standard| standard.to_string());
            assert_eq!((told, errors.len()), (expected.map(str::to_owned), faults), "{given:?}");
        }
    }

    #[test]
    fn what_labels_leave_open_is_as_the_defaults_have_it() {
        let standard = |level, minor| Standard { level, minor };
        let defaults = Policy {
            enforce: standard(Level::Baseline, Some(30)),
            audit: standard(Level::Restricted, None),
            warn: standard(Level::Baseline, Some(29)),
        };
        let none = ["baseline:v1.30", "restricted:latest", "baseline:v1.29"];
        for (given, expected) in [
            (&[][..], none),
            (&[("enforce", "privileged")], ["privileged:v1.30", "restricted:latest", "baseline:v1.29"]),
            (&[("enforce", "restricted")], ["restricted:v1.30", "restricted:latest", "restricted:v1.30"]),
            (
                &[("audit", "no"), ("warn-version", "latest")],
                ["baseline:v1.30", "privileged:latest", "baseline:latest"],
            ),
        ] {
            let labels: BTreeMap<String, &str> =
                given.iter().map(|(name, value)| (format!("{PREFIX}{name}"), *value)).collect();
            let labels = labels.iter().map(|(name, value)| (name.as_str(), *value)).collect();
            let (policy, _) = Policy::read(&labels, defaults);
            let told = [policy.enforce, policy.audit, policy.warn].map(|standard| standard.to_string());
            assert_eq!(told, expected, "{given:?}");
        }
    }
}
