//! What the cache keeps, and for how long: everything in it can be made again, so what no build has used for a while may go.
//!
//! The rule: whatever a build uses gets the present time as its time of change; [`prune`] removes what was last used longer
//! ago than it is told. Package indices stay whatever their age: they are small, and they tell when a mirror goes back
//! behind what it has shown before.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde::Serialize;

/// Folders of the cache whose entries are kept or removed one by one.
const FOLDERS: [&str; 8] =
    ["container-images", "debs", "unpacked", "stages", "images", "runtime", "toolchain", "target"];
/// Folders below those whose own entries count.
const NESTED: [&str; 1] = ["stamps"];

/// One thing in the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Entry {
    /// The folder of the cache that it is in.
    pub kind: String,
    /// Where it is.
    pub path: PathBuf,
    /// Bytes of its files.
    pub size: u64,
    /// Days since a build used it.
    pub unused_days: u64,
}

/// Notes that a build uses this entry now. A cache that cannot be written to is of use all the same.
pub(crate) fn touch(path: &Path) {
    let _ = File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
}

/// Everything in the cache, by folder and then by age.
///
/// # Errors
/// A folder cannot be read.
pub fn entries(cache: &Path, now: SystemTime) -> io::Result<Vec<Entry>> {
    let mut found = Vec::new();
    for kind in FOLDERS {
        list(&cache.join(kind), kind, now, &mut found)?;
    }
    found.sort_by(|a, b| (&a.kind, a.unused_days, &a.path).cmp(&(&b.kind, b.unused_days, &b.path)));
    Ok(found)
}

fn list(folder: &Path, kind: &str, now: SystemTime, found: &mut Vec<Entry>) -> io::Result<()> {
    let items = match fs::read_dir(folder) {
        Ok(items) => items,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for item in items {
        let item = item?;
        let name = item.file_name().to_string_lossy().into_owned();
        if NESTED.contains(&name.as_str()) {
            list(&item.path(), kind, now, found)?;
            continue;
        }
        // Locks are held open by whoever waits for them.
        if name == "lock" || name == ".lock" {
            continue;
        }
        let used = item.metadata()?.modified()?;
        let unused = now.duration_since(used).unwrap_or_default();
        let path = item.path();
        found.push(Entry { kind: kind.to_owned(), size: size(&path)?, unused_days: unused.as_secs() / DAY, path });
    }
    Ok(())
}

const DAY: u64 = 24 * 3600;

/// Bytes of the files at and below a path.
fn size(path: &Path) -> io::Result<u64> {
    let meta = fs::symlink_metadata(path)?;
    if !meta.is_dir() {
        return Ok(meta.len());
    }
    fs::read_dir(path)?.map(|item| size(&item?.path())).sum()
}

/// Removes what no build has used for so many days, and tells what that was. With `dry_run` nothing is removed.
///
/// # Errors
/// A folder cannot be read, or an entry not be removed.
pub fn prune(cache: &Path, days: u64, now: SystemTime, dry_run: bool) -> io::Result<Vec<Entry>> {
    let old: Vec<Entry> = entries(cache, now)?.into_iter().filter(|entry| entry.unused_days >= days).collect();
    for entry in old.iter().filter(|_| !dry_run) {
        if entry.path.is_dir() { fs::remove_dir_all(&entry.path) } else { fs::remove_file(&entry.path) }?;
    }
    Ok(old)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_no_build_has_used_for_long_goes_and_indices_and_locks_stay() {
        let cache = tempfile::tempdir().expect("a directory");
        let at = |name: &str| cache.path().join(name);
        for name in ["debs/a.deb", "debs/b.deb", "unpacked/a/1", "runtime/stamps/s", "runtime/lock", "indices/debian/x"]
        {
            fs::create_dir_all(at(name).parent().expect("a folder")).expect("made");
            fs::write(at(name), "1234").expect("written");
        }
        let later = SystemTime::now() + Duration::from_secs(40 * DAY);
        let used = File::open(at("debs/b.deb")).expect("opened");
        used.set_modified(later - Duration::from_secs(DAY)).expect("touched");

        let told = prune(cache.path(), 30, later, true).expect("listed");
        let names: Vec<_> = told.iter().filter_map(|entry| entry.path.strip_prefix(cache.path()).ok()).collect();
        assert_eq!(names, ["debs/a.deb", "runtime/stamps/s", "unpacked/a"].map(Path::new));
        assert_eq!(told[2].size, 4);
        assert!(at("unpacked/a/1").exists(), "a dry run removes nothing");

        assert_eq!(prune(cache.path(), 30, later, false).expect("removed"), told);
        let left = ["debs/b.deb", "runtime/lock", "indices/debian/x"].map(|name| at(name).exists());
        assert_eq!(left, [true; 3]);
        assert!(!at("unpacked/a").exists() && !at("debs/a.deb").exists());
        assert!(prune(cache.path(), 30, later, false).expect("nothing").is_empty());
    }

    #[test]
    fn a_cache_that_is_not_there_is_empty() {
        let folder = tempfile::tempdir().expect("a directory");
        assert!(entries(&folder.path().join("none"), SystemTime::now()).expect("no error").is_empty());
    }

    #[test]
    fn using_an_entry_makes_it_young() {
        let folder = tempfile::tempdir().expect("a directory");
        File::open(folder.path()).expect("opened").set_modified(SystemTime::UNIX_EPOCH).expect("aged");
        touch(folder.path());
        let age = fs::metadata(folder.path()).and_then(|m| m.modified()).expect("read").elapsed().expect("past");
        assert!(age < Duration::from_secs(DAY));
    }
}
