//! What a Job's rules say: of a failed Pod (`podFailurePolicy`, KEP-3329), and of the indexes that succeeded (`successPolicy`,
//! KEP-3998).

use k8s_openapi::api::batch::v1::{JobSpec, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};

use super::indexes::Indexes;

/// What becomes of a failed Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It counts towards the limit.
    Counts,
    /// It does not.
    Ignored,
    /// Its index has failed for good.
    FailsIndex,
    /// The Job has failed; why.
    FailsJob(String),
}

/// What the rules say of a failed Pod: the first that matches does.
pub(super) fn judge(spec: &JobSpec, pod: &Pod) -> Verdict {
    let rules = spec.pod_failure_policy.iter().flat_map(|policy| &policy.rules);
    let verdicts = rules.enumerate().filter_map(|(at, rule)| {
        let name = format!("{}/{}", pod.metadata.namespace.as_deref()?, pod.metadata.name.as_deref()?);
        let matched = matches(rule, pod.status.as_ref()?, &name)?;
        match rule.action.as_str() {
            "Ignore" => Some(Verdict::Ignored),
            "FailIndex" => Some(Verdict::FailsIndex),
            "Count" => Some(Verdict::Counts),
            "FailJob" => Some(Verdict::FailsJob(format!("{matched} matching {} rule at index {at}", rule.action))),
            _ => None,
        }
    });
    let mut verdicts = verdicts;
    verdicts.next().unwrap_or(Verdict::Counts)
}

/// What of a Pod a rule matches.
fn matches(rule: &PodFailurePolicyRule, status: &PodStatus, pod: &str) -> Option<String> {
    if let Some(codes) = &rule.on_exit_codes {
        let lists = [&status.container_statuses, &status.init_container_statuses];
        let (name, code) = lists.into_iter().find_map(|list| list.iter().flatten().find_map(|c| exited(c, codes)))?;
        return Some(format!("Container {name} for pod {pod} failed with exit code {code}"));
    }
    let patterns = rule.on_pod_conditions.as_deref().unwrap_or_default();
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let found = conditions.iter().find(|condition| {
        patterns.iter().any(|pattern| {
            pattern.type_ == condition.type_ && pattern.status.as_deref().unwrap_or("True") == condition.status
        })
    })?;
    Some(format!("Pod {pod} has condition {}", found.type_))
}

fn exited<'a>(
    container: &'a ContainerStatus,
    wanted: &PodFailurePolicyOnExitCodesRequirement,
) -> Option<(&'a str, i32)> {
    let code = container.state.as_ref()?.terminated.as_ref()?.exit_code;
    let named = wanted.container_name.as_ref().is_none_or(|name| *name == container.name);
    let listed = wanted.values.contains(&code);
    let matches = match wanted.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        _ => false,
    };
    (named && code != 0 && matches).then_some((container.name.as_str(), code))
}

/// The rule by which a Job has succeeded early, as a message.
pub(super) fn success(spec: &JobSpec, succeeded: &Indexes) -> Option<String> {
    let policy = spec.success_policy.as_ref().filter(|_| !succeeded.is_empty())?;
    let completions = spec.completions.unwrap_or(0);
    let met = policy.rules.iter().position(|rule| match &rule.succeeded_indexes {
        Some(indexes) => {
            let wanted = Indexes::parse(indexes, completions);
            let shared = wanted.shared(succeeded);
            let enough = rule.succeeded_count.is_some_and(|count| shared >= count);
            !wanted.is_empty() && (shared == wanted.count() || enough)
        }
        None => rule.succeeded_count.is_some_and(|count| succeeded.count() >= count),
    });
    met.map(|at| format!("Matched rules at index {at}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(policy: Value) -> JobSpec {
        serde_json::from_value(json!({"template": {}, "podFailurePolicy": policy})).unwrap()
    }

    fn pod(status: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n"}, "status": status})).unwrap()
    }

    fn ended(name: &str, code: i32) -> Value {
        json!({"containerStatuses": [{"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": code}}}]})
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        // The example of the documentation on Pod failure policies.
        let policy = json!({"rules": [
            {"action": "FailJob", "onExitCodes": {"containerName": "main", "operator": "In", "values": [42]}},
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "FailIndex", "onExitCodes": {"operator": "NotIn", "values": [1, 2, 42]}},
        ]});
        let disrupted = json!({"conditions": [{"type": "DisruptionTarget", "status": "True"}]});
        let spared = json!({"conditions": [{"type": "DisruptionTarget", "status": "False"}]});
        let failed = "Container main for pod n/p failed with exit code 42 matching FailJob rule at index 0";
        let rows = [
            (ended("main", 42), Verdict::FailsJob(failed.to_owned())),
            (ended("other", 42), Verdict::Counts),
            (ended("main", 1), Verdict::Counts),
            (ended("main", 7), Verdict::FailsIndex),
            (ended("main", 0), Verdict::Counts),
            (disrupted, Verdict::Ignored),
            (spared, Verdict::Counts),
            (json!({}), Verdict::Counts),
        ];
        for (status, verdict) in rows {
            assert_eq!(judge(&spec(policy.clone()), &pod(status.clone())), verdict, "{status}");
        }
        let condition = json!({"rules": [{"action": "FailJob", "onPodConditions": [{"type": "ConfigIssue"}]}]});
        let issue = json!({"conditions": [{"type": "ConfigIssue", "status": "True"}]});
        let failed = "Pod n/p has condition ConfigIssue matching FailJob rule at index 0";
        assert_eq!(judge(&spec(condition), &pod(issue)), Verdict::FailsJob(failed.to_owned()));
    }

    #[test]
    fn a_job_succeeds_early_by_the_first_rule_that_is_met() {
        let rows = [
            (json!([{"succeededIndexes": "0,2-3", "succeededCount": 1}]), "2", Some(0)),
            (json!([{"succeededIndexes": "0,2-3"}]), "2", None),
            (json!([{"succeededIndexes": "0,2-3"}]), "0,2,3", Some(0)),
            (json!([{"succeededCount": 3}]), "1,4", None),
            (json!([{"succeededCount": 3}, {"succeededIndexes": "4"}]), "1,4", Some(1)),
            (json!([{"succeededCount": 0}]), "", None),
        ];
        for (rules, succeeded, met) in rows {
            let spec: JobSpec =
                serde_json::from_value(json!({"template": {}, "completions": 10, "successPolicy": {"rules": rules}}))
                    .unwrap();
            let message = met.map(|at: i32| format!("Matched rules at index {at}"));
            assert_eq!(success(&spec, &Indexes::parse(succeeded, 10)), message, "{rules} {succeeded}");
        }
    }
}
