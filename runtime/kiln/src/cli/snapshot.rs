//! `kiln snapshot`: saving, listing, deleting and restoring the cluster's data.
//!
//! A snapshot is a database of its own in the server's folder, with a file beside it that says what it is. A running server
//! writes it from its memory, so it is of one moment, has all that was answered before, and no writer waits for it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use kiln_pki::files;
use kiln_storage::sqlite;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Common, Format, Output, output};
use crate::exit::Failure;
use crate::server::{Answer, Question, ask, database, elsewhere, folder};
use crate::service::block_on;

/// Shown with `--help`.
pub(crate) const EXAMPLES: &str = "\
Examples:
  kiln snapshot save                              while the server runs, or not
  kiln snapshot save --name before-the-upgrade
  kiln snapshot list -o json
  kiln snapshot restore before-the-upgrade        with the server stopped; the state before is kept
  kiln snapshot delete before-the-upgrade

The cluster's CA and keys are no part of it: keep server/ca.crt, ca.key and service-account.key of the data folder too.";

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Save all data of the cluster, as of now
    Save {
        /// Its name; without it the time
        #[arg(long, value_name = "NAME", value_parser = name)]
        name: Option<String>,
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        output: Output,
    },
    /// List the snapshots, the newest last
    #[command(alias = "ls")]
    List {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        output: Output,
    },
    /// Put a snapshot in the place of the data that a stopped server has, which are kept beside it
    Restore {
        /// Its name, or its file
        #[arg(value_name = "NAME")]
        snapshot: String,
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        output: Output,
    },
    /// Delete snapshots
    Delete {
        /// Their names
        #[arg(required = true, value_name = "NAME", value_parser = name)]
        names: Vec<String>,
        #[command(flatten)]
        common: Common,
    },
}

/// What is known of a snapshot.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Snapshot {
    name: String,
    created: Timestamp,
    /// The revision whose state it is.
    revision: i64,
    /// How many keys it has.
    keys: usize,
    /// Bytes.
    size: u64,
    sha256: String,
}

/// Does one of the four.
pub(crate) fn run(options: Options) -> anyhow::Result<()> {
    match options.verb {
        Verb::Save { name, common, output } => save(name, &common, output),
        Verb::List { common, output } => list(&common, output),
        Verb::Restore { snapshot, common, output } => restore(&snapshot, &common, output),
        Verb::Delete { names, common } => names.iter().try_for_each(|name| delete(&Place::of(&common), name)),
    }
}

/// A name is that of a file, and nothing more.
fn name(text: &str) -> Result<String, String> {
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if text.is_empty() || text.len() > 200 || !plain || text.starts_with('.') {
        return Err(format!("`{text}` is no name for a snapshot; use a-z, A-Z, 0-9, -, _ and ."));
    }
    Ok(text.to_owned())
}

/// The snapshots of one server.
struct Place {
    server: PathBuf,
    folder: PathBuf,
}

impl Place {
    fn of(common: &Common) -> Self {
        let server = folder(&common.data_dir);
        Place { folder: server.join("snapshots"), server }
    }

    fn data(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.db"))
    }

    fn facts(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.json"))
    }

    /// That the data are here and not in etcd.
    fn check(&self) -> anyhow::Result<()> {
        let Some(endpoints) = elsewhere(&self.server)? else { return Ok(()) };
        let text = format!(
            "the cluster's data are in etcd at {endpoints}, which keeps its own snapshots: use `etcdctl snapshot save` and `etcdutl snapshot restore`"
        );
        Err(Failure::Input(text).into())
    }

    /// What is known of one; `None` if there is none.
    fn read(&self, name: &str) -> anyhow::Result<Option<Snapshot>> {
        let path = self.facts(name);
        let Some(text) = files::read(&path)? else { return Ok(None) };
        let read = serde_json::from_str(&text);
        read.map(Some).map_err(|error| Failure::Input(format!("{}: {error}", path.display())).into())
    }
}

fn save(name: Option<String>, common: &Common, output: Output) -> anyhow::Result<()> {
    let place = Place::of(common);
    place.check()?;
    let created = Timestamp::now();
    let name = name.unwrap_or_else(|| created.strftime("kiln-%Y%m%d-%H%M%S").to_string());
    let file = std::path::absolute(place.data(&name)).context("the snapshot's file")?;
    if file.exists() {
        return Err(Failure::Input(format!("there is a snapshot {name} already; give another --name")).into());
    }
    if !place.server.exists() {
        let text = format!("{} is not there; give the server's --data-dir", place.server.display());
        return Err(Failure::Input(text).into());
    }
    files::private_folder(&place.folder)?;
    let answer = block_on(ask(&place.server, &Question::Snapshot { file: file.clone() }))?;
    if answer.is_none() {
        of_stopped_server(&place, &file)?;
    }
    let (keys, revision) = sqlite::verify(&file)?;
    if let Some(Answer::Snapshot { revision: answered }) = answer
        && answered != revision
    {
        anyhow::bail!("the snapshot is of revision {revision}, and the server says {answered}");
    }
    let size = file.metadata().with_context(|| file.display().to_string())?.len();
    let snapshot = Snapshot { name, created, revision, keys, size, sha256: sha256(&file)? };
    files::write_private(&place.facts(&snapshot.name), &serde_json::to_string_pretty(&snapshot)?)?;
    match output.format {
        Format::Json => output::json(&snapshot),
        Format::Text => {
            println!("{}  {} keys at revision {}, {}", snapshot.name, keys, revision, output::bytes(size));
            Ok(())
        }
    }
}

/// Opens the data themselves; a server that starts meanwhile finds them in use, and waits its turn.
fn of_stopped_server(place: &Place, file: &Path) -> anyhow::Result<()> {
    let data = database(&place.server);
    if !data.exists() {
        return Err(Failure::Input(format!("{} is not there; give the server's --data-dir", data.display())).into());
    }
    block_on(async {
        let store = sqlite::open(&data, sqlite::Options::default())?;
        Ok(store.snapshot(file).await?)
    })?;
    Ok(())
}

fn list(common: &Common, output: Output) -> anyhow::Result<()> {
    let place = Place::of(common);
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(&place.folder) {
        Ok(entries) => entries.collect::<Result<Vec<_>, _>>().with_context(|| place.folder.display().to_string())?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error).with_context(|| place.folder.display().to_string()),
    };
    for entry in entries {
        if let Some(name) = entry.file_name().to_str().and_then(|name| name.strip_suffix(".json")) {
            found.extend(place.read(name)?.filter(|_| place.data(name).exists()));
        }
    }
    found.sort_by_key(|snapshot| snapshot.created);
    if output.format == Format::Json {
        return output::json(&found);
    }
    let mut rows = vec![["NAME", "CREATED", "REVISION", "KEYS", "SIZE"].map(str::to_owned).to_vec()];
    let now = Timestamp::now();
    for s in found {
        let created = output::relative(s.created, now);
        rows.push(vec![s.name, created, s.revision.to_string(), s.keys.to_string(), output::bytes(s.size)]);
    }
    output::table(&rows)
}

fn restore(snapshot: &str, common: &Common, output: Output) -> anyhow::Result<()> {
    let place = Place::of(common);
    place.check()?;
    let named = name(snapshot).ok().filter(|name| place.data(name).exists());
    let file = match &named {
        Some(name) => place.data(name),
        None => PathBuf::from(snapshot),
    };
    if !file.is_file() {
        let text = format!("there is no snapshot {snapshot}; `kiln snapshot list` shows those there are");
        return Err(Failure::Input(text).into());
    }
    if let Some(facts) = named.map(|name| place.read(&name)).transpose()?.flatten()
        && facts.sha256 != sha256(&file)?
    {
        let text = format!("{} is not as it was saved: its checksum differs; nothing was changed", file.display());
        return Err(Failure::Input(text).into());
    }
    files::private_folder(&place.server)?;
    let data = database(&place.server);
    let restored = sqlite::restore(&file, &data).context("restoring; stop the server first if it runs")?;
    match output.format {
        Format::Json => output::json(&serde_json::json!({
            "keys": restored.records, "revision": restored.revision, "kept": restored.kept,
        })),
        Format::Text => {
            println!("restored {} keys; the next revision is {}", restored.records, restored.revision + 1);
            if let Some(kept) = restored.kept {
                println!("the state before is kept as {}", kept.display());
            }
            Ok(())
        }
    }
}

fn delete(place: &Place, name: &str) -> anyhow::Result<()> {
    let mut found = false;
    // What says that it is there goes first.
    for path in [place.facts(name), place.data(name)] {
        match std::fs::remove_file(&path) {
            Ok(()) => found = true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        }
    }
    if !found {
        return Err(Failure::Input(format!("there is no snapshot {name}")).into());
    }
    println!("snapshot {name} deleted");
    Ok(())
}

fn sha256(path: &Path) -> anyhow::Result<String> {
    let mut hash = Sha256::new();
    let copied = File::open(path).and_then(|mut file| io::copy(&mut file, &mut hash));
    copied.with_context(|| path.display().to_string())?;
    Ok(kiln_pki::secret::hex(&hash.finalize()))
}
