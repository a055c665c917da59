//! One pod's attempt: a node is found and the pod bound to it, or it is told why not.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::inputs::Input;
use super::preempting::Unfit;
use super::{Binding, Scheduler, profile_of};
use crate::conditions;
use crate::devices::{self, Reservation};
use crate::framework::{Diagnosis, Event, Outcome, PluginId, Plugins, World, best, schedule};
use crate::metrics::Attempt;
use crate::model::{Name, Pod};
use crate::plugins::volume_decision;
use crate::preemption::Victims;
use crate::queue::{Ended, Queued};
use crate::recorder::{Regarding, Told};
use crate::volumes::{self, Decision};
use crate::writer::{Bound, Job};

/// What becomes of the node that a pod was promised.
pub(super) enum Promise {
    /// It stays.
    Keep,
    /// It is void.
    Void,
    /// It is this one now.
    Node(Name),
}

/// What is to be bound to a pod before it is bound to its node.
pub(super) struct Needs {
    volumes: Decision,
    devices: Reservation,
}

/// What came of a cycle.
pub(super) enum Verdict {
    Place(Name, Needs),
    Refused { message: String, plugins: Plugins, promise: Promise, victims: Option<Victims> },
    Failed(String),
}

/// How far the plugins came.
enum Search {
    /// These can do, and why others can't.
    Feasible(Vec<usize>, Box<Diagnosis>),
    /// No node can do.
    Unfit(Unfit),
    Over(Verdict),
}

impl Scheduler {
    /// Tries a pod.
    pub(super) async fn attempt(&mut self, queued: Queued, now: Instant) {
        let Queued { pod, attempts, came, .. } = queued;
        let came = came.unwrap_or(now);
        if pod.terminating {
            self.queue.remove(&pod.uid);
            let note = format!("skip schedule deleting pod: {}/{}", pod.namespace, pod.name);
            return self.tell(&pod, true, "FailedScheduling", "Scheduling", note);
        }
        if self.cache.is_assumed(&pod.uid) {
            self.queue.remove(&pod.uid);
            return;
        }
        let verdict = self.cycle(&pod).await;
        if matches!(verdict, Verdict::Place(..)) {
            self.metrics.looked(now.elapsed());
        }
        match verdict {
            Verdict::Place(node, needs) => {
                let binding = Binding { pod: Arc::clone(&pod), began: now, came, attempts };
                self.place(binding, node, needs);
            }
            Verdict::Refused { message, plugins, promise, victims } => {
                tracing::debug!(pod = %pod.name, namespace = %pod.namespace, message, "no node");
                if let Some(victims) = victims {
                    self.preempt(&pod, victims);
                }
                self.count(&pod, Attempt::Unschedulable, now);
                self.failed(&pod, Ended::Refused(plugins), "Unschedulable", message, promise, now);
            }
            Verdict::Failed(message) => {
                tracing::warn!(pod = %pod.name, namespace = %pod.namespace, message, "scheduling failed; will try again");
                self.count(&pod, Attempt::Error, now);
                self.failed(&pod, Ended::Failed, "SchedulerError", message, Promise::Void, now);
            }
        }
    }

    async fn cycle(&mut self, pod: &Pod) -> Verdict {
        let mut search = self.find(pod, true);
        if let Search::Feasible(nodes, diagnosis) = &mut search
            && !self.extenders.is_empty()
            && self.is_promised(pod, nodes)
        {
            match self.left_by_extenders(pod, nodes.clone(), diagnosis).await {
                Ok(left) if !left.is_empty() => return self.choose_with_extenders(pod, &left).await,
                // Another node may do.
                Ok(_) | Err(_) => search = self.find(pod, false),
            }
        }
        match search {
            Search::Over(verdict) => verdict,
            Search::Unfit(unfit) => self.unfit(pod, unfit).await,
            Search::Feasible(nodes, _) if self.extenders.is_empty() => self.choose(pod, &nodes, &HashMap::new()),
            Search::Feasible(nodes, diagnosis) => self.ask_extenders(pod, nodes, diagnosis).await,
        }
    }

    /// Looks for nodes that can do by the plugins. `promised`: one that the pod was promised goes first, and alone if it can do.
    fn find(&mut self, pod: &Pod, promised: bool) -> Search {
        self.cache.settle();
        let world = World { cache: &self.cache, nominator: &self.nominator, listers: &self.listers };
        let Some(profile) = profile_of(&self.profiles, pod) else {
            let message = format!("profile not found for scheduler name {:?}", pod.spec.scheduler);
            return Search::Over(Verdict::Failed(message));
        };
        Search::Over(match schedule(world, profile, pod, promised, &mut self.start, &self.metrics) {
            Outcome::Feasible(nodes, diagnosis) => return Search::Feasible(nodes, diagnosis),
            Outcome::NoNodes => Verdict::Refused {
                message: "no nodes available to schedule pods".to_owned(),
                // Only a node that comes can help, and this plugin waits for just that.
                plugins: [PluginId::NodeName].into_iter().collect(),
                promise: Promise::Void,
                victims: None,
            },
            Outcome::Failed(message) => Verdict::Failed(message),
            Outcome::Unfit(diagnosis, cycle) => {
                return Search::Unfit(Unfit::new(world, profile, pod, diagnosis, cycle.as_ref(), &mut self.random));
            }
        })
    }

    /// Chooses one of the nodes that can do.
    pub(super) fn choose(&mut self, pod: &Pod, nodes: &[usize], further: &HashMap<usize, i64>) -> Verdict {
        let world = World { cache: &self.cache, nominator: &self.nominator, listers: &self.listers };
        let profile = profile_of(&self.profiles, pod);
        let chosen =
            profile.and_then(|profile| best(world, profile, pod, nodes, further, &mut self.random, &self.metrics));
        let Some(at) = chosen else { return Verdict::Failed("empty priority list".to_owned()) };
        let node = &self.cache.nodes()[at].node;
        // The filters have found these on this node in this very cycle.
        let volumes = volume_decision(&self.listers, pod, node).map_err(|refusal| refusal.message());
        let needs =
            volumes.and_then(|volumes| Ok(Needs { volumes, devices: devices::reservation(&self.listers, pod, node)? }));
        match needs {
            Ok(needs) => Verdict::Place(node.name.clone(), needs),
            Err(message) => Verdict::Failed(message),
        }
    }

    /// Puts a pod on a node and has it bound.
    fn place(&mut self, binding: Binding, node: Name, needs: Needs) {
        let pod = Arc::clone(&binding.pod);
        let placed = Arc::new(Pod { node: Some(node.clone()), ..(*pod).clone() });
        self.queue.remove(&pod.uid);
        self.nominator.remove(&pod.uid);
        self.cache.assume(Arc::clone(&placed));
        self.binding.insert(pod.uid.clone(), binding);
        if needs.volumes.is_empty() && needs.devices.is_empty() {
            return self.bind(placed);
        }
        self.announce(&pod, &node);
        self.listers.assumed_volumes.assume(&pod.uid, &node, &needs.volumes);
        self.listers.assumed_devices.assume(&pod.uid, &needs.devices);
        let timeout =
            profile_of(&self.profiles, &pod).map_or(std::time::Duration::ZERO, |profile| profile.bind_timeout);
        let (client, claims) = (self.client.clone(), self.listers.claims.clone());
        let (changed, sender, uid) = (self.claims_changed.subscribe(), self.sender.clone(), pod.uid.clone());
        self.tasks.spawn(async move {
            let failed = |plugin: PluginId, why: String| format!("running PreBind plugin {:?}: {why}", plugin.name());
            let volumes = volumes::bind(&client, &claims, changed, &needs.volumes, &node, timeout).await;
            let bound = match volumes {
                Err(error) => Err(failed(PluginId::VolumeBinding, error.to_string())),
                Ok(()) => devices::bind(&client, &placed, &needs.devices)
                    .await
                    .map_err(|error| failed(PluginId::DynamicResources, error.to_string())),
            };
            // Without a listener the scheduler is at its end.
            _ = sender.send(Input::Prepared { pod: uid, error: bound.err() });
        });
    }

    /// Tells in the pod's status where it is about to go, since it may take a while until it is bound (KEP-5278).
    fn announce(&self, pod: &Pod, node: &Name) {
        if pod.nominated.as_ref() == Some(node) {
            return;
        }
        let (namespace, name) = (pod.namespace.to_string(), pod.name.to_string());
        let status = json!({"nominatedNodeName": &**node});
        self.writer.write(&pod.uid, Job::Status { namespace, name, status });
    }

    /// Binds a pod to its node, or has an extender do it.
    fn bind(&mut self, placed: Arc<Pod>) {
        match self.binder(&placed) {
            None => self.writer.write(&placed.uid.clone(), Job::Bind(placed)),
            Some((binding, is_ignorable)) => {
                let (sender, writer) = (self.sender.clone(), self.writer.clone());
                self.tasks.spawn(async move {
                    let result = match binding.await {
                        Err(error) if is_ignorable => {
                            tracing::warn!(pod = %placed.name, %error, "an extender that should bind is passed over");
                            return writer.write(&placed.uid.clone(), Job::Bind(placed));
                        }
                        result => result.map_err(|error| error.to_string()),
                    };
                    // Without a listener the scheduler is at its end.
                    _ = sender.send(Input::Bound(Bound { pod: placed, result }));
                });
            }
        }
    }

    /// What a pod needs is bound to it, or can't be.
    pub(super) fn prepared(&mut self, uid: Name, error: Option<String>) {
        self.listers.assumed_volumes.forget(&uid);
        if error.is_some() {
            self.listers.assumed_devices.forget(&uid);
        }
        let Some(placed) = self.cache.pod(&uid).cloned().filter(|_| self.cache.is_assumed(&uid)) else { return };
        match error {
            None => self.bind(placed),
            Some(message) => self.not_bound(&placed, message),
        }
    }

    /// A binding was carried out, or not.
    pub(super) fn bound(&mut self, outcome: Bound) {
        let Bound { pod, result } = outcome;
        match result {
            Ok(()) => {
                if let Some(Binding { pod, began, came, attempts }) = self.binding.remove(&pod.uid) {
                    self.count(&pod, Attempt::Scheduled, began);
                    self.metrics.scheduled(attempts, came.elapsed());
                }
                let node = pod.node.as_deref().unwrap_or_default();
                let note = format!("Successfully assigned {}/{} to {node}", pod.namespace, pod.name);
                self.tell(&pod, false, "Scheduled", "Binding", note);
            }
            Err(message) => self.not_bound(&pod, message),
        }
    }

    fn not_bound(&mut self, placed: &Arc<Pod>, message: String) {
        let Some(Binding { pod, began, .. }) = self.binding.remove(&placed.uid) else { return };
        self.count(&pod, Attempt::Error, began);
        let Some(left) = self.cache.forget(&placed.uid) else { return };
        tracing::warn!(pod = %pod.name, namespace = %pod.namespace, message, "binding failed");
        self.on_event(&Event::PodGone(&left));
        let now = Instant::now();
        // The newest state of it, if it is still there.
        let Some(object) = self.object(&pod) else { return };
        let pod = Arc::new(self.projector.pod(&object));
        if pod.node.is_some() {
            return;
        }
        self.queue.add(Arc::clone(&pod), None, now);
        self.failed(&pod, Ended::Failed, "SchedulerError", message, Promise::Void, now);
    }

    /// Tells a pod why it has no node, and has it wait.
    fn failed(&mut self, pod: &Arc<Pod>, ended: Ended, reason: &str, message: String, promise: Promise, now: Instant) {
        let gate = self.gate(pod);
        self.queue.put_back(&pod.uid, ended, gate, now);
        match &promise {
            Promise::Keep => {}
            Promise::Void => _ = self.nominator.remove(&pod.uid),
            Promise::Node(node) => self.nominator.add(pod, node),
        }
        self.tell(pod, true, "FailedScheduling", "Scheduling", message.clone());
        let Some(object) = self.object(pod) else { return };
        let mut status = serde_json::Map::new();
        let promised =
            object.status.as_ref().and_then(|status| status.nominated_node_name.as_deref()).unwrap_or_default();
        match &promise {
            Promise::Void if !promised.is_empty() => _ = status.insert("nominatedNodeName".to_owned(), Value::Null),
            Promise::Node(node) if *promised != **node => {
                status.insert("nominatedNodeName".to_owned(), json!(&**node));
            }
            _ => {}
        }
        let condition = conditions::changed(&object, "PodScheduled", "False", reason, &message, self.clock.now());
        if let Some(condition) = condition {
            status.insert("conditions".to_owned(), json!([condition]));
        }
        if !status.is_empty() {
            let (namespace, name) = (pod.namespace.to_string(), pod.name.to_string());
            self.writer.write(&pod.uid, Job::Status { namespace, name, status: Value::Object(status) });
        }
    }

    /// Counts an attempt that is over.
    fn count(&self, pod: &Pod, result: Attempt, began: Instant) {
        self.metrics.attempted(result, pod.spec.scheduler.as_deref().unwrap_or_default(), began.elapsed());
    }

    fn tell(&self, pod: &Pod, warning: bool, reason: &'static str, action: &'static str, note: String) {
        let version = self.object(pod).and_then(|object| object.metadata.resource_version.clone());
        self.recorder.tell(Told {
            regarding: Regarding {
                namespace: pod.namespace.to_string(),
                name: pod.name.to_string(),
                uid: pod.uid.to_string(),
                resource_version: version.unwrap_or_default(),
            },
            related: None,
            warning,
            reason,
            action,
            note,
            by: pod.spec.scheduler.as_deref().unwrap_or_default().to_owned(),
        });
    }
}
