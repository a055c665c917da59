//! The audit log: lines in a file that a thread of its own writes, so that no request waits for a disk. A file that is
//! full is put aside under the time at which that was, and files put aside go by age and number.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

/// Lines that may wait for the disk; those that come on top are lost, and counted.
const WAITING: usize = 10_000;

/// Where the log goes, and how much of it is kept.
#[derive(Clone, Debug)]
pub struct AuditLog {
    /// The file; `-` is standard output.
    pub path: PathBuf,
    /// `--audit-log-maxage`: how long files put aside are kept; zero is for ever.
    pub max_age: Duration,
    /// `--audit-log-maxbackup`: how many files put aside are kept; 0 is all.
    pub max_backups: usize,
    /// `--audit-log-maxsize`: bytes after which a file is put aside; 0 is 100 MiB.
    pub max_size: u64,
}

/// The log, open. The thread ends, with all lines written, when this is dropped.
pub(crate) struct Log {
    lines: Option<SyncSender<String>>,
    lost: Arc<AtomicU64>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Log {
    pub(crate) fn open(settings: AuditLog) -> io::Result<Self> {
        let mut files = Files::open(settings)?;
        let (lines, received) = sync_channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let writer = std::thread::Builder::new().name("audit".into()).spawn(move || run(&received, &mut files))?;
        Ok(Self { lines: Some(lines), lost, writer: Mutex::new(Some(writer)) })
    }

    /// Writes a line soon.
    pub(crate) fn write(&self, line: String) {
        let sent = self.lines.as_ref().map(|lines| lines.try_send(line));
        if !matches!(sent, Some(Ok(()))) {
            // The first is told at once, then each thousandth.
            let lost = self.lost.fetch_add(1, Ordering::Relaxed);
            if lost.is_multiple_of(1000) {
                tracing::warn!(lost = lost + 1, "the audit log can't keep up; events are lost");
            }
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        drop(self.lines.take());
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if writer.is_some_and(|w| w.join().is_err()) {
            tracing::warn!("the writer of the audit log had failed");
        }
    }
}

/// Writes lines as they come, and to the disk whenever no more wait.
fn run(lines: &Receiver<String>, files: &mut Files) {
    while let Ok(first) = lines.recv() {
        let mut next = Ok(first);
        while let Ok(line) = next {
            files.write(&line);
            next = lines.try_recv();
        }
        files.flush();
        if next == Err(TryRecvError::Disconnected) {
            return;
        }
    }
}

/// The file, and those put aside.
struct Files {
    settings: AuditLog,
    current: BufWriter<Box<dyn Write + Send>>,
    size: u64,
    failed: bool,
}

impl Files {
    fn open(settings: AuditLog) -> io::Result<Self> {
        let (current, size) = open(&settings.path)?;
        Ok(Self { settings, current, size, failed: false })
    }

    fn limit(&self) -> u64 {
        if self.settings.max_size == 0 { 100 << 20 } else { self.settings.max_size }
    }

    fn write(&mut self, line: &str) {
        let len = line.len() as u64 + 1;
        let to_file = self.settings.path != Path::new("-");
        if to_file && self.size > 0 && self.size + len > self.limit() {
            let result = self.rotate(Timestamp::now());
            self.tell(result);
        }
        let result = self.current.write_all(line.as_bytes()).and_then(|()| self.current.write_all(b"\n"));
        self.size += len;
        self.tell(result);
    }

    fn flush(&mut self) {
        let result = self.current.flush();
        self.tell(result);
    }

    /// Tells of the first failure in a row only.
    fn tell(&mut self, result: io::Result<()>) {
        if let (Err(error), false) = (&result, self.failed) {
            tracing::warn!(%error, path = %self.settings.path.display(), "the audit log can't be written");
        }
        self.failed = result.is_err();
    }

    fn rotate(&mut self, now: Timestamp) -> io::Result<()> {
        self.current.flush()?;
        let path = &self.settings.path;
        let stamp = now.strftime("%Y-%m-%dT%H-%M-%S.%3f");
        fs::rename(path, path.with_file_name(aside(path, &stamp.to_string())))?;
        (self.current, self.size) = open(path)?;
        self.discard()
    }

    /// Removes the files put aside that are too old or too many.
    fn discard(&self) -> io::Result<()> {
        let path = &self.settings.path;
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let (prefix, suffix) = name_parts(path);
        let mut found: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?.path();
            let name = entry.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            let stamp = name.strip_prefix(&format!("{prefix}-")).and_then(|n| n.strip_suffix(&suffix));
            if stamp.is_some_and(|s| s.len() == "2026-01-02T03-04-05.000".len()) {
                found.push(entry);
            }
        }
        // Their names sort by time; the newest come first.
        found.sort_unstable_by(|a, b| b.cmp(a));
        for (i, file) in found.iter().enumerate() {
            let too_many = self.settings.max_backups > 0 && i >= self.settings.max_backups;
            let age = SystemTime::now().duration_since(fs::metadata(file)?.modified()?).unwrap_or_default();
            if too_many || (!self.settings.max_age.is_zero() && age > self.settings.max_age) {
                fs::remove_file(file)?;
            }
        }
        Ok(())
    }
}

/// The file's name without its extension, and the extension with its dot.
fn name_parts(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| part.map(|p| p.to_string_lossy().into_owned()).unwrap_or_default();
    let extension = text(path.extension());
    (text(path.file_stem()), if extension.is_empty() { extension } else { format!(".{extension}") })
}

fn aside(path: &Path, stamp: &str) -> String {
    let (prefix, suffix) = name_parts(path);
    format!("{prefix}-{stamp}{suffix}")
}

fn open(path: &Path) -> io::Result<(BufWriter<Box<dyn Write + Send>>, u64)> {
    if path == Path::new("-") {
        return Ok((BufWriter::new(Box::new(io::stdout())), 0));
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let file: File = {
        use std::os::unix::fs::OpenOptionsExt as _;
        OpenOptions::new().create(true).append(true).mode(0o600).open(path)?
    };
    let size = file.metadata()?.len();
    Ok((BufWriter::new(Box::new(file)), size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_put_aside_and_the_oldest_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let settings = AuditLog { path: path.clone(), max_age: Duration::ZERO, max_backups: 2, max_size: 10 };
        let mut files = Files::open(settings).unwrap();
        for (second, line) in ["one", "two", "three"].into_iter().enumerate() {
            files.write(line);
            files.rotate(Timestamp::from_second(second as i64).unwrap()).unwrap();
        }
        files.write("four");
        files.flush();
        let mut names: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["audit-1970-01-01T00-00-01.000.log", "audit-1970-01-01T00-00-02.000.log", "audit.log"]);
        assert_eq!(fs::read_to_string(path).unwrap(), "four\n");
    }

    #[test]
    fn all_lines_are_written_before_the_log_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/audit.log");
        let settings = AuditLog { path: path.clone(), max_age: Duration::ZERO, max_backups: 0, max_size: 0 };
        let log = Log::open(settings).unwrap();
        (0..1000).for_each(|i| log.write(i.to_string()));
        drop(log);
        assert_eq!(fs::read_to_string(path).unwrap().lines().count(), 1000);
    }
}
