//! Logs on disk, read and followed.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::reader::Reader;
use super::{Options, Streams};

const ALL: Options =
    Options { follow: false, timestamps: false, since: None, tail: None, limit: None, streams: Streams::All };

struct Log {
    folder: tempfile::TempDir,
    file: File,
}

impl Log {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = File::create(folder.path().join("0.log")).unwrap();
        Self { folder, file }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("0.log")
    }

    fn line(&mut self, second: u32, rest: &str) {
        writeln!(self.file, "2026-01-01T00:00:{second:02}.5Z {rest}").unwrap();
    }

    /// As the kubelet rotates: the file gets another name, and the runtime opens one of the old name.
    fn rotate(&mut self) {
        fs::rename(self.path(), self.folder.path().join("0.log.20260101-000000")).unwrap();
        self.file = OpenOptions::new().create(true).append(true).open(self.path()).unwrap();
    }
}

async fn read(path: &Path, options: Options) -> String {
    let (sender, frames) = mpsc::channel(4);
    let reader = Reader::open(path, options).unwrap();
    let reading = tokio::spawn(async move { reader.read(&sender).await });
    let text = all(frames).await;
    reading.await.unwrap().unwrap();
    text
}

async fn all(mut frames: mpsc::Receiver<Bytes>) -> String {
    let mut text = Vec::new();
    while let Some(frame) = frames.recv().await {
        text.extend_from_slice(&frame);
    }
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn what_is_asked_for_is_sent_and_nothing_else() {
    let mut log = Log::new();
    log.line(1, "stdout F one");
    log.line(2, "stderr F two");
    log.line(3, "stdout P thr");
    log.line(3, "stdout F ee");
    log.line(4, "nonsense");
    log.line(5, "stdout F five");
    let since = |text: &str| Some(text.parse().unwrap());
    let rows = [
        (ALL, "one\ntwo\nthree\nfive\n"),
        (Options { tail: Some(1), ..ALL }, "five\n"),
        (Options { tail: Some(0), ..ALL }, ""),
        (Options { tail: Some(100), ..ALL }, "one\ntwo\nthree\nfive\n"),
        (Options { limit: Some(5), ..ALL }, "one\nt"),
        (Options { since: since("2026-01-01T00:00:03Z"), ..ALL }, "three\nfive\n"),
        (Options { streams: Streams::Stderr, ..ALL }, "two\n"),
        (Options { streams: Streams::Stdout, limit: Some(6), ..ALL }, "one\nth"),
        (
            Options { timestamps: true, since: since("2026-01-01T00:00:02.6Z"), ..ALL },
            "2026-01-01T00:00:03.500000000Z three\n2026-01-01T00:00:05.500000000Z five\n",
        ),
    ];
    for (options, expected) in rows {
        assert_eq!(read(&log.path(), options.clone()).await, expected, "{options:?}");
    }
}

#[tokio::test]
async fn a_long_log_is_sent_whole() {
    let mut log = Log::new();
    let expected: String = (0..20_000).map(|i| format!("line {i} of a long log\n")).collect();
    for i in 0..20_000 {
        log.line(1, &format!("stdout F line {i} of a long log"));
    }
    assert!(read(&log.path(), ALL).await == expected);
}

/// Follows a log; the flag says whether the container runs.
fn follow(log: &Log, options: Options) -> (mpsc::Receiver<Bytes>, Arc<AtomicBool>, tokio::task::JoinHandle<()>) {
    let (sender, frames) = mpsc::channel(64);
    let running = Arc::new(AtomicBool::new(true));
    let reader = Reader::open(&log.path(), Options { follow: true, ..options }).unwrap();
    let asked = running.clone();
    let following = tokio::spawn(async move {
        let is_running = || {
            let runs = asked.load(Ordering::SeqCst);
            async move { Ok(runs) }
        };
        reader.follow(&sender, is_running).await.unwrap();
    });
    (frames, running, following)
}

async fn next(frames: &mut mpsc::Receiver<Bytes>, expected: &str) {
    let mut got = String::new();
    while got.len() < expected.len() {
        got.push_str(std::str::from_utf8(&frames.recv().await.unwrap()).unwrap());
    }
    assert_eq!(got, expected);
}

#[tokio::test]
async fn a_followed_log_ends_with_its_container_and_loses_nothing_on_the_way() {
    let mut log = Log::new();
    log.line(1, "stdout F before");
    log.line(1, "stdout F last");
    let (mut frames, running, following) = follow(&log, Options { tail: Some(1), ..ALL });
    next(&mut frames, "last\n").await;
    log.line(2, "stdout F now");
    next(&mut frames, "now\n").await;
    // Half a line, whose other half comes later.
    write!(log.file, "2026-01-01T00:00:03Z stdout F ha").unwrap();
    log.file.flush().unwrap();
    writeln!(log.file, "lf").unwrap();
    next(&mut frames, "half\n").await;
    log.rotate();
    log.line(4, "stdout F after the rotation");
    next(&mut frames, "after the rotation\n").await;
    log.line(5, "stdout F farewell");
    running.store(false, Ordering::SeqCst);
    drop(log.file);
    next(&mut frames, "farewell\n").await;
    assert!(frames.recv().await.is_none());
    following.await.unwrap();
}

#[tokio::test]
async fn a_runtime_that_is_slow_to_see_the_end_is_asked_again() {
    let mut log = Log::new();
    log.line(1, "stdout F all");
    let (mut frames, running, following) = follow(&log, ALL);
    next(&mut frames, "all\n").await;
    drop(log.file);
    // Its log is closed, and the runtime says that it runs for a little while longer.
    tokio::task::yield_now().await;
    running.store(false, Ordering::SeqCst);
    assert!(frames.recv().await.is_none());
    following.await.unwrap();
}

#[tokio::test]
async fn the_log_of_a_container_that_has_ended_is_followed_to_its_end_at_once() {
    let mut log = Log::new();
    log.line(1, "stdout F all");
    let (frames, running, following) = follow(&log, ALL);
    running.store(false, Ordering::SeqCst);
    assert_eq!(all(frames).await, "all\n");
    following.await.unwrap();
}
