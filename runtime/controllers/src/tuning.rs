//! What a cluster may want to be different: kube-controller-manager's settings, by their names and, but for one, with their
//! defaults.
//!
//! <https://kubernetes.io/docs/reference/command-line-tools-reference/kube-controller-manager/>

use std::time::Duration;

use jiff::SignedDuration;

/// The settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tuning {
    /// `node-monitor-grace-period`: how long a node may be silent. 40 s, as it was up to 1.31; since then 50 s, for the sake of
    /// clusters larger than these.
    pub node_grace: Duration,
    /// `terminated-pod-gc-threshold`: so many Pods that have ended are kept; 0 for all.
    pub ended_pods: usize,
    /// What autoscalers are told.
    pub autoscaler: Autoscaling,
}

/// The settings of all autoscalers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Autoscaling {
    /// `horizontal-pod-autoscaler-sync-period`: how often an autoscaler is looked at.
    pub period: Duration,
    /// `horizontal-pod-autoscaler-downscale-stabilization`: how long recommendations hold a scale up, unless a behaviour says
    /// otherwise.
    pub stabilization: Duration,
    /// `horizontal-pod-autoscaler-tolerance`: a target may be missed by this share, unless a behaviour says otherwise.
    pub tolerance: f64,
}

impl Default for Autoscaling {
    fn default() -> Self {
        Self { period: Duration::from_secs(15), stabilization: Duration::from_secs(300), tolerance: 0.1 }
    }
}

impl Default for Tuning {
    fn default() -> Self {
        Self { node_grace: Duration::from_secs(40), ended_pods: 12_500, autoscaler: Autoscaling::default() }
    }
}

/// All names, for whoever wrote another one.
const NAMES: [&str; 5] = [
    "node-monitor-grace-period",
    "terminated-pod-gc-threshold",
    "horizontal-pod-autoscaler-sync-period",
    "horizontal-pod-autoscaler-downscale-stabilization",
    "horizontal-pod-autoscaler-tolerance",
];

impl Tuning {
    /// Takes one setting over.
    ///
    /// # Errors
    /// There is none of the name, or the value is none for it.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let wrong = |what: &str| format!("{name}: {value:?} is no {what}");
        let duration = || {
            let duration = value.parse::<SignedDuration>().ok().filter(SignedDuration::is_positive);
            duration.ok_or_else(|| wrong("time such as 50s or 1m30s"))
        };
        match name {
            "node-monitor-grace-period" => self.node_grace = duration()?.unsigned_abs(),
            "terminated-pod-gc-threshold" => self.ended_pods = value.parse().map_err(|_| wrong("number of pods"))?,
            "horizontal-pod-autoscaler-sync-period" => self.autoscaler.period = duration()?.unsigned_abs(),
            "horizontal-pod-autoscaler-downscale-stabilization" => {
                self.autoscaler.stabilization = duration()?.unsigned_abs();
            }
            "horizontal-pod-autoscaler-tolerance" => {
                let share = value.parse().ok().filter(|share: &f64| share.is_finite() && *share >= 0.0);
                self.autoscaler.tolerance = share.ok_or_else(|| wrong("share such as 0.1"))?;
            }
            _ => return Err(format!("the controllers have no `{name}`; they have {}", NAMES.join(", "))),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_their_names_of_kubernetes() {
        let mut tuning = Tuning::default();
        for name in NAMES {
            let value = match name {
                "terminated-pod-gc-threshold" => "7",
                "horizontal-pod-autoscaler-tolerance" => "0.5",
                _ => "1m30s",
            };
            assert_eq!(tuning.set(name, value), Ok(()), "{name}");
        }
        let (period, stabilization) = (Duration::from_secs(90), Duration::from_secs(90));
        let autoscaler = Autoscaling { period, stabilization, tolerance: 0.5 };
        assert_eq!(tuning, Tuning { node_grace: period, ended_pods: 7, autoscaler });
    }

    #[test]
    fn what_is_no_setting_is_refused_with_the_reason() {
        let rows = [
            ("node-monitor-grace-period", "soon", "no time"),
            ("node-monitor-grace-period", "0s", "no time"),
            ("node-monitor-grace-period", "-5s", "no time"),
            ("terminated-pod-gc-threshold", "-1", "no number"),
            ("horizontal-pod-autoscaler-tolerance", "NaN", "no share"),
            ("leader-elect", "false", "they have node-monitor-grace-period"),
        ];
        for (name, value, expected) in rows {
            let why = Tuning::default().set(name, value).expect_err(name);
            assert!(why.contains(expected), "{name}={value}: {why}");
        }
    }
}
