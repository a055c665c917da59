//! `kiln snapshot`: saving, listing, deleting and restoring the cluster's data.
//!
//! A running server writes a snapshot from its memory, so it is of one moment, has all that was answered before, and no writer
//! waits for it.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use kiln_pki::files;
use kiln_storage::sqlite;

use super::{Common, Format, Output, output};
use crate::exit::Failure;
use crate::server::{Answer, Question, ask, database, elsewhere, folder};
use crate::service::block_on;
use crate::snapshots::{Snapshot, Snapshots, name, sha256};

/// Shown with `--help`.
pub(crate) const EXAMPLES: &str = "\
Examples:
  kiln snapshot save                              while the server runs, or not
  kiln snapshot save --name before-the-upgrade
  kiln snapshot list -o json
  kiln snapshot restore before-the-upgrade        with the server stopped; the state before is kept
  kiln snapshot delete before-the-upgrade
  kiln server --etcd-snapshot-schedule-cron '0 */12 * * *' --etcd-snapshot-retention 5
                                                  the server saves them itself and keeps the last five

The cluster's CA and keys are no part of it: keep server/ca.crt, ca.key and service-account.key of the data folder too.";

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    verb: Verb,
}

/// Where the snapshots are.
#[derive(Debug, Clone, Args)]
struct Dir {
    /// Folder of the snapshots, if the server was given one; without it, one of the server's
    #[arg(long = "etcd-snapshot-dir", alias = "dir", value_name = "DIR", env = "KILN_ETCD_SNAPSHOT_DIR")]
    chosen: Option<PathBuf>,
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
        dir: Dir,
        #[command(flatten)]
        output: Output,
    },
    /// List the snapshots, the newest last
    #[command(alias = "ls")]
    List {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        dir: Dir,
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
        dir: Dir,
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
        #[command(flatten)]
        dir: Dir,
    },
}

/// Does one of the four.
pub(crate) fn run(options: Options) -> anyhow::Result<()> {
    match options.verb {
        Verb::Save { name, common, dir, output } => save(name, &Place::of(&common, &dir), output),
        Verb::List { common, dir, output } => list(&Place::of(&common, &dir), output),
        Verb::Restore { snapshot, common, dir, output } => restore(&snapshot, &Place::of(&common, &dir), output),
        Verb::Delete { names, common, dir } => {
            let place = Place::of(&common, &dir);
            names.iter().try_for_each(|name| delete(&place, name))
        }
    }
}

/// The snapshots of one server.
struct Place {
    server: PathBuf,
    snapshots: Snapshots,
}

impl Place {
    fn of(common: &Common, dir: &Dir) -> Self {
        let server = folder(&common.data_dir);
        Place { snapshots: Snapshots::of(&server, dir.chosen.as_deref()), server }
    }

    /// That the data are here and not in etcd.
    fn check(&self) -> anyhow::Result<()> {
        let Some(endpoints) = elsewhere(&self.server)? else { return Ok(()) };
        let text = format!(
            "the cluster's data are in etcd at {endpoints}, which keeps its own snapshots: use `etcdctl snapshot save` and `etcdutl snapshot restore`"
        );
        Err(Failure::Input(text).into())
    }
}

fn save(name: Option<String>, place: &Place, output: Output) -> anyhow::Result<()> {
    place.check()?;
    let created = Timestamp::now();
    let name = name.unwrap_or_else(|| created.strftime("kiln-%Y%m%d-%H%M%S").to_string());
    let file = place.snapshots.data(&name)?;
    if file.exists() {
        return Err(Failure::Input(format!("there is a snapshot {name} already; give another --name")).into());
    }
    if !place.server.exists() {
        let text = format!("{} is not there; give the server's --data-dir", place.server.display());
        return Err(Failure::Input(text).into());
    }
    place.snapshots.make()?;
    let answered = match block_on(ask(&place.server, &Question::Snapshot { file: file.clone() }))? {
        Some(Answer::Snapshot { revision }) => Some(revision),
        Some(Answer::Refused(why)) => return Err(Failure::File(why).into()),
        None => {
            of_stopped_server(place, &file)?;
            None
        }
    };
    let snapshot = place.snapshots.seal(&name, created, answered)?;
    match output.format {
        Format::Json => output::json(&snapshot),
        Format::Text => {
            let Snapshot { name, keys, revision, size, .. } = snapshot;
            println!("{name}  {keys} keys at revision {revision}, {}", output::bytes(size));
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

fn list(place: &Place, output: Output) -> anyhow::Result<()> {
    let found = place.snapshots.all()?;
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

fn restore(snapshot: &str, place: &Place, output: Output) -> anyhow::Result<()> {
    place.check()?;
    let named = match name(snapshot) {
        Ok(name) => Some(place.snapshots.data(&name)?).filter(|file| file.exists()),
        Err(_) => None,
    };
    let facts = if named.is_some() { place.snapshots.read(snapshot)? } else { None };
    let file = named.unwrap_or_else(|| PathBuf::from(snapshot));
    if !file.is_file() {
        let text = format!("there is no snapshot {snapshot}; `kiln snapshot list` shows those there are");
        return Err(Failure::Input(text).into());
    }
    if let Some(facts) = facts
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
    if !place.snapshots.delete(name)? {
        return Err(Failure::Input(format!("there is no snapshot {name}")).into());
    }
    println!("snapshot {name} deleted");
    Ok(())
}
