//! Starts a VM, watches it, ends it.

use std::{
    env,
    fs::{self, File, OpenOptions},
    io,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};

use super::{
    assets,
    command::{Parts, Start, arguments},
    console,
    error::RunError,
    machine::{Boot, Disk, Machine},
    options::{Options, parse_size},
    qcow2, qmp,
};
use crate::{child, inspect::card::Card, progress::Progress};

/// How long a guest has to shut down after its power button was pressed.
const SHUTDOWN: Duration = Duration::from_secs(30);
/// How long QEMU has to end after it was told to.
const QUIT: Duration = Duration::from_secs(5);

/// What happens to a run.
#[derive(Debug)]
pub(super) enum Event {
    /// QEMU ended.
    Exited(io::Result<ExitStatus>),
    /// Someone wants the run to end.
    Ending,
}

/// Runs an image until the guest powers off or someone ends the run. Gives QEMU's exit code (128 and the signal's number
/// when a signal ended it).
///
/// # Errors
/// [`RunError`] for whatever keeps the VM from starting.
pub fn run(machine: &Machine, options: &Options, progress: &Progress) -> Result<u8, RunError> {
    check_memory(machine, options)?;
    check_kvm(machine, options)?;
    check_version(machine)?;
    let scratch = tempfile::Builder::new().prefix("kiln-run-").tempdir();
    let scratch = scratch.map_err(RunError::io("make", "a temporary directory"))?;
    let start = start(machine, options, scratch.path())?;
    let (disk, disk_format) = disk(machine, options, scratch.path(), progress)?;
    let monitor = scratch.path().join("qmp");
    let parts = Parts { machine, options, start: &start, disk: &disk, disk_format, monitor: &monitor };
    let mut command = Command::new(&machine.system);
    command.args(arguments(&parts)).stdin(if options.headless { Stdio::null() } else { Stdio::piped() });
    child::group(&mut command, console::endings());
    progress.note(&format!(
        "{} on {}, serial {}; Ctrl-C ends the run",
        options.image.display(),
        machine.machine,
        options.serial
    ));

    let (sender, events) = mpsc::channel();
    console::watch_endings(sender.clone()).map_err(RunError::io("watch", "signals"))?;
    let mut child = command.spawn().map_err(RunError::io("start", &machine.system))?;
    let pid = Pid::from_raw(child.id().cast_signed());
    let _keys = match child.stdin.take() {
        Some(stdin) => {
            console::forward_keys(stdin).map_err(RunError::io("start", "a thread"))?;
            Some(console::Keys::take())
        }
        None => None,
    };
    thread::Builder::new()
        .name("qemu".to_owned())
        .spawn(move || {
            // A receiver that is gone has ended the run already.
            let _ = sender.send(Event::Exited(child.wait()));
        })
        .map_err(RunError::io("start", "a thread"))?;
    let status = Watch { events, monitor, pid, power_button: machine.power_button, progress }.until_exit()?;
    Ok(code(status))
}

fn code(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(1)
}

/// A VM that runs.
struct Watch<'a> {
    events: Receiver<Event>,
    monitor: PathBuf,
    pid: Pid,
    power_button: bool,
    progress: &'a Progress,
}

impl Watch<'_> {
    /// Waits for the end, and sees to it when someone asks: first by the power button where the machine has one, then
    /// by QEMU's monitor, then by force.
    fn until_exit(&self) -> Result<ExitStatus, RunError> {
        if let Some(status) = self.exited(None)? {
            return Ok(status);
        }
        if self.power_button && qmp::execute(&self.monitor, "system_powerdown").is_ok() {
            self.progress.note("shutting the guest down; Ctrl-C again ends it at once");
            if let Some(status) = self.exited(Some(SHUTDOWN))? {
                return Ok(status);
            }
        }
        // QEMU may be gone before it answers; what counts is whether it ends.
        let _ = qmp::execute(&self.monitor, "quit");
        if let Some(status) = self.exited(Some(QUIT))? {
            return Ok(status);
        }
        // The process is ours and not yet waited for, so the id is still its own.
        let _ = signal::kill(self.pid, Signal::SIGKILL);
        loop {
            if let Some(status) = self.exited(None)? {
                return Ok(status);
            }
        }
    }

    /// QEMU's status once it ended; `None` when someone asked for the end, or after `patience`.
    fn exited(&self, patience: Option<Duration>) -> Result<Option<ExitStatus>, RunError> {
        let event = match patience {
            Some(patience) => self.events.recv_timeout(patience),
            None => self.events.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match event {
            Ok(Event::Exited(status)) => status.map(Some).map_err(RunError::io("wait for", "QEMU")),
            Ok(Event::Ending) | Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                Err(RunError::io("wait for", "QEMU")(io::ErrorKind::BrokenPipe.into()))
            }
        }
    }
}

fn check_memory(machine: &Machine, options: &Options) -> Result<(), RunError> {
    match &options.memory {
        Some(memory) if machine.fixed_memory && parse_size(memory) != parse_size(&machine.memory) => {
            Err(RunError::FixedMemory { machine: machine.machine.clone(), fixed: machine.memory.clone() })
        }
        _ => Ok(()),
    }
}

/// Checks that the emulator is there and new enough.
fn check_version(machine: &Machine) -> Result<(), RunError> {
    let missing = || RunError::Emulator {
        program: machine.system.clone(),
        package: machine.package.clone(),
        min_version: machine.min_version.clone(),
    };
    let output = match Command::new(&machine.system).arg("--version").stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
        Err(error) => return Err(RunError::io("start", &machine.system)(error)),
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match (&machine.min_version, version(&text)) {
        (Some(needed), Some(found)) if numbers(&found) < numbers(needed) => {
            Err(RunError::TooOld { program: machine.system.clone(), found, needed: needed.clone() })
        }
        _ => Ok(()),
    }
}

/// `10.0.2` out of `QEMU emulator version 10.0.2 (Debian …)`.
fn version(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("version ")?;
    rest.split_whitespace().next().map(str::to_owned)
}

fn numbers(version: &str) -> Vec<u32> {
    version.split('.').map_while(|part| part.parse().ok()).collect()
}

fn start(machine: &Machine, options: &Options, scratch: &Path) -> Result<Start, RunError> {
    let card = Card::open(&options.image)?;
    if machine.boot == Boot::Direct {
        return Ok(Start::Direct(assets::extract(&card, machine, &options.serial, scratch)?));
    }
    let found = machine.firmware.iter().find(|firmware| firmware.code.is_file() && firmware.vars.is_file());
    let firmware = found.ok_or_else(|| RunError::Firmware {
        looked_for: machine.firmware.iter().map(|firmware| firmware.code.display().to_string()).collect(),
        package: machine.firmware_package.clone(),
    })?;
    let vars = scratch.join("vars.fd");
    let bytes = fs::read(&firmware.vars).map_err(RunError::io("read", firmware.vars.display()))?;
    fs::write(&vars, bytes).map_err(RunError::io("write", vars.display()))?;
    Ok(Start::Uefi { code: firmware.code.clone(), vars })
}

/// The file behind the VM's disk and its format. STATE grows to the end of the disk, so the disk is made larger than the
/// image: the image itself (sparsely, and said so), or with `--snapshot` an overlay.
fn disk(
    machine: &Machine,
    options: &Options,
    scratch: &Path,
    progress: &Progress,
) -> Result<(PathBuf, &'static str), RunError> {
    let image = &options.image;
    let path = image.canonicalize().map_err(RunError::io("open", image.display()))?;
    let card = Card::open(&path)?;
    let size = disk_size(machine.disk, card.size().max(options.disk_size));
    if options.snapshot {
        let overlay = scratch.join("overlay.qcow2");
        qcow2::create_overlay(&overlay, &path, size).map_err(RunError::io("write", overlay.display()))?;
        return Ok((overlay, "qcow2"));
    }
    if path.is_file() {
        if size > card.size() {
            grow(&path, size).map_err(RunError::io("grow", image.display()))?;
            progress.note(&format!(
                "{} is now {} MiB large (sparse: it takes no more room), so that STATE can grow",
                image.display(),
                size >> 20
            ));
        }
    } else if machine.disk == Disk::Sd && !card.size().is_power_of_two() {
        return Err(RunError::CardSize { path, size: card.size() });
    }
    Ok((path, "raw"))
}

/// The size that the machine takes, at least `wanted` bytes.
fn disk_size(disk: Disk, wanted: u64) -> u64 {
    match disk {
        Disk::Sd => wanted.next_power_of_two(),
        Disk::VirtioBlkPci | Disk::VirtioBlkDevice => wanted.next_multiple_of(512),
    }
}

fn grow(path: &Path, size: u64) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.set_len(size)
}

/// Checks that this machine's processor can run the guest: the same architecture, a machine that does not ask for a
/// particular processor, and access to the kernel's KVM.
fn check_kvm(machine: &Machine, options: &Options) -> Result<(), RunError> {
    if !options.kvm {
        return Ok(());
    }
    let same = machine.system.strip_prefix("qemu-system-") == Some(env::consts::ARCH);
    let any = matches!(machine.cpu.as_deref(), Some("max" | "host"));
    if !same || !any {
        let why = format!("{} is not what this machine's processor is", machine.machine);
        return Err(RunError::Kvm(why));
    }
    let device = "/dev/kvm";
    match File::options().read(true).write(true).open(device) {
        Ok(_) => Ok(()),
        Err(error) => Err(RunError::Kvm(format!("{device}: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        let text = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright";
        assert_eq!(version(text).as_deref(), Some("10.0.2"));
        assert!(numbers("7.2.17") < numbers("9.0"));
        assert!(numbers("10.0.2") > numbers("9.0"));
    }

    #[test]
    fn an_sd_card_is_a_power_of_two() {
        assert_eq!(disk_size(Disk::Sd, (1 << 30) + 1), 2 << 30);
        assert_eq!(disk_size(Disk::Sd, 4 << 30), 4 << 30);
        assert_eq!(disk_size(Disk::VirtioBlkPci, 1000), 1024);
    }

    #[test]
    fn a_code_of_a_signal_is_told_apart() {
        assert_eq!(code(ExitStatus::from_raw(3 << 8)), 3);
        assert_eq!(code(ExitStatus::from_raw(9)), 137);
    }
}
