//! What is said of an autoscaler.

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerStatus, MetricStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kiln_client::Client;

use crate::reconcile::Failure;
use crate::status_patch::{self, shown};

/// The status that is to be.
pub(super) struct Report<'a> {
    autoscaler: &'a HorizontalPodAutoscaler,
    now: Timestamp,
    conditions: Vec<HorizontalPodAutoscalerCondition>,
    pub(super) current: i32,
    pub(super) desired: i32,
    /// As far as they could be read; none if they were not asked for.
    pub(super) metrics: Vec<MetricStatus>,
    pub(super) has_scaled: bool,
}

impl<'a> Report<'a> {
    pub(super) fn new(autoscaler: &'a HorizontalPodAutoscaler, now: Timestamp) -> Self {
        let status = autoscaler.status.clone().unwrap_or_default();
        Self {
            autoscaler,
            now,
            conditions: status.conditions.unwrap_or_default(),
            current: status.current_replicas.unwrap_or(0),
            desired: status.desired_replicas,
            metrics: status.current_metrics.unwrap_or_default(),
            has_scaled: false,
        }
    }

    /// Sets a condition, which keeps its time while its status stays.
    pub(super) fn set(&mut self, kind: &str, status: bool, reason: &str, message: String) {
        let text = if status { "True" } else { "False" };
        let known = self.conditions.iter_mut().find(|condition| condition.type_ == kind);
        let since =
            known.as_ref().filter(|known| known.status == text).and_then(|known| known.last_transition_time.clone());
        let condition = HorizontalPodAutoscalerCondition {
            type_: kind.to_owned(),
            status: text.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: since.or(Some(Time(self.now))),
        };
        match known {
            Some(known) => *known = condition,
            None => self.conditions.push(condition),
        }
    }

    pub(super) async fn write(self, client: &Client) -> Result<(), Failure> {
        let old = self.autoscaler.status.as_ref();
        let scaled = self.has_scaled.then_some(Time(self.now));
        let status = HorizontalPodAutoscalerStatus {
            conditions: Some(self.conditions).filter(|all| !all.is_empty()),
            current_metrics: Some(self.metrics).filter(|all| !all.is_empty()),
            current_replicas: shown(self.current),
            desired_replicas: self.desired,
            last_scale_time: scaled.or_else(|| old.and_then(|status| status.last_scale_time.clone())),
            observed_generation: old.and_then(|status| status.observed_generation),
        };
        status_patch::write(client, self.autoscaler, old, &status).await.map(drop)
    }
}
