//! The one thread that writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::inbox::{self, Wakeup};
use super::log::{Batch, Log};
use crate::engine::{Engine, Expiry, Operation, Staging};
use crate::types::{Clock, Counters, Event, Revision, StorageError, Volatile};

/// The most writes in one commit.
const BATCH: usize = 512;
/// How many revisions are reserved at once for volatile writes.
const RESERVE: Revision = 10_000;
/// The log's outdated rows are removed when there are this many of them, or this many bytes in them.
const FORGET_ROWS: usize = 512;
const FORGET_BYTES: usize = 4 << 20;

/// How long expired keys stay when they could not be deleted, which needs the disk now and then to reserve revisions.
const RETRY: Duration = Duration::from_secs(60);

/// What the writer is asked to do. A requester that stopped waiting is not an error.
pub(super) enum Request {
    Write {
        operation: Operation,
        reply: oneshot::Sender<Result<Arc<Event>, StorageError>>,
    },
    Compact {
        before: Revision,
        reply: oneshot::Sender<Result<(), StorageError>>,
    },
    /// The reply comes when the file is closed.
    Close {
        reply: oneshot::Sender<Result<(), StorageError>>,
    },
}

/// Counts that the store's handle reads while the writer adds to them.
#[derive(Default)]
pub(super) struct Counts {
    bytes_written: AtomicU64,
    commits: AtomicU64,
    writes: AtomicU64,
}

impl Counts {
    pub(super) fn read(&self) -> Counters {
        Counters {
            bytes_written: self.bytes_written.load(Ordering::Relaxed),
            commits: self.commits.load(Ordering::Relaxed),
            writes: self.writes.load(Ordering::Relaxed),
        }
    }
}

/// What happens by time.
pub(super) struct Timing {
    pub(super) clock: Clock,
    expiry: Expiry,
    /// Not before this is anything expired, after a failure.
    not_before: Option<Instant>,
    /// When a revision was taken last, or, after a failure, when one would have been.
    moved: Instant,
}

impl Timing {
    pub(super) fn new(clock: Clock, volatile: &[Volatile]) -> Self {
        let moved = clock.now();
        Self { clock, expiry: Expiry::new(volatile), not_before: None, moved }
    }

    /// When there is something to expire.
    fn due(&self) -> Option<Instant> {
        self.expiry.next().map(|next| self.not_before.map_or(next, |earliest| next.max(earliest)))
    }
}

/// The writer's own state.
pub(super) struct Writer {
    pub(super) log: Log,
    pub(super) engine: Arc<Engine>,
    pub(super) counts: Arc<Counts>,
    timing: Timing,
    /// Volatile writes may use revisions up to here.
    pub(super) reserved: Revision,
    /// Rows that the log no longer needs.
    forget: Vec<Revision>,
    forget_bytes: usize,
    /// Who wait for the end.
    closing: Vec<oneshot::Sender<Result<(), StorageError>>>,
}

/// A write and who waits for it.
type Pending = (Operation, oneshot::Sender<Result<Arc<Event>, StorageError>>);

impl Writer {
    pub(super) fn new(
        log: Log,
        engine: Arc<Engine>,
        counts: Arc<Counts>,
        timing: Timing,
        reserved: Revision,
        forget: Vec<Revision>,
    ) -> Self {
        Self { log, engine, counts, timing, reserved, forget, forget_bytes: 0, closing: Vec::new() }
    }

    /// Works until the last handle of the store is gone, or it is closed.
    pub(super) fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        loop {
            let due = self.timing.moved + self.engine.patience();
            let due = self.timing.due().map_or(due, |expiry| expiry.min(due));
            match inbox::next(&mut requests, due, &self.timing.clock) {
                Wakeup::Request(first) => self.serve(first, &mut requests),
                Wakeup::Due => {}
                Wakeup::Closed => break,
            }
            self.expire();
            self.pass();
            if let Err(error) = self.log.checkpoint_if_due() {
                tracing::warn!(%error, "the store's log could not be moved into its database; it goes on growing");
            }
            self.counts.bytes_written.store(self.log.bytes_written(), Ordering::Relaxed);
            if !self.closing.is_empty() {
                // What others ask for from now on finds no one.
                requests.close();
            }
        }
        self.engine.close();
        let Self { log, closing, .. } = self;
        drop(log);
        for reply in closing {
            _ = reply.send(Ok(()));
        }
    }

    /// Carries out a request and those that wait behind it.
    fn serve(&mut self, first: Request, requests: &mut mpsc::Receiver<Request>) {
        let mut writes = Vec::new();
        let mut next = Some(first);
        while let Some(request) = next {
            match request {
                Request::Write { operation, reply } => writes.push((operation, reply)),
                Request::Compact { before, reply } => {
                    self.write(std::mem::take(&mut writes));
                    _ = reply.send(self.compact(before));
                }
                Request::Close { reply } => self.closing.push(reply),
            }
            next = if writes.len() < BATCH { requests.try_recv().ok() } else { None };
        }
        self.write(writes);
    }

    /// Deletes what has outlived its lifetime: one batch, so that requests do not wait behind all of it.
    fn expire(&mut self) {
        let now = self.timing.clock.now();
        if self.timing.due().is_none_or(|due| due > now) {
            return;
        }
        let engine = self.engine.clone();
        let mut staging = Staging::new(&engine);
        let deletes = self.timing.expiry.due(now, BATCH);
        let staged = deletes.iter().try_for_each(|delete| staging.add(delete).map(drop));
        let done = staged.and_then(|()| self.commit(staging.events));
        self.timing.not_before = done.err().map(|error| {
            tracing::warn!(%error, "expired keys could not be deleted; they stay for now");
            now + RETRY
        });
    }

    /// Takes a revision if nobody has for a while.
    fn pass(&mut self) {
        let now = self.timing.clock.now();
        if now < self.timing.moved + self.engine.patience() {
            return;
        }
        self.timing.moved = now;
        let next = self.engine.revision() + 1;
        let reserve = (next > self.reserved).then_some(next + RESERVE);
        match self.commit_batch(Vec::new(), false, reserve) {
            Ok(()) => {
                let dropped = self.engine.pass();
                self.outdate(&dropped);
            }
            Err(error) => tracing::warn!(%error, "revisions do not go on; continue tokens stay good for longer"),
        }
    }

    /// Carries out a batch, with one commit if any of it is to last, and answers it.
    fn write(&mut self, batch: Vec<Pending>) {
        if batch.is_empty() {
            return;
        }
        let engine = self.engine.clone();
        let mut staging = Staging::new(&engine);
        let outcomes: Vec<_> = batch.iter().map(|(operation, _)| staging.add(operation)).collect();
        let Err(error) = self.commit(staging.events) else {
            for ((_, reply), outcome) in batch.into_iter().zip(outcomes) {
                _ = reply.send(outcome);
            }
            return;
        };
        // Heartbeats go on when the disk is full: the batch's volatile writes are tried again without the others.
        let (volatile, lasting): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|(operation, _)| engine.is_volatile(operation.key()));
        let (retry, failed) = if lasting.is_empty() { (lasting, volatile) } else { (volatile, lasting) };
        for (_, reply) in failed {
            _ = reply.send(Err(error.clone()));
        }
        self.write(retry);
    }

    /// Makes events as durable as they must be, then visible.
    fn commit(&mut self, events: Vec<Arc<Event>>) -> Result<(), StorageError> {
        let Some(last) = events.last().map(|event| event.revision) else { return Ok(()) };
        let lasting: Vec<_> =
            events.iter().filter(|event| !self.engine.is_volatile(&event.record.key)).cloned().collect();
        let has_volatile = lasting.len() < events.len();
        // A reservation rides on a commit that is made anyway, well before one is needed.
        let half_used = last > self.reserved - RESERVE / 2;
        let must_reserve = has_volatile && last > self.reserved;
        let reserve = (must_reserve || (!lasting.is_empty() && half_used)).then_some(last + RESERVE);
        let is_due = self.forget.len() >= FORGET_ROWS || self.forget_bytes >= FORGET_BYTES;
        let forget = !lasting.is_empty() && is_due;
        self.commit_batch(lasting, forget, reserve)?;
        let count = events.len() as u64;
        let now = self.timing.clock.now();
        for event in &events {
            self.timing.expiry.note(event, now);
        }
        self.timing.moved = now;
        let dropped = self.engine.apply(events);
        self.outdate(&dropped);
        self.counts.writes.fetch_add(count, Ordering::Relaxed);
        Ok(())
    }

    fn commit_batch(
        &mut self,
        events: Vec<Arc<Event>>,
        forget: bool,
        reserve: Option<Revision>,
    ) -> Result<(), StorageError> {
        let forget = forget.then(|| (std::mem::take(&mut self.forget), self.engine.read().compacted));
        let batch = Batch { events, forget, reserve };
        if batch.is_empty() {
            return Ok(());
        }
        let committed = self.log.commit(&batch);
        self.counts.bytes_written.store(self.log.bytes_written(), Ordering::Relaxed);
        match (&committed, batch.forget) {
            (Ok(()), Some(_)) => self.forget_bytes = 0,
            (Err(_), Some((rows, _))) => self.forget = rows,
            _ => {}
        }
        committed?;
        self.reserved = reserve.unwrap_or(self.reserved);
        self.counts.commits.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Forgets history on request, in RAM and on the disk.
    fn compact(&mut self, before: Revision) -> Result<(), StorageError> {
        let dropped = self.engine.compact(before)?;
        self.outdate(&dropped);
        self.commit_batch(Vec::new(), true, None)
    }

    /// Notes the rows that events which left the history kept alive.
    fn outdate(&mut self, dropped: &[Arc<Event>]) {
        for event in dropped.iter().filter(|event| !self.engine.is_volatile(&event.record.key)) {
            self.forget_bytes += super::outdated_rows(event, &mut self.forget);
        }
    }
}
