//! `replace -> start -> wait -> start ...`: the process.

use std::fs;
use std::io::ErrorKind;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use kiln_client::Backoff;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::{ContainerdError, Options, at, config, search_path};

/// Waits between starts of a containerd that ends.
const RESTART: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// One that ran this long did not fail at its start.
const HELD: Duration = Duration::from_secs(60);
/// How long one may take to end before it is killed.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a process that is no child of ours is looked at while it ends.
const LOOK: Duration = Duration::from_millis(10);
/// A log that is longer begins anew at a start: containerd itself knows no limit.
const LOG_LIMIT: u64 = 4 << 20;

/// Keeps a containerd running until the shutdown, and ends it then; pods keep running. `failing` is told why one does not.
pub async fn run(options: Options, failing: impl Fn(String), shutdown: CancellationToken) {
    let mut backoff = Backoff::new(RESTART.0, RESTART.1);
    replace(&options).await;
    let mut credentials = options.registries.credentials();
    loop {
        credentials.mark_unchanged();
        let began = tokio::time::Instant::now();
        let why = match start(&options) {
            Ok(mut child) => {
                tokio::select! {
                    () = shutdown.cancelled() => return end(child).await,
                    Ok(()) = credentials.changed() => {
                        tracing::info!("registries' credentials have changed: containerd is started again");
                        end(child).await;
                        continue;
                    }
                    status = child.wait() => match status {
                        Ok(status) => format!("containerd ended: {status}; see {}", options.log.display()),
                        Err(error) => format!("containerd is lost: {error}"),
                    },
                }
            }
            Err(error) => error.to_string(),
        };
        tracing::warn!("{why}; starting it again");
        failing(why);
        if began.elapsed() > HELD {
            backoff.reset();
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(backoff.next_wait()) => {}
        }
    }
}

fn start(options: &Options) -> Result<Child, ContainerdError> {
    for folder in [&options.root, &options.state, &options.cni_conf] {
        fs::DirBuilder::new().recursive(true).mode(0o711).create(folder).map_err(at(folder))?;
    }
    let registries = options.registries.folder();
    fs::DirBuilder::new().recursive(true).mode(0o711).create(registries).map_err(at(registries))?;
    if let Err(error) = options.registries.refresh() {
        tracing::error!("{error}; what held for registries before holds");
    }
    let path = options.config();
    write_config(&path, &config::text(options)).map_err(at(&path))?;
    let truncate = fs::metadata(&options.log).is_ok_and(|log| log.len() > LOG_LIMIT);
    let mut open = fs::OpenOptions::new();
    open.create(true).mode(0o640);
    let open = if truncate { open.write(true).truncate(true) } else { open.append(true) };
    let log = open.open(&options.log).map_err(at(&options.log))?;
    let errors = log.try_clone().map_err(at(&options.log))?;
    let mut command = Command::new(&options.program);
    command.arg("--config").arg(&path).env("PATH", search_path());
    command.stdin(Stdio::null()).stdout(log).stderr(errors);
    // A group of its own: what ends Kiln's from a terminal is not for it, nor for the shims that it starts.
    command.process_group(0);
    let child = command.spawn().map_err(|error| ContainerdError::Start { program: options.program.clone(), error })?;
    if let Some(pid) = child.id() {
        let path = options.pid_file();
        fs::write(&path, pid.to_string()).map_err(at(&path))?;
    }
    Ok(child)
}

/// There are credentials in it.
fn write_config(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())
}

async fn end(mut child: Child) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        // It may have ended by itself just now.
        _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    if tokio::time::timeout(PATIENCE, child.wait()).await.is_err() {
        _ = child.kill().await;
    }
}

/// Ends the containerd that a Kiln left behind which was killed: a child can be watched, and has today's settings.
async fn replace(options: &Options) {
    let Ok(text) = fs::read_to_string(options.pid_file()) else { return };
    let Ok(number) = text.trim().parse::<i32>() else { return };
    // The number may have gone to another process meanwhile.
    let is_ours = fs::read_to_string(format!("/proc/{number}/cmdline"))
        .is_ok_and(|line| line.split('\0').any(|argument| argument == options.config().as_os_str()));
    if !is_ours {
        return;
    }
    let pid = Pid::from_raw(number);
    let is_gone = || kill(pid, None) == Err(Errno::ESRCH) || is_zombie(number);
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        _ = kill(pid, signal);
        let gone = async {
            while !is_gone() {
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(PATIENCE, gone).await.is_ok() {
            break;
        }
    }
    match fs::remove_file(options.pid_file()) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            tracing::warn!("{}: {error}", options.pid_file().display());
        }
        _ => {}
    }
}

fn is_zombie(number: i32) -> bool {
    // The state follows the name, which is in parentheses.
    let stat = fs::read_to_string(format!("/proc/{number}/stat"));
    stat.is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
}
