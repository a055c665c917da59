//! Package indices: fetched, verified, and kept in memory with no more than the resolver needs.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    thread,
};

use super::{
    Archive, Error, Mirrors, Pin, Result, Settings, Skipped, Source, cache,
    download::{Downloader, Wanted},
    release::{IndexFile, Release},
    version,
};
use crate::progress::{Progress, Step};

/// A piece of [`Index::text`].
type Span = (u32, u32);

/// One suite's component for one architecture.
///
/// Field values lie end to end in one string and packages refer to them, which keeps the 68 000 packages of a Debian
/// component within a few tens of megabytes.
#[derive(Debug)]
pub(super) struct Index {
    /// Suite as asked for.
    pub(super) suite: String,
    /// Component.
    pub(super) component: String,
    /// Architecture as asked for.
    pub(super) arch: String,
    archive: Archive,
    /// Whether its packages are only taken when asked for by suite.
    pub(super) not_automatic: bool,
    text: String,
    /// Sorted by name, newest version first.
    packages: Vec<Record>,
}

#[derive(Clone, Debug, Default)]
struct Record {
    name: Span,
    version: Span,
    arch: Span,
    depends: Span,
    pre_depends: Span,
    provides: Span,
    conflicts: Span,
    breaks: Span,
    priority: Span,
    filename: Span,
    size: u64,
    sha256: Span,
}

/// A package of an index.
#[derive(Clone, Copy, Debug)]
pub(super) struct Package<'a> {
    /// The index that has it.
    pub(super) index: &'a Index,
    record: &'a Record,
}

impl<'a> Package<'a> {
    fn text(self, span: Span) -> &'a str {
        &self.index.text[span.0 as usize..span.1 as usize]
    }

    pub(super) fn name(self) -> &'a str {
        self.text(self.record.name)
    }

    pub(super) fn version(self) -> &'a str {
        self.text(self.record.version)
    }

    /// `Pre-Depends` and `Depends`.
    pub(super) fn depends(self) -> [&'a str; 2] {
        [
            self.text(self.record.pre_depends),
            self.text(self.record.depends),
        ]
    }

    pub(super) fn provides(self) -> &'a str {
        self.text(self.record.provides)
    }

    /// `Conflicts` and `Breaks`.
    pub(super) fn conflicts(self) -> [&'a str; 2] {
        [
            self.text(self.record.conflicts),
            self.text(self.record.breaks),
        ]
    }

    /// How much a system wants it, 0 most: the order of Debian's priorities.
    pub(super) fn priority(self) -> usize {
        let priorities = ["required", "important", "standard", "optional"];
        let own = self.text(self.record.priority);
        priorities
            .iter()
            .position(|p| *p == own)
            .unwrap_or(priorities.len())
    }

    pub(super) fn pin(self) -> Pin {
        Pin {
            name: self.name().into(),
            version: self.version().into(),
            arch: self.text(self.record.arch).into(),
            source: format!("{}/{}", self.index.suite, self.index.component),
            archive: self.index.archive,
            filename: self.text(self.record.filename).into(),
            size: self.record.size,
            sha256: self.text(self.record.sha256).into(),
        }
    }
}

impl Index {
    /// The packages of that name, newest first.
    pub(super) fn named<'a>(&'a self, name: &str) -> impl Iterator<Item = Package<'a>> + use<'a> {
        let own = |record: &Record| &self.text[record.name.0 as usize..record.name.1 as usize];
        let start = self.packages.partition_point(|record| own(record) < name);
        let count = self.packages[start..].partition_point(|record| own(record) == name);
        self.packages[start..start + count]
            .iter()
            .map(|record| Package {
                index: self,
                record,
            })
    }

    /// The packages whose `Provides` mentions `name`, as a part of another word too.
    pub(super) fn mentioning<'a>(&'a self, name: &str) -> impl Iterator<Item = Package<'a>> {
        self.packages
            .iter()
            .map(|record| Package {
                index: self,
                record,
            })
            .filter(move |package| package.provides().contains(name))
    }

    /// Reads a `Packages` file. `url` is for messages.
    fn parse(
        source: &Source,
        component: &str,
        not_automatic: bool,
        reader: impl BufRead,
        url: &str,
    ) -> Result<Self> {
        let mut index = Self {
            suite: source.suite.clone(),
            component: component.into(),
            arch: source.arch.clone(),
            archive: source.archive,
            not_automatic,
            text: String::new(),
            packages: Vec::new(),
        };
        index.read(reader).map_err(|reason| Error::Malformed {
            what: url.into(),
            reason,
        })?;
        index.text.shrink_to_fit();
        let text = &index.text;
        let get = |span: Span| &text[span.0 as usize..span.1 as usize];
        index.packages.sort_by(|a, b| {
            get(a.name)
                .cmp(get(b.name))
                .then_with(|| version::compare(get(b.version), get(a.version)))
        });
        Ok(index)
    }

    fn read(&mut self, mut reader: impl BufRead) -> Result<(), String> {
        let mut record = Record::default();
        let mut line = Vec::new();
        loop {
            line.clear();
            let n = reader
                .read_until(b'\n', &mut line)
                .map_err(|e| e.to_string())?;
            let field = line.trim_ascii_end();
            if field.is_empty() {
                if record.name != Span::default() {
                    self.packages
                        .push(self.checked(std::mem::take(&mut record))?);
                }
                if n == 0 {
                    return Ok(());
                }
                continue;
            }
            let Some(colon) = field.iter().position(|&c| c == b':') else {
                continue;
            };
            // A continuation line starts with a space and so has no known name; the fields below never have any.
            let slot = match &field[..colon] {
                b"Package" => &mut record.name,
                b"Version" => &mut record.version,
                b"Architecture" => &mut record.arch,
                b"Depends" => &mut record.depends,
                b"Pre-Depends" => &mut record.pre_depends,
                b"Provides" => &mut record.provides,
                b"Conflicts" => &mut record.conflicts,
                b"Breaks" => &mut record.breaks,
                b"Priority" => &mut record.priority,
                b"Filename" => &mut record.filename,
                b"SHA256" => &mut record.sha256,
                b"Size" => {
                    let text = String::from_utf8_lossy(field[colon + 1..].trim_ascii());
                    record.size = text
                        .parse()
                        .map_err(|_| format!("size `{text}` is not a number"))?;
                    continue;
                }
                _ => continue,
            };
            let value =
                std::str::from_utf8(field[colon + 1..].trim_ascii()).map_err(|e| e.to_string())?;
            let position =
                |at: usize| u32::try_from(at).map_err(|_| "it is larger than 4 GiB".to_owned());
            let start = position(self.text.len())?;
            self.text.push_str(value);
            *slot = (start, position(self.text.len())?);
        }
    }

    /// A record that has what a pin needs, its hash and path in the form that the lock also demands.
    fn checked(&self, record: Record) -> Result<Record, String> {
        let get = |span: Span| &self.text[span.0 as usize..span.1 as usize];
        let name = get(record.name);
        for (field, span) in [
            ("Version", record.version),
            ("Architecture", record.arch),
            ("Filename", record.filename),
        ] {
            if span.0 == span.1 {
                return Err(format!("package {name} has no {field}"));
            }
        }
        super::lock::check(get(record.sha256), get(record.filename))
            .map_err(|e| format!("package {name}: {e}"))?;
        Ok(record)
    }
}

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
    let loader = Loader {
        settings,
        mirrors: &mirrors,
        downloader: &downloader,
        step: &step,
    };
    let outcomes: Vec<Result<(Vec<Index>, i64)>> = thread::scope(|scope| {
        let threads: Vec<_> = sources
            .iter()
            .map(|source| scope.spawn(|| loader.source(source)))
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    });
    let mut loaded = Loaded {
        indices: Vec::new(),
        date: 0,
        skipped: Vec::new(),
    };
    for (source, outcome) in sources.iter().zip(outcomes) {
        match outcome {
            Ok((indices, date)) => {
                loaded.indices.extend(indices);
                loaded.date = loaded.date.max(date);
            }
            Err(e @ (Error::Mismatch { .. } | Error::Download { .. } | Error::Offline { .. })) => {
                let label = format!("{} {} ({})", source.suite, source.arch, source.archive);
                progress.note(&format!("warning: source {label} is left out: {e}"));
                loaded.skipped.push(Skipped {
                    source: label,
                    reason: e.to_string(),
                });
            }
            Err(e) => return Err(e),
        }
    }
    if loaded.indices.is_empty() {
        return Err(Error::NoIndex {
            skipped: loaded.skipped,
        });
    }
    let packages: usize = loaded
        .indices
        .iter()
        .map(|index| index.packages.len())
        .sum();
    step.done(&format!(
        "{packages} packages in {} indices",
        loaded.indices.len()
    ));
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
        let directory = cache::directory(
            self.settings,
            &format!("indices/{}/{}", source.archive, source.suite),
        )?;
        cache::sweep(&directory, self.settings.now);
        let base = format!(
            "{}/dists/{}",
            self.mirrors.base(source.archive),
            source.suite
        );
        let release = self.release(source, &base, &directory)?;
        let mut components = source.components.clone();
        components.sort();
        components.dedup();
        let mut indices = Vec::new();
        for component in &components {
            let (name, file) =
                release
                    .packages(component, &source.arch)
                    .ok_or_else(|| Error::Download {
                        what: format!("index of {}/{component} for {}", source.suite, source.arch),
                        url: format!("{base}/InRelease"),
                        reason: "the suite has no such component or architecture".into(),
                        missing: true,
                    })?;
            let path = self.packages(
                source,
                component,
                &base,
                &directory,
                &name,
                file,
                release.by_hash,
            )?;
            let url = format!("{base}/{name}");
            let reader = File::open(&path).map_err(Error::io("open", &path))?;
            let reader = BufReader::with_capacity(
                1 << 16,
                liblzma::read::XzDecoder::new_multi_decoder(reader),
            );
            indices.push(Index::parse(
                source,
                component,
                release.not_automatic,
                reader,
                &url,
            )?);
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
        let signature = |reason| Error::Signature {
            url: url.clone(),
            reason,
        };
        let text = self
            .settings
            .keyring
            .verify(&message, self.settings.now)
            .map_err(signature)?;
        let release = Release::parse(&text, &url)?;
        release.check(&source.suite, self.settings.now_unix(), &url)?;
        if !self.settings.offline {
            cache::write(&cached, &message)?;
        }
        Ok(release)
    }

    /// The cached `Packages.xz` with that hash, fetched when missing. Older ones of the same component are removed.
    #[allow(
        clippy::too_many_arguments,
        reason = "each is one step of the file's address"
    )]
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
        let wanted = Wanted {
            what: &what,
            size: file.size,
            sha256: &file.sha256,
        };
        let get = |url: &str| self.downloader.file(wanted, url, &target, &|_| ());
        let plain = format!("{base}/{name}");
        let by_hash = by_hash.then(|| name.rsplit_once('/')).flatten();
        match by_hash
            .map(|(folder, _)| get(&format!("{base}/{folder}/by-hash/SHA256/{}", file.sha256)))
        {
            // Some partial mirrors copy the index but not the files by hash; what comes is checked all the same.
            None | Some(Err(Error::Download { missing: true, .. })) => get(&plain)?,
            Some(outcome) => outcome?,
        }
        for entry in fs::read_dir(directory)
            .map_err(Error::io("read", directory))?
            .flatten()
        {
            if entry.file_name().to_string_lossy().starts_with(&stem) && entry.path() != target {
                let _gone = fs::remove_file(entry.path());
            }
        }
        Ok(target)
    }
}
