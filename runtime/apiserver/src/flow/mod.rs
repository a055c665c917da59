//! Priority and fairness: which requests run now, which wait, and which are turned away when there are too many.
//!
//! The first flow schema that fits a request names its priority level and its flow. A level has its share of the server's
//! seats; who finds none free waits in one of the level's queues, chosen by the flow, so that a noisy client waits behind
//! itself and not before everybody else. What a level does not need, it lends. Schemas and levels are objects of the API, followed as they change. A request
//! holds its seat until it is answered, a watch until it has begun.

mod borrow;
pub(crate) mod dangling;
mod demand;
mod level;
mod objects;
mod rule;

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::http::header::RETRY_AFTER;
use ::http::{HeaderName, HeaderValue, Response, StatusCode};
use kiln_apimachinery::Status;
use kiln_apimachinery::duration;
use kiln_apimachinery::metrics::{Counter, Gauge, Held, Histogram, Labels};

use self::borrow::{Bounds, Party};
use self::level::{Level, Limits, Queuing, Seat};
use self::objects::{Distinguisher, Objects, Schema};
use crate::authz::follow::Followed;
use crate::http::body::Body;
use crate::http::respond;
use crate::request_info::RequestInfo;
use crate::server::ApiServer;
use crate::user::UserInfo;

/// How long what was lent is lent at least. It is dealt anew with the first request after that.
const PERIOD: Duration = Duration::from_secs(10);

const SCHEMA_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const LEVEL_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

/// The gate that requests go through.
#[derive(Default)]
pub(crate) struct Flow {
    objects: Followed<Objects>,
    active: Mutex<Option<Arc<Active>>>,
}

/// The schemas in force, in the order in which they are asked.
struct Active {
    /// What this was made of.
    objects: Arc<Objects>,
    schemas: Vec<ActiveSchema>,
    levels: HashMap<String, ActiveLevel>,
    since: Instant,
    /// Milliseconds after `since` at which seats are dealt anew.
    due: AtomicU64,
}

#[derive(Clone)]
struct ActiveLevel {
    level: Arc<Level>,
    bounds: Bounds,
    queuing: Option<Queuing>,
    /// The seats dealt to it.
    dealt: Arc<Gauge>,
}

struct ActiveSchema {
    schema: Arc<Schema>,
    level: Arc<Level>,
    uids: Option<(HeaderValue, HeaderValue)>,
    dispatched: Arc<Counter>,
    executing: Arc<Gauge>,
    queued: Arc<Gauge>,
    waited: Arc<Histogram>,
    /// Level and schema, for the rare series.
    names: (String, String),
}

/// The right to be served, for as long as it lives.
pub(crate) struct Ticket {
    uids: Option<(HeaderValue, HeaderValue)>,
    _seat: Seat,
    _executing: Held,
}

impl Ticket {
    /// Tells the client which schema and level the request fell under.
    pub(crate) fn mark(&self, response: &mut Response<Body>) {
        if let Some((schema, level)) = &self.uids {
            response.headers_mut().insert(SCHEMA_UID, schema.clone());
            response.headers_mut().insert(LEVEL_UID, level.clone());
        }
    }
}

impl Flow {
    /// Lets a request through, now or after a wait. The error is the answer that it gets instead.
    pub(crate) async fn admit(
        &self,
        server: &ApiServer,
        user: &UserInfo,
        info: &RequestInfo,
    ) -> Result<Ticket, Response<Body>> {
        let active = self.current(server).await.map_err(|status| respond::status(&status))?;
        let Some(found) = active.schemas.iter().find(|s| s.schema.matches(user, info)) else {
            // The last schema fits everything, so there is always one.
            return Err(respond::status(&Status::internal("no flow schema fits the request")));
        };
        let began = Instant::now();
        active.lend(began);
        let entered = match found.level.enter(flow(&found.schema, user, info)) {
            Ok(seat) => Ok(seat),
            Err(Ok(place)) => {
                let _queued = Held::new(found.queued.clone());
                let seat = place.wait(server.config().request_timeout / 4).await;
                found.waited.observe_time(began.elapsed());
                seat
            }
            Err(Err(refusal)) => Err(refusal),
        };
        match entered {
            Ok(seat) => {
                found.dispatched.add(1);
                let _executing = Held::new(found.executing.clone());
                Ok(Ticket { uids: found.uids.clone(), _seat: seat, _executing })
            }
            Err(refusal) => {
                let (level, schema) = &found.names;
                let labels = |l: &mut Labels| {
                    l.add("flow_schema", schema).add("priority_level", level).add("reason", refusal.as_str());
                };
                server.metrics().flow.rejected.with(labels).add(1);
                Err(too_many())
            }
        }
    }

    async fn current(&self, server: &ApiServer) -> Result<Arc<Active>, Status> {
        let objects = self.objects.current(server).await?;
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(current) = active.as_ref().filter(|a| Arc::ptr_eq(&a.objects, &objects)) {
            return Ok(current.clone());
        }
        let new = Arc::new(Active::new(server, objects, active.as_deref()));
        *active = Some(new.clone());
        Ok(new)
    }
}

impl Active {
    /// Puts objects into force. Levels that were there stay, with those who wait in them.
    fn new(server: &ApiServer, objects: Arc<Objects>, old: Option<&Self>) -> Self {
        let metrics = &server.metrics().flow;
        let mut levels = HashMap::new();
        for (name, (bounds, queuing)) in bounds(server.config().seats, &objects) {
            let labels = |l: &mut Labels| {
                l.add("priority_level", &name);
            };
            for (family, seats) in
                [(&metrics.nominal, bounds.nominal), (&metrics.lower, bounds.least), (&metrics.upper, bounds.most)]
            {
                family.with(labels).set(seats);
            }
            let level = match old.and_then(|old| old.levels.get(&name)) {
                Some(old) => old.level.clone(),
                None => Level::new(metrics.seats.with(labels), (!bounds.exempt).then_some(bounds.initial())),
            };
            let dealt = metrics.current.with(labels);
            levels.insert(name, ActiveLevel { level, bounds, queuing, dealt });
        }
        let activate = |schema: &Arc<Schema>| {
            // A schema whose level is not there has no say.
            let ActiveLevel { level, .. } = levels.get(&schema.level)?;
            let labels = |l: &mut Labels| {
                l.add("flow_schema", &schema.name).add("priority_level", &schema.level);
            };
            let waited = |l: &mut Labels| {
                l.add("execute", "true");
                labels(l);
            };
            let uid = |text: &str| HeaderValue::from_str(text).ok().filter(|v| !v.is_empty());
            let level_uid = objects.levels.get(&schema.level).map(|l| l.uid.as_str()).unwrap_or_default();
            Some(ActiveSchema {
                schema: schema.clone(),
                level: level.clone(),
                uids: uid(&schema.uid).zip(uid(level_uid)),
                dispatched: metrics.dispatched.with(labels),
                executing: metrics.executing.with(labels),
                queued: metrics.queued.with(labels),
                waited: metrics.waited.with(waited),
                names: (schema.level.clone(), schema.name.clone()),
            })
        };
        let schemas = objects.in_order().iter().filter_map(activate).collect();
        let active = Self { objects, schemas, levels, since: Instant::now(), due: AtomicU64::new(0) };
        active.lend(active.since);
        active
    }

    /// Deals the seats anew if it is time.
    fn lend(&self, now: Instant) {
        let passed = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let at = passed(now.saturating_duration_since(self.since));
        let due = self.due.load(Ordering::Relaxed);
        let next = at.saturating_add(passed(PERIOD));
        // One of those who see that it is time does it.
        if at < due || self.due.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        let levels: Vec<&ActiveLevel> = self.levels.values().collect();
        let party = |l: &&ActiveLevel| Party {
            bounds: l.bounds,
            wanted: l.level.wanted(now),
            current: l.level.seats().unwrap_or(0),
        };
        let parties: Vec<Party> = levels.iter().map(party).collect();
        for (l, seats) in levels.iter().zip(borrow::deal(&parties)) {
            l.level.set(Limits { seats: (!l.bounds.exempt).then_some(seats), queuing: l.queuing });
            l.dealt.set(seats);
        }
    }
}

/// Each level's part of all seats, by its share, rounded up, and what of them it may lend and borrow.
fn bounds(seats: usize, objects: &Objects) -> BTreeMap<String, (Bounds, Option<Queuing>)> {
    let levels = objects.all_levels();
    let sum: usize = levels.values().map(|l| l.shares).sum();
    let bounds = levels.into_iter().map(|(name, level)| {
        let nominal = (seats * level.shares).div_ceil(sum.max(1));
        let percent = |percent: usize| (nominal * percent + 50) / 100;
        let bounds = Bounds {
            exempt: level.exempt,
            nominal,
            least: nominal - percent(level.lendable),
            most: nominal + level.borrowing.map_or(seats, percent),
        };
        (name, (bounds, level.queuing))
    });
    bounds.collect()
}

/// The flow that a request belongs to.
fn flow(schema: &Schema, user: &UserInfo, info: &RequestInfo) -> u64 {
    let mut hasher = DefaultHasher::new();
    schema.name.hash(&mut hasher);
    match schema.distinguisher {
        Distinguisher::None => {}
        Distinguisher::User => user.name.hash(&mut hasher),
        Distinguisher::Namespace => info.namespace.hash(&mut hasher),
    }
    hasher.finish()
}

/// 429, in plain text as upstream's.
fn too_many() -> Response<Body> {
    let mut response = respond::text(StatusCode::TOO_MANY_REQUESTS, "Too many requests, please try again later.\n");
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response.headers_mut().insert(::http::header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The longest that a request may take: what its `timeout` says, if that is less than the server's.
pub(crate) fn time_limit(most: Duration, asked: Option<&str>) -> Result<Duration, Status> {
    let Some(text) = asked else { return Ok(most) };
    let bad = || Status::bad_request("invalid timeout specified in the request URL");
    let asked = duration::parse_unsigned(text).map_err(|_| bad())?;
    Ok(if asked.is_zero() { most } else { asked.min(most) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_requests_own_timeout_counts_if_it_is_shorter() {
        let most = Duration::from_secs(60);
        let limit = |text| time_limit(most, Some(text)).ok();
        assert_eq!(limit("1m30s"), Some(most));
        assert_eq!(limit("2.5s"), Some(Duration::from_millis(2500)));
        assert_eq!(limit("0s"), Some(most));
        for bad in ["", "10", "s", "1x", "-1s"] {
            assert_eq!(limit(bad), None, "{bad}");
        }
    }
}
