//! One priority level: its seats, and the queues in front of them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kiln_apimachinery::metrics::Gauge;
use tokio::sync::oneshot;

use super::demand::{Demand, Wanted};

/// How requests wait in a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Queuing {
    pub(super) queues: usize,
    /// Queues that one flow may use.
    pub(super) hand: usize,
    /// Most requests in one queue.
    pub(super) length: usize,
}

/// What a level may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Requests at the same time; `None` for any number.
    pub(super) seats: Option<usize>,
    /// `None` if nobody waits.
    pub(super) queuing: Option<Queuing>,
}

/// Why a request was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// All seats are taken and the level has no queues.
    Limit,
    /// The flow's queues are full.
    QueueFull,
    /// No seat became free in time.
    TimeOut,
}

impl Refusal {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Limit => "concurrency-limit",
            Self::QueueFull => "queue-full",
            Self::TimeOut => "time-out",
        }
    }
}

/// A priority level.
pub(super) struct Level {
    state: Mutex<State>,
    executing: Arc<Gauge>,
}

struct State {
    limits: Limits,
    executing: usize,
    queues: Vec<VecDeque<oneshot::Sender<Seat>>>,
    waiting: usize,
    /// The queue whose turn it is.
    turn: usize,
    demand: Demand,
}

/// A seat, given back when dropped.
pub(super) struct Seat(Option<Arc<Level>>);

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(level) = self.0.take() {
            level.leave();
        }
    }
}

/// A place in a queue.
pub(super) struct Place(oneshot::Receiver<Seat>);

impl Place {
    /// Waits for a seat. One that comes too late goes to the next in the queues.
    pub(super) async fn wait(self, most: Duration) -> Result<Seat, Refusal> {
        match tokio::time::timeout(most, self.0).await {
            Ok(Ok(seat)) => Ok(seat),
            _ => Err(Refusal::TimeOut),
        }
    }
}

impl Level {
    pub(super) fn new(executing: Arc<Gauge>, seats: Option<usize>) -> Arc<Self> {
        let limits = Limits { seats, queuing: None };
        let state = State {
            limits,
            executing: 0,
            queues: Vec::new(),
            waiting: 0,
            turn: 0,
            demand: Demand::new(Instant::now()),
        };
        Arc::new(Self { state: Mutex::new(state), executing })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many seats there are now; `None` for any number.
    pub(super) fn seats(&self) -> Option<usize> {
        self.state().limits.seats
    }

    /// How many were wanted since this was asked last.
    pub(super) fn wanted(&self, now: Instant) -> Wanted {
        self.state().demand.take(now)
    }

    /// Changes the limits. Who waits, waits on; queues that are no more are emptied in their turn.
    pub(super) fn set(self: &Arc<Self>, limits: Limits) {
        let mut state = self.state();
        state.limits = limits;
        let queues = limits.queuing.map_or(0, |q| q.queues).max(state.queues.len());
        state.queues.resize_with(queues, VecDeque::new);
        self.seat_waiting(&mut state);
    }

    /// A seat, or a place to wait at.
    pub(super) fn enter(self: &Arc<Self>, flow: u64) -> Result<Seat, Result<Place, Refusal>> {
        let mut state = self.state();
        if state.has_room() && state.waiting == 0 {
            return Ok(self.seat(&mut state));
        }
        let Some(queuing) = state.limits.queuing else { return Err(Err(Refusal::Limit)) };
        let hand = deal(flow, queuing.queues.min(state.queues.len()), queuing.hand);
        let Some(at) = hand.min_by_key(|at| state.queues[*at].len()) else { return Err(Err(Refusal::Limit)) };
        if state.queues[at].len() >= queuing.length {
            // Those who gave up hold no place.
            let before = state.queues[at].len();
            state.queues[at].retain(|waiter| !waiter.is_closed());
            state.waiting -= before - state.queues[at].len();
            if state.queues[at].len() >= queuing.length {
                return Err(Err(Refusal::QueueFull));
            }
        }
        let (sender, receiver) = oneshot::channel();
        state.queues[at].push_back(sender);
        state.waiting += 1;
        state.note();
        // Those before may all have given up.
        self.seat_waiting(&mut state);
        Err(Ok(Place(receiver)))
    }

    fn seat(self: &Arc<Self>, state: &mut State) -> Seat {
        state.executing += 1;
        state.note();
        self.executing.add(1);
        Seat(Some(self.clone()))
    }

    fn leave(self: &Arc<Self>) {
        let mut state = self.state();
        state.executing -= 1;
        state.note();
        self.executing.add(-1);
        self.seat_waiting(&mut state);
    }

    /// Gives free seats to those who wait, one queue after another.
    fn seat_waiting(self: &Arc<Self>, state: &mut State) {
        while state.waiting > 0 && state.has_room() {
            let Some(waiter) = state.next_waiter() else { return };
            let seat = self.seat(state);
            if let Err(mut seat) = waiter.send(seat) {
                // Nobody waits there any more. Dropping a seat takes the lock that is held here, so it is taken back by hand.
                seat.0 = None;
                state.executing -= 1;
                state.note();
                self.executing.add(-1);
            }
        }
    }
}

impl State {
    /// Takes note of what is wanted now.
    fn note(&mut self) {
        self.demand.set(Instant::now(), self.executing + self.waiting);
    }

    fn has_room(&self) -> bool {
        self.limits.seats.is_none_or(|seats| self.executing < seats)
    }

    fn next_waiter(&mut self) -> Option<oneshot::Sender<Seat>> {
        let count = self.queues.len();
        let at = (0..count).map(|i| (self.turn + i) % count).find(|at| !self.queues[*at].is_empty())?;
        self.turn = (at + 1) % count;
        self.waiting -= 1;
        self.queues[at].pop_front()
    }
}

/// The queues that a flow may use: `hand` different ones, and hardly ever the same as another flow's.
fn deal(flow: u64, queues: usize, hand: usize) -> impl Iterator<Item = usize> {
    let mut dealt: Vec<usize> = Vec::with_capacity(hand.min(queues));
    let mut entropy = flow;
    for i in 0..hand.min(queues) {
        let left = (queues - i) as u64;
        // Less than the number of queues.
        let mut card = (entropy % left) as usize;
        entropy /= left;
        // The card's number among those that are left becomes its number among all.
        let mut sorted = dealt.clone();
        sorted.sort_unstable();
        for earlier in sorted {
            if card >= earlier {
                card += 1;
            }
        }
        dealt.push(card);
    }
    dealt.into_iter()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn level(seats: usize, queuing: Option<Queuing>) -> Arc<Level> {
        let level = Level::new(Arc::default(), Some(seats));
        level.set(Limits { seats: Some(seats), queuing });
        level
    }

    fn place(entered: Result<Seat, Result<Place, Refusal>>) -> Place {
        match entered {
            Err(Ok(place)) => place,
            Ok(_) => panic!("there was a seat"),
            Err(Err(refusal)) => panic!("{}", refusal.as_str()),
        }
    }

    fn taken(entered: Result<Seat, Result<Place, Refusal>>) -> Seat {
        match entered {
            Ok(seat) => seat,
            Err(_) => panic!("no free seat"),
        }
    }

    const QUEUES: Option<Queuing> = Some(Queuing { queues: 8, hand: 2, length: 2 });

    #[tokio::test]
    async fn who_finds_no_seat_waits_and_gets_the_next_one() {
        let level = level(1, QUEUES);
        let first = taken(level.enter(1));
        let waiting = place(level.enter(1));
        drop(first);
        let Ok(second) = waiting.wait(Duration::from_secs(1)).await else { panic!("no seat") };
        let gone = place(level.enter(1));
        drop(gone);
        let last = place(level.enter(1));
        drop(second);
        assert!(last.wait(Duration::from_secs(1)).await.is_ok());
        assert_eq!(level.executing.get(), 0);
    }

    #[tokio::test]
    async fn a_noisy_flow_fills_its_own_queues_and_others_get_their_turn() {
        let level = level(1, QUEUES);
        let seat = taken(level.enter(0));
        let noisy: Vec<Place> = (0..4).map(|_| place(level.enter(0))).collect();
        assert!(matches!(level.enter(0), Err(Err(Refusal::QueueFull))));
        // Another hand than that of flow 0, which is queues 0 and 1.
        let quiet = place(level.enter(7));
        drop(seat);
        let mut order = Vec::new();
        let waits = noisy.into_iter().map(|p| (p, "noisy")).chain([(quiet, "quiet")]);
        let all = waits.map(|(p, who)| async move { p.wait(Duration::from_secs(1)).await.map(|seat| (who, seat)) });
        let mut all: futures_util::stream::FuturesUnordered<_> = all.collect();
        while let Some(Ok((who, seat))) = futures_util::StreamExt::next(&mut all).await {
            order.push(who);
            drop(seat);
        }
        assert_eq!(order.len(), 5);
        assert!(order.iter().position(|w| *w == "quiet").unwrap() <= 2, "{order:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_has_an_end_and_a_level_without_queues_has_none() {
        let level = level(1, QUEUES);
        let _seat = taken(level.enter(1));
        let late = place(level.enter(1)).wait(Duration::from_secs(15)).await;
        assert!(matches!(late, Err(Refusal::TimeOut)));
        let strict = self::level(1, None);
        let _seat = taken(strict.enter(1));
        assert!(matches!(strict.enter(1), Err(Err(Refusal::Limit))));
    }

    #[tokio::test]
    async fn more_seats_are_given_to_those_who_wait() {
        let level = level(1, QUEUES);
        let _seat = taken(level.enter(1));
        let waiting = place(level.enter(1));
        level.set(Limits { seats: Some(2), queuing: QUEUES });
        assert!(waiting.wait(Duration::from_secs(1)).await.is_ok());
    }

    #[test]
    fn a_hand_has_different_queues() {
        for flow in [0, 1, 12345, u64::MAX, 0x9e37_79b9_7f4a_7c15] {
            let hand: BTreeSet<usize> = deal(flow, 64, 6).collect();
            assert_eq!(hand.len(), 6);
            assert!(hand.iter().all(|q| *q < 64));
        }
        assert_eq!(deal(5, 3, 8).count(), 3);
    }
}
