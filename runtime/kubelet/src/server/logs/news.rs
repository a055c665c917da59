//! Tells when something happens to a log, by inotify on its folder: a log that is rotated is another file of the same name.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// Something was written, or a file of the name came or went.
    Changed,
    /// Whoever wrote the file has closed it: the container has ended, or the runtime has.
    Closed,
}

/// Listens to one file.
pub(super) struct News {
    inotify: AsyncFd<Fd>,
    name: OsString,
}

struct Fd(Inotify);

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl News {
    /// Listens from now on.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let what = AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_CLOSE_WRITE;
        inotify.add_watch(path.parent().unwrap_or(Path::new("/")), what)?;
        let name = path.file_name().unwrap_or_default().to_owned();
        // SAFETY: the descriptor is `Inotify`'s own, which is neither closed nor replaced as long as the `AsyncFd` holds it.
        #[allow(unsafe_code, reason = "tokio cannot know that the descriptor stays")]
        let inotify = unsafe { AsyncFd::register_with_interest(Fd(inotify), Interest::READABLE) };
        Ok(Self { inotify: inotify.map_err(io::Error::from)?, name })
    }

    /// The next event; several at once are one.
    pub(super) async fn next(&mut self) -> io::Result<Event> {
        loop {
            let mut ready = self.inotify.readable_mut().await?;
            let events = match ready.get_inner().0.read_events() {
                Ok(events) => events,
                Err(Errno::EAGAIN) => {
                    ready.clear_ready();
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let mut found = None;
            for event in events {
                // Too many at once: what was lost may have been anything.
                if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                    found = Some(Event::Closed);
                } else if event.name.as_ref() == Some(&self.name) {
                    match event.mask.contains(AddWatchFlags::IN_CLOSE_WRITE) {
                        true => found = Some(Event::Closed),
                        false => found = found.or(Some(Event::Changed)),
                    }
                }
            }
            if let Some(found) = found {
                return Ok(found);
            }
        }
    }
}
