//! Reading a `.deb`: an `ar` archive of `control.tar.*` and `data.tar.*`, streamed.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{Error, Result, paragraph::Paragraph};

const MAGIC: &[u8; 8] = b"!<arch>\n";
const HEADER: usize = 60;

/// A `.deb` whose control file has been read.
#[derive(Debug)]
pub struct Deb {
    path: PathBuf,
    control: Paragraph,
    data: Member,
}

/// A part of the `ar` archive.
#[derive(Clone, Debug)]
struct Member {
    name: String,
    offset: u64,
    size: u64,
}

/// What a package puts at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file of that many bytes.
    File(u64),
    /// A symbolic link and its target as written.
    Symlink(String),
    /// Another name for a file that came earlier: its absolute path.
    Hardlink(String),
}

/// One member of a package's file tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Absolute path without a trailing slash, as packed (not merged into `/usr`).
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Deb {
    /// Opens a package, checks that the file holds all its members, and reads its control file.
    ///
    /// # Errors
    /// [`Error::Truncated`] when the file ends early, [`Error::BadDeb`] when it is not a Debian package, [`Error::Io`].
    pub fn open(path: &Path) -> Result<Self> {
        let members = members(path)?;
        let find = |prefix: &str| {
            members
                .iter()
                .find(|member| member.name.starts_with(prefix))
                .cloned()
                .ok_or_else(|| bad(path, format!("not a Debian package: no {prefix}* in it")))
        };
        let (control, data) = (find("control.tar")?, find("data.tar")?);
        let mut text = None;
        walk(path, &control, &mut |entry, content| {
            if entry.path == "/control" {
                let mut buffer = String::new();
                content.read_to_string(&mut buffer).map_err(|e| unreadable(path, &control, &e))?;
                text = Some(buffer);
            }
            Ok(())
        })?;
        let text = text.ok_or_else(|| bad(path, "control.tar has no control file".into()))?;
        let control = Paragraph::parse(&text).map_err(|reason| bad(path, format!("control file: {reason}")))?;
        Ok(Self { path: path.into(), control, data })
    }

    /// A field of the control file, unfolded.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.control.get(name)
    }

    /// Calls `visit` for each member of the file tree in the order of the archive, with its content (empty but for
    /// regular files). What `visit` does not read is skipped.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::BadDeb`] for a path with `..`, an unknown member type or a damaged archive, and
    /// whatever `visit` returns.
    pub fn visit(&self, visit: &mut dyn FnMut(Entry, &mut dyn Read) -> Result<()>) -> Result<()> {
        walk(&self.path, &self.data, visit)
    }
}

fn bad(path: &Path, reason: String) -> Error {
    Error::BadDeb { path: path.into(), reason }
}

fn unreadable(path: &Path, member: &Member, e: &io::Error) -> Error {
    match e.kind() {
        io::ErrorKind::UnexpectedEof => Error::Truncated { path: path.into(), reason: format!("{}: {e}", member.name) },
        _ => bad(path, format!("{}: {e}", member.name)),
    }
}

/// Lists the members of the `ar` archive; each must lie within the file.
fn members(path: &Path) -> Result<Vec<Member>> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let length = file.metadata().map_err(Error::io("read", path))?.len();
    let truncated = |reason: String| Error::Truncated { path: path.into(), reason };
    let mut magic = [0; MAGIC.len()];
    if length < MAGIC.len() as u64 {
        return Err(truncated(format!("it has {length} bytes")));
    }
    file.read_exact(&mut magic).map_err(Error::io("read", path))?;
    if &magic != MAGIC {
        return Err(bad(path, "not a Debian package: it does not start as an ar archive".into()));
    }
    let mut members = Vec::new();
    let mut at = MAGIC.len() as u64;
    while at < length {
        if length - at < HEADER as u64 {
            return Err(truncated(format!("an archive header at byte {at} is cut off")));
        }
        let mut header = [0; HEADER];
        file.seek(SeekFrom::Start(at)).map_err(Error::io("read", path))?;
        file.read_exact(&mut header).map_err(Error::io("read", path))?;
        let text = |range: std::ops::Range<usize>| String::from_utf8_lossy(&header[range]).trim_end().to_owned();
        let name = text(0..16).trim_end_matches('/').to_owned();
        let size: u64 = match text(48..58).parse() {
            Ok(size) if header[58..] == *b"`\n" => size,
            _ => return Err(bad(path, format!("damaged archive header at byte {at}"))),
        };
        let offset = at + HEADER as u64;
        let has = length - offset;
        if size > has {
            return Err(truncated(format!("{name} should have {size} bytes, the file has {has} left")));
        }
        members.push(Member { name, offset, size });
        at = offset + size + size % 2;
    }
    Ok(members)
}

/// Streams a tar member, decompressed by its suffix.
fn walk(path: &Path, member: &Member, visit: &mut dyn FnMut(Entry, &mut dyn Read) -> Result<()>) -> Result<()> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    file.seek(SeekFrom::Start(member.offset)).map_err(Error::io("read", path))?;
    let packed = BufReader::with_capacity(64 * 1024, file).take(member.size);
    let broken = |e: io::Error| unreadable(path, member, &e);
    let plain: Box<dyn Read> = match member.name.rsplit_once('.').map(|(_, suffix)| suffix) {
        Some("xz") => Box::new(liblzma::read::XzDecoder::new_multi_decoder(packed)),
        Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(packed)),
        Some("zst") => Box::new(zstd::stream::read::Decoder::new(packed).map_err(broken)?),
        Some("tar") => Box::new(packed),
        _ => return Err(bad(path, format!("{}: unknown compression", member.name))),
    };
    let mut archive = tar::Archive::new(plain);
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let Some(described) = describe(&entry).map_err(|reason| bad(path, format!("{}: {reason}", member.name)))?
        else {
            continue;
        };
        visit(described, &mut entry)?;
    }
    // The decoder checks its checksum only at its end, which lies behind the tar's.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(broken)?;
    Ok(())
}

/// Turns a tar header into an [`Entry`]; `None` for the root directory and for a comment on the whole archive.
fn describe<R: Read>(entry: &tar::Entry<'_, R>) -> Result<Option<Entry>, String> {
    let raw = String::from_utf8(entry.path_bytes().into_owned()).map_err(|e| format!("path is not UTF-8: {e}"))?;
    let Some(path) = absolute(&raw)? else {
        return Ok(None);
    };
    let header = entry.header();
    if header.entry_type().is_pax_global_extensions() {
        return Ok(None);
    }
    let number = |value: io::Result<u64>, what: &str| {
        value.ok().and_then(|value| u32::try_from(value).ok()).ok_or_else(|| format!("{path}: bad {what}"))
    };
    let target = || -> Result<String, String> {
        let bytes = entry.link_name_bytes().ok_or_else(|| format!("{path}: link without a target"))?;
        String::from_utf8(bytes.into_owned()).map_err(|e| format!("{path}: link target is not UTF-8: {e}"))
    };
    let kind = match header.entry_type() {
        tar::EntryType::Directory => EntryKind::Directory,
        tar::EntryType::Regular | tar::EntryType::Continuous => EntryKind::File(entry.size()),
        tar::EntryType::Symlink => EntryKind::Symlink(target()?),
        tar::EntryType::Link => EntryKind::Hardlink(
            absolute(&target()?)?.ok_or_else(|| format!("{path}: hard link to the root directory"))?,
        ),
        other => {
            return Err(format!("{path}: member of type {other:?}, which packages may not have"));
        }
    };
    let mode = number(header.mode().map(u64::from), "mode")? & 0o7777;
    let (uid, gid) = (number(header.uid(), "owner")?, number(header.gid(), "group")?);
    Ok(Some(Entry { path, kind, mode, uid, gid }))
}

/// `./usr/bin/` to `/usr/bin`; `None` for the root. A `..` is refused: it could leave the tree.
fn absolute(raw: &str) -> Result<Option<String>, String> {
    let mut path = String::with_capacity(raw.len() + 1);
    for part in raw.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(format!("path `{raw}` contains `..`")),
            part => {
                path.push('/');
                path.push_str(part);
            }
        }
    }
    Ok((!path.is_empty()).then_some(path))
}
