//! A package index in memory, with no more than the resolver needs.

use std::io::BufRead;

use super::{Archive, Error, Pin, Result, Source, lock, version};

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
        [self.text(self.record.pre_depends), self.text(self.record.depends)]
    }

    pub(super) fn provides(self) -> &'a str {
        self.text(self.record.provides)
    }

    /// `Conflicts` and `Breaks`.
    pub(super) fn conflicts(self) -> [&'a str; 2] {
        [self.text(self.record.conflicts), self.text(self.record.breaks)]
    }

    /// How much a system wants it, 0 most: the order of Debian's priorities.
    pub(super) fn priority(self) -> usize {
        let priorities = ["required", "important", "standard", "optional"];
        let own = self.text(self.record.priority);
        priorities.iter().position(|p| *p == own).unwrap_or(priorities.len())
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
    /// How many packages there are.
    pub(super) fn len(&self) -> usize {
        self.packages.len()
    }

    /// The packages of that name, newest first.
    pub(super) fn named<'a>(&'a self, name: &str) -> impl Iterator<Item = Package<'a>> + use<'a> {
        let own = |record: &Record| &self.text[record.name.0 as usize..record.name.1 as usize];
        let start = self.packages.partition_point(|record| own(record) < name);
        let count = self.packages[start..].partition_point(|record| own(record) == name);
        self.packages[start..start + count].iter().map(|record| Package { index: self, record })
    }

    /// The packages whose `Provides` mentions `name`, as a part of another word too.
    pub(super) fn mentioning<'a>(&'a self, name: &str) -> impl Iterator<Item = Package<'a>> {
        self.packages
            .iter()
            .map(|record| Package { index: self, record })
            .filter(move |package| package.provides().contains(name))
    }

    /// Reads a `Packages` file. `url` is for messages.
    pub(super) fn parse(
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
        index.read(reader).map_err(|reason| Error::Malformed { what: url.into(), reason })?;
        index.text.shrink_to_fit();
        let text = &index.text;
        let get = |span: Span| &text[span.0 as usize..span.1 as usize];
        index.packages.sort_by(|a, b| {
            get(a.name).cmp(get(b.name)).then_with(|| version::compare(get(b.version), get(a.version)))
        });
        Ok(index)
    }

    fn read(&mut self, mut reader: impl BufRead) -> Result<(), String> {
        let mut record = Record::default();
        let mut line = Vec::new();
        loop {
            line.clear();
            let n = reader.read_until(b'\n', &mut line).map_err(|e| e.to_string())?;
            let field = line.trim_ascii_end();
            if field.is_empty() {
                if record.name != Span::default() {
                    self.packages.push(self.checked(std::mem::take(&mut record))?);
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
                    record.size = text.parse().map_err(|_| format!("size `{text}` is not a number"))?;
                    continue;
                }
                _ => continue,
            };
            let value = std::str::from_utf8(field[colon + 1..].trim_ascii()).map_err(|e| e.to_string())?;
            let position = |at: usize| u32::try_from(at).map_err(|_| "it is larger than 4 GiB".to_owned());
            let start = position(self.text.len())?;
            self.text.push_str(value);
            *slot = (start, position(self.text.len())?);
        }
    }

    /// A record that has what a pin needs, its hash and path in the form that the lock also demands.
    fn checked(&self, record: Record) -> Result<Record, String> {
        let get = |span: Span| &self.text[span.0 as usize..span.1 as usize];
        let name = get(record.name);
        for (field, span) in [("Version", record.version), ("Architecture", record.arch), ("Filename", record.filename)]
        {
            if span.0 == span.1 {
                return Err(format!("package {name} has no {field}"));
            }
        }
        lock::check(get(record.sha256), get(record.filename)).map_err(|e| format!("package {name}: {e}"))?;
        Ok(record)
    }
}
