//! Reads a log and sends of it what is wanted.

use std::future::Future;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::sync::mpsc;

use super::news::{Event, News};
use super::{Options, Streams, line, tail};
use crate::cri::CriError;

/// Bytes that are read at once, and about as many are sent at once.
const CHUNK: usize = 32 << 10;
/// A line in a file that is longer than this is no line of a runtime, which cuts them at 16 KiB.
const MAX_LINE: usize = 1 << 20;
/// How soon a container whose log was closed is asked after again, if the runtime still says that it runs.
const AGAIN: Duration = Duration::from_secs(1);

/// Whether there is more to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// All that is there was sent.
    End,
    /// All that was asked for was sent, or nobody listens any more.
    Done,
}

/// What a reader does at the end of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Ask whether the container runs; if the log was closed, ask again soon should it do so.
    Ask(bool),
    /// Wait for news, but not for long: the runtime may be slow to say that a container has ended.
    Soon,
    /// Wait for news.
    Wait,
}

/// A log and how far it was read.
pub(super) struct Reader {
    path: PathBuf,
    file: File,
    inode: u64,
    options: Options,
    /// The beginning of a line whose end has not been written.
    rest: BytesMut,
    out: BytesMut,
    /// The next line begins one of the container's lines.
    fresh: bool,
    /// Bytes that may be sent still.
    left: u64,
    /// Lines that may be sent still, where the number was given and nothing is followed.
    lines: Option<u64>,
}

impl Reader {
    /// Opens a log at the first line that is wanted.
    pub(super) fn open(path: &Path, options: Options) -> io::Result<Self> {
        let path = path.canonicalize()?;
        let mut file = std::fs::File::open(&path)?;
        if let Some(lines) = options.tail {
            let start = tail::start(&file, lines)?;
            io::Seek::seek(&mut file, io::SeekFrom::Start(start))?;
        }
        Ok(Self {
            path,
            inode: file.metadata()?.ino(),
            file: File::from_std(file),
            rest: BytesMut::new(),
            out: BytesMut::new(),
            fresh: true,
            left: options.limit.unwrap_or(u64::MAX),
            lines: options.tail.filter(|_| !options.follow),
            options,
        })
    }

    /// Sends what is there.
    pub(super) async fn read(mut self, sender: &mpsc::Sender<Bytes>) -> io::Result<()> {
        if self.drain(sender).await? == Flow::End && !self.rest.is_empty() {
            // The last line has no end yet.
            let rest = self.rest.split();
            self.take(&rest);
            self.send(sender).await;
        }
        Ok(())
    }

    /// Sends what is there and what comes, until the container has ended.
    pub(super) async fn follow<F>(
        mut self,
        sender: &mpsc::Sender<Bytes>,
        is_running: impl Fn() -> F + Send,
    ) -> io::Result<()>
    where
        F: Future<Output = Result<bool, CriError>> + Send,
    {
        let mut news = News::of(&self.path)?;
        // At the beginning the container may have ended long ago.
        let mut next = Next::Ask(false);
        let mut running = true;
        loop {
            if self.drain(sender).await? == Flow::Done {
                return Ok(());
            }
            if self.rotated().await? {
                continue;
            }
            if !running {
                return Ok(());
            }
            if let Next::Ask(again) = next {
                running = is_running().await.map_err(io::Error::other)?;
                next = if again { Next::Soon } else { Next::Wait };
                // What it wrote last may have come since.
                if !running {
                    continue;
                }
            }
            let event = match next {
                Next::Soon => tokio::time::timeout(AGAIN, news.next()).await.unwrap_or(Ok(Event::Closed))?,
                _ => news.next().await?,
            };
            next = if event == Event::Closed { Next::Ask(true) } else { Next::Wait };
        }
    }

    /// Goes over to the file that took the log's name, once that is written to: then nobody writes to the old one.
    async fn rotated(&mut self) -> io::Result<bool> {
        let new = match tokio::fs::metadata(&self.path).await {
            Ok(new) if new.ino() != self.inode && new.len() > 0 => new,
            Ok(_) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        // Between the last look and now the old one may have grown.
        let mut last = Vec::new();
        self.file.read_to_end(&mut last).await?;
        if !last.is_empty() {
            self.file.seek(io::SeekFrom::End(-i64::try_from(last.len()).unwrap_or(0))).await?;
            return Ok(true);
        }
        self.file = File::open(&self.path).await?;
        self.inode = new.ino();
        self.rest.clear();
        Ok(true)
    }

    /// Sends all whole lines up to the end of the file.
    async fn drain(&mut self, sender: &mpsc::Sender<Bytes>) -> io::Result<Flow> {
        loop {
            if self.left == 0 || self.lines == Some(0) || sender.is_closed() {
                self.send(sender).await;
                return Ok(Flow::Done);
            }
            self.rest.reserve(CHUNK);
            if self.file.read_buf(&mut self.rest).await? == 0 {
                self.send(sender).await;
                return Ok(Flow::End);
            }
            while let Some(at) = memchr(&self.rest) {
                let line = self.rest.split_to(at + 1);
                self.take(&line);
                if self.left == 0 || self.lines == Some(0) {
                    break;
                }
            }
            if self.rest.len() > MAX_LINE {
                self.rest.clear();
            }
            if self.out.len() >= CHUNK {
                self.send(sender).await;
            }
        }
    }

    async fn send(&mut self, sender: &mpsc::Sender<Bytes>) {
        if !self.out.is_empty() {
            // That nobody listens any more is seen at the next look.
            _ = sender.send(self.out.split().freeze()).await;
        }
    }

    /// Takes in one line of the file.
    fn take(&mut self, bytes: &[u8]) {
        let Some(line) = line::parse(bytes) else {
            return tracing::debug!(path = %self.path.display(), "a line is not in the CRI's format");
        };
        let wanted = match self.options.streams {
            Streams::All => true,
            Streams::Stdout => !line.stderr,
            Streams::Stderr => line.stderr,
        };
        let old = self.options.since.is_some_and(|since| line.time.parse::<Timestamp>().is_ok_and(|t| t < since));
        if wanted && !old {
            if self.options.timestamps && self.fresh {
                let prefix = format!("{} ", line::padded(line.time));
                self.put(prefix.as_bytes());
            }
            self.put(line.text);
        }
        if let Some(lines) = &mut self.lines {
            *lines = lines.saturating_sub(1);
        }
        self.fresh = line.text.is_empty() || line.text.ends_with(b"\n");
    }

    fn put(&mut self, bytes: &[u8]) {
        let len = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        self.out.extend_from_slice(&bytes[..len]);
        self.left -= len as u64;
    }
}

fn memchr(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|b| *b == b'\n')
}
