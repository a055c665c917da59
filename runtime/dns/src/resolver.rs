//! From a client's message to the answer: at once where the answer is kept or the cluster's own, later where others must be asked.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::cache::{Cache, Kept, Key, State};
use crate::cluster::{Cluster, Found};
use crate::corefile::{Block, Corefile, Forward};
use crate::forward::{Forwarder, Question};
use crate::wire::{Answer, IN, Name, Packed, Query, Record, Reply, code, kind, refusal};

/// Names that may lead to one another: CoreDNS'.
const ALIASES: usize = 10;
/// Questions that are asked of others at a time.
const ASKED: usize = 512;
/// The least that an answer of others is kept, in seconds: CoreDNS'.
const KEPT_LEAST: u32 = 5;

/// Answers questions.
pub(crate) struct Resolver {
    cluster: Cluster,
    settings: RwLock<Arc<Settings>>,
    /// Changes of the settings.
    generation: AtomicU64,
    /// Whether any question is to be logged.
    logs: AtomicBool,
    cache: Cache,
    forwarder: Forwarder,
    asked: Arc<Semaphore>,
    /// Questions that are being asked of others.
    in_flight: Mutex<HashMap<Box<[u8]>, Awaited>>,
    turn: AtomicUsize,
}

/// What was set, and where the service itself is.
#[derive(Debug, Clone, Default)]
struct Settings {
    corefile: Arc<Corefile>,
    own: Arc<[IpAddr]>,
}

/// An answer that others gave, and how long it holds now, in seconds.
type Ready = (Arc<Packed>, Option<u32>);
/// Where one will come.
type Awaited = watch::Receiver<Option<Ready>>;

/// What became of a message.
pub(crate) enum Outcome {
    /// The answer is written.
    Answered,
    /// None is due.
    Silence,
    /// Others are asked.
    Waits(Box<Waiting>),
}

/// A question whose answer others will give.
pub(crate) struct Waiting {
    query: Query,
    answer: Awaited,
}

impl Waiting {
    /// The most octets that the client takes over UDP.
    pub(crate) fn udp_limit(&self) -> usize {
        self.query.udp_limit()
    }
}

/// How far a name led.
enum Led {
    /// To an answer, which is of the cluster's making or not.
    Answer(Answer, bool),
    /// To others.
    Others { forward: Forward, name: Name },
    /// Nowhere yet.
    Unknown,
}

impl Resolver {
    /// With so many octets for answers that are kept.
    pub(crate) fn new(cluster: Cluster, room: usize) -> Self {
        Self {
            cluster,
            settings: RwLock::default(),
            generation: AtomicU64::new(0),
            logs: AtomicBool::new(false),
            cache: Cache::new(room),
            forwarder: Forwarder::new(),
            asked: Arc::new(Semaphore::new(ASKED)),
            in_flight: Mutex::default(),
            turn: AtomicUsize::new(0),
        }
    }

    /// The cluster's names.
    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut Settings)) {
        let mut settings = self.settings.write().unwrap_or_else(PoisonError::into_inner);
        let mut new = Settings::clone(&settings);
        change(&mut new);
        self.logs.store(new.corefile.blocks.iter().any(|block| block.log), Ordering::Relaxed);
        *settings = Arc::new(new);
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Goes over to other settings.
    pub(crate) fn set_corefile(&self, corefile: Corefile) {
        self.change(|settings| settings.corefile = Arc::new(corefile));
    }

    /// Says where the service itself is.
    pub(crate) fn set_own(&self, addresses: &[IpAddr]) {
        self.forwarder.set_own(addresses);
        self.change(|settings| settings.own = addresses.into());
    }

    fn state(&self) -> State {
        State { settings: self.generation.load(Ordering::Acquire), cluster: self.cluster.generation() }
    }

    /// Takes a message. An answer is written to the end of `out`, and no longer than what `limit` says for the question.
    pub(crate) fn take(
        self: &Arc<Self>,
        message: &[u8],
        limit: impl Fn(&Query) -> usize,
        out: &mut Vec<u8>,
    ) -> Outcome {
        let query = match Query::parse(message) {
            Ok(query) => query,
            Err(why) => return if refusal(message, why, out) { Outcome::Answered } else { Outcome::Silence },
        };
        let reply = Reply { limit: limit(&query), ttl: None, turn: self.turn.fetch_add(1, Ordering::Relaxed) };
        if query.class != IN {
            let none = Packed::new(&Answer::code(code::REFUSED), &query.name(), None);
            none.write(&query, message, reply, out);
            return Outcome::Answered;
        }
        let (key, state) = (Key::new(&query), self.state());
        let kept = self.cache.with(&key, state, |kept| {
            kept.packed.write(&query, message, Reply { ttl: kept.ttl(), ..reply }, out);
            kept.packed.code()
        });
        if let Some(code) = kept {
            self.log(&query, code);
            return Outcome::Answered;
        }
        match self.look(&query, &key, state) {
            Ok(packed) => {
                packed.write(&query, message, reply, out);
                self.log(&query, packed.code());
                Outcome::Answered
            }
            Err(answer) => Outcome::Waits(Box::new(Waiting { query, answer })),
        }
    }

    /// Finishes a question whose answer had to be waited for.
    pub(crate) async fn finish(&self, waiting: Box<Waiting>, message: &[u8], limit: usize, out: &mut Vec<u8>) {
        let Waiting { query, mut answer } = *waiting;
        let ready = answer.wait_for(Option::is_some).await.ok().and_then(|ready| ready.clone());
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let (packed, ttl) = ready.unwrap_or_else(|| (Arc::new(failure(&query)), None));
        packed.write(&query, message, Reply { limit, ttl, turn }, out);
        self.log(&query, packed.code());
    }

    /// Answers that too many wait already.
    pub(crate) fn overloaded(&self, waiting: &Waiting, message: &[u8], out: &mut Vec<u8>) {
        let reply = Reply { limit: waiting.udp_limit(), ttl: None, turn: 0 };
        failure(&waiting.query).write(&waiting.query, message, reply, out);
    }

    /// What can be known at once; else where the answer of others will come.
    fn look(self: &Arc<Self>, query: &Query, key: &Key, state: State) -> Result<Arc<Packed>, Awaited> {
        let name = query.name();
        let settings = self.settings();
        let block = settings.corefile.block(&name);
        let rewritten = block.rewrites.apply(&name);
        let mut aliases = Vec::new();
        let asked = rewritten.as_ref().unwrap_or(&name);
        match self.lead(&settings, asked, query.kind, &mut aliases) {
            Led::Answer(answer, of_cluster) => {
                let depends = of_cluster || !aliases.is_empty();
                let answer = behind(aliases, answer, of_cluster);
                let packed = Arc::new(Packed::new(&answer, &name, rewritten.as_ref()));
                // What there is not is made as fast as it is found, and there is no end of it.
                if !answer.is_negative() {
                    let state = if depends { state } else { State { cluster: State::ANY, ..state } };
                    self.cache.put(key, Kept { packed: Arc::clone(&packed), ages: None, until: None, state });
                }
                Ok(packed)
            }
            Led::Unknown => Ok(Arc::new(failure(query))),
            Led::Others { forward, name: at } => {
                let mut in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(known) = in_flight.get(key.octets()) {
                    return Err(known.clone());
                }
                let Ok(permit) = Arc::clone(&self.asked).try_acquire_owned() else {
                    return Ok(Arc::new(failure(query)));
                };
                let (sender, receiver) = watch::channel(None);
                in_flight.insert(key.octets().into(), receiver.clone());
                drop(in_flight);
                // Where an address is nobody's today, it may be someone's of the cluster tomorrow.
                let depends = !aliases.is_empty() || query.kind == kind::PTR;
                let journey = Journey {
                    resolver: Arc::clone(self),
                    query: query.clone(),
                    key: *key,
                    keep: block.keep,
                    state: if depends { state } else { State { cluster: State::ANY, ..state } },
                    name,
                    rewritten,
                    aliases,
                    forward,
                    at,
                };
                tokio::spawn(async move {
                    let _permit = permit;
                    let (resolver, key) = (Arc::clone(&journey.resolver), journey.key);
                    let end = OnEnd(&resolver, key);
                    let ready = journey.go().await;
                    // Kept or not, from here on others start anew.
                    drop(end);
                    sender.send_replace(Some(ready));
                });
                Err(receiver)
            }
        }
    }

    /// Follows a name as far as it leads. Names on the way are noted in `aliases`.
    fn lead(&self, settings: &Settings, name: &Name, kind: u16, aliases: &mut Vec<Record>) -> Led {
        let mut name = name.clone();
        for _ in 0..=ALIASES {
            let block = settings.corefile.block(&name);
            if let Some(answer) = block.hosts.as_ref().and_then(|hosts| hosts.find(&name, kind)) {
                return Led::Answer(answer, false);
            }
            if block.cluster {
                match self.cluster.find(&name, kind, &settings.own) {
                    Found::Answer(answer) => return Led::Answer(answer, true),
                    Found::Unknown => return Led::Unknown,
                    Found::NotHere => {}
                    Found::Alias { record, target } => {
                        aliases.push(record);
                        name = target;
                        continue;
                    }
                }
            }
            return match block.forward(&name) {
                Some(forward) => Led::Others { forward: forward.clone(), name },
                None => Led::Unknown,
            };
        }
        // Names that lead in a circle lead nowhere.
        Led::Answer(self.cluster.nothing(), true)
    }

    fn log(&self, query: &Query, code: u8) {
        if !self.logs.load(Ordering::Relaxed) {
            return;
        }
        let name = query.name();
        let settings = self.settings();
        let Block { log: true, .. } = settings.corefile.block(&name) else { return };
        tracing::info!(target: "kiln_dns::log", %name, kind = &*kind::text(query.kind), code = code::text(code), "question");
    }
}

/// Takes a question out of those in flight, whatever ends it.
struct OnEnd<'a>(&'a Resolver, Key);

impl Drop for OnEnd<'_> {
    fn drop(&mut self) {
        self.0.in_flight.lock().unwrap_or_else(PoisonError::into_inner).remove(self.1.octets());
    }
}

/// A question on its way to others.
struct Journey {
    resolver: Arc<Resolver>,
    query: Query,
    key: Key,
    keep: (u32, u32),
    state: State,
    /// As the client asked.
    name: Name,
    rewritten: Option<Name>,
    aliases: Vec<Record>,
    forward: Forward,
    /// The name that others are asked about.
    at: Name,
}

impl Journey {
    async fn go(self) -> Ready {
        let question = Question {
            name: self.at,
            kind: self.query.kind,
            wants_signatures: self.query.wants_signatures(),
            checking_disabled: self.query.checking_disabled,
        };
        let answer = match self.resolver.forwarder.ask(&self.forward, &question).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(name = %question.name, kind = &*kind::text(question.kind), %error, "no answer");
                if self.aliases.is_empty() {
                    return (Arc::new(failure(&self.query)), None);
                }
                Answer::default()
            }
        };
        let answer = behind(self.aliases, answer, false);
        let packed = Arc::new(Packed::new(&answer, &self.name, self.rewritten.as_ref()));
        let most = if answer.is_negative() { self.keep.1 } else { self.keep.0 };
        let worth = answer.code == code::NO_ERROR || answer.code == code::NO_NAME;
        let Some(ttl) = answer.ttl().filter(|_| most > 0 && worth) else { return (packed, None) };
        let ttl = ttl.max(KEPT_LEAST).min(most);
        let until = Some(Instant::now() + Duration::from_secs(ttl.into()));
        let kept = Kept { packed: Arc::clone(&packed), ages: Some(ttl), until, state: self.state };
        self.resolver.cache.put(&self.key, kept);
        (packed, Some(ttl))
    }
}

/// An answer about a name that others led to.
fn behind(mut aliases: Vec<Record>, answer: Answer, of_cluster: bool) -> Answer {
    if aliases.is_empty() {
        return answer;
    }
    // As CoreDNS has it: a name that leads to nothing within the cluster is not told, one that leads out of it is.
    if of_cluster && answer.answers.is_empty() {
        return Answer { code: code::NO_ERROR, ..answer };
    }
    aliases.extend(answer.answers);
    Answer::of_zone(aliases, Vec::new())
}

fn failure(query: &Query) -> Packed {
    Packed::new(&Answer::code(code::FAILURE), &query.name(), None)
}
