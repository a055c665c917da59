//! `imager cache`.

use std::time::SystemTime;

use anyhow::Context;
use imager::cache::{self, Entry};

use super::{
    args::{CachePruneArgs, Globals},
    exit::Exit,
    output::{Output, size, table},
    workspace,
};

pub(super) fn list(globals: &Globals, output: Output) -> anyhow::Result<Exit> {
    let path = workspace::packages(globals)?.cache;
    let found = cache::entries(&path, SystemTime::now()).with_context(|| path.display().to_string())?;
    output.print(&found, |found| summary(found))?;
    Ok(Exit::Ok)
}

pub(super) fn prune(globals: &Globals, args: &CachePruneArgs, output: Output) -> anyhow::Result<Exit> {
    let path = workspace::packages(globals)?.cache;
    let gone = cache::prune(&path, args.unused_for, SystemTime::now(), args.dry_run);
    let gone = gone.with_context(|| format!("pruning {}", path.display()))?;
    output.print(&gone, |gone| {
        let total = size(gone.iter().map(|entry| entry.size).sum());
        let verb = if args.dry_run { "would be removed" } else { "removed" };
        format!("{}{} entries, {total} {verb}\n", summary(gone), gone.len())
    })?;
    Ok(Exit::Ok)
}

/// A row for each folder.
fn summary(entries: &[Entry]) -> String {
    let mut kinds: Vec<&str> = entries.iter().map(|entry| entry.kind.as_str()).collect();
    kinds.dedup();
    let rows: Vec<Vec<String>> = kinds
        .into_iter()
        .map(|kind| {
            let of_kind = || entries.iter().filter(|entry| entry.kind == kind);
            let oldest = of_kind().map(|entry| entry.unused_days).max().unwrap_or_default();
            let bytes = size(of_kind().map(|entry| entry.size).sum());
            vec![kind.to_owned(), of_kind().count().to_string(), bytes, format!("{oldest} d")]
        })
        .collect();
    table(&["WHAT", "ENTRIES", "SIZE", "UNUSED FOR"], &rows)
}
