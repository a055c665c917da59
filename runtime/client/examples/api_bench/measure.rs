//! Runs one request again and again, and says how long it took.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use kiln_client::ClientError;
use serde_json::json;

/// The times of many requests.
pub(crate) struct Figures {
    /// Each one's.
    pub(crate) times: Vec<Duration>,
    /// All together, which is less than the sum if they ran side by side.
    pub(crate) took: Duration,
}

/// Sends requests for a time: on each of the connections one after the other.
pub(crate) async fn measure<'c, C, F, R>(
    time: Duration,
    connections: &[&'c C],
    request: F,
) -> Result<Figures, ClientError>
where
    F: Fn(&'c C) -> R,
    R: Future<Output = Result<(), ClientError>>,
{
    // The connection is made before the clock runs.
    try_join_all(connections.iter().map(|client| request(client))).await?;
    let began = Instant::now();
    let request = &request;
    let lanes = connections.iter().map(|client| async move {
        let mut times = Vec::new();
        while began.elapsed() < time {
            let start = Instant::now();
            request(client).await?;
            times.push(start.elapsed());
        }
        Ok::<_, ClientError>(times)
    });
    let times = try_join_all(lanes).await?.concat();
    Ok(Figures { times, took: began.elapsed() })
}

/// Prints a line.
pub(crate) fn report(what: &str, connections: usize, figures: &Figures) {
    let mut times = figures.times.clone();
    times.sort_unstable();
    let at = |share: f64| {
        let index = ((times.len() as f64 - 1.0) * share).round() as usize;
        times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    };
    let per_second = times.len() as f64 / figures.took.as_secs_f64();
    println!(
        "{}",
        json!({"what": what, "connections": connections, "per_second": per_second.round(), "p50_ms": at(0.5), "p99_ms": at(0.99)})
    );
}
