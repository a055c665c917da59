//! Packages unpacked into a directory, for tools that this program runs itself.

use std::{collections::HashSet, fs, io, os::unix::fs::symlink, path::Path};

use super::{
    super::{Deb, Entry, EntryKind, Error, Result},
    merged, write_file,
};

/// Unpacks a package below `directory` for private use: as the calling user, paths merged into `/usr`, absolute symbolic
/// links turned into relative ones so that they stay inside. What is there is replaced. Of paths that `keeps` says no to
/// nothing is written.
///
/// # Errors
/// [`Error::Truncated`]; [`Error::BadDeb`], also for a path that leads through a symbolic link; [`Error::Io`].
pub fn unpack_to_dir(deb: &Path, directory: &Path, keeps: &dyn Fn(&str) -> bool) -> Result<()> {
    let mut made = HashSet::new();
    make_directory(directory, "", &mut made, deb)?;
    Deb::open(deb)?.visit(&mut |entry, content| {
        let path = merged(&entry);
        if !keeps(&path) {
            return Ok(());
        }
        let at = directory.join(&path[1..]);
        let (parent, _) = path.rsplit_once('/').unwrap_or(("", ""));
        if matches!(entry.kind, EntryKind::Directory) {
            return make_directory(directory, &path, &mut made, deb);
        }
        make_directory(directory, parent, &mut made, deb)?;
        match fs::remove_file(&at) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("replace", at)(e));
            }
            _ => {}
        }
        match &entry.kind {
            EntryKind::Directory => Ok(()),
            EntryKind::File(size) => write_file(content, *size, &at, entry.mode & 0o777 | 0o600, deb),
            EntryKind::Symlink(target) => symlink(inside(target, &path), &at).map_err(Error::io("create", at)),
            EntryKind::Hardlink(target) => {
                let target = merged(&Entry { path: target.clone(), ..entry.clone() });
                let (target_parent, _) = target.rsplit_once('/').unwrap_or(("", ""));
                make_directory(directory, target_parent, &mut made, deb)?;
                fs::hard_link(directory.join(&target[1..]), &at).map_err(Error::io("create", at))
            }
        }
    })
}

/// Makes `root` and the directories of `path` (absolute, within it), and refuses to go through a symbolic link, which
/// could lead out.
fn make_directory(root: &Path, path: &str, made: &mut HashSet<String>, deb: &Path) -> Result<()> {
    if made.contains(path) {
        return Ok(());
    }
    if path.is_empty() {
        fs::create_dir_all(root).map_err(Error::io("create", root))?;
    } else {
        let (parent, _) = path.rsplit_once('/').unwrap_or(("", ""));
        make_directory(root, parent, made, deb)?;
        let at = root.join(&path[1..]);
        match fs::create_dir(&at) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                let meta = fs::symlink_metadata(&at).map_err(Error::io("read", &at))?;
                if !meta.is_dir() {
                    let reason = format!("{path} is used as a directory, but it is a link or a file");
                    return Err(Error::BadDeb { path: deb.into(), reason });
                }
            }
            outcome => outcome.map_err(Error::io("create", at))?,
        }
    }
    made.insert(path.into());
    Ok(())
}

/// The target of a symbolic link at `path`; an absolute one becomes relative, so that it stays below the same root.
fn inside(target: &str, path: &str) -> String {
    match target.strip_prefix('/') {
        Some(rest) => format!("{}{rest}", "../".repeat(path.matches('/').count() - 1)),
        None => target.into(),
    }
}
