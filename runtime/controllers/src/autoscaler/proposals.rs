//! What all metrics of an autoscaler call for: the most of them.

use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricStatus, ExternalMetricSource, ExternalMetricStatus, HorizontalPodAutoscaler,
    HorizontalPodAutoscalerSpec, MetricIdentifier, MetricSpec, MetricStatus, MetricTarget, MetricValueStatus,
    ObjectMetricSource, ObjectMetricStatus, PodsMetricStatus, ResourceMetricStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;
use kiln_apimachinery::LabelSelector;
use kiln_apimachinery::quantity::Quantity;
use kiln_client::ObjectRef;

use super::metrics::Described;
use super::replicas::{self, Target, Tolerances};
use super::selectors::{selector_shown, selector_text};
use super::status::Report;
use super::{Engine, Scale, Trouble};
use crate::owned::namespace;
use crate::reconcile::Failure;

/// What one metric calls for.
struct Proposal {
    replicas: i32,
    /// What it is called in events.
    metric: String,
    status: MetricStatus,
}

/// All that is needed to look at a metric.
struct Question<'a> {
    autoscaler: &'a HorizontalPodAutoscaler,
    scale: &'a Scale,
    selector: LabelSelector,
    tolerances: Tolerances,
}

impl Engine {
    /// The most that a metric calls for, and its name. If some cannot be read, others may still call for more than there is.
    pub(super) async fn proposals(
        &self,
        key: &ObjectRef,
        autoscaler: &HorizontalPodAutoscaler,
        spec: &HorizontalPodAutoscalerSpec,
        scale: &Scale,
        report: &mut Report<'_>,
    ) -> Result<(i32, String), Failure> {
        let selector = self.selector(key, autoscaler, scale, report)?;
        let question = Question { autoscaler, scale, selector, tolerances: tolerances(spec, self.settings.tolerance) };
        let all = spec.metrics.as_deref().unwrap_or_default();
        let (mut best, mut first, mut invalid) = (None::<(i32, String)>, None::<(Trouble, Failure)>, 0);
        for metric in all {
            match self.propose(&question, metric).await {
                Ok(Proposal { replicas, metric, status }) => {
                    report.metrics.push(status);
                    if best.as_ref().is_none_or(|(most, _)| replicas > *most) {
                        best = Some((replicas, metric));
                    }
                }
                Err((reason, failure)) => {
                    invalid += 1;
                    // Readers tell metrics and their states by their places.
                    report.metrics.push(status(""));
                    self.recorder.warning(autoscaler, reason, failure.to_string());
                    let message = format!("the HPA was unable to compute the replica count: {failure}");
                    first.get_or_insert((Trouble { reason, message }, named(metric, &failure)));
                }
            }
        }
        let count = all.len();
        match (best, first) {
            (Some((replicas, metric)), trouble) if trouble.is_none() || replicas >= scale.wanted => {
                let text = format!("the HPA was able to successfully calculate a replica count from {metric}");
                report.set("ScalingActive", true, "ValidMetricFound", text);
                Ok((replicas, metric))
            }
            (_, Some((trouble, failure))) => {
                report.set("ScalingActive", false, trouble.reason, trouble.message);
                Err(Failure::Waiting(format!(
                    "invalid metrics ({invalid} invalid out of {count}), first error is: {failure}"
                )))
            }
            (_, None) => Err(Failure::Waiting("there is no metric".to_owned())),
        }
    }

    async fn propose(&self, question: &Question<'_>, metric: &MetricSpec) -> Result<Proposal, (&'static str, Failure)> {
        let nothing = || Failure::Waiting(format!("the metric has no source of its type {}", metric.type_));
        match metric.type_.as_str() {
            "Resource" => {
                let reason = "FailedGetResourceMetric";
                let source = metric.resource.as_ref().ok_or_else(|| (reason, nothing()))?;
                let (replicas, current) = self
                    .of_resource(question, &source.name, None, &source.target)
                    .await
                    .map_err(|failure| (reason, failure))?;
                let metric = resource_name(&source.name, &source.target, "resource");
                let resource = Some(ResourceMetricStatus { name: source.name.clone(), current });
                Ok(Proposal { replicas, metric, status: MetricStatus { resource, ..status("Resource") } })
            }
            "ContainerResource" => {
                let reason = "FailedGetContainerResourceMetric";
                let source = metric.container_resource.as_ref().ok_or_else(|| (reason, nothing()))?;
                let (replicas, current) = self
                    .of_resource(question, &source.name, Some(&source.container), &source.target)
                    .await
                    .map_err(|failure| (reason, failure))?;
                let metric = resource_name(&source.name, &source.target, "container resource");
                let (name, container) = (source.name.clone(), source.container.clone());
                let container_resource = Some(ContainerResourceMetricStatus { name, container, current });
                let status = MetricStatus { container_resource, ..status("ContainerResource") };
                Ok(Proposal { replicas, metric, status })
            }
            "Pods" => {
                let reason = "FailedGetPodsMetric";
                let source = metric.pods.as_ref().ok_or_else(|| (reason, nothing()))?;
                self.of_pods(question, &source.metric, &source.target).await.map_err(|failure| (reason, failure))
            }
            "Object" => {
                let reason = "FailedGetObjectMetric";
                let source = metric.object.as_ref().ok_or_else(|| (reason, nothing()))?;
                self.of_object(question, source).await.map_err(|failure| (reason, failure))
            }
            "External" => {
                let reason = "FailedGetExternalMetric";
                let source = metric.external.as_ref().ok_or_else(|| (reason, nothing()))?;
                self.of_external(question, source).await.map_err(|failure| (reason, failure))
            }
            other => {
                let why = Failure::Waiting(format!("unknown metric source type \"{other}\""));
                Err(("InvalidMetricSourceType", why))
            }
        }
    }

    async fn of_resource(
        &self,
        question: &Question<'_>,
        resource: &str,
        container: Option<&str>,
        target: &MetricTarget,
    ) -> Result<(i32, MetricValueStatus), Failure> {
        let what = if target.average_value.is_some() { "usage" } else { "utilization" };
        let failed = |failure: Failure| Failure::Waiting(format!("failed to get {resource} {what}: {failure}"));
        let Question { autoscaler, scale, selector, tolerances } = question;
        let metrics = self.metrics.resource(namespace(*autoscaler), &scale.selector, resource, container).await;
        let metrics = metrics.map_err(|failure| {
            failed(Failure::Waiting(format!("unable to get metrics for resource {resource}: {failure}")))
        })?;
        let pods = self.pods_of(autoscaler, selector);
        let requests = match (&target.average_value, target.average_utilization) {
            (None, Some(_)) => replicas::requests(&pods, resource, container).map_err(failed)?,
            _ => std::collections::HashMap::new(),
        };
        let against = match (&target.average_value, target.average_utilization) {
            (Some(value), _) => Target::Average(milli(value)),
            (None, Some(percent)) => Target::Utilization(&requests, percent),
            (None, None) => {
                let why = "invalid resource metric source: neither an average utilization target nor an average value \
                           (usage) target was set";
                return Err(Failure::Waiting(why.to_owned()));
            }
        };
        let now = self.clock.now();
        let count = replicas::of_pods(&pods, metrics, resource, &against, scale.wanted, *tolerances, now);
        let count = count.map_err(failed)?;
        let average = if resource == "memory" { bytes(count.average) } else { amount(count.average) };
        let current =
            MetricValueStatus { average_utilization: count.utilization, average_value: Some(average), value: None };
        Ok((count.replicas, current))
    }

    async fn of_pods(
        &self,
        question: &Question<'_>,
        metric: &MetricIdentifier,
        target: &MetricTarget,
    ) -> Result<Proposal, Failure> {
        let Question { autoscaler, scale, selector, tolerances } = question;
        let name = &metric.name;
        let asked = selector_text(metric.selector.as_ref());
        let metrics = self.metrics.of_pods(namespace(*autoscaler), &scale.selector, name, &asked).await;
        let metrics = metrics.map_err(|failure| Failure::Waiting(format!("unable to get metric {name}: {failure}")))?;
        let target = Target::Average(target.average_value.as_ref().map_or(0, milli));
        let (pods, now) = (self.pods_of(autoscaler, selector), self.clock.now());
        let count = replicas::of_pods(&pods, metrics, "", &target, scale.wanted, *tolerances, now)?;
        let current = MetricValueStatus { average_value: Some(amount(count.average)), ..MetricValueStatus::default() };
        let pods = Some(PodsMetricStatus { metric: metric.clone(), current });
        let status = MetricStatus { pods, ..status("Pods") };
        Ok(Proposal { replicas: count.replicas, metric: format!("pods metric {name}"), status })
    }

    async fn of_object(&self, question: &Question<'_>, source: &ObjectMetricSource) -> Result<Proposal, Failure> {
        let Question { autoscaler, scale, selector, tolerances } = question;
        let (about, name) = (&source.described_object, &source.metric.name);
        let api_version = about.api_version.as_deref().unwrap_or("v1");
        let place = self.mapper.place(api_version, &about.kind).await?;
        let place = place.ok_or_else(|| Failure::Waiting(format!("no matches for kind \"{}\"", about.kind)))?;
        let resource = match api_version.rsplit_once('/') {
            Some((group, _)) => format!("{}.{group}", place.plural),
            None => place.plural,
        };
        let described = Described { resource: &resource, name: &about.name };
        let here = namespace(*autoscaler);
        let asked = selector_text(source.metric.selector.as_ref());
        let value = self.metrics.of_object(here, &described, name, &asked).await.map_err(|failure| {
            let (kind, object) = (&about.kind, &about.name);
            Failure::Waiting(format!("unable to get metric {name}: {kind} on {here} {object}/{failure}"))
        })?;
        let (replicas, current, metric) = match (&source.target.value, &source.target.average_value) {
            (Some(target), _) if source.target.type_ == "Value" => {
                let pods = self.pods_of(autoscaler, selector);
                let replicas = replicas::of_value(&pods, value, milli(target), scale.wanted, *tolerances)?;
                let current = MetricValueStatus { value: Some(amount(value)), ..MetricValueStatus::default() };
                (replicas, current, format!("{} metric {name}", about.kind))
            }
            (_, Some(target)) if source.target.type_ == "AverageValue" => {
                let (replicas, share) = replicas::of_shared_value(value, milli(target), scale.has, *tolerances);
                let current = MetricValueStatus { average_value: Some(amount(share)), ..MetricValueStatus::default() };
                (
                    replicas,
                    current,
                    format!("external metric {name}({})", selector_shown(source.metric.selector.as_ref())),
                )
            }
            _ => {
                let why = "invalid object metric source: neither a value target nor an average value target was set";
                return Err(Failure::Waiting(why.to_owned()));
            }
        };
        let (described_object, identifier) = (about.clone(), source.metric.clone());
        let object = Some(ObjectMetricStatus { described_object, metric: identifier, current });
        Ok(Proposal { replicas, metric, status: MetricStatus { object, ..status("Object") } })
    }

    async fn of_external(&self, question: &Question<'_>, source: &ExternalMetricSource) -> Result<Proposal, Failure> {
        let Question { autoscaler, scale, selector, tolerances } = question;
        let (here, name) = (namespace(*autoscaler), &source.metric.name);
        let selected_by = source.metric.selector.as_ref();
        let (asked, shown) = (selector_text(selected_by), selector_shown(selected_by));
        let values = self.metrics.external(here, name, &asked).await.map_err(|failure| {
            Failure::Waiting(format!("unable to get external metric {here}/{name}/{shown}: {failure}"))
        })?;
        let value = values.into_iter().fold(0_i64, i64::saturating_add);
        let (replicas, current) = match (&source.target.average_value, &source.target.value) {
            (Some(target), _) => {
                let (replicas, share) = replicas::of_shared_value(value, milli(target), scale.has, *tolerances);
                let average_value = Some(amount(share));
                (replicas, MetricValueStatus { average_value, ..MetricValueStatus::default() })
            }
            (None, Some(target)) => {
                let pods = self.pods_of(autoscaler, selector);
                let replicas = replicas::of_value(&pods, value, milli(target), scale.wanted, *tolerances)?;
                (replicas, MetricValueStatus { value: Some(amount(value)), ..MetricValueStatus::default() })
            }
            (None, None) => {
                let why = "invalid external metric source: neither a value target nor an average value target was set";
                return Err(Failure::Waiting(why.to_owned()));
            }
        };
        let external = Some(ExternalMetricStatus { metric: source.metric.clone(), current });
        let metric = format!("external metric {name}({shown})");
        Ok(Proposal { replicas, metric, status: MetricStatus { external, ..status("External") } })
    }
}

fn tolerances(spec: &HorizontalPodAutoscalerSpec, usual: f64) -> Tolerances {
    let own = |rules: Option<&k8s_openapi::api::autoscaling::v2::HPAScalingRules>| {
        rules.and_then(|rules| rules.tolerance.as_ref()).map_or(usual, |own| milli(own) as f64 / 1_000.0)
    };
    let behavior = spec.behavior.as_ref();
    Tolerances {
        down: own(behavior.and_then(|behavior| behavior.scale_down.as_ref())),
        up: own(behavior.and_then(|behavior| behavior.scale_up.as_ref())),
    }
}

/// A failure with what it was about.
fn named(metric: &MetricSpec, failure: &Failure) -> Failure {
    let object = |source: &ObjectMetricSource| match source.target.type_.as_str() {
        "AverageValue" => format!("failed to get {} object metric: ", source.metric.name),
        _ => String::new(),
    };
    let external = |source: &ExternalMetricSource| match (&source.target.average_value, &source.target.value) {
        (Some(_), _) => format!("failed to get {} external metric: ", source.metric.name),
        (None, Some(_)) => format!("failed to get external metric {}: ", source.metric.name),
        (None, None) => String::new(),
    };
    let step = match (&metric.object, &metric.external) {
        (Some(source), _) if metric.type_ == "Object" => object(source),
        (_, Some(source)) if metric.type_ == "External" => external(source),
        _ => String::new(),
    };
    let about = match metric.type_.as_str() {
        "Resource" => metric.resource.as_ref().map(|source| format!("{} resource metric", source.name)),
        "ContainerResource" => {
            metric.container_resource.as_ref().map(|source| format!("{} container metric", source.container))
        }
        "Pods" => Some("pods metric".to_owned()),
        "Object" => Some("object metric".to_owned()),
        "External" => metric.external.as_ref().map(|source| format!("{} external metric", source.metric.name)),
        _ => None,
    };
    Failure::Waiting(match about {
        Some(about) => format!("failed to get {about} value: {step}{failure}"),
        None => failure.to_string(),
    })
}

fn status(kind: &str) -> MetricStatus {
    MetricStatus { type_: kind.to_owned(), ..MetricStatus::default() }
}

fn resource_name(resource: &str, target: &MetricTarget, kind: &str) -> String {
    if target.average_value.is_some() {
        format!("{resource} resource")
    } else {
        format!("{resource} {kind} utilization (percentage of request)")
    }
}

fn milli(amount: &Amount) -> i64 {
    Quantity::parse(&amount.0).map_or(0, Quantity::milli_value)
}

/// Thousandths as an amount.
fn amount(milli: i64) -> Amount {
    let text = format!("{milli}m");
    Amount(Quantity::parse(&text).map_or(text, |quantity| quantity.to_string()))
}

/// Thousandths of bytes as an amount with a binary suffix.
fn bytes(milli: i64) -> Amount {
    if milli % 1_000 != 0 {
        return amount(milli);
    }
    let (mut number, mut suffixes) = (milli / 1_000, ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].into_iter());
    let mut suffix = suffixes.next().unwrap_or_default();
    while number != 0
        && number % 1_024 == 0
        && let Some(next) = suffixes.next()
    {
        (number, suffix) = (number / 1_024, next);
    }
    Amount(format!("{number}{suffix}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_as_kubernetes_writes_them() {
        for (milli, decimal, binary) in [
            (500, "500m", "500m"),
            (100_000, "100", "100"),
            (1_000_000, "1k", "1000"),
            (2_048_000, "2048", "2Ki"),
            (64 * 1024 * 1024 * 1000, "67108864", "64Mi"),
            (0, "0", "0"),
        ] {
            assert_eq!((amount(milli).0.as_str(), bytes(milli).0.as_str()), (decimal, binary));
        }
    }
}
