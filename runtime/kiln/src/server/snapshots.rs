//! Snapshots by the clock: the server saves its data itself, and removes the oldest of those that it has saved so.
//!
//! The flags are K3s', with the same meaning. Snapshots that people save by name are theirs, and stay.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use jiff::tz::TimeZone;
use kiln_apimachinery::cron::Schedule;
use kiln_client::Clock;
use kiln_storage::Storage;
use tokio_util::sync::CancellationToken;

use crate::snapshots::{Snapshot, Snapshots, name};

/// How often the time is looked at again while a snapshot is far away: clocks are set, on a board without one by decades.
const LOOK: Duration = Duration::from_secs(3600);

/// Flags about snapshots by the clock.
#[derive(Debug, Clone, Args)]
#[group(id = "snapshots")]
pub(crate) struct Flags {
    /// When to save a snapshot of the data by itself, as '0 */12 * * *' (minute, hour, day of the month, month, day of the week)
    /// or @daily, by UTC unless TZ=ZONE stands in front; without it, never
    #[arg(
        long = "etcd-snapshot-schedule-cron",
        alias = "snapshot-schedule-cron",
        value_name = "SCHEDULE",
        env = "KILN_ETCD_SNAPSHOT_SCHEDULE_CRON",
        value_parser = |text: &str| Schedule::parse(text),
        help_heading = "Snapshots"
    )]
    schedule: Option<Schedule>,
    /// How many of these to keep; 0: all
    #[arg(
        long = "etcd-snapshot-retention",
        alias = "snapshot-retention",
        value_name = "COUNT",
        env = "KILN_ETCD_SNAPSHOT_RETENTION",
        default_value_t = 5,
        help_heading = "Snapshots"
    )]
    retention: usize,
    /// Folder for snapshots; without it, server/snapshots in --data-dir
    #[arg(
        long = "etcd-snapshot-dir",
        alias = "snapshot-dir",
        value_name = "DIR",
        env = "KILN_ETCD_SNAPSHOT_DIR",
        help_heading = "Snapshots"
    )]
    dir: Option<PathBuf>,
    /// What their names begin with, before the node's name and the time
    #[arg(
        long = "etcd-snapshot-name",
        alias = "snapshot-name",
        value_name = "NAME",
        value_parser = name,
        default_value = "etcd-snapshot",
        help_heading = "Snapshots"
    )]
    name: String,
    /// Save none by the clock
    #[arg(id = "etcd-disable-snapshots", long, help_heading = "Snapshots")]
    disable: bool,
}

/// Saves snapshots by the clock.
pub(super) struct Saver {
    schedule: Schedule,
    retention: usize,
    /// What the names of this node's begin with.
    prefix: String,
    snapshots: Snapshots,
    storage: Arc<dyn Storage>,
    clock: Clock,
}

impl Saver {
    /// What the flags ask for; `None` if that is nothing.
    pub(super) fn new(
        flags: &Flags,
        server: &Path,
        node: &str,
        storage: Arc<dyn Storage>,
        clock: Clock,
    ) -> Option<Self> {
        let schedule = flags.schedule.clone().filter(|_| !flags.disable)?;
        Some(Saver {
            schedule,
            retention: flags.retention,
            prefix: format!("{}-{node}-", flags.name),
            snapshots: Snapshots::of(server, flags.dir.as_deref()),
            storage,
            clock,
        })
    }

    /// Saves until the shutdown.
    pub(super) async fn run(self, shutdown: CancellationToken) {
        let mut last = self.clock.now();
        while let Some(next) = self.schedule.next(last, &TimeZone::UTC) {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.reach(next) => {}
            }
            match self.save().await {
                Ok(saved) => tracing::info!(name = saved.name, keys = saved.keys, size = saved.size, "snapshot saved"),
                Err(error) => tracing::error!("no snapshot is saved: {error:#}"),
            }
            if let Err(error) = self.prune() {
                tracing::warn!("old snapshots stay: {error:#}");
            }
            // A clock that was set forward does not make up for what it left out.
            last = self.clock.now().max(next);
        }
        tracing::warn!("the schedule of snapshots has no more times");
    }

    /// Waits for a time of day.
    async fn reach(&self, next: jiff::Timestamp) {
        loop {
            match Duration::try_from(next.duration_since(self.clock.now())) {
                Ok(left) if !left.is_zero() => tokio::time::sleep(left.min(LOOK)).await,
                _ => return,
            }
        }
    }

    async fn save(&self) -> anyhow::Result<Snapshot> {
        let now = self.clock.now();
        let name = format!("{}{}", self.prefix, now.as_second());
        self.snapshots.make()?;
        let revision = self.storage.snapshot(&self.snapshots.data(&name)?).await?;
        let snapshots = self.snapshots.clone();
        let sealed = tokio::task::spawn_blocking(move || snapshots.seal(&name, now, Some(revision)));
        sealed.await.context("checking the snapshot")?
    }

    /// Deletes the oldest of those that were saved here, beyond as many as are kept.
    fn prune(&self) -> anyhow::Result<()> {
        if self.retention == 0 {
            return Ok(());
        }
        let mine = |snapshot: &Snapshot| {
            let time = snapshot.name.strip_prefix(&self.prefix);
            time.is_some_and(|time| !time.is_empty() && time.bytes().all(|b| b.is_ascii_digit()))
        };
        let saved: Vec<_> = self.snapshots.all()?.into_iter().filter(mine).collect();
        for old in &saved[..saved.len().saturating_sub(self.retention)] {
            self.snapshots.delete(&old.name)?;
            tracing::debug!(name = old.name, "old snapshot deleted");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use kiln_storage::{NewValue, sqlite};

    use super::*;

    #[derive(Parser)]
    struct Words {
        #[command(flatten)]
        flags: Flags,
    }

    fn flags(words: &[&str]) -> Flags {
        Words::try_parse_from([&["x"], words].concat()).unwrap().flags
    }

    #[tokio::test(start_paused = true)]
    async fn snapshots_are_saved_by_the_clock_and_the_oldest_of_them_go() {
        let folder = tempfile::tempdir().unwrap();
        let storage = sqlite::open(&folder.path().join("kiln.db"), sqlite::Options::default()).unwrap();
        let snapshots = Snapshots::of(folder.path(), None);
        let clock = Clock::from_tokio("2026-01-01T00:30:00Z".parse().unwrap());
        let asked = flags(&["--etcd-snapshot-schedule-cron", "@hourly", "--etcd-snapshot-retention", "2"]);
        let saver = Saver::new(&asked, folder.path(), "pi", Arc::clone(&storage), clock).unwrap();
        // A person's own, of which one looks like those of a schedule.
        snapshots.make().unwrap();
        for name in ["etcd-snapshot-pi-mine", "before"] {
            let revision = storage.snapshot(&snapshots.data(name).unwrap()).await.unwrap();
            snapshots.seal(name, jiff::Timestamp::UNIX_EPOCH, Some(revision)).unwrap();
        }
        let mut revisions = Vec::new();
        for hour in 1..=4 {
            storage.create(format!("/r/{hour}"), NewValue::plain("{}")).await.unwrap();
            revisions.push(storage.current_revision());
            let at = format!("2026-01-01T0{hour}:00:00Z").parse().unwrap();
            assert_eq!(saver.schedule.next(saver.clock.now(), &TimeZone::UTC), Some(at));
            saver.reach(at).await;
            let saved = saver.save().await.unwrap();
            assert_eq!((saved.created, saved.keys), (at, hour));
            saver.prune().unwrap();
        }
        let left: Vec<_> = snapshots.all().unwrap().into_iter().map(|s| (s.name, s.revision)).collect();
        let named = |name: &str, revision| (name.to_owned(), revision);
        let first = left[0].1;
        assert_eq!(
            left[2..],
            [named("etcd-snapshot-pi-1767236400", revisions[2]), named("etcd-snapshot-pi-1767240000", revisions[3])]
        );
        let mut mine = left[..2].to_vec();
        mine.sort();
        assert_eq!(mine, [named("before", first), named("etcd-snapshot-pi-mine", first)]);
    }

    #[test]
    fn nothing_is_saved_unless_a_schedule_asks_for_it() {
        let storage = kiln_storage::memory::open();
        let saver = |words: &[&str]| {
            Saver::new(&flags(words), Path::new("none"), "pi", Arc::clone(&storage), Clock::system()).is_some()
        };
        assert!(!saver(&[]));
        assert!(saver(&["--etcd-snapshot-schedule-cron", "@daily"]));
        assert!(!saver(&["--etcd-snapshot-schedule-cron", "@daily", "--etcd-disable-snapshots"]));
        assert!(Words::try_parse_from(["x", "--etcd-snapshot-schedule-cron", "often"]).is_err());
    }
}
