//! Tells when something happens in a folder or below, by inotify. Files are looked at when they are whole: between the first
//! write and the closing they are told to be under way.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use tokio::net::unix::pipe::Receiver;

const DEPTH: usize = 16;

/// Listens to a folder.
pub(super) struct News {
    inotify: Inotify,
    /// Another descriptor of the same, for tokio, which takes it for a pipe and tells when it can be read.
    events: Receiver,
    folder: PathBuf,
    /// What is listened to, by what events carry.
    folders: BTreeMap<WatchDescriptor, PathBuf>,
    being_written: BTreeSet<PathBuf>,
}

impl News {
    /// Listens from now on. The folder is made if it is not there.
    pub(super) fn of(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let events = Receiver::from_owned_fd_unchecked(inotify.as_fd().try_clone_to_owned()?)?;
        let (folders, being_written) = (BTreeMap::new(), BTreeSet::new());
        Ok(Self { inotify, events, folder: folder.to_owned(), folders, being_written })
    }

    /// Listens to all sub-folders that are there now; answers the files that are being written.
    pub(super) fn follow(&mut self) -> BTreeSet<PathBuf> {
        let (mut left, mut folders) = (vec![(self.folder.clone(), 0)], BTreeMap::new());
        while let Some((folder, depth)) = left.pop() {
            let what = AddWatchFlags::IN_CLOSE_WRITE
                | AddWatchFlags::IN_MODIFY
                | AddWatchFlags::IN_CREATE
                | AddWatchFlags::IN_MOVE
                | AddWatchFlags::IN_DELETE
                | AddWatchFlags::IN_ONLYDIR;
            // One that is listened to already keeps its number.
            match self.inotify.add_watch(&folder, what) {
                Ok(watch) => _ = folders.insert(watch, folder.clone()),
                Err(error) => {
                    tracing::debug!("{}: {error}", folder.display());
                    continue;
                }
            }
            let entries = fs::read_dir(&folder).into_iter().flatten().filter_map(Result::ok);
            let below = entries.map(|entry| entry.path()).filter(|path| depth < DEPTH && path.is_dir());
            left.extend(below.map(|path| (path, depth + 1)));
        }
        self.folders = folders;
        self.being_written.retain(|path| path.exists());
        self.being_written.clone()
    }

    /// Returns when there is something to look at.
    pub(super) async fn next(&mut self) -> io::Result<()> {
        loop {
            self.events.readable().await?;
            let events = match self.inotify.read_events() {
                Ok(events) => events,
                Err(Errno::EAGAIN) => {
                    // Tells tokio too that there is nothing; should there be something by now, it does not fit and stays.
                    _ = self.events.try_read(&mut [0]);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let mut worth = false;
            for event in events {
                worth |= self.take(&event);
            }
            if worth {
                return Ok(());
            }
        }
    }

    /// Whether an event is worth a look.
    fn take(&mut self, event: &InotifyEvent) -> bool {
        let Some(folder) = self.folders.get(&event.wd) else { return true };
        let path = folder.join(event.name.as_deref().unwrap_or_default());
        if event.mask.contains(AddWatchFlags::IN_ISDIR) {
            return true;
        }
        if event.mask.contains(AddWatchFlags::IN_MODIFY) {
            self.being_written.insert(path);
            return false;
        }
        if event.mask.contains(AddWatchFlags::IN_CREATE) {
            // A link is whole at once; what is new otherwise is about to be written.
            let is_link = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_symlink() || meta.nlink() > 1);
            if !is_link {
                self.being_written.insert(path);
            }
            return is_link;
        }
        self.being_written.remove(&path);
        true
    }
}
