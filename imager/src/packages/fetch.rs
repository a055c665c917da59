//! Pinned packages into the cache, four at a time.

use std::{
    collections::HashSet,
    convert::Infallible,
    path::{Path, PathBuf},
};

use super::{
    Error, Mirrors, Pin, Result, Settings, cache,
    download::{Downloader, Wanted},
    parallel,
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
    let paths: Vec<PathBuf> = pins.iter().map(|pin| directory.join(format!("{}.deb", pin.sha256))).collect();
    paths.iter().for_each(|path| crate::cache::touch(path));
    let missing = missing(pins, &paths);
    if missing.is_empty() {
        return Ok(paths);
    }
    if settings.offline {
        let names: Vec<_> = missing.iter().map(|(pin, _)| pin.name.as_str()).collect();
        return Err(Error::Offline { what: names.join(", ") });
    }
    let mirrors = Mirrors::discover(settings)?;
    let total = missing.iter().map(|(pin, _)| pin.size).sum();
    let step = progress.bytes("Fetching packages", Some(total));
    let downloader = Downloader::new();
    parallel::map(&missing, PARALLEL, |(pin, path)| {
        step.message(&pin.name);
        let what = format!("package {} {}", pin.name, pin.version);
        let url = format!("{}/{}", mirrors.base(pin.archive), pin.filename);
        let wanted = Wanted { what: &what, size: pin.size, sha256: &pin.sha256 };
        downloader.file(wanted, &url, path, &|bytes| step.inc(bytes))
    })?;
    step.done(&format!("{} packages", missing.len()));
    Ok(paths)
}

/// The pins that are not in the cache as they should be, each file once.
fn missing<'a>(pins: &'a [Pin], paths: &'a [PathBuf]) -> Vec<(&'a Pin, &'a Path)> {
    let mut seen = HashSet::new();
    let mut files: Vec<(&Pin, &Path)> = pins.iter().zip(paths.iter().map(PathBuf::as_path)).collect();
    files.retain(|(pin, _)| seen.insert(pin.sha256.as_str()));
    let Ok(held) = parallel::map::<_, _, Infallible>(&files, parallel::processors(), |(pin, path)| {
        Ok(cache::holds(path, pin.size, &pin.sha256))
    });
    files.into_iter().zip(held).filter_map(|(file, held)| (!held).then_some(file)).collect()
}
