//! A service's output: whole lines to the console and to a bounded file in RAM (`/run/log`), never to flash.

use std::fs::{self, File, OpenOptions};
use std::io::{PipeReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::console;
use crate::error::{Error, Result};

const DIRECTORY: &str = "/run/log";
/// The file is renamed to `.1` at this size, so a service's log takes at most twice this of RAM.
const LARGEST: u64 = 512 * 1024;
/// A longer line is cut in pieces.
const LONGEST_LINE: usize = 8192;
/// Read per turn of the main loop: a slow serial console must not keep PID 1 from its other duties.
const CHUNK: usize = 2048;

/// The read end of a service's output.
#[derive(Debug)]
pub(crate) struct Output {
    name: &'static str,
    pipe: PipeReader,
    lines: Lines,
    file: Option<(File, u64)>,
}

impl Output {
    /// Takes over the pipe of a service that is about to start.
    pub(crate) fn new(name: &'static str, pipe: PipeReader) -> Result<Self> {
        fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|e| Error::sys("prepare the output of", name, e))?;
        Ok(Self { name, pipe, lines: Lines::default(), file: None })
    }

    /// Moves what is waiting, one chunk at most; `false` at its end.
    pub(crate) fn drain(&mut self) -> bool {
        let mut buffer = [0u8; CHUNK];
        match self.pipe.read(&mut buffer) {
            Ok(0) => {
                let rest = self.lines.rest();
                self.emit(rest);
                false
            }
            Ok(length) => {
                let lines = self.lines.push(&buffer[..length]);
                self.emit(lines);
                true
            }
            Err(e) => matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted),
        }
    }

    fn emit(&mut self, lines: Vec<String>) {
        if lines.is_empty() {
            return;
        }
        let text: String = lines.iter().map(|line| format!("[{}] {line}\n", self.name)).collect();
        console::raw(&text);
        // Without its file the log is on the console alone.
        let _ = self.append(&lines);
    }

    fn append(&mut self, lines: &[String]) -> std::io::Result<()> {
        let path = PathBuf::from(DIRECTORY).join(format!("{}.log", self.name));
        if self.file.as_ref().is_some_and(|(_, size)| *size >= LARGEST) {
            self.file = None;
            fs::rename(&path, path.with_extension("log.1"))?;
        }
        let (mut file, mut size) = match self.file.take() {
            Some(open) => open,
            None => {
                fs::create_dir_all(DIRECTORY)?;
                let file = OpenOptions::new().create(true).append(true).open(&path)?;
                let size = file.metadata()?.len();
                (file, size)
            }
        };
        for line in lines {
            file.write_all(format!("{line}\n").as_bytes())?;
            size += line.len() as u64 + 1;
        }
        self.file = Some((file, size));
        Ok(())
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// Cuts a stream into lines.
#[derive(Debug, Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        self.0.extend_from_slice(bytes);
        let mut lines = Vec::new();
        while let Some(end) = self.0.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.0.drain(..=end).collect();
            lines.push(text(&line[..end]));
        }
        if self.0.len() >= LONGEST_LINE {
            lines.extend(self.rest());
        }
        lines
    }

    fn rest(&mut self) -> Vec<String> {
        let rest = std::mem::take(&mut self.0);
        if rest.is_empty() { Vec::new() } else { vec![text(&rest)] }
    }
}

/// A line without what could play tricks on a terminal; colours are dropped with the escape that starts them.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().filter(|c| *c == '\t' || !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_lines_and_the_last_one_is_not_lost() {
        let mut lines = Lines::default();
        assert!(lines.push(b"hel").is_empty());
        assert_eq!(lines.push(b"lo\r\nwor"), ["hello"]);
        assert_eq!(lines.rest(), ["wor"]);
        assert!(lines.rest().is_empty());
    }

    #[test]
    fn an_endless_line_is_cut() {
        let mut lines = Lines::default();
        assert_eq!(lines.push(&vec![b'x'; LONGEST_LINE]).len(), 1);
    }
}
