//! HorizontalPodAutoscalers: as many replicas as their metrics call for.
//!
//! Each autoscaler is looked at every 15 seconds, or as it is set, since nothing tells of a change of a metric: read the target's scale, ask the
//! metrics APIs ([`metrics`]), compute what each metric calls for ([`replicas`]), take the most of it, hold that against what was
//! recommended lately and how fast the scale may move ([`limits`]), and write the scale and the status.

mod limits;
mod metrics;
mod proposals;
mod replicas;
mod selectors;
mod status;

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec};
use k8s_openapi::api::core::v1::Pod;
use kiln_apimachinery::{LabelSelector, meta};
use kiln_client::{Change, Client, Clock, Informers, ObjectRef, Store, WorkQueue};
use serde_json::{Value, json};
use tokio::time::Instant;

use self::limits::Memory;
use self::metrics::Metrics;
use self::status::Report;
use crate::mapper::Mapper;
use crate::owned::namespace;
use crate::reconcile::{Failure, Next, work};
use crate::{Autoscaling, Context, Recorder};

/// Autoscalers worked on at the same time.
const WORKERS: usize = 5;

/// Makes the controller.
pub fn build(
    informers: &mut Informers,
    context: &Context,
    settings: Autoscaling,
) -> impl Future<Output = ()> + Send + use<> {
    let Context { client, clock, events, shutdown } = context.clone();
    let queue = WorkQueue::<ObjectRef>::default();
    let autoscalers = informers.of::<HorizontalPodAutoscaler>();
    autoscalers.subscribe({
        let queue = queue.clone();
        move |change| match change {
            // Its own writes of the status call for nothing.
            Change::Applied { object, previous: Some(previous), .. } if object.spec == previous.spec => {}
            change => {
                if let Some(key) = change.key() {
                    queue.add(key.clone());
                }
            }
        }
    });
    let engine = Engine {
        metrics: Metrics::new(client.clone()),
        mapper: Mapper::new(client.clone()),
        recorder: events.recorder("horizontal-pod-autoscaler"),
        autoscalers: autoscalers.store(),
        pods: informers.of::<Pod>().store(),
        memories: Mutex::default(),
        settings,
        client,
        clock,
    };
    async move {
        join_all((0..WORKERS).map(|_| work("autoscaler", &queue, &shutdown, |key| engine.reconcile(key)))).await;
    }
}

struct Engine {
    settings: Autoscaling,
    client: Client,
    clock: Clock,
    recorder: Recorder,
    metrics: Metrics,
    mapper: Mapper,
    autoscalers: Store<HorizontalPodAutoscaler>,
    pods: Store<Pod>,
    memories: Mutex<HashMap<ObjectRef, Memory>>,
}

/// A target's scale.
struct Scale {
    path: String,
    object: Value,
    /// As asked for.
    wanted: i32,
    /// As there are.
    has: i32,
    selector: String,
}

/// What keeps an autoscaler from its work, as its conditions say it.
struct Trouble {
    reason: &'static str,
    message: String,
}

impl Engine {
    fn memories(&self) -> MutexGuard<'_, HashMap<ObjectRef, Memory>> {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn reconcile(&self, key: ObjectRef) -> Result<Next, Failure> {
        self.autoscalers.synced().await;
        self.pods.synced().await;
        let Some(autoscaler) = self.autoscalers.get(&key) else {
            self.memories().remove(&key);
            return Ok(Next::Settled);
        };
        let mut report = Report::new(&autoscaler, self.clock.now());
        if let Err(failure) = self.look(&key, &autoscaler, &autoscaler.spec, &mut report).await {
            tracing::info!(%key, %failure, "an autoscaler");
        }
        if let Err(failure) = report.write(&self.client).await {
            self.recorder.warning(&*autoscaler, "FailedUpdateStatus", failure.to_string());
        }
        Ok(Next::After(self.settings.period))
    }

    async fn look(
        &self,
        key: &ObjectRef,
        autoscaler: &HorizontalPodAutoscaler,
        spec: &HorizontalPodAutoscalerSpec,
        report: &mut Report<'_>,
    ) -> Result<(), Failure> {
        let scale = match self.scale(&key.namespace, spec).await {
            Ok(scale) => scale,
            Err(failure) => {
                self.recorder.warning(autoscaler, "FailedGetScale", failure.to_string());
                let text = format!("the HPA controller was unable to get the target's current scale: {failure}");
                report.set("AbleToScale", false, "FailedGetScale", text);
                return Err(failure);
            }
        };
        let text = "the HPA controller was able to get the target's current scale".to_owned();
        report.set("AbleToScale", true, "SucceededGetScale", text);
        report.current = scale.wanted;
        report.metrics.clear();
        let now = Instant::now();
        self.memories().entry(key.clone()).or_insert_with(|| Memory::new(scale.wanted, now));
        let least = spec.min_replicas.unwrap_or(1);
        let (wanted, reason) = if scale.wanted == 0 && least != 0 {
            let text = "scaling is disabled since the replica count of the target is zero".to_owned();
            report.set("ScalingActive", false, "ScalingDisabled", text);
            (0, String::new())
        } else if scale.wanted > spec.max_replicas {
            (spec.max_replicas, "Current number of replicas above Spec.MaxReplicas".to_owned())
        } else if scale.wanted < least {
            (least, "Current number of replicas below Spec.MinReplicas".to_owned())
        } else {
            self.recommend(key, autoscaler, spec, &scale, report).await?
        };
        report.desired = wanted;
        if wanted == scale.wanted {
            return Ok(());
        }
        let before = scale.wanted;
        if let Err(failure) = self.rescale(scale, wanted).await {
            let text = format!("New size: {wanted}; reason: {reason}; error: {failure}");
            self.recorder.warning(autoscaler, "FailedRescale", text);
            let text = format!("the HPA controller was unable to update the target scale: {failure}");
            report.set("AbleToScale", false, "FailedUpdateScale", text);
            report.desired = autoscaler.status.as_ref().map_or(0, |status| status.desired_replicas);
            return Err(failure);
        }
        let text = format!("the HPA controller was able to update the target scale to {wanted}");
        report.set("AbleToScale", true, "SucceededRescale", text);
        report.has_scaled = true;
        self.recorder.normal(autoscaler, "SuccessfulRescale", format!("New size: {wanted}; reason: {reason}"));
        if let (Some(behavior), Some(memory)) = (&spec.behavior, self.memories().get_mut(key)) {
            memory.note_scaling(behavior, before, wanted, now);
        }
        Ok(())
    }

    /// What the metrics call for, within the limits; and why.
    async fn recommend(
        &self,
        key: &ObjectRef,
        autoscaler: &HorizontalPodAutoscaler,
        spec: &HorizontalPodAutoscalerSpec,
        scale: &Scale,
        report: &mut Report<'_>,
    ) -> Result<(i32, String), Failure> {
        let proposed = self.proposals(key, autoscaler, spec, scale, report).await;
        let (proposed, metric) = match proposed {
            Ok(proposed) => proposed,
            Err(failure) => {
                self.recorder.warning(autoscaler, "FailedComputeMetricsReplicas", failure.to_string());
                report.desired = autoscaler.status.as_ref().map_or(0, |status| status.desired_replicas);
                return Err(failure);
            }
        };
        let reason = if proposed > scale.wanted {
            format!("{metric} above target")
        } else {
            "All metrics below target".to_owned()
        };
        let mut memories = self.memories();
        let now = Instant::now();
        let memory = memories.entry(key.clone()).or_insert_with(|| Memory::new(scale.wanted, now));
        let limited = memory.limit(spec, self.settings.stabilization, scale.wanted, proposed, now);
        report.set("AbleToScale", true, limited.able.0, limited.able.1.to_owned());
        report.set("ScalingLimited", limited.is_limited, limited.limit.0, limited.limit.1.to_owned());
        Ok((limited.replicas, reason))
    }

    async fn scale(&self, namespace: &str, spec: &HorizontalPodAutoscalerSpec) -> Result<Scale, Failure> {
        let target = &spec.scale_target_ref;
        let api_version = target.api_version.as_deref().unwrap_or("v1");
        let place = self.mapper.place(api_version, &target.kind).await?.ok_or_else(|| {
            let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
            Failure::Waiting(format!("no matches for kind \"{}\" in group \"{group}\"", target.kind))
        })?;
        let path = format!("{}/scale", place.path(api_version, namespace, &target.name));
        let object: Value = self.client.get(&path).await?;
        let count = |field: &str| {
            let count = meta::at(&object, &[field, "replicas"]).and_then(Value::as_i64).unwrap_or(0);
            i32::try_from(count).unwrap_or(i32::MAX)
        };
        let (wanted, has) = (count("spec"), count("status"));
        let selector = meta::text(&object, &["status", "selector"]).to_owned();
        Ok(Scale { path, wanted, has, selector, object })
    }

    async fn rescale(&self, mut scale: Scale, replicas: i32) -> Result<(), Failure> {
        for _ in 0..5 {
            scale.object["spec"]["replicas"] = json!(replicas);
            match self.client.update::<Value>(&scale.path, &scale.object).await {
                Err(error) if error.is_conflict() => scale.object = self.client.get(&scale.path).await?,
                done => return done.map(drop).map_err(Failure::Client),
            }
        }
        Err(Failure::Waiting("the scale is changed again and again".to_owned()))
    }

    /// The pods of a target.
    fn pods_of(&self, autoscaler: &HorizontalPodAutoscaler, selector: &LabelSelector) -> Vec<Arc<Pod>> {
        let mut pods = self.pods.in_namespace(namespace(autoscaler));
        pods.retain(|pod| selector.matches(&labels_of(pod)));
        pods
    }
}

fn labels_of(pod: &Pod) -> BTreeMap<&str, &str> {
    pod.metadata.labels.iter().flatten().map(|(key, value)| (key.as_str(), value.as_str())).collect()
}
