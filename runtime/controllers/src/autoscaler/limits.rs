//! How far and how fast a scale may move.
//!
//! Without a behaviour: at most double or to four, and down only to the highest recommendation of the last five minutes. With
//! one: by its policies, and to the lowest and highest recommendations within its windows.

use std::time::Duration;

use k8s_openapi::api::autoscaling::v2::{
    HPAScalingRules, HorizontalPodAutoscalerBehavior, HorizontalPodAutoscalerSpec,
};
use kiln_apimachinery::LabelSelector;
use tokio::time::Instant;

const READY: (&str, &str) = ("ReadyForNewScale", "recommended size matches current size");
const STABILIZED_DOWN: (&str, &str) = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const STABILIZED_UP: (&str, &str) = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const WITHIN: (&str, &str) = ("DesiredWithinRange", "the desired count is within the acceptable range");
const TOO_MANY: (&str, &str) = ("TooManyReplicas", "the desired replica count is more than the maximum replica count");
const TOO_FEW: (&str, &str) = ("TooFewReplicas", "the desired replica count is less than the minimum replica count");
const TOO_FAST_UP: (&str, &str) =
    ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const TOO_FAST_DOWN: (&str, &str) =
    ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate");

/// What is remembered of one autoscaler.
#[derive(Debug)]
pub(super) struct Memory {
    recommendations: Vec<(i32, Instant)>,
    /// By how much the scale went up, and when.
    ups: Vec<(i32, Instant)>,
    downs: Vec<(i32, Instant)>,
    /// Of its target's pods, as of the last look.
    pub(super) selector: Option<LabelSelector>,
}

/// A count within the limits, with reason and message of the two conditions.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Limited {
    pub(super) replicas: i32,
    /// Why it may scale.
    pub(super) able: (&'static str, &'static str),
    /// Whether it is not what is recommended.
    pub(super) is_limited: bool,
    pub(super) limit: (&'static str, &'static str),
}

impl Memory {
    /// The present count is the first recommendation.
    pub(super) fn new(current: i32, now: Instant) -> Self {
        Self { recommendations: vec![(current, now)], ups: Vec::new(), downs: Vec::new(), selector: None }
    }

    /// Brings what the metrics call for within the limits, and remembers it. `stabilization`: how long recommendations hold a
    /// scale up, unless the behaviour says otherwise.
    pub(super) fn limit(
        &mut self,
        spec: &HorizontalPodAutoscalerSpec,
        stabilization: Duration,
        current: i32,
        proposed: i32,
        now: Instant,
    ) -> Limited {
        let (up, down) = windows(spec, stabilization);
        self.recommendations.retain(|(_, at)| *at + up.max(down) >= now);
        let within = |window: Duration| {
            self.recommendations.iter().filter(move |(_, at)| *at + window > now).map(|(count, _)| *count)
        };
        let lowest = within(up).fold(proposed, i32::min);
        let highest = within(down).fold(proposed, i32::max);
        self.recommendations.push((proposed, now));
        let stable = match &spec.behavior {
            Some(_) => current.max(lowest).min(highest),
            None => highest,
        };
        let able = match stable == proposed {
            true => READY,
            false if spec.behavior.is_some() && proposed >= current => STABILIZED_UP,
            false => STABILIZED_DOWN,
        };
        let least = spec.min_replicas.unwrap_or(1);
        let (replicas, limit) = match &spec.behavior {
            Some(behavior) => self.by_policies(behavior, least, spec.max_replicas, current, stable, now),
            None => by_default(least, spec.max_replicas, current, stable),
        };
        Limited { replicas, able, is_limited: replicas != stable, limit }
    }

    fn by_policies(
        &self,
        behavior: &HorizontalPodAutoscalerBehavior,
        least: i32,
        most: i32,
        current: i32,
        wanted: i32,
        now: Instant,
    ) -> (i32, (&'static str, &'static str)) {
        if wanted > current {
            let reach = behavior.scale_up.as_ref().map_or(i32::MAX, |rules| self.reach(rules, current, true, now));
            let reach = reach.max(current);
            let (most, why) = if most > reach { (reach, TOO_FAST_UP) } else { (most, TOO_MANY) };
            if wanted > most {
                return (most, why);
            }
        } else if wanted < current {
            let reach = behavior.scale_down.as_ref().map_or(0, |rules| self.reach(rules, current, false, now));
            let reach = reach.min(current);
            let (least, why) = if least < reach { (reach, TOO_FAST_DOWN) } else { (least, TOO_FEW) };
            if wanted < least {
                return (least, why);
            }
        }
        (wanted, WITHIN)
    }

    /// How far the rules let a scale go from what it was when each of their periods began.
    fn reach(&self, rules: &HPAScalingRules, current: i32, up: bool, now: Instant) -> i32 {
        let select = rules.select_policy.as_deref().unwrap_or("Max");
        if select == "Disabled" {
            return current;
        }
        let reaches = rules.policies.iter().flatten().map(|policy| {
            let period = seconds(policy.period_seconds);
            let moved = |events: &[(i32, Instant)]| -> i32 {
                events.iter().filter(|(_, at)| *at + period > now).map(|(change, _)| *change).sum()
            };
            let began = current - moved(&self.ups) + moved(&self.downs);
            let sign = if up { 1 } else { -1 };
            match policy.type_.as_str() {
                "Percent" => {
                    let whole = f64::from(began) * (1.0 + f64::from(sign * policy.value) / 100.0);
                    // Up by at least one, or a small scale would never grow. The cast saturates.
                    if up { whole.ceil() as i32 } else { whole as i32 }
                }
                _ => began.saturating_add(sign * policy.value),
            }
        });
        let farthest = (select == "Max") == up;
        let reach = if farthest { reaches.max() } else { reaches.min() };
        reach.unwrap_or(current)
    }

    /// Remembers that the scale was changed.
    pub(super) fn note_scaling(
        &mut self,
        behavior: &HorizontalPodAutoscalerBehavior,
        before: i32,
        after: i32,
        now: Instant,
    ) {
        let (events, rules) =
            if after > before { (&mut self.ups, &behavior.scale_up) } else { (&mut self.downs, &behavior.scale_down) };
        let periods = rules.iter().flat_map(|rules| rules.policies.iter().flatten());
        let longest = periods.map(|policy| policy.period_seconds).max().unwrap_or(0);
        events.retain(|(_, at)| *at + seconds(longest) >= now);
        events.push(((after - before).abs(), now));
    }
}

/// How long recommendations hold a scale down and up.
fn windows(spec: &HorizontalPodAutoscalerSpec, usual: Duration) -> (Duration, Duration) {
    let Some(behavior) = &spec.behavior else { return (Duration::ZERO, usual) };
    let window = |rules: &Option<HPAScalingRules>| {
        rules.as_ref().and_then(|rules| rules.stabilization_window_seconds).map(seconds)
    };
    (window(&behavior.scale_up).unwrap_or_default(), window(&behavior.scale_down).unwrap_or(usual))
}

fn seconds(count: i32) -> Duration {
    Duration::from_secs(u64::try_from(count).unwrap_or(0))
}

fn by_default(least: i32, most: i32, current: i32, wanted: i32) -> (i32, (&'static str, &'static str)) {
    let reach = current.saturating_mul(2).max(4);
    let (most, why) = if most > reach { (reach, TOO_FAST_UP) } else { (most, TOO_MANY) };
    match wanted {
        _ if wanted < least => (least, TOO_FEW),
        _ if wanted > most => (most, why),
        _ => (wanted, WITHIN),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const FIVE_MINUTES: Duration = Duration::from_secs(300);

    fn spec(behavior: Value) -> HorizontalPodAutoscalerSpec {
        let spec = json!({"minReplicas": 1, "maxReplicas": 100, "behavior": behavior,
            "scaleTargetRef": {"kind": "Deployment", "name": "web"}});
        serde_json::from_value(spec).unwrap()
    }

    /// Moments of one test, by the second.
    fn moments() -> impl Fn(u64) -> Instant {
        let start = Instant::now();
        move |second| start + Duration::from_secs(second)
    }

    #[test]
    fn a_scale_doubles_at_most_and_goes_down_after_five_minutes() {
        let at = moments();
        let (spec, mut memory) = (spec(Value::Null), Memory::new(10, at(0)));
        let rows = [
            (0, 10, 50, 20, READY, TOO_FAST_UP),
            (15, 20, 5, 40, STABILIZED_DOWN, TOO_FAST_UP),
            (301, 20, 5, 5, READY, WITHIN),
        ];
        for (second, current, proposed, expected, able, limit) in rows {
            let limited = memory.limit(&spec, FIVE_MINUTES, current, proposed, at(second));
            assert_eq!((limited.replicas, limited.able, limited.limit), (expected, able, limit), "at {second}");
        }
        let mut fresh = Memory::new(1, at(0));
        assert_eq!(fresh.limit(&spec, FIVE_MINUTES, 1, 9, at(0)).replicas, 4);
        assert_eq!(fresh.limit(&spec, FIVE_MINUTES, 1, 500, at(1)).limit, TOO_FAST_UP);
        let few = fresh.limit(&spec, FIVE_MINUTES, 100, 500, at(2));
        assert_eq!((few.replicas, few.limit, few.is_limited), (100, TOO_MANY, true));
    }

    #[test]
    fn policies_limit_how_much_is_changed_within_their_periods() {
        let at = moments();
        // The documentation's: four pods or a tenth a minute, whichever is more.
        let down = json!({"scaleDown": {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [
            {"type": "Pods", "value": 4, "periodSeconds": 60}, {"type": "Percent", "value": 10, "periodSeconds": 60}]}});
        let (spec_down, mut memory) = (spec(down), Memory::new(80, at(0)));
        let limited = memory.limit(&spec_down, FIVE_MINUTES, 80, 10, at(1));
        assert_eq!((limited.replicas, limited.limit), (72, TOO_FAST_DOWN));
        memory.note_scaling(spec_down.behavior.as_ref().unwrap(), 80, 72, at(1));
        assert_eq!(memory.limit(&spec_down, FIVE_MINUTES, 72, 10, at(30)).replicas, 72);
        assert_eq!(memory.limit(&spec_down, FIVE_MINUTES, 72, 10, at(62)).replicas, 64);
        assert_eq!(memory.limit(&spec_down, FIVE_MINUTES, 37, 10, at(200)).replicas, 33);
        assert_eq!(memory.limit(&spec_down, FIVE_MINUTES, 5, 1, at(300)).replicas, 1);

        let disabled = spec(json!({"scaleDown": {"selectPolicy": "Disabled", "stabilizationWindowSeconds": 0}}));
        assert_eq!(Memory::new(8, at(0)).limit(&disabled, FIVE_MINUTES, 8, 2, at(1)).replicas, 8);
        let slow_up = spec(json!({"scaleUp": {"stabilizationWindowSeconds": 0, "selectPolicy": "Min", "policies": [
            {"type": "Pods", "value": 4, "periodSeconds": 60}, {"type": "Percent", "value": 10, "periodSeconds": 60}]}}));
        assert_eq!(Memory::new(10, at(0)).limit(&slow_up, FIVE_MINUTES, 10, 50, at(1)).replicas, 11);
    }

    #[test]
    fn a_window_holds_the_scale_to_the_lowest_recommendation_when_growing() {
        let at = moments();
        let windowed = spec(json!({"scaleUp": {"stabilizationWindowSeconds": 60, "selectPolicy": "Max", "policies": [
            {"type": "Percent", "value": 900, "periodSeconds": 15}]},
            "scaleDown": {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [
            {"type": "Percent", "value": 100, "periodSeconds": 15}]}}));
        let mut memory = Memory::new(4, at(0));
        let first = memory.limit(&windowed, FIVE_MINUTES, 4, 10, at(1));
        assert_eq!((first.replicas, first.able), (4, STABILIZED_UP));
        assert_eq!(memory.limit(&windowed, FIVE_MINUTES, 4, 12, at(62)).replicas, 12);
    }
}
