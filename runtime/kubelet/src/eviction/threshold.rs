//! What counts as running out.

use std::collections::BTreeMap;
use std::time::Duration;

use kiln_apimachinery::duration;
use kiln_apimachinery::quantity::{Quantity, QuantityError};

/// What is watched; each is what is left of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// Bytes of memory: the machine's, less what is in use and cannot be given back.
    MemoryAvailable,
    /// Bytes of memory that pods together can still take.
    AllocatableMemoryAvailable,
    /// Bytes of the disk of volumes and logs.
    NodeFsAvailable,
    /// Its inodes.
    NodeFsInodesFree,
    /// Bytes of the disk of images.
    ImageFsAvailable,
    /// Its inodes.
    ImageFsInodesFree,
    /// Process ids.
    PidAvailable,
}

impl Signal {
    const ALL: [(Self, &'static str); 7] = [
        (Self::MemoryAvailable, "memory.available"),
        (Self::AllocatableMemoryAvailable, "allocatableMemory.available"),
        (Self::NodeFsAvailable, "nodefs.available"),
        (Self::NodeFsInodesFree, "nodefs.inodesFree"),
        (Self::ImageFsAvailable, "imagefs.available"),
        (Self::ImageFsInodesFree, "imagefs.inodesFree"),
        (Self::PidAvailable, "pid.available"),
    ];

    fn parse(name: &str) -> Result<Self, ThresholdError> {
        let found = Self::ALL.into_iter().find(|(_, known)| *known == name);
        found.map(|(signal, _)| signal).ok_or_else(|| ThresholdError::Signal(name.to_owned()))
    }

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(signal, _)| *signal == self).map_or("", |(_, name)| name)
    }

    /// The resource that runs out, as messages name it.
    pub(super) fn resource(self) -> &'static str {
        match self {
            Self::MemoryAvailable | Self::AllocatableMemoryAvailable => "memory",
            Self::NodeFsAvailable | Self::ImageFsAvailable => "ephemeral-storage",
            Self::NodeFsInodesFree | Self::ImageFsInodesFree => "inodes",
            Self::PidAvailable => "pids",
        }
    }

    /// Whether it is memory, which comes before all else.
    pub(super) fn is_memory(self) -> bool {
        matches!(self, Self::MemoryAvailable | Self::AllocatableMemoryAvailable)
    }
}

/// An amount, or a part of what there is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value {
    Amount(Quantity),
    Part(f64),
}

impl Value {
    /// As a number, of what there is.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part of it, rounded down"
    )]
    pub(super) fn of(self, capacity: u64) -> u64 {
        match self {
            Self::Amount(amount) => u64::try_from(amount.value()).unwrap_or(0),
            Self::Part(part) => (capacity as f64 * part) as u64,
        }
    }
}

/// When to act, and until when.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// What is watched.
    pub signal: Signal,
    pub(super) value: Value,
    /// How long it must be so; nothing means to act at once, and to give pods no time.
    pub grace: Duration,
    /// How much more than the value must be left again.
    pub(super) reclaim: Option<Value>,
}

/// A setting that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ThresholdError {
    /// Nothing of that name is watched.
    #[error("unsupported eviction signal {0}")]
    Signal(String),
    /// An amount or a percentage cannot be read, or is out of range.
    #[error("eviction threshold {signal}: {value}: {why}")]
    Value {
        /// Whose.
        signal: String,
        /// What is given.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// A soft threshold does not say how long it must be met.
    #[error("grace period must be specified for the soft eviction threshold {0}")]
    Grace(String),
}

/// The settings of a `KubeletConfiguration`, by signals' names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `evictionHard`.
    pub hard: BTreeMap<String, String>,
    /// `evictionSoft`.
    pub soft: BTreeMap<String, String>,
    /// `evictionSoftGracePeriod`.
    pub soft_grace: BTreeMap<String, Duration>,
    /// `evictionMinimumReclaim`.
    pub minimum_reclaim: BTreeMap<String, String>,
    /// `evictionPressureTransitionPeriod`.
    pub transition: Duration,
    /// `evictionMaxPodGracePeriod`, in seconds.
    pub most_grace: i64,
}

impl Default for Settings {
    /// The upstream kubelet's.
    fn default() -> Self {
        let hard = [
            ("memory.available", "100Mi"),
            ("nodefs.available", "10%"),
            ("nodefs.inodesFree", "5%"),
            ("imagefs.available", "15%"),
            ("imagefs.inodesFree", "5%"),
        ];
        Self {
            hard: hard.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            soft: BTreeMap::new(),
            soft_grace: BTreeMap::new(),
            minimum_reclaim: BTreeMap::new(),
            transition: Duration::from_secs(300),
            most_grace: 0,
        }
    }
}

impl Settings {
    /// Takes a flag of the upstream kubelet, as `eviction-hard` with `memory.available<100Mi,nodefs.available<10%`. Answers whether
    /// it is one of these.
    ///
    /// # Errors
    /// If the value cannot be read.
    pub fn set(&mut self, flag: &str, value: &str) -> Result<bool, String> {
        match flag {
            "eviction-hard" => self.hard = pairs(value, '<')?,
            "eviction-soft" => self.soft = pairs(value, '<')?,
            "eviction-minimum-reclaim" => self.minimum_reclaim = pairs(value, '=')?,
            "eviction-soft-grace-period" => {
                let graces = pairs(value, '=')?.into_iter();
                self.soft_grace = graces
                    .map(|(name, text)| Ok((name, duration::parse_unsigned(&text)?)))
                    .collect::<Result<_, String>>()?;
            }
            "eviction-pressure-transition-period" => self.transition = duration::parse_unsigned(value)?,
            "eviction-max-pod-grace-period" => {
                self.most_grace = value.parse().map_err(|_| format!("`{value}` is no number of seconds"))?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// How much of a thing must be left for pods not to be ended at once, of what there is.
    pub(crate) fn kept(&self, signal: Signal, capacity: u64) -> u64 {
        let value = self.hard.get(signal.name()).and_then(|value| read(signal.name(), value).ok().flatten());
        value.map_or(0, |value| value.of(capacity))
    }

    /// The thresholds.
    ///
    /// # Errors
    /// For the first setting that makes no sense.
    pub fn thresholds(&self) -> Result<Vec<Threshold>, ThresholdError> {
        let mut found = Vec::new();
        for (name, value) in &self.hard {
            let Some(value) = read(name, value)? else { continue };
            let signal = Signal::parse(name)?;
            found.push(Threshold { signal, value, grace: Duration::ZERO, reclaim: None });
            if signal == Signal::MemoryAvailable {
                // Pods together may take no more either.
                let signal = Signal::AllocatableMemoryAvailable;
                found.push(Threshold { signal, value, grace: Duration::ZERO, reclaim: None });
            }
        }
        for (name, value) in &self.soft {
            let Some(value) = read(name, value)? else { continue };
            let grace = self.soft_grace.get(name).copied().ok_or_else(|| ThresholdError::Grace(name.clone()))?;
            found.push(Threshold { signal: Signal::parse(name)?, value, grace, reclaim: None });
        }
        for (name, value) in &self.minimum_reclaim {
            let (signal, value) = (Signal::parse(name)?, read(name, value)?);
            let same = |of: Signal| of == signal || (signal.is_memory() && of == Signal::AllocatableMemoryAvailable);
            found.iter_mut().filter(|threshold| same(threshold.signal)).for_each(|threshold| threshold.reclaim = value);
        }
        Ok(found)
    }
}

/// `name<value,name<value`.
fn pairs(text: &str, separator: char) -> Result<BTreeMap<String, String>, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let pair = |part: &str| {
        let (name, value) = part.split_once(separator).ok_or_else(|| format!("`{part}` has no `{separator}`"))?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    };
    parts.map(pair).collect()
}

/// An amount or a percentage; `None` for those that switch a threshold off.
fn read(name: &str, text: &str) -> Result<Option<Value>, ThresholdError> {
    Signal::parse(name)?;
    let fault =
        |why: &str| Err(ThresholdError::Value { signal: name.to_owned(), value: text.to_owned(), why: why.to_owned() });
    if let Some(percent) = text.strip_suffix('%') {
        return match percent.parse::<f64>() {
            Ok(0.0 | 100.0) => Ok(None),
            Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(Some(Value::Part(percent / 100.0))),
            Ok(_) => fault("must be from 0% to 100%"),
            Err(_) => fault("not a percentage"),
        };
    }
    match Quantity::parse(text) {
        Ok(amount) if amount > Quantity::ZERO => Ok(Some(Value::Amount(amount))),
        Ok(_) => fault("must be positive"),
        Err(QuantityError::Format | QuantityError::Suffix) => fault("not a quantity"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(rows: &[(&str, &str)]) -> BTreeMap<String, String> {
        rows.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn upstreams_defaults_are_read() {
        let found = Settings::default().thresholds().expect("thresholds");
        let of = |signal: Signal, capacity: u64| {
            found.iter().find(|threshold| threshold.signal == signal).map(|threshold| threshold.value.of(capacity))
        };
        assert_eq!(of(Signal::MemoryAvailable, 1 << 30), Some(100 << 20));
        assert_eq!(of(Signal::AllocatableMemoryAvailable, 1 << 30), Some(100 << 20));
        assert_eq!((of(Signal::NodeFsAvailable, 1000), of(Signal::ImageFsAvailable, 1000)), (Some(100), Some(150)));
        assert_eq!((of(Signal::NodeFsInodesFree, 1000), of(Signal::PidAvailable, 1000)), (Some(50), None));
    }

    #[test]
    fn flags_are_those_of_the_upstream_kubelet() {
        let mut settings = Settings::default();
        for (flag, value) in [
            ("eviction-hard", "nodefs.available<5%, imagefs.available<5%"),
            ("eviction-soft", "memory.available<1Gi"),
            ("eviction-soft-grace-period", "memory.available=1m30s"),
            ("eviction-minimum-reclaim", "nodefs.available=10%"),
            ("eviction-pressure-transition-period", "30s"),
            ("eviction-max-pod-grace-period", "20"),
        ] {
            assert_eq!(settings.set(flag, value), Ok(true), "{flag}");
        }
        assert_eq!(settings.hard, map(&[("imagefs.available", "5%"), ("nodefs.available", "5%")]));
        let found = settings.thresholds().expect("thresholds");
        assert_eq!(found.last().map(|soft| soft.grace), Some(Duration::from_secs(90)));
        assert_eq!((settings.transition, settings.most_grace), (Duration::from_secs(30), 20));
        assert_eq!(settings.set("node-labels", "a=b"), Ok(false));
        assert!(settings.set("eviction-hard", "memory.available").is_err());
        assert!(settings.set("eviction-pressure-transition-period", "soon").is_err());
    }

    #[test]
    fn settings_are_checked() {
        let hard = |name: &str, value: &str| Settings { hard: map(&[(name, value)]), ..Settings::default() };
        assert_eq!(hard("nodefs.available", "0%").thresholds(), Ok(vec![]));
        for (name, value, why) in [
            ("disk", "1Gi", "unsupported eviction signal disk"),
            ("nodefs.available", "101%", "eviction threshold nodefs.available: 101%: must be from 0% to 100%"),
            ("nodefs.available", "-1", "eviction threshold nodefs.available: -1: must be positive"),
            ("nodefs.available", "x", "eviction threshold nodefs.available: x: not a quantity"),
        ] {
            assert_eq!(hard(name, value).thresholds().expect_err("refused").to_string(), why);
        }
        let soft = Settings { soft: map(&[("pid.available", "10%")]), ..Settings::default() };
        let why = "grace period must be specified for the soft eviction threshold pid.available";
        assert_eq!(soft.thresholds().expect_err("refused").to_string(), why);
    }
}
