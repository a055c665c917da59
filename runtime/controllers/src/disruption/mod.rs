//! PodDisruptionBudgets: how many pods may be evicted now.
//!
//! A budget's status counts its healthy pods against those that there should be; the API's eviction subresource lets a pod go
//! while `disruptionsAllowed` is above zero, lowers it, and notes the pod in `disruptedPods` until its deletion is seen here.
//! Marks of evictions that never came to pass are taken off pods again.

mod scale;
mod stale;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kiln_client::{Change, Client, Clock, Informers, Object as _, ObjectRef, Store, WorkQueue};

use self::scale::Scales;
use crate::intstr::scaled;
use crate::labels::selects;
use crate::owned::{is_going, name, namespace};
use crate::pods::is_ready;
use crate::reconcile::{Failure, Next, keys_to, work};
use crate::{Context, Recorder, status_patch};

/// How long an eviction that was let through may take to show as a deletion.
const DELETION_TIMEOUT: SignedDuration = SignedDuration::from_secs(120);
const ALLOWED: &str = "DisruptionAllowed";

/// Makes the controller.
pub fn build(informers: &mut Informers, context: &Context) -> impl Future<Output = ()> + Send + use<> {
    let Context { client, clock, events, shutdown } = context.clone();
    let recorder = events.recorder("controllermanager");
    let (queue, stale) = (WorkQueue::<ObjectRef>::default(), WorkQueue::<ObjectRef>::default());
    let budgets = informers.of::<PodDisruptionBudget>();
    budgets.subscribe(keys_to(&queue));
    let budgets = budgets.store();
    let pods = informers.of::<Pod>();
    pods.subscribe({
        let (queue, stale, budgets, recorder) = (queue.clone(), stale.clone(), budgets.clone(), recorder.clone());
        move |change| {
            let (pod, previous) = match change {
                Change::Applied { key, object, previous } => {
                    if stale::is_marked(object) {
                        stale.add(key.clone());
                    }
                    (object, previous.as_ref())
                }
                Change::Deleted { object, .. } => (object, None),
                Change::Synced => return,
            };
            for budget in of_pod(&budgets, pod, &recorder, previous.is_none()) {
                queue.add(budget);
            }
            if let Some(previous) = previous.filter(|previous| previous.metadata.labels != pod.metadata.labels) {
                of_pod(&budgets, previous, &recorder, false).into_iter().for_each(|budget| queue.add(budget));
            }
        }
    });
    let pods = pods.store();
    let scales = Scales::new(informers);
    let cleaner = stale::Cleaner { client: client.clone(), clock: clock.clone(), pods: pods.clone() };
    let engine = Engine { client, clock, recorder, budgets, pods, scales };
    async move {
        tokio::join!(
            work("disruption", &queue, &shutdown, |key| engine.reconcile(key)),
            work("stale-disruption", &stale, &shutdown, |key| cleaner.reconcile(key)),
        );
    }
}

/// The budgets of a pod.
fn of_pod(budgets: &Store<PodDisruptionBudget>, pod: &Pod, recorder: &Recorder, is_new: bool) -> Vec<ObjectRef> {
    let all = budgets.in_namespace(namespace(pod));
    let found: Vec<_> = all.iter().filter(|budget| is_of(budget, pod)).map(|budget| budget.key()).collect();
    if let [first, _, ..] = found.as_slice()
        && is_new
    {
        let (namespace, pod_name, budget) = (namespace(pod), name(pod), &first.name);
        let text = format!(
            "Pod \"{namespace}\"/\"{pod_name}\" matches multiple PodDisruptionBudgets.  Chose \"{budget}\" arbitrarily."
        );
        recorder.warning(pod, "MultiplePodDisruptionBudgets", text);
    }
    found
}

/// Whether a budget is of a pod. One with an empty selector is of all, one without a selector of none.
fn is_of(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| selects(selector, pod.metadata.labels.as_ref()))
}

struct Engine {
    client: Client,
    clock: Clock,
    recorder: Recorder,
    budgets: Store<PodDisruptionBudget>,
    pods: Store<Pod>,
    scales: Scales,
}

/// How many pods there should be, how many of them healthy, and whether some have no controller.
#[derive(Debug, PartialEq, Eq)]
struct Expected {
    pods: i32,
    healthy: i32,
    has_unmanaged: bool,
}

impl Engine {
    async fn reconcile(&self, key: ObjectRef) -> Result<Next, Failure> {
        self.budgets.synced().await;
        self.pods.synced().await;
        self.scales.synced().await;
        let Some(budget) = self.budgets.get(&key) else { return Ok(Next::Settled) };
        let Some(spec) = &budget.spec else { return Ok(Next::Settled) };
        match self.sync(&budget, spec).await {
            Err(Failure::Client(error)) if error.is_conflict() || error.is_transient() => Err(error.into()),
            Err(failure) => {
                tracing::info!(%key, %failure, "a budget cannot be counted");
                self.fail_safe(&budget, failure.to_string()).await
            }
            done => done,
        }
    }

    async fn sync(&self, budget: &PodDisruptionBudget, spec: &PodDisruptionBudgetSpec) -> Result<Next, Failure> {
        let mut pods = self.pods.in_namespace(namespace(budget));
        pods.retain(|pod| is_of(budget, pod));
        if pods.is_empty() {
            self.recorder.normal(budget, "NoPods", "No matching pods found");
        }
        let expected = match self.expected(spec, &pods).await {
            Ok(expected) => expected,
            Err(failure) => {
                let text = format!("Failed to calculate the number of expected pods: {failure}");
                self.recorder.warning(budget, "CalculateExpectedPodCountFailed", text);
                return Err(failure);
            }
        };
        if expected.has_unmanaged {
            let selector = serde_json::to_string(&spec.selector).unwrap_or_default();
            let text = format!(
                "Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be unmanaged. As a result, \
                 the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account \
                 for these pods please set \".spec.minAvailable\" field of the PDB to an integer value."
            );
            self.recorder.warning(budget, "UnmanagedPods", text);
        }
        let now = self.clock.now();
        let disrupted = self.still_disrupted(budget, &pods, now);
        let is_healthy =
            |pod: &&Arc<Pod>| !is_going(&***pod) && !disrupted.contains_key(name(&***pod)) && is_ready(pod);
        let healthy = i32::try_from(pods.iter().filter(is_healthy).count()).unwrap_or(i32::MAX);
        let next = disrupted.values().map(|Time(since)| *since + DELETION_TIMEOUT).min();
        let status = next_status(budget, &expected, healthy, disrupted, now);
        status_patch::write(&self.client, budget, budget.status.as_ref(), &status).await?;
        let wait = next.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
        Ok(wait.map_or(Next::Settled, |wait| Next::After(wait + Duration::from_secs(1))))
    }

    async fn expected(&self, spec: &PodDisruptionBudgetSpec, pods: &[Arc<Pod>]) -> Result<Expected, Failure> {
        match (&spec.max_unavailable, &spec.min_available) {
            (Some(most), _) => {
                let (pods, has_unmanaged) = self.scales.of(pods).await?;
                Ok(Expected { pods, healthy: (pods - scaled(most, pods, true)).max(0), has_unmanaged })
            }
            (None, Some(IntOrString::Int(healthy))) => {
                let pods = i32::try_from(pods.len()).unwrap_or(i32::MAX);
                Ok(Expected { pods, healthy: *healthy, has_unmanaged: false })
            }
            (None, Some(share)) => {
                let (pods, has_unmanaged) = self.scales.of(pods).await?;
                Ok(Expected { pods, healthy: scaled(share, pods, true), has_unmanaged })
            }
            (None, None) => Ok(Expected { pods: 0, healthy: 0, has_unmanaged: false }),
        }
    }

    /// Evictions whose deletions are still to be seen.
    fn still_disrupted(
        &self,
        budget: &PodDisruptionBudget,
        pods: &[Arc<Pod>],
        now: Timestamp,
    ) -> BTreeMap<String, Time> {
        let noted = budget.status.as_ref().and_then(|status| status.disrupted_pods.as_ref());
        let mut still = BTreeMap::new();
        for pod in pods.iter().filter(|pod| !is_going(&***pod)) {
            let Some(since) = noted.and_then(|noted| noted.get(name(&**pod))) else { continue };
            if since.0 + DELETION_TIMEOUT < now {
                let (namespace, budget) = (namespace(budget), name(budget));
                let text = format!("Pod was expected by PDB {namespace}/{budget} to be deleted but it wasn't");
                self.recorder.warning(&**pod, "NotDeleted", text);
            } else {
                still.insert(name(&**pod).to_owned(), since.clone());
            }
        }
        still
    }

    /// Allows no eviction while it is not known how many there may be.
    async fn fail_safe(&self, budget: &PodDisruptionBudget, why: String) -> Result<Next, Failure> {
        let mut status = budget.status.clone().unwrap_or_default();
        status.disruptions_allowed = Some(0);
        status.current_healthy.get_or_insert(0);
        status.desired_healthy.get_or_insert(0);
        status.expected_pods.get_or_insert(0);
        let observed = status.observed_generation;
        set_condition(&mut status, false, "SyncFailed", why, observed, self.clock.now());
        status_patch::write(&self.client, budget, budget.status.as_ref(), &status).await?;
        Ok(Next::Settled)
    }
}

fn next_status(
    budget: &PodDisruptionBudget,
    expected: &Expected,
    healthy: i32,
    disrupted: BTreeMap<String, Time>,
    now: Timestamp,
) -> PodDisruptionBudgetStatus {
    // A budget without pods is safe until its first pods have been counted.
    let allowed = if expected.pods > 0 { (healthy - expected.healthy).max(0) } else { 0 };
    let mut status = PodDisruptionBudgetStatus {
        current_healthy: Some(healthy),
        desired_healthy: Some(expected.healthy),
        expected_pods: Some(expected.pods),
        disruptions_allowed: Some(allowed),
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        observed_generation: budget.metadata.generation,
        conditions: budget.status.as_ref().and_then(|status| status.conditions.clone()),
    };
    let reason = if allowed > 0 { "SufficientPods" } else { "InsufficientPods" };
    let observed = status.observed_generation;
    set_condition(&mut status, allowed > 0, reason, String::new(), observed, now);
    status
}

/// Sets whether evictions are allowed; the condition keeps its time while its status stays.
fn set_condition(
    status: &mut PodDisruptionBudgetStatus,
    is_allowed: bool,
    reason: &str,
    message: String,
    observed_generation: Option<i64>,
    now: Timestamp,
) {
    let text = if is_allowed { "True" } else { "False" };
    let conditions = status.conditions.get_or_insert_default();
    let known = conditions.iter().find(|condition| condition.type_ == ALLOWED && condition.status == text);
    let condition = Condition {
        type_: ALLOWED.to_owned(),
        status: text.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation,
        last_transition_time: known.map_or(Time(now), |known| known.last_transition_time.clone()),
    };
    match conditions.iter_mut().find(|condition| condition.type_ == ALLOWED) {
        Some(known) => *known = condition,
        None => conditions.push(condition),
    }
}
