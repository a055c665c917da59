//! The indices of all sources: fetched, verified, cached and read.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::BufReader,
    path::{Path, PathBuf},
    thread,
};

use super::{
    Error, Mirrors, Result, Settings, Skipped, Source, cache,
    download::{Downloader, Wanted},
    index::Index,
    release::{IndexFile, Release},
};
use crate::progress::{Progress, Step};

/// The indices of all sources that could be used.
#[derive(Debug)]
pub(super) struct Loaded {
    /// Sorted by archive, suite and component, so that the order of the sources makes no difference.
    pub(super) indices: Vec<Index>,
    /// Newest `Date`.
    pub(super) date: i64,
    /// The sources that could not be used.
    pub(super) skipped: Vec<Skipped>,
}

/// Loads the indices of `sources`; a source that is out of sync or unreachable is left out with its reason, one that
/// fails a check of authenticity or age is an error.
pub(super) fn load(settings: &Settings, sources: &[Source], progress: &Progress) -> Result<Loaded> {
    let architectures: BTreeSet<&str> = sources.iter().map(|source| source.arch.as_str()).collect();
    if architectures.len() > 1 {
        let architectures = architectures.into_iter().collect::<Vec<_>>().join(", ");
        return Err(Error::MixedArchitectures { architectures });
    }
    let mut sources = sources.to_vec();
    sources.sort_by(|a, b| (a.archive, &a.suite).cmp(&(b.archive, &b.suite)));
    let mirrors = Mirrors::discover(settings)?;
    let downloader = Downloader::new();
    let step = progress.step("Reading package indices", Some(sources.len() as u64));
    let loader = Loader { settings, mirrors: &mirrors, downloader: &downloader, step: &step };
    let outcomes: Vec<Result<(Vec<Index>, i64)>> = thread::scope(|scope| {
        let threads: Vec<_> = sources.iter().map(|source| scope.spawn(|| loader.source(source))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let mut loaded = Loaded { indices: Vec::new(), date: 0, skipped: Vec::new() };
    for (source, outcome) in sources.iter().zip(outcomes) {
        match outcome {
            Ok((indices, date)) => {
                loaded.indices.extend(indices);
                loaded.date = loaded.date.max(date);
            }
            Err(e @ (Error::Mismatch { .. } | Error::Download { .. } | Error::Offline { .. })) => {
                let label = format!("{} {} ({})", source.suite, source.arch, source.archive);
                progress.note(&format!("warning: source {label} is left out: {e}"));
                loaded.skipped.push(Skipped { source: label, reason: e.to_string() });
            }
            Err(e) => return Err(e),
        }
    }
    if loaded.indices.is_empty() {
        return Err(Error::NoIndex { skipped: loaded.skipped });
    }
    let packages: usize = loaded.indices.iter().map(|index| index.len()).sum();
    step.done(&format!("{packages} packages in {} indices", loaded.indices.len()));
    Ok(loaded)
}

/// What loading one source needs.
struct Loader<'a> {
    settings: &'a Settings,
    mirrors: &'a Mirrors,
    downloader: &'a Downloader,
    step: &'a Step,
}

impl Loader<'_> {
    /// Loads all components of a source, and its date.
    fn source(&self, source: &Source) -> Result<(Vec<Index>, i64)> {
        let directory = cache::directory(self.settings, &format!("indices/{}/{}", source.archive, source.suite))?;
        cache::sweep(&directory, self.settings.now);
        let base = format!("{}/dists/{}", self.mirrors.base(source.archive), source.suite);
        let release = self.release(source, &base, &directory)?;
        let mut components = source.components.clone();
        components.sort();
        components.dedup();
        let mut indices = Vec::new();
        for component in &components {
            let (name, file) = release.packages(component, &source.arch).ok_or_else(|| Error::Download {
                what: format!("index of {}/{component} for {}", source.suite, source.arch),
                url: format!("{base}/InRelease"),
                reason: "the suite has no such component or architecture".into(),
                missing: true,
            })?;
            let path = self.packages(source, component, &base, &directory, &name, file, release.by_hash)?;
            let url = format!("{base}/{name}");
            let reader = File::open(&path).map_err(Error::io("open", &path))?;
            let reader = BufReader::with_capacity(1 << 16, liblzma::read::XzDecoder::new_multi_decoder(reader));
            indices.push(Index::parse(source, component, release.not_automatic, reader, &url)?);
        }
        self.step.inc(1);
        Ok((indices, release.date))
    }

    /// The suite's signed index, verified and current; offline, the one seen last.
    fn release(&self, source: &Source, base: &str, directory: &Path) -> Result<Release> {
        let what = format!("index of suite {}", source.suite);
        let url = format!("{base}/InRelease");
        let cached = directory.join("InRelease");
        let message = match self.settings.offline {
            true => fs::read(&cached).map_err(|_| Error::Offline { what })?,
            false => self.downloader.text(&what, &url)?,
        };
        let signature = |reason| Error::Signature { url: url.clone(), reason };
        let text = self.settings.keyring.verify(&message, self.settings.now).map_err(signature)?;
        let release = Release::parse(&text, &url)?;
        release.check(&source.suite, self.settings.now_unix(), &url)?;
        if !self.settings.offline {
            if let Some(known) = self.known(&cached, &url).filter(|known| release.date < known.date) {
                let (date, seen) = (release.date_text, known.date_text);
                return Err(Error::Rollback { url, date, seen, known: cached });
            }
            cache::write(&cached, &message)?;
        }
        Ok(release)
    }

    /// The index that was seen last. One that cannot be read or whose key is no longer trusted counts for nothing.
    fn known(&self, cached: &Path, url: &str) -> Option<Release> {
        let message = fs::read(cached).ok()?;
        let text = self.settings.keyring.verify(&message, self.settings.now).ok()?;
        Release::parse(&text, url).ok()
    }

    /// The cached `Packages.xz` with that hash, fetched when missing. Older ones of the same component are removed.
    #[allow(clippy::too_many_arguments, reason = "each is one step of the file's address")]
    fn packages(
        &self,
        source: &Source,
        component: &str,
        base: &str,
        directory: &Path,
        name: &str,
        file: &IndexFile,
        by_hash: bool,
    ) -> Result<PathBuf> {
        let stem = format!("{}-{}-", component.replace('/', "_"), source.arch);
        let target = directory.join(format!("{stem}{}.xz", file.sha256));
        if cache::holds(&target, file.size, &file.sha256) {
            return Ok(target);
        }
        let what = format!("index of {}/{component} for {}", source.suite, source.arch);
        if self.settings.offline {
            return Err(Error::Offline { what });
        }
        let wanted = Wanted { what: &what, size: file.size, sha256: &file.sha256 };
        let get = |url: &str| self.downloader.file(wanted, url, &target, &|_| ());
        let plain = format!("{base}/{name}");
        let by_hash = by_hash.then(|| name.rsplit_once('/')).flatten();
        match by_hash.map(|(folder, _)| get(&format!("{base}/{folder}/by-hash/SHA256/{}", file.sha256))) {
            // Some partial mirrors copy the index but not the files by hash; what comes is checked all the same.
            None | Some(Err(Error::Download { missing: true, .. })) => get(&plain)?,
            Some(outcome) => outcome?,
        }
        for entry in fs::read_dir(directory).map_err(Error::io("read", directory))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(&stem) && entry.path() != target {
                let _gone = fs::remove_file(entry.path());
            }
        }
        Ok(target)
    }
}
