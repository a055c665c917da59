//! What server and agent have in common as services: logging, the runtime, signals, PID 1, the status file.

pub(crate) mod notify;
mod report;
pub(crate) mod status;

use std::env;
use std::future::Future;
use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

pub(crate) use report::Report;

/// Bytes of stack of each thread that serves: a patch goes through admission and the rules of its kind in one call. Only what is
/// used takes memory.
const STACK: usize = 8 << 20;

/// Runs a short task of a CLI verb to its end.
pub(crate) fn block_on<T>(task: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?.block_on(task)
}

/// Whether a kubelet runs that ends its pods on SIGPWR, and then this process. Else there is nothing to wait for.
pub(crate) static ENDS_PODS: AtomicBool = AtomicBool::new(false);

/// Runs a service until it ends by itself or by SIGTERM or SIGINT; the token it gets is cancelled then.
///
/// # Errors
/// The service's own. They are told PID 1 too, which shows them where a person looks.
pub(crate) fn run<F>(service: impl FnOnce(CancellationToken) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    start_logging()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(STACK)
        .thread_name("kiln")
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let result = runtime.block_on(async {
        let shutdown = CancellationToken::new();
        let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
        let mut power = signal(SignalKind::from_raw(nix::libc::SIGPWR)).context("listening for SIGPWR")?;
        let on_signal = shutdown.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => tracing::info!("SIGTERM: shutting down"),
                    _ = interrupt.recv() => tracing::info!("SIGINT: shutting down"),
                    _ = power.recv() => {
                        if ENDS_PODS.load(Ordering::Relaxed) {
                            continue;
                        }
                        tracing::info!("SIGPWR: shutting down");
                    }
                }
                break;
            }
            on_signal.cancel();
        });
        service(shutdown).await
    });
    if let Err(error) = &result {
        notify::send(&[("X_KILN_ERROR", &format!("{error:#}"))]);
    }
    // Blocking work that is still under way (a name look-up, say) must not hold the end up.
    runtime.shutdown_background();
    result
}

/// Logs to standard error, at `info` unless `KILN_LOG` says otherwise: a level, a target, or `TARGET=LEVEL`, several with commas between.
fn start_logging() -> anyhow::Result<()> {
    let wanted =
        env::var_os("KILN_LOG").map_or("info,mdns_sd=off".into(), |value| value.to_string_lossy().into_owned());
    let targets: Targets = wanted.parse().with_context(|| {
        format!("KILN_LOG={wanted}: not a level (off, error, warn, info, debug, trace) nor TARGET=LEVEL, with commas between")
    })?;
    let colour = std::io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(colour)
        // Whoever read it may be gone: the complaint about that would go the same way, and panic.
        .log_internal_errors(false);
    // Fails only if a logger is set already, and then there is one.
    let _ = tracing_subscriber::registry().with(lines).with(targets).try_init();
    Ok(())
}
