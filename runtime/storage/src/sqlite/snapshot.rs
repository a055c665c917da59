//! A snapshot is a new database with the current state and no history. It is made from the state in RAM, so neither
//! readers nor the writer wait for it.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use super::log::Log;
use crate::engine::Engine;
use crate::types::{BoxFuture, Record, Revision, StorageError};

/// Writes the engine's lasting records to a new database at `path`.
pub(crate) fn snapshot<'a>(engine: &Arc<Engine>, path: &'a Path) -> BoxFuture<'a, Result<Revision, StorageError>> {
    let engine = engine.clone();
    let path = path.to_owned();
    Box::pin(async move {
        let (mut records, revision) = {
            let state = engine.read();
            let lasting = state.records.values().filter(|record| !engine.is_volatile(&record.key));
            (lasting.cloned().collect::<Vec<Record>>(), state.revision)
        };
        records.sort_unstable_by_key(|record| record.mod_revision);
        let written = tokio::task::spawn_blocking(move || write(&records, revision, &path));
        written.await.map_err(|error| StorageError::Sqlite(format!("the snapshot was not finished: {error}")))??;
        Ok(revision)
    })
}

fn write(records: &[Record], revision: Revision, path: &Path) -> Result<(), StorageError> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = Path::new(&partial);
    let failed = |error| StorageError::Sqlite(format!("{}: {error}", path.display()));
    if partial.exists() {
        fs::remove_file(partial).map_err(failed)?;
    }
    let mut log = Log::create_plain(partial)?;
    log.fill(records, revision)?;
    log.close_whole()?;
    File::open(partial).and_then(|file| file.sync_all()).map_err(failed)?;
    fs::rename(partial, path).map_err(failed)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}
