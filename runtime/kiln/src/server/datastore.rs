//! Where the cluster's data are: a file of the server's own, or an etcd that several servers share.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use kiln_pki::files;
use kiln_storage::etcd::{self, Endpoint, TlsFiles};
use kiln_storage::{Storage, StorageError, sqlite};

use crate::exit::Failure;

/// The database in the server's folder.
const DATABASE: &str = "kiln.db";
/// There if the data are in etcd, and names its endpoints: for the verbs that work on the database.
const ELSEWHERE: &str = "datastore";

/// Flags about the datastore.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Flags {
    /// Members of an etcd that keeps the cluster's data, with commas between them; without it they are in --data-dir
    #[arg(
        long = "datastore-endpoint",
        value_name = "URL",
        env = "KILN_DATASTORE_ENDPOINT",
        value_delimiter = ',',
        help_heading = "Datastore"
    )]
    pub(crate) endpoints: Vec<Endpoint>,
    /// CA of etcd's certificates
    #[arg(long = "datastore-cafile", value_name = "FILE", env = "KILN_DATASTORE_CAFILE", help_heading = "Datastore")]
    ca: Option<PathBuf>,
    /// Certificate to show to etcd
    #[arg(
        long = "datastore-certfile",
        value_name = "FILE",
        env = "KILN_DATASTORE_CERTFILE",
        help_heading = "Datastore"
    )]
    certificate: Option<PathBuf>,
    /// Key of that certificate
    #[arg(long = "datastore-keyfile", value_name = "FILE", env = "KILN_DATASTORE_KEYFILE", help_heading = "Datastore")]
    key: Option<PathBuf>,
    /// If the database is damaged, keep a copy of it as it is and go on without what is damaged; says what is lost
    #[arg(long = "datastore-repair", help_heading = "Datastore")]
    repair: bool,
}

/// The database's file.
pub(crate) fn database(folder: &Path) -> PathBuf {
    folder.join(DATABASE)
}

/// The etcd that has the data of the server with this folder, if it was started with one.
///
/// # Errors
/// When the folder can't be read.
pub(crate) fn elsewhere(folder: &Path) -> anyhow::Result<Option<String>> {
    Ok(files::read(&folder.join(ELSEWHERE))?.map(|text| text.trim().to_owned()))
}

/// Opens the datastore.
///
/// # Errors
/// When it can't be used; the text says what to do.
pub(super) async fn open(flags: &Flags, folder: &Path) -> anyhow::Result<Arc<dyn Storage>> {
    let mark = folder.join(ELSEWHERE);
    if flags.endpoints.is_empty() {
        if let Some(endpoints) = elsewhere(folder)? {
            let text = format!(
                "this server's data are in etcd at {endpoints}; give --datastore-endpoint, or remove {} to begin an empty cluster here",
                mark.display()
            );
            return Err(Failure::Input(text).into());
        }
        return open_file(flags.repair, &database(folder)).await;
    }
    let options = etcd::Options {
        tls: TlsFiles { ca: flags.ca.clone(), certificate: flags.certificate.clone(), key: flags.key.clone() },
        volatile: kiln_apiserver::volatile(),
        ..etcd::Options::new(flags.endpoints.clone())
    };
    let storage = etcd::open(options).await.context("opening the datastore")?;
    let endpoints: Vec<String> = flags.endpoints.iter().map(ToString::to_string).collect();
    files::write_private(&mark, &endpoints.join(","))?;
    Ok(storage)
}

async fn open_file(repair: bool, path: &Path) -> anyhow::Result<Arc<dyn Storage>> {
    let owned = path.to_owned();
    let options = sqlite::Options { volatile: kiln_apiserver::volatile(), ..sqlite::Options::default() };
    let opening = tokio::task::spawn_blocking(move || {
        if repair && owned.exists() {
            report(sqlite::repair(&owned)?);
        }
        sqlite::open(&owned, options)
    });
    let opened: Result<_, StorageError> = opening.await.context("opening the storage")?;
    opened.with_context(|| format!("the storage {}", path.display()))
}

fn report(repaired: Option<sqlite::Repaired>) {
    let Some(sqlite::Repaired { dropped, log_was_cut, kept }) = repaired else {
        tracing::info!("nothing is damaged in the datastore; --datastore-repair can be left away");
        return;
    };
    for row in dropped {
        let fate = match row.fell_back_to {
            Some(revision) => format!("it is again as it was at revision {revision}"),
            None => "it is gone".to_owned(),
        };
        tracing::warn!(key = row.key, revision = row.revision, "damaged: {fate}");
    }
    if log_was_cut {
        tracing::warn!("the latest writes are lost: SQLite's log is damaged in their midst");
    }
    tracing::warn!(kept = %kept.display(), "the datastore was repaired; the damaged file is kept");
}
