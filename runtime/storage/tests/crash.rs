//! What is left after a process, or etcd, was killed in the midst of writes, and after a power cut.
//!
//! `KILN_CRASH_ROUNDS` is how often each is killed; without it so often that the tests take well below a minute.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use kiln_storage::testing::Etcd;
use kiln_storage::{EventKind, ListOptions, NewValue, Record, Retention, Storage, StorageError, etcd, sqlite};

/// Writers at once, writes that they make together if nothing kills them, and keys that each of them has.
const WRITERS: usize = 32;
const WRITES: usize = 10_000;
const KEYS: usize = 10;

/// How the process to kill is told what to write to.
const SQLITE: &str = "KILN_CRASH_TEST_SQLITE";
const ETCD: &str = "KILN_CRASH_TEST_ETCD";

fn rounds(default: usize) -> usize {
    std::env::var("KILN_CRASH_ROUNDS").map_or(default, |text| text.parse().unwrap())
}

fn open_sqlite(folder: &Path) -> Arc<dyn Storage> {
    // All that one round writes stays in the history.
    let retention = Retention { count: 2 * WRITES, bytes: 64 << 20, ..Retention::default() };
    let options = sqlite::Options { retention, ..sqlite::Options::default() };
    sqlite::open(&folder.join("state.db"), options).unwrap()
}

async fn open_etcd(url: &str) -> Arc<dyn Storage> {
    let retention = Retention { keep: 2 * WRITES, count: 4 * WRITES, bytes: 64 << 20, ..Retention::default() };
    let options = etcd::Options { retention, ..etcd::Options::new(vec![url.parse().unwrap()]) };
    etcd::open(options).await.unwrap()
}

/// A value that shows whether it is whole: its revision, its key, a filling that depends on both ends, and an end.
fn value(key: &str, n: usize) -> NewValue {
    let text = format!("|{key}|{n}|{}|{n}|end", "x".repeat(n % 1_500));
    NewValue { bytes: text.into_bytes(), revision_at: Some(0) }
}

fn assert_whole(record: &Record) {
    let text = std::str::from_utf8(&record.value).unwrap();
    let parts: Vec<&str> = text.split('|').collect();
    let [revision, key, n, filling, again, "end"] = parts[..] else { panic!("half a value: {text}") };
    assert_eq!((revision.parse(), key), (Ok(record.mod_revision), &*record.key));
    assert_eq!((n, filling.len()), (again, n.parse::<usize>().unwrap() % 1_500));
}

/// One writer: creates, changes and deletes its keys, and tells each answer.
async fn write(store: Arc<dyn Storage>, writer: usize) {
    for n in 0..WRITES / WRITERS {
        let key = format!("/r/{writer}/{}", n % KEYS);
        let done = async {
            match store.get(&key).await? {
                None => Ok(("made", store.create(key.clone(), value(&key, n)).await?.mod_revision)),
                Some(_) if n % 7 == 0 => Ok(("gone", store.delete(key.clone(), None).await?.1)),
                Some(old) => {
                    let changed = store.update(key.clone(), value(&key, n), old.mod_revision).await?;
                    Ok(("made", changed.mod_revision))
                }
            }
        };
        match done.await {
            Ok((what, revision)) => println!("{what} {key} {revision}"),
            // Not answered: it may have happened, and nobody was told.
            Err(StorageError::Unavailable(_) | StorageError::Etcd(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Not a test of its own: the process to kill.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn write_until_killed() {
    let store = match (std::env::var(SQLITE), std::env::var(ETCD)) {
        (Ok(folder), _) => open_sqlite(Path::new(&folder)),
        (_, Ok(url)) => open_etcd(&url).await,
        _ => return,
    };
    println!("begin");
    let writers: Vec<_> = (0..WRITERS).map(|writer| tokio::spawn(write(store.clone(), writer))).collect();
    for writer in writers {
        writer.await.unwrap();
    }
    println!("end");
}

/// The process to kill, and the answers that it has told so far.
struct Victim {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    answers: HashMap<i64, (String, bool)>,
}

impl Victim {
    fn start(variable: &str, value: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["write_until_killed", "--exact", "--nocapture", "--test-threads=1"])
            .env(variable, value)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines, answers: HashMap::new() }
    }

    /// Listens until there are so many answers, or it has ended.
    fn listen(&mut self, answers: usize) {
        while self.answers.len() < answers
            && let Some(Ok(line)) = self.lines.next()
        {
            let words: Vec<&str> = line.split(' ').collect();
            if let [what @ ("made" | "gone"), key, revision] = words[..] {
                self.answers.insert(revision.parse().unwrap(), (key.to_owned(), what == "made"));
            }
        }
    }

    /// Kills it, and hears what it said before: a line goes into a pipe whole or not at all.
    fn kill(mut self) -> HashMap<i64, (String, bool)> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.listen(usize::MAX);
        self.answers
    }
}

/// Everything that was answered is in the store and in its history, and all that is there is whole.
async fn check(store: &dyn Storage, answers: &HashMap<i64, (String, bool)>) {
    let page = store.list("/r/", ListOptions::default()).await.unwrap();
    page.records.iter().for_each(assert_whole);
    let first = *answers.keys().min().unwrap();
    let mut watch = store.watch("/r/", first - 1).unwrap();
    let mut left = answers.clone();
    let mut before = first - 1;
    while before < page.revision && watch.progress() < page.revision {
        let event = watch.next().await.unwrap();
        assert!(event.revision > before, "{} after {before}", event.revision);
        before = event.revision;
        assert_whole(&event.record);
        if let Some((key, made)) = left.remove(&event.revision) {
            assert_eq!((&*event.record.key, event.kind != EventKind::Delete), (key.as_str(), made));
        }
    }
    let mut lost: Vec<_> = left.iter().collect();
    lost.sort();
    assert!(lost.is_empty(), "{} of {} answered writes are lost: {lost:?}", lost.len(), answers.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answered_write_survives_a_kill_in_the_midst_of_ten_thousand() {
    let folder = tempfile::tempdir().unwrap();
    let rounds = rounds(20);
    for round in 0..rounds {
        let mut victim = Victim::start(SQLITE, folder.path().to_str().unwrap());
        victim.listen(100 + WRITES / 2 * round / rounds);
        let answers = victim.kill();
        assert!(answers.len() >= 100, "{} answers", answers.len());
        check(&*open_sqlite(folder.path()), &answers).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_write_that_etcd_answered_survives_a_kill_of_the_server() {
    let etcd = Etcd::start();
    let rounds = rounds(4);
    for round in 0..rounds {
        let mut victim = Victim::start(ETCD, etcd.url());
        victim.listen(100 + WRITES / 5 * round / rounds);
        let answers = victim.kill();
        assert!(answers.len() >= 100, "{} answers", answers.len());
        check(&*open_etcd(etcd.url()).await, &answers).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_write_that_was_answered_survives_a_kill_of_etcd_and_writing_goes_on() {
    let mut etcd = Etcd::start();
    let mut victim = Victim::start(ETCD, etcd.url());
    let rounds = rounds(3);
    for round in 1..=rounds {
        victim.listen(WRITES / 4 * round / rounds);
        etcd.restart();
    }
    let killed_at = victim.answers.len();
    victim.listen(killed_at + 100);
    assert!(victim.answers.len() >= killed_at + 100, "it went on for {} writes", victim.answers.len() - killed_at);
    let answers = victim.kill();
    check(&*open_etcd(etcd.url()).await, &answers).await;
}

/// The disk has kept what it had when it was told to, and of what came later any part.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_power_cut_the_store_is_as_it_was_after_some_answered_write() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_sqlite(folder.path());
    let mut states = vec![Vec::new()];
    for n in 0..60 {
        let key = format!("/r/{}", n % 9);
        match store.get(&key).await.unwrap() {
            None => _ = store.create(key.clone(), value(&key, 40 * n)).await.unwrap(),
            Some(_) if n % 4 == 0 => _ = store.delete(key, None).await.unwrap(),
            Some(old) => _ = store.update(key.clone(), value(&key, 40 * n), old.mod_revision).await.unwrap(),
        }
        states.push(store.list("/r/", ListOptions::default()).await.unwrap().records);
    }
    let (database, log) = (fs::read(folder.path().join("state.db")).unwrap(), folder.path().join("state.db-wal"));
    let log = fs::read(log).unwrap();
    let used = log.iter().rposition(|byte| *byte != 0).unwrap();
    let mut newest = 0;
    for cut in (0..=used + 1).step_by(used / 97) {
        // Zeros, or what was there before, lie where the disk did not come to write.
        for rest in [vec![0; log.len() - cut], Vec::new(), vec![0xa5; 3_000]] {
            let copy = tempfile::tempdir().unwrap();
            fs::write(copy.path().join("state.db"), &database).unwrap();
            fs::write(copy.path().join("state.db-wal"), [&log[..cut], &rest].concat()).unwrap();
            let store = open_sqlite(copy.path());
            let records = store.list("/r/", ListOptions::default()).await.unwrap().records;
            let state = states.iter().rposition(|state| *state == records).expect("a state that never was");
            assert!(state >= newest, "with more of the log, less is there");
            newest = state;
        }
    }
    assert!(newest > 50, "{newest}");
}
