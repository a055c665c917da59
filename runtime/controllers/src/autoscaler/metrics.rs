//! The metrics APIs: of resources, custom and external.

use std::collections::HashMap;
use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};
use kiln_apimachinery::quantity::Quantity;
use kiln_client::{Client, List, ListParams};
use serde::Deserialize;

use crate::reconcile::Failure;

/// What one pod uses, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PodMetric {
    pub(super) value: i64,
    pub(super) at: Timestamp,
    /// Over how long it was measured.
    pub(super) window: SignedDuration,
}

/// By the names of the pods.
pub(super) type PodMetrics = HashMap<String, PodMetric>;

/// Asks for metrics.
pub(super) struct Metrics {
    client: Client,
}

/// `PodMetrics` of `metrics.k8s.io`.
#[derive(Debug, Deserialize)]
struct ResourceMetrics {
    metadata: Name,
    timestamp: Timestamp,
    window: String,
    #[serde(default)]
    containers: Vec<ContainerMetrics>,
}

#[derive(Debug, Deserialize)]
struct Name {
    name: String,
}

#[derive(Debug, Deserialize)]
struct ContainerMetrics {
    name: String,
    #[serde(default)]
    usage: HashMap<String, String>,
}

/// `MetricValue` of `custom.metrics.k8s.io`, and `ExternalMetricValue`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct MetricValue {
    #[serde(default)]
    described_object: Option<Name>,
    timestamp: Timestamp,
    #[serde(default)]
    window_seconds: Option<i64>,
    value: String,
}

/// What an object metric is about.
pub(super) struct Described<'a> {
    /// As `services` or `ingresses.networking.k8s.io`.
    pub(super) resource: &'a str,
    pub(super) name: &'a str,
}

impl Metrics {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// What pods use of a resource, all their containers or one.
    pub(super) async fn resource(
        &self,
        namespace: &str,
        selector: &str,
        resource: &str,
        container: Option<&str>,
    ) -> Result<PodMetrics, Failure> {
        let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods");
        let params = ListParams { labels: selector.to_owned(), ..ListParams::default() };
        let list: List<ResourceMetrics> =
            self.client.list(&path, &params).await.map_err(|error| {
                Failure::Waiting(format!("unable to fetch metrics from resource metrics API: {error}"))
            })?;
        if list.items.is_empty() {
            return Err(Failure::Waiting("no metrics returned from resource metrics API".to_owned()));
        }
        let metrics = list.items.iter().filter_map(|pod| {
            let value = sum(pod, resource, container)?;
            let window = pod.window.parse().unwrap_or_default();
            Some((pod.metadata.name.clone(), PodMetric { value, at: pod.timestamp, window }))
        });
        Ok(metrics.collect())
    }

    /// A metric of each of some pods.
    pub(super) async fn of_pods(
        &self,
        namespace: &str,
        selector: &str,
        metric: &str,
        metric_selector: &str,
    ) -> Result<PodMetrics, Failure> {
        let query = query(&[("labelSelector", selector), ("metricLabelSelector", metric_selector)]);
        let path = format!("namespaces/{namespace}/pods/*/{metric}{query}");
        let values = self.custom(&path).await?;
        let metrics = values.into_iter().filter_map(|found| {
            let window = SignedDuration::from_secs(found.window_seconds.unwrap_or(60));
            let metric = PodMetric { value: milli(&found.value)?, at: found.timestamp, window };
            Some((found.described_object?.name, metric))
        });
        Ok(metrics.collect())
    }

    /// A metric of one object, in thousandths.
    pub(super) async fn of_object(
        &self,
        namespace: &str,
        object: &Described<'_>,
        metric: &str,
        metric_selector: &str,
    ) -> Result<i64, Failure> {
        let Described { resource, name } = object;
        let query = query(&[("metricLabelSelector", metric_selector)]);
        let path = if *resource == "namespaces" {
            format!("namespaces/{name}/metrics/{metric}{query}")
        } else {
            format!("namespaces/{namespace}/{resource}/{name}/{metric}{query}")
        };
        let values = self.custom(&path).await?;
        let value = values.first().and_then(|found| milli(&found.value));
        value.ok_or_else(|| Failure::Waiting("no metrics returned from custom metrics API".to_owned()))
    }

    async fn custom(&self, path: &str) -> Result<Vec<MetricValue>, Failure> {
        let mut found = self.values(&format!("/apis/custom.metrics.k8s.io/v1beta2/{path}")).await;
        // Older adapters serve the first beta alone.
        if matches!(&found, Err(Failure::Client(error)) if error.is_not_found()) {
            found = self.values(&format!("/apis/custom.metrics.k8s.io/v1beta1/{path}")).await;
        }
        let values = found
            .map_err(|error| Failure::Waiting(format!("unable to fetch metrics from custom metrics API: {error}")))?;
        if values.is_empty() {
            return Err(Failure::Waiting("no metrics returned from custom metrics API".to_owned()));
        }
        Ok(values)
    }

    /// All values of an external metric, in thousandths.
    pub(super) async fn external(&self, namespace: &str, metric: &str, selector: &str) -> Result<Vec<i64>, Failure> {
        let query = query(&[("labelSelector", selector)]);
        let path = format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{metric}{query}");
        let values = self
            .values(&path)
            .await
            .map_err(|error| Failure::Waiting(format!("unable to fetch metrics from external metrics API: {error}")))?;
        if values.is_empty() {
            return Err(Failure::Waiting("no metrics returned from external metrics API".to_owned()));
        }
        Ok(values.iter().filter_map(|found| milli(&found.value)).collect())
    }

    async fn values(&self, path: &str) -> Result<Vec<MetricValue>, Failure> {
        #[derive(Deserialize)]
        struct Values {
            #[serde(default)]
            items: Vec<MetricValue>,
        }
        Ok(self.client.get::<Values>(path).await?.items)
    }
}

fn milli(quantity: &str) -> Option<i64> {
    Quantity::parse(quantity).ok().map(Quantity::milli_value)
}

/// What a pod, or one of its containers, uses; `None` if that is not known of all of them.
fn sum(pod: &ResourceMetrics, resource: &str, container: Option<&str>) -> Option<i64> {
    let used = |metrics: &ContainerMetrics| milli(metrics.usage.get(resource)?);
    match container {
        Some(name) => used(pod.containers.iter().find(|container| container.name == name)?),
        None if pod.containers.is_empty() => None,
        None => pod.containers.iter().map(used).sum(),
    }
}

/// A query of what is not empty.
fn query(parameters: &[(&str, &str)]) -> String {
    let mut query = String::new();
    for (name, value) in parameters.iter().filter(|(_, value)| !value.is_empty()) {
        query.push(if query.is_empty() { '?' } else { '&' });
        query.push_str(name);
        query.push('=');
        for byte in value.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => query.push(byte.into()),
                // Writing to a text does not fail.
                _ => _ = write!(query, "%{byte:02X}"),
            }
        }
    }
    query
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_has_what_is_not_empty_in_safe_letters() {
        assert_eq!(query(&[("a", ""), ("b", "")]), "");
        assert_eq!(query(&[("a", "x=1,y in (2)"), ("b", "z")]), "?a=x%3D1%2Cy%20in%20%282%29&b=z");
    }
}
