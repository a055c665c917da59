//! Mirrors and credentials of image registries: one file, `registries.toml`, or `registries.yaml` as K3s reads it.
//!
//! In flow the first of some files that is there; out flow containerd's own `<host>/hosts.toml`, which it reads at each pull, and the
//! credentials, which it reads at its start. The file is looked at before each pull, so that a change to it is heeded by the next one;
//! containerd alone is started again if credentials changed, and no pod notices.

mod file;
mod hosts;

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::sync::watch;

use file::Settings;
pub use file::{Auth, RegistriesError};

/// Names of the file in each of the folders, the first that is there counts.
const NAMES: [&str; 2] = ["registries.toml", "registries.yaml"];
/// The first words of a file that is ours to change or remove.
const MARK: &str = "# Written by kiln from ";

/// The settings, as far as they are known, and where they are written to. Cloning it is cheap and shares them.
#[derive(Debug, Clone)]
pub struct Registries(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    files: Vec<PathBuf>,
    /// Containerd's folder for `<host>/hosts.toml`.
    folder: PathBuf,
    seen: Mutex<Seen>,
    credentials: watch::Sender<Vec<(String, Auth)>>,
}

/// What the last look saw.
#[derive(Debug, Default)]
struct Seen {
    state: Option<State>,
}

/// A file, its time of change and size.
type State = Option<(PathBuf, Option<SystemTime>, u64)>;

impl Registries {
    /// Settings in the first of these files or, of a folder, in the first of its files with one of the usual names. `folder` is
    /// containerd's. Nothing is read yet.
    pub fn new(places: &[PathBuf], folder: PathBuf) -> Self {
        let files = places.iter().flat_map(|place| match place.extension() {
            Some(_) => vec![place.clone()],
            None => NAMES.iter().map(|name| place.join(name)).collect(),
        });
        let files = files.collect();
        Self(Arc::new(Shared { files, folder, seen: Mutex::default(), credentials: watch::channel(Vec::new()).0 }))
    }

    /// Containerd's folder for `<host>/hosts.toml`.
    pub fn folder(&self) -> &Path {
        &self.0.folder
    }

    /// Credentials by registry, and news of them.
    pub(crate) fn credentials(&self) -> watch::Receiver<Vec<(String, Auth)>> {
        self.0.credentials.subscribe()
    }

    /// Looks whether the file has changed, and if so writes what it says. A file that is wrong changes nothing: what held before
    /// holds. Answers whether the credentials are others than before.
    ///
    /// # Errors
    /// What is wrong with the file, once for each change of it; or what cannot be written.
    pub fn refresh(&self) -> Result<bool, RegistriesError> {
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.state();
        if seen.state.as_ref() == Some(&state) {
            return Ok(false);
        }
        let settings = match &state {
            Some((path, ..)) => {
                let parsed = Settings::read(path);
                // Told once, and looked at again when it changes.
                seen.state = Some(state.clone());
                parsed?
            }
            None => Settings::default(),
        };
        let source = state.as_ref().map(|(path, ..)| path.clone()).unwrap_or_default();
        self.write(&settings, &source)?;
        seen.state = Some(state);
        let credentials = settings.credentials();
        Ok(self.0.credentials.send_if_modified(|known| {
            let differs = *known != credentials;
            *known = credentials;
            differs
        }))
    }

    fn state(&self) -> State {
        self.0.files.iter().find_map(|path| {
            let file = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
            Some((path.clone(), file.modified().ok(), file.len()))
        })
    }

    /// Writes the files of all registries, and removes those that are no longer named. What a person wrote stays.
    fn write(&self, settings: &Settings, source: &Path) -> Result<(), RegistriesError> {
        let folder = &self.0.folder;
        let mut written = BTreeSet::new();
        for (name, text) in hosts::all(settings) {
            let path = folder.join(&name).join("hosts.toml");
            written.insert(name);
            if is_foreign(&path) {
                tracing::warn!("{} is not of kiln's making: it goes before {}", path.display(), source.display());
                continue;
            }
            let text = format!("{MARK}{}: changes here are lost.\n{text}", source.display());
            if fs::read_to_string(&path).is_ok_and(|known| known == text) {
                continue;
            }
            put(&path, &text).map_err(|error| RegistriesError::Write { path, error })?;
        }
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path().join("hosts.toml");
            let name = entry.file_name().to_string_lossy().into_owned();
            if written.contains(&name) || !path.exists() || is_foreign(&path) {
                continue;
            }
            fs::remove_dir_all(entry.path()).map_err(|error| RegistriesError::Write { path, error })?;
        }
        Ok(())
    }
}

/// Whether a file is there that we have not written.
fn is_foreign(path: &Path) -> bool {
    match fs::read_to_string(path) {
        Ok(text) => !text.starts_with(MARK),
        Err(error) => error.kind() != ErrorKind::NotFound,
    }
}

/// Moved into place, since containerd may read it just now.
fn put(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_at_the_next_look_and_a_mistake_changes_nothing() {
        let place = tempfile::tempdir().expect("a folder");
        let (file, folder) = (place.path().join("registries.yaml"), place.path().join("certs.d"));
        let registries = Registries::new(&[place.path().to_owned()], folder.clone());
        assert!(!registries.refresh().expect("nothing to read"));
        fs::write(&file, "mirrors:\n  docker.io:\n    endpoint: [\"https://m.example\"]\n").expect("written");
        assert!(!registries.refresh().expect("read"), "no credentials");
        let written = folder.join("docker.io/hosts.toml");
        assert!(fs::read_to_string(&written).expect("written").contains("[host.\"https://m.example\"]"));
        fs::write(&file, "configs:\n  m.example:\n    auth: {username: a, password: b}\n").expect("written");
        assert!(registries.refresh().expect("read"));
        assert!(!written.exists());
        assert_eq!(registries.credentials().borrow().len(), 1);
        assert!(!registries.refresh().expect("nothing new"));
        fs::write(&file, "configs: {m.example: {auht: {}}}\n").expect("written");
        assert!(registries.refresh().is_err());
        assert!(!registries.refresh().expect("told once"));
        assert_eq!(registries.credentials().borrow().len(), 1);
        fs::remove_file(&file).expect("removed");
        assert!(registries.refresh().expect("none"));
    }

    #[test]
    fn what_a_person_wrote_for_containerd_stays() {
        let place = tempfile::tempdir().expect("a folder");
        let own = place.path().join("certs.d/docker.io/hosts.toml");
        fs::create_dir_all(own.parent().expect("a folder")).expect("made");
        fs::write(&own, "server = \"https://mine.example\"\n").expect("written");
        let file = place.path().join("registries.toml");
        fs::write(&file, "[mirrors.\"docker.io\"]\nendpoint = [\"https://m.example\"]\n").expect("written");
        let registries = Registries::new(&[file], place.path().join("certs.d"));
        registries.refresh().expect("read");
        assert!(fs::read_to_string(own).expect("there").contains("mine.example"));
    }
}
