//! Files that change all at once. A volume's visible names are links into `..data`, which is a link to a folder named after the
//! time of its making; renaming a new link over `..data` shows all new files in one step. The names are those of the upstream
//! kubelet's AtomicWriter, which programs watch for.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Component, Path, PathBuf};

use jiff::Timestamp;
use kiln_apimachinery::random;

use super::dirs::{make, names};

/// The link that all visible names lead through.
const DATA: &str = "..data";
/// What it is called while it is made.
const NEW_DATA: &str = "..data_tmp";
const MOST_NAME: usize = 255;
const MOST_PATH: usize = 4096;

/// One file to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File<'a> {
    pub(crate) data: Cow<'a, [u8]>,
    /// Permission bits.
    pub(crate) mode: u32,
    /// Whose it is, if not root's.
    pub(crate) owner: Option<u32>,
}

/// Files by their paths in the volume.
pub(crate) type Payload<'a> = BTreeMap<String, File<'a>>;

/// Makes a volume's folder hold just these files. `prepare` is called once new files are written and before they are seen.
pub(crate) fn write(
    dir: &Path,
    payload: &Payload<'_>,
    now: Timestamp,
    prepare: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    let payload = clean(payload)?;
    let data = dir.join(DATA);
    let old = match fs::read_link(&data) {
        Ok(old) => Some(dir.join(old)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let surplus = match &old {
        Some(old) => surplus(old, &payload)?,
        None => BTreeSet::new(),
    };
    let is_current = match &old {
        Some(old) => surplus.is_empty() && payload.iter().all(|(path, file)| is_same(&old.join(path), file)),
        None => false,
    };
    if !is_current {
        let new = make_new(dir, &payload, now)?;
        if let Err(error) = prepare().and_then(|()| publish(dir, &new)) {
            // What was half made must not stay; the first error says more than one of the clean-up.
            _ = fs::remove_dir_all(&new);
            return Err(error);
        }
    }
    show(dir, &payload)?;
    for name in surplus.iter().filter(|path| path.components().count() == 1) {
        fs::remove_file(dir.join(name))?;
    }
    match old {
        Some(old) if !is_current => remove_if_there(&old),
        _ => Ok(()),
    }
}

/// The payload with paths that stay inside the folder and clear of the names used here.
fn clean<'p>(payload: &'p Payload<'p>) -> io::Result<BTreeMap<PathBuf, &'p File<'p>>> {
    let refuse = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
    let mut cleaned = BTreeMap::new();
    for (text, file) in payload {
        if text.is_empty() {
            return Err(refuse("invalid path: must not be empty: \"\"".to_owned()));
        }
        if text.len() > MOST_PATH {
            return Err(refuse(format!("invalid path: must be less than or equal to {MOST_PATH} characters")));
        }
        let mut path = PathBuf::new();
        for part in Path::new(text).components() {
            match part {
                Component::RootDir | Component::Prefix(_) => {
                    return Err(refuse(format!("invalid path: must be relative path: {text}")));
                }
                Component::ParentDir => return Err(refuse(format!("invalid path: must not contain '..': {text}"))),
                Component::CurDir => {}
                Component::Normal(name) if name.len() > MOST_NAME => {
                    let why = "invalid path: filenames must be less than or equal to 255 characters";
                    return Err(refuse(why.to_owned()));
                }
                Component::Normal(name) => path.push(name),
            }
        }
        if path.to_string_lossy().starts_with("..") {
            return Err(refuse(format!("invalid path: must not start with '..': {text}")));
        }
        cleaned.insert(path, file);
    }
    Ok(cleaned)
}

/// Whether a file is there with the same content.
fn is_same(path: &Path, file: &File<'_>) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() == file.data.len() as u64)
        && fs::read(path).is_ok_and(|content| content == *file.data)
}

/// What the old folder has and the payload has not, relative to it.
fn surplus(old: &Path, payload: &BTreeMap<PathBuf, &File<'_>>) -> io::Result<BTreeSet<PathBuf>> {
    let kept: BTreeSet<&Path> = payload.keys().flat_map(|path| path.ancestors()).collect();
    let mut found = BTreeSet::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for name in names(&old.join(&folder))? {
            let path = folder.join(name);
            if fs::symlink_metadata(old.join(&path))?.is_dir() {
                folders.push(path.clone());
            }
            if !kept.contains(path.as_path()) {
                found.insert(path);
            }
        }
    }
    Ok(found)
}

/// Writes the payload into a new folder and answers it.
fn make_new(dir: &Path, payload: &BTreeMap<PathBuf, &File<'_>>, now: Timestamp) -> io::Result<PathBuf> {
    let suffix = random::bytes::<4>().map_err(io::Error::other)?;
    let time = now.strftime("..%Y_%m_%d_%H_%M_%S");
    let new = dir.join(format!("{time}.{}", u32::from_be_bytes(suffix)));
    fs::create_dir(&new)?;
    // Whatever the umask is: groups and others must get through to the files.
    fs::set_permissions(&new, Permissions::from_mode(0o755))?;
    for (path, file) in payload {
        let place = new.join(path);
        if let Some(parent) = place.parent() {
            make(parent, 0o777)?;
        }
        fs::write(&place, &file.data)?;
        fs::set_permissions(&place, Permissions::from_mode(file.mode))?;
        if file.owner.is_some() {
            lchown(&place, file.owner, None)?;
        }
    }
    Ok(new)
}

fn publish(dir: &Path, new: &Path) -> io::Result<()> {
    let link = dir.join(NEW_DATA);
    // One that a crash has left.
    match fs::remove_file(&link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(new.file_name().unwrap_or_default(), &link)?;
    fs::rename(&link, dir.join(DATA))
}

/// Makes the links for what is new among the visible names.
fn show(dir: &Path, payload: &BTreeMap<PathBuf, &File<'_>>) -> io::Result<()> {
    for (path, file) in payload {
        let Some(Component::Normal(name)) = path.components().next() else { continue };
        let visible = dir.join(name);
        if fs::symlink_metadata(&visible).is_ok() {
            continue;
        }
        symlink(Path::new(DATA).join(name), &visible)?;
        if file.owner.is_some() {
            lchown(&visible, file.owner, None)?;
        }
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(files: &[(&str, &'static str)]) -> Payload<'static> {
        let file = |text: &'static str| File { data: Cow::Borrowed(text.as_bytes()), mode: 0o640, owner: None };
        files.iter().map(|(path, text)| ((*path).to_owned(), file(text))).collect()
    }

    fn put(dir: &Path, files: &[(&str, &'static str)]) -> io::Result<()> {
        write(dir, &payload(files), Timestamp::UNIX_EPOCH, || Ok(()))
    }

    /// What a program in the pod sees: paths and contents, without the names that begin with two dots.
    fn seen(dir: &Path) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            for name in names(&dir.join(&folder)).expect("a folder") {
                let path = folder.join(&name);
                if name.starts_with("..") {
                    continue;
                }
                if dir.join(&path).is_dir() {
                    folders.push(path);
                } else {
                    let text = fs::read_to_string(dir.join(&path)).expect("a file");
                    found.push((path.to_string_lossy().into_owned(), text));
                }
            }
        }
        found.sort();
        found
    }

    fn own(files: &[(&str, &str)]) -> Vec<(String, String)> {
        files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn files_come_change_and_go_and_nothing_is_left_behind() {
        let dir = tempfile::tempdir().expect("a folder");
        let steps: [&[(&str, &'static str)]; 6] = [
            &[("a", "1"), ("b/c", "2")],
            &[("a", "1"), ("b/c", "3")],
            &[("a", "1"), ("b/d/e", "3"), ("f", "")],
            &[("b/d/e", "3")],
            &[],
            &[("./g", "4")],
        ];
        for files in steps {
            put(dir.path(), files).expect("written");
            let expected: Vec<_> = files.iter().map(|(path, text)| (path.trim_start_matches("./"), *text)).collect();
            assert_eq!(seen(dir.path()), own(&expected));
            let hidden = names(dir.path()).expect("a folder").into_iter().filter(|name| name.starts_with("..")).count();
            assert_eq!(hidden, 2, "one folder and the link to it");
        }
        assert_eq!(fs::metadata(dir.path().join("g")).expect("a file").permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn what_is_the_same_is_not_written_again_but_lost_links_are_made_anew() {
        let dir = tempfile::tempdir().expect("a folder");
        put(dir.path(), &[("a", "1")]).expect("written");
        let before = fs::read_link(dir.path().join(DATA)).expect("a link");
        fs::remove_file(dir.path().join("a")).expect("removed");
        put(dir.path(), &[("a", "1")]).expect("written");
        assert_eq!(fs::read_link(dir.path().join(DATA)).expect("a link"), before);
        assert_eq!(seen(dir.path()), own(&[("a", "1")]));
    }

    #[test]
    fn the_change_is_seen_in_one_step_and_a_failure_before_it_changes_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        put(dir.path(), &[("a", "1")]).expect("written");
        fs::write(dir.path().join(NEW_DATA), "left by a crash").expect("a file");
        let failed = write(dir.path(), &payload(&[("a", "2")]), Timestamp::UNIX_EPOCH, || {
            assert_eq!(fs::read_to_string(dir.path().join("a")).expect("a file"), "1");
            Err(io::Error::other("no"))
        });
        assert_eq!(failed.expect_err("refused").to_string(), "no");
        assert_eq!(seen(dir.path()), own(&[("a", "1")]));
        put(dir.path(), &[("a", "2")]).expect("written");
        assert_eq!(seen(dir.path()), own(&[("a", "2")]));
    }

    #[test]
    fn paths_must_stay_inside() {
        let dir = tempfile::tempdir().expect("a folder");
        let long = "x".repeat(256);
        let rows = [
            ("", "invalid path: must not be empty: \"\""),
            ("/a", "invalid path: must be relative path: /a"),
            ("a/../b", "invalid path: must not contain '..': a/../b"),
            ("..a", "invalid path: must not start with '..': ..a"),
            (long.as_str(), "invalid path: filenames must be less than or equal to 255 characters"),
        ];
        for (path, why) in rows {
            assert_eq!(put(dir.path(), &[(path, "1")]).expect_err("refused").to_string(), why);
        }
    }
}
