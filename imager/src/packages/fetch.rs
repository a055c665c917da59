//! Pinned packages into the cache, four at a time.

use std::{
    collections::HashSet,
    convert::Infallible,
    num::NonZero,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::{
    Error, Mirrors, Pin, Result, Settings, cache,
    download::{Downloader, Wanted},
};
use crate::progress::Progress;

/// Downloads that run at the same time.
const PARALLEL: usize = 4;

/// Brings all `pins` into the cache and returns their paths, in the same order.
///
/// Every file is checked against its pin, those that were cached too; one that has gone bad is fetched anew. When all
/// are there, neither the network nor the host's apt sources are looked at.
///
/// # Errors
/// [`Error::Mismatch`] names package, URL, expected and got; [`Error::Download`]; [`Error::Offline`]; [`Error::NoMirror`];
/// [`Error::Io`], a full disk included. What was fetched by then stays in the cache.
pub fn fetch(settings: &Settings, pins: &[Pin], progress: &Progress) -> Result<Vec<PathBuf>> {
    let directory = cache::directory(settings, "debs")?;
    cache::sweep(&directory, settings.now);
    let paths: Vec<PathBuf> = pins
        .iter()
        .map(|pin| directory.join(format!("{}.deb", pin.sha256)))
        .collect();
    let missing = missing(pins, &paths);
    if missing.is_empty() {
        return Ok(paths);
    }
    if settings.offline {
        let names: Vec<_> = missing.iter().map(|(pin, _)| pin.name.as_str()).collect();
        return Err(Error::Offline {
            what: names.join(", "),
        });
    }
    let mirrors = Mirrors::discover(settings)?;
    let total = missing.iter().map(|(pin, _)| pin.size).sum();
    let step = progress.bytes("Fetching packages", Some(total));
    let downloader = Downloader::new();
    each(&missing, PARALLEL, |(pin, path)| {
        step.message(&pin.name);
        let what = format!("package {} {}", pin.name, pin.version);
        let url = format!("{}/{}", mirrors.base(pin.archive), pin.filename);
        let wanted = Wanted {
            what: &what,
            size: pin.size,
            sha256: &pin.sha256,
        };
        downloader.file(wanted, &url, path, &|bytes| step.inc(bytes))
    })?;
    step.done(&format!("{} packages", missing.len()));
    Ok(paths)
}

/// The pins that are not in the cache as they should be, each file once.
fn missing<'a>(pins: &'a [Pin], paths: &'a [PathBuf]) -> Vec<(&'a Pin, &'a Path)> {
    let mut seen = HashSet::new();
    let mut files: Vec<(&Pin, &Path)> = pins
        .iter()
        .zip(paths.iter().map(PathBuf::as_path))
        .collect();
    files.retain(|(pin, _)| seen.insert(pin.sha256.as_str()));
    let lacking = Mutex::new(HashSet::new());
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let Ok(()) = each::<_, Infallible>(&files, threads, |(pin, path)| {
        if !cache::holds(path, pin.size, &pin.sha256) {
            let mut lacking = lacking.lock().unwrap_or_else(PoisonError::into_inner);
            lacking.insert(pin.sha256.as_str());
        }
        Ok(())
    });
    let lacking = lacking.into_inner().unwrap_or_else(PoisonError::into_inner);
    files.retain(|(pin, _)| lacking.contains(pin.sha256.as_str()));
    files
}

/// Does `work` on every item with some threads; after a failure no new item is begun, and the first item's failure (by
/// order of items, so that it is the same one every time) is returned.
fn each<T: Sync, E: Send>(
    items: &[T],
    threads: usize,
    work: impl Fn(&T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let next = AtomicUsize::new(0);
    let failure: Mutex<Option<(usize, E)>> = Mutex::new(None);
    let lock = || failure.lock().unwrap_or_else(PoisonError::into_inner);
    thread::scope(|scope| {
        for _ in 0..threads.min(items.len()) {
            scope.spawn(|| {
                while lock().is_none() {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(at) else { break };
                    if let Err(error) = work(item) {
                        let mut failure = lock();
                        if failure.as_ref().is_none_or(|(first, _)| at < *first) {
                            *failure = Some((at, error));
                        }
                    }
                }
            });
        }
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}
