//! Prints how many writes a second the SQLite store makes durable, what they cost the disk, what the disk itself takes for
//! one, and how much memory 10,000 ConfigMaps and 5,000 Pods take.
//!
//! `cargo run --release -p kiln-storage --example bench -- [FOLDER] [WRITERS] [WRITES]`

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use kiln_storage::{ListOptions, NewValue, Storage, StorageError, sqlite};

/// Bytes of a value, about those of a small ConfigMap.
const VALUE: usize = 600;
/// About those of a Pod with its status.
const POD: usize = 3_500;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    memory().await?;
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let writers: usize = arguments.next().map_or(Ok(64), |number| number.parse())?;
    let writes: usize = arguments.next().map_or(Ok(20_000), |number| number.parse())?;
    let path = folder.join(format!("kiln-bench-{}.db", std::process::id()));
    let store = sqlite::open(&path, sqlite::Options::default())?;

    println!("the disk: {:.0} us for one overwrite of 4 KiB that is durable", disk(&folder)?);
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
    std::fs::remove_file(path.with_extension("db-wal"))?;
    Ok(())
}

/// Prints what objects take in memory; before all else, while nothing was ever freed.
async fn memory() -> Result<(), Box<dyn std::error::Error>> {
    let before = resident()?;
    let store = kiln_storage::memory::open();
    for n in 0..15_000 {
        let (kind, size) = if n < 10_000 { ("configmaps", VALUE) } else { ("pods", POD) };
        store.create(format!("/registry/core/{kind}/default/name-{n}"), NewValue::plain(vec![b'x'; size])).await?;
    }
    let values = 10_000 * VALUE + 5_000 * POD;
    println!("15,000 objects of {} KiB: {} KiB resident", values >> 10, resident()? - before);
    Ok(())
}

/// Microseconds for one durable overwrite.
fn disk(folder: &Path) -> std::io::Result<f64> {
    const TIMES: u32 = 300;
    let path = folder.join(format!("kiln-bench-{}.raw", std::process::id()));
    let file = std::fs::File::options().create_new(true).write(true).open(&path)?;
    file.write_all_at(&vec![0; 4096 * TIMES as usize], 0)?;
    file.sync_all()?;
    let start = Instant::now();
    for n in 0..TIMES {
        file.write_all_at(&[1; 4096], u64::from(n) * 4096)?;
        file.sync_data()?;
    }
    std::fs::remove_file(&path)?;
    Ok(start.elapsed().as_secs_f64() * 1e6 / f64::from(TIMES))
}

/// KiB of memory that this process has.
fn resident() -> Result<u64, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
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
