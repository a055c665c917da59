//! The phases of stage 2, in the order in which they are tried.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use kiln_node_config::{NodeConfig, Role};
use nix::mount::MsFlags;

use super::bus::{Bus, Event, PhasesUpdate};
use super::plug::Plug;
use crate::cmdline::BootParams;
use crate::config::writer::Task;
use crate::config::{self, CLUSTER, NODE_TOML};
use crate::console::say;
use crate::disk::{self, Disk};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::initramfs::attach_once;
use crate::modules::Part;
use crate::network::status::NetworkStatus;
use crate::phases::{Next, Phase, Sequence};
use crate::services::{Spec, cgroup, notify};
use crate::sys::uptime;
use crate::{board, clock, network, state};

/// The phase that waits for the join.
const LATER: &str = "later-modules";

/// The boot, readable from top to bottom. `services` needs what the cluster service cannot do without: a place for its
/// data, a name, a clock that is not in 1970. It is started without a network too, since it tells what it waits for.
const PHASES: &[Phase<Boot>] = &[
    Phase { name: "mounts", needs: &[], run: Boot::mounts },
    Phase { name: "modules", needs: &["mounts"], run: Boot::modules },
    Phase { name: "state", needs: &["modules"], run: Boot::state },
    Phase { name: "config", needs: &["modules"], run: Boot::config },
    Phase { name: "hostname", needs: &["config"], run: Boot::hostname },
    Phase { name: "network", needs: &["hostname"], run: Boot::network },
    Phase { name: "time", needs: &["config"], run: Boot::time },
    Phase { name: "services", needs: &["state", "hostname", "time"], run: Boot::services },
    Phase { name: "console", needs: &["services"], run: Boot::console },
    Phase { name: LATER, needs: &["modules", "console"], run: Boot::later_modules },
];

const KILN: &str = "/usr/bin/kiln";
const DATA: &str = "/var/lib/kiln";
const SHELL: &str = "/bin/sh";
/// How long boot waits for a first address.
const FIRST_ADDRESS: Duration = Duration::from_secs(10);
/// How long modules that can wait do so for the join; a node whose server is away shall be complete too.
const JOINING: Duration = Duration::from_secs(30);
/// Events come in bursts (a disk with its partitions); a retry waits for the burst's end.
const BURST: Duration = Duration::from_millis(200);

/// What the main loop tells the boot thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nudge {
    /// A device or cable changed.
    Device,
    /// The node has joined.
    Joined,
}

/// The main loop's handle on the boot thread.
pub(super) struct Handle {
    nudge: Sender<Nudge>,
    network: Arc<NetworkStatus>,
}

impl Handle {
    /// A device or cable changed: failed phases are tried again.
    pub(super) fn hurry(&self) {
        // The thread ends when all phases are done; nobody needs to hurry then.
        let _ = self.nudge.send(Nudge::Device);
    }

    /// The node has joined: there is time for what can wait.
    pub(super) fn joined(&self) {
        let _ = self.nudge.send(Nudge::Joined);
    }

    /// The network's state.
    pub(super) fn network(&self) -> Arc<NetworkStatus> {
        Arc::clone(&self.network)
    }
}

/// Starts the boot thread.
pub(super) fn start(image: Image, bus: Bus, writer: Sender<Task>, plug: Plug) -> Result<Handle> {
    let (nudge, nudged) = channel();
    let teller = bus.clone();
    let network = Arc::new(NetworkStatus::new(Box::new(move || teller.send(Event::Network))));
    let status = Arc::clone(&network);
    let mut boot = Boot {
        image,
        bus,
        writer,
        plug,
        network,
        network_started: false,
        disk: None,
        node: None,
        name: None,
        board_id: None,
    };
    crate::thread::spawn("boot", move || boot.run(&nudged))?;
    Ok(Handle { nudge, network: status })
}

/// What the phases have reached.
struct Boot {
    image: Image,
    bus: Bus,
    writer: Sender<Task>,
    plug: Plug,
    network: Arc<NetworkStatus>,
    network_started: bool,
    disk: Option<Disk>,
    node: Option<NodeConfig>,
    name: Option<String>,
    board_id: Option<String>,
}

impl Boot {
    fn run(&mut self, nudged: &Receiver<Nudge>) {
        let mut sequence = Sequence::new(PHASES);
        // It would take the processor from the cluster service while that starts.
        sequence.hold(LATER, uptime::now() + JOINING);
        let mut told = vec![None; PHASES.len()];
        loop {
            match sequence.next(uptime::now()) {
                Next::Done => return,
                Next::Run(index) => self.run_phase(&mut sequence, index, &mut told[index]),
                Next::WaitUntil(due) => {
                    let patience = due.saturating_sub(uptime::now());
                    let mut news = match nudged.recv_timeout(patience) {
                        Ok(nudge) => vec![nudge],
                        Err(RecvTimeoutError::Timeout) => continue,
                        Err(RecvTimeoutError::Disconnected) => vec![Nudge::Device],
                    };
                    if news != [Nudge::Joined] {
                        std::thread::sleep(BURST);
                    }
                    news.extend(nudged.try_iter());
                    if news.contains(&Nudge::Joined) {
                        sequence.hold(LATER, Duration::ZERO);
                    }
                    if news.contains(&Nudge::Device) {
                        sequence.hurry();
                    }
                }
            }
        }
    }

    fn run_phase(&mut self, sequence: &mut Sequence, index: usize, told: &mut Option<String>) {
        let start = uptime::now();
        let run = PHASES[index].run;
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(self)))
            .unwrap_or_else(|_| Err(Error::Panic("the phase panicked; the place is printed above".into())));
        let now = uptime::now();
        let Some(report) = sequence.finish(index, &outcome, now.saturating_sub(start), now) else {
            return;
        };
        // The same failure again is no news, but it is still in the report and on CONFIG.
        if report.error.is_none() || *told != report.error {
            say!("{report}");
        }
        if let (Err(error), true) = (&outcome, *told != report.error) {
            say!("what to do: {}", error.help());
        }
        *told = report.error.clone();
        self.bus.send(Event::Phases(PhasesUpdate {
            reports: sequence.reports(),
            help: outcome.err().map(|e| e.help().to_owned()),
            settled: sequence.is_settled(),
            name: self.name.clone(),
            role: self.node.as_ref().map(|n| n.node.role.to_string()),
        }));
    }

    fn mounts(&mut self) -> Result<()> {
        let hardened = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NODEV;
        attach_once("cgroup2", "/sys/fs/cgroup", "cgroup2", hardened, "")?;
        attach_once(
            "devpts",
            "/dev/pts",
            "devpts",
            MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC,
            "mode=0620,gid=5,ptmxmode=0666",
        )?;
        attach_once("tmpfs", "/dev/shm", "tmpfs", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "mode=1777,size=20%")?;
        attach_once("tmpfs", "/tmp", "tmpfs", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, "mode=1777,size=20%")?;
        // Wanted by container runtimes; a kernel without them still boots.
        for (source, target) in
            [("mqueue", "/dev/mqueue"), ("bpf", "/sys/fs/bpf"), ("securityfs", "/sys/kernel/security")]
        {
            let _ = attach_once(source, target, source, hardened, "");
        }
        let lacking = cgroup::delegate();
        if !lacking.is_empty() {
            say!("this kernel runs without the cgroup controllers: {}", lacking.join(", "));
        }
        Ok(())
    }

    fn modules(&mut self) -> Result<()> {
        self.plug.load(Part::First)
    }

    fn later_modules(&mut self) -> Result<()> {
        self.plug.load(Part::Later)
    }

    fn state(&mut self) -> Result<()> {
        state::bring_up(&self.boot_disk()?)
    }

    fn config(&mut self) -> Result<()> {
        config::mount(&self.boot_disk()?)?;
        // Also before node.toml is read: what is wrong with it shall be on the card.
        let _ = self.writer.send(Task::Mounted);
        self.node = Some(config::load()?);
        Ok(())
    }

    fn hostname(&mut self) -> Result<()> {
        let name = match self.settings()?.node.name.clone() {
            Some(name) => name,
            None => kiln_node_config::default_name(&self.board_id()?),
        };
        nix::unistd::sethostname(&name).map_err(|e| Error::sys("set the host name", &name, e))?;
        self.name = Some(name);
        Ok(())
    }

    /// Done as soon as one interface has an address; the others follow in the background.
    fn network(&mut self) -> Result<()> {
        if !self.network_started {
            let (config, name) = (self.settings()?.network.clone(), self.name.clone().unwrap_or_default());
            network::start(config, name, Arc::clone(&self.network))?;
            self.network_started = true;
        }
        if self.network.wait_configured(Some(FIRST_ADDRESS)) {
            return Ok(());
        }
        let lines = self.network.lines();
        let seen = if lines.is_empty() { "there is no network interface".to_owned() } else { lines.join("; ") };
        Err(Error::Missing {
            what: format!("no address yet: {seen}"),
            help: "Check the network cable and the DHCP server, or set a static address in node.toml.",
        })
    }

    fn time(&mut self) -> Result<()> {
        clock::set_lower_bound(self.image.build_time, &Path::new(CLUSTER).join("ca.crt"))?;
        let servers = self.settings()?.time.servers.clone();
        if servers.is_empty() {
            return Ok(());
        }
        clock::ntp::start(servers, Arc::clone(&self.network))
    }

    fn services(&mut self) -> Result<()> {
        let board_id = self.board_id()?;
        let role = match self.settings()?.node.role {
            Role::Server => "server",
            Role::Agent => "agent",
        };
        let arguments = [role, "--config", NODE_TOML, "--cluster-dir", CLUSTER, "--data-dir", DATA];
        let environment = [("KILN_BOARD_ID", board_id.as_str()), ("NOTIFY_SOCKET", notify::PATH)];
        self.bus.send(Event::Start(Spec {
            name: "kiln",
            program: KILN.into(),
            arguments: arguments.map(str::to_owned).into(),
            environment: environment.into_iter().chain(BASE).map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
            on_console: false,
            ends_others: true,
        }));
        Ok(())
    }

    /// A shell, if node.toml wants one and the image has one.
    fn console(&mut self) -> Result<()> {
        say!("this is {} ({})", self.name.as_deref().unwrap_or_default(), self.network.lines().join("; "));
        if self.settings()?.console.shell && Path::new(SHELL).exists() {
            self.bus.send(Event::Start(Spec {
                name: "shell",
                program: SHELL.into(),
                arguments: vec!["-l".into()],
                environment: [("TERM", "linux")]
                    .into_iter()
                    .chain(BASE)
                    .map(|(k, v)| (k.to_owned(), v.to_owned()))
                    .collect(),
                on_console: true,
                ends_others: false,
            }));
        }
        Ok(())
    }

    fn boot_disk(&mut self) -> Result<Disk> {
        if let Some(disk) = &self.disk {
            return Ok(disk.clone());
        }
        let params = BootParams::read()?;
        let (found, seen) = disk::find(&params.disk);
        let disk = found.ok_or_else(|| Error::Missing {
            what: format!("no disk with id {}; found: {seen}", params.disk),
            help: "Check that the card or disk sits firmly.",
        })?;
        self.disk = Some(disk.clone());
        Ok(disk)
    }

    fn board_id(&mut self) -> Result<String> {
        if let Some(id) = &self.board_id {
            return Ok(id.clone());
        }
        let id = board::id()?;
        self.board_id = Some(id.clone());
        Ok(id)
    }

    fn settings(&self) -> Result<&NodeConfig> {
        self.node.as_ref().ok_or_else(|| Error::Config("node.toml was not read yet".into()))
    }
}

/// What every service finds in its environment.
const BASE: [(&str, &str); 2] = [("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), ("HOME", "/root")];
