//! Prints how many writes a second the SQLite store makes durable, and what they cost the disk.
//!
//! `cargo run --profile tool -p kiln-storage --example bench -- [FOLDER] [WRITERS] [WRITES]`

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use kiln_storage::{ListOptions, NewValue, Storage, StorageError, sqlite};

/// Bytes of a value, about those of a small ConfigMap.
const VALUE: usize = 600;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let writers: usize = arguments.next().map_or(Ok(64), |number| number.parse())?;
    let writes: usize = arguments.next().map_or(Ok(20_000), |number| number.parse())?;
    let path = folder.join(format!("kiln-bench-{}.db", std::process::id()));
    let store = sqlite::open(&path, sqlite::Options::default())?;

    for (count, what) in [(1, "1 writer"), (writers, "all writers")] {
        let before = store.counters();
        let start = Instant::now();
        run(&store, count, writes * count / writers).await?;
        let seconds = start.elapsed().as_secs_f64();
        let after = store.counters();
        let done = after.writes - before.writes;
        println!(
            "{what}: {done} writes in {seconds:.2} s = {:.0}/s, {} fsyncs, {} bytes to disk a write",
            done as f64 / seconds,
            after.commits - before.commits,
            (after.bytes_written - before.bytes_written) / done.max(1),
        );
    }
    let start = Instant::now();
    let page = store.list("/registry/", ListOptions { limit: 2_000, ..ListOptions::default() }).await?;
    println!("list of {}: {:.0} us", page.records.len(), start.elapsed().as_secs_f64() * 1e6);
    drop(store);
    let start = Instant::now();
    let store = sqlite::open(&path, sqlite::Options::default())?;
    println!("opened at revision {} in {:.0} ms", store.current_revision(), start.elapsed().as_secs_f64() * 1e3);
    drop(store);
    std::fs::remove_file(&path)?;
    Ok(())
}

async fn run(store: &Arc<dyn Storage>, writers: usize, writes: usize) -> Result<(), Box<dyn std::error::Error>> {
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0..writes / writers {
                    let key = format!("/registry/core/configmaps/{writers}-{writer}/{n}");
                    store.create(key, NewValue::plain(vec![b'x'; VALUE])).await?;
                }
                Ok::<_, StorageError>(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    Ok(())
}
