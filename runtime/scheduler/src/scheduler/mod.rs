//! The loop: takes in what happens, tries one pod after the other, and has written what came of it.
//!
//! One task owns the cache and the queue. Between two pods it takes in whatever the watches told meanwhile, so that each cycle sees
//! the newest state; requests are sent by others and their outcome comes back as one more input.

mod attempt;
mod extended;
mod inputs;
mod other_events;
mod pod_events;
mod preempting;
mod subscribe;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod as ApiPod;
use kiln_client::{BoxFuture, Client, Clock, Informers, ObjectRef};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::inputs::Input;
use crate::cache::{Cache, Nominator};
use crate::config::Config;
use crate::devices::claims_of;
use crate::extender::Extender;
use crate::framework::{Event, PluginId, Profile, Random, World};
use crate::listers::Listers;
use crate::metrics::Metrics;
use crate::model::{Name, Pod, Projector};
use crate::plugins;
use crate::queue::Queue;
use crate::recorder::{self, Recorder};
use crate::writer::{Bound, PodWriter};

/// After so many pods others get their turn.
const YIELD_AFTER: usize = 16;

/// A pod whose binding is under way, as it was before, and what is to be counted of it.
struct Binding {
    pod: Arc<Pod>,
    /// When the attempt began.
    began: Instant,
    /// Since when its node was looked for, and how often.
    came: Instant,
    attempts: u32,
}

/// The scheduler. It is made before the mirrors run, and run with them.
pub struct Scheduler {
    client: Client,
    clock: Clock,
    profiles: Vec<Profile>,
    extenders: Vec<Extender>,
    cache: Cache,
    nominator: Nominator,
    queue: Queue,
    metrics: Arc<Metrics>,
    listers: Listers,
    projector: Projector,
    inputs: mpsc::UnboundedReceiver<Input>,
    sender: mpsc::UnboundedSender<Input>,
    writer: PodWriter,
    recorder: Recorder,
    events: Option<recorder::Writer>,
    /// Told when claims of volumes or of devices change.
    claims_changed: watch::Sender<()>,
    /// Pods whose binding is under way.
    binding: HashMap<Name, Binding>,
    /// Pods for which others are being asked to leave.
    preempting: HashSet<Name>,
    /// Where the search for a node begins next.
    start: usize,
    random: Random,
    tasks: JoinSet<()>,
}

impl Scheduler {
    /// A scheduler that reads from these mirrors. `client` is who it writes as.
    pub fn new(client: Client, config: &Config, informers: &mut Informers, clock: Clock) -> Self {
        let (sender, inputs) = mpsc::unbounded_channel();
        let listers = subscribe::subscribe(informers, &sender);
        let (recorder, events) = Recorder::new(client.clone(), clock.clone(), config.host.clone());
        let seed = clock.now().as_nanosecond();
        Self {
            client,
            clock,
            profiles: config.profiles.iter().map(plugins::profile).collect(),
            extenders: config.extenders.clone(),
            cache: Cache::default(),
            nominator: Nominator::default(),
            queue: Queue::new(config.initial_backoff, config.max_backoff, Arc::clone(&config.metrics)),
            metrics: Arc::clone(&config.metrics),
            listers,
            projector: Projector::new(),
            inputs,
            sender,
            writer: PodWriter::new(),
            recorder,
            events: Some(events),
            claims_changed: watch::Sender::new(()),
            binding: HashMap::new(),
            preempting: HashSet::new(),
            start: 0,
            random: Random::new(u64::try_from(seed.unsigned_abs() & u128::from(u64::MAX)).unwrap_or(1)),
            tasks: JoinSet::new(),
        }
    }

    /// Schedules until the shutdown. The mirrors run beside it.
    pub fn run(mut self, shutdown: CancellationToken) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let writing = CancellationToken::new();
            let (bound, mut outcomes) = mpsc::unbounded_channel::<Bound>();
            let mut beside = JoinSet::new();
            beside.spawn(self.writer.clone().run(self.client.clone(), bound, writing.clone()));
            if let Some(events) = self.events.take() {
                beside.spawn(events.run(writing.clone()));
            }
            let sender = self.sender.clone();
            beside.spawn(async move {
                while let Some(outcome) = outcomes.recv().await {
                    // Without a listener the scheduler is at its end.
                    _ = sender.send(Input::Bound(outcome));
                }
            });
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = self.work() => {}
            }
            self.tasks.shutdown().await;
            writing.cancel();
            drop(self);
            while beside.join_next().await.is_some() {}
        })
    }

    async fn work(&mut self) {
        self.listers.synced().await;
        // What was listed is in the channel now: no pod is tried before all of it is known.
        let mut tried = 0;
        loop {
            while let Ok(input) = self.inputs.try_recv() {
                self.take_in(input);
            }
            while self.tasks.try_join_next().is_some() {}
            let now = Instant::now();
            self.cache.count(&self.metrics);
            if let Some(queued) = self.queue.pop(now) {
                self.attempt(queued, now).await;
                tried += 1;
                if tried % YIELD_AFTER == 0 {
                    tokio::task::yield_now().await;
                }
                continue;
            }
            let due = self.queue.next_due();
            tokio::select! {
                input = self.inputs.recv() => match input {
                    Some(input) => self.take_in(input),
                    None => return,
                },
                () = sleep_until(due) => {}
            }
        }
    }

    /// Carries one input out.
    fn take_in(&mut self, input: Input) {
        match input {
            Input::Pod(change) => self.pod_changed(change),
            Input::Bound(outcome) => self.bound(outcome),
            Input::Preempted { uid, failed } => self.preempted(&uid, failed),
            Input::Prepared { pod, error } => self.prepared(pod, error),
            other => self.other_changed(other),
        }
    }

    /// Asks for each pod that waits whether an event may help it.
    fn on_event(&mut self, event: &Event<'_>) {
        let world = World { cache: &self.cache, nominator: &self.nominator, listers: &self.listers };
        let profiles = &self.profiles;
        self.queue.on_event(Instant::now(), event.label(), |queued| {
            let profile = profile_of(profiles, &queued.pod);
            let mut plugins = profile.into_iter().flat_map(|profile| &profile.plugins);
            // What would help an extender nobody knows.
            queued.plugins.contains(PluginId::Extender)
                || plugins
                    .any(|plugin| queued.plugins.contains(plugin.id()) && plugin.may_help(world, &queued.pod, event))
        });
    }

    /// The same for a pod that changed itself.
    fn on_own_event(&mut self, event: &Event<'_>, pod: &Pod) {
        let Some(queued) = self.queue.get(&pod.uid) else { return };
        let Some(profile) = profile_of(&self.profiles, pod) else { return };
        let world = World { cache: &self.cache, nominator: &self.nominator, listers: &self.listers };
        let mut refused = profile.plugins.iter().filter(|plugin| queued.plugins.contains(plugin.id()));
        if refused.any(|plugin| plugin.may_help(world, pod, event)) {
            self.queue.requeue(&pod.uid, Instant::now(), event.label());
        }
    }

    /// Who keeps a pod from being tried.
    fn gate(&self, pod: &Pod) -> Option<PluginId> {
        let profile = profile_of(&self.profiles, pod)?;
        if profile.gates && !pod.spec.gates.is_empty() {
            return Some(PluginId::SchedulingGates);
        }
        if self.preempting.contains(&pod.uid) {
            return Some(PluginId::DefaultPreemption);
        }
        let wants_devices = profile.filters.contains(PluginId::DynamicResources) && !pod.claims.is_empty();
        (wants_devices && claims_of(&self.listers, pod).is_err()).then_some(PluginId::DynamicResources)
    }

    /// The pod as the mirror has it.
    fn object(&self, pod: &Pod) -> Option<Arc<ApiPod>> {
        let object = self.listers.pods.get(&ObjectRef::namespaced(&*pod.namespace, &*pod.name))?;
        (object.metadata.uid.as_deref() == Some(&*pod.uid)).then_some(object)
    }
}

/// The profile that is for a pod.
fn profile_of<'a>(profiles: &'a [Profile], pod: &Pod) -> Option<&'a Profile> {
    let name = pod.spec.scheduler.as_deref()?;
    profiles.iter().find(|profile| profile.name == name)
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

impl std::fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scheduler").field("profiles", &self.profiles.len()).finish_non_exhaustive()
    }
}
