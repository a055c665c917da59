//! What PID 1 knows of the node and tells others: console markers, join-status.txt, the boot report.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use crate::clock;
use crate::config::status::Status;
use crate::config::writer::Task;
use crate::console::say;
use crate::image::Image;
use crate::network::status::NetworkStatus;
use crate::report::{BootReport, PhaseReport, Stage1Report};
use crate::services::notify::Notice;
use crate::shutdown::Ending;
use crate::sys::command::Exit;
use crate::sys::uptime;

use super::bus::PhasesUpdate;

/// The node as seen from PID 1; owned by the main loop.
pub(super) struct Node {
    /// The inbox of the thread that writes to CONFIG.
    pub(super) writer: Sender<Task>,
    image: Image,
    network: Arc<NetworkStatus>,
    status: Status,
    /// The failure of a phase and of the service; the phase's counts first.
    phase_failure: Option<(String, Option<String>)>,
    join_failure: Option<(String, Option<String>)>,
    told_failure: Option<String>,
    /// Join steps that were reached since the board started.
    steps: Vec<String>,
    stage1: Vec<PhaseReport>,
    phases: Vec<PhaseReport>,
    settled: bool,
    joined_at: Option<f64>,
}

impl Node {
    /// A node of which nothing is known but its image.
    pub(super) fn new(image: Image, writer: Sender<Task>, network: Arc<NetworkStatus>) -> Self {
        let status = Status {
            image: Some(format!("{} (Kiln {})", image.board, image.version)),
            step: "starting the system".into(),
            ..Status::default()
        };
        let stage1 = Stage1Report::read().unwrap_or_default().phases;
        Self {
            writer,
            image,
            network,
            status,
            phase_failure: None,
            join_failure: None,
            told_failure: None,
            steps: Vec::new(),
            stage1,
            phases: Vec::new(),
            settled: false,
            joined_at: None,
        }
    }

    /// A phase ended.
    pub(super) fn take_phases(&mut self, update: PhasesUpdate) {
        let failed = update.reports.iter().find_map(|r| Some((&r.name, r.error.as_ref()?)));
        self.phase_failure = failed.map(|(name, why)| (format!("{name}: {why}"), update.help.clone()));
        let changed = update.settled && (!self.settled || self.phases != update.reports);
        self.phases = update.reports;
        self.settled = update.settled;
        self.status.node = update.name;
        self.status.role = update.role;
        if changed {
            self.write_report();
        }
        // Before that, each phase would be a write to flash.
        if self.settled || self.phase_failure.is_some() {
            self.publish();
        }
    }

    /// The service said something.
    pub(super) fn take_notice(&mut self, notice: Notice) {
        match notice {
            Notice::Ready => self.ready(),
            Notice::Status(text) => say!("{text}"),
            Notice::Step(step) => self.step(step),
            Notice::Error(why) => {
                if self.told_failure.as_ref() != Some(&why) {
                    say!("join failed: {why}");
                    self.told_failure = Some(why.clone());
                }
                self.join_failure = Some((why, None));
            }
            Notice::Help(text) => {
                if let Some((_, help)) = &mut self.join_failure {
                    *help = Some(text);
                }
            }
            // A closed inbox means that the writer could not be started, which was told then.
            Notice::ScrubToken => drop(self.writer.send(Task::ScrubToken)),
            Notice::ImportedCa => drop(self.writer.send(Task::RemoveCa)),
            Notice::Time(time) => clock::offer_server_time(time),
        }
        self.publish();
    }

    /// A step begins. While a failure stands, the steps up to it are no news: a service that fails and starts again
    /// every minute must not write to the card each time. A step that was never reached before is progress.
    fn step(&mut self, step: String) {
        if !self.steps.contains(&step) {
            self.join_failure = None;
            self.steps.push(step.clone());
        }
        if self.join_failure.is_none() && !self.status.joined {
            self.status.step = format!("joining the cluster: {step}");
        }
    }

    fn ready(&mut self) {
        self.join_failure = None;
        self.told_failure = None;
        self.status.joined = true;
        self.status.step = "joined".into();
        if self.joined_at.is_some() {
            return;
        }
        let seconds = uptime::now().as_secs_f64();
        self.joined_at = Some(seconds);
        say!("joined as {} at {seconds:.2} s", self.status.node.as_deref().unwrap_or("(unnamed)"));
        if let Some((used, total)) = memory() {
            say!("memory used {used} MiB of {total} MiB");
        }
        self.write_report();
    }

    /// A service ended that should not.
    pub(super) fn service_ended(&mut self, name: &str, exit: Exit) {
        // What it said before it ended says more than its exit code.
        if self.join_failure.is_none() {
            let help = "Look at the console for the service's last lines; the board starts it again by itself.";
            self.join_failure = Some((format!("the {name} service ended ({exit})"), Some(help.into())));
        }
        self.publish();
    }

    /// Addresses or cables changed.
    pub(super) fn network_changed(&mut self) {
        if self.settled {
            self.publish();
        }
    }

    /// The board is going down.
    pub(super) fn stopping(&mut self, ending: Ending) {
        self.status.step = match ending {
            Ending::PowerOff => "switched off in order".into(),
            Ending::Restart => "restarting".into(),
        };
        self.publish();
    }

    fn publish(&mut self) {
        self.status.network = self.network.lines();
        let failure = self.phase_failure.as_ref().or(self.join_failure.as_ref());
        self.status.error = failure.map(|(why, _)| why.clone());
        self.status.help = failure.and_then(|(_, help)| help.clone());
        let _ = self.writer.send(Task::Status(self.status.clone()));
    }

    fn write_report(&self) {
        if !crate::sys::mount::is_mounted(crate::state::MOUNT) {
            return;
        }
        let report = BootReport {
            schema: 1,
            board: &self.image.board,
            version: &self.image.version,
            node: self.status.node.clone(),
            phases: self.stage1.iter().chain(&self.phases).cloned().collect(),
            joined_at: self.joined_at,
        };
        if let Err(error) = report.write() {
            say!("boot report not written: {error}");
        }
    }
}

/// Used and total memory in MiB: MemTotal - MemAvailable, and MemTotal.
fn memory() -> Option<(u64, u64)> {
    parse_memory(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

fn parse_memory(text: &str) -> Option<(u64, u64)> {
    let kib = |key: &str| -> Option<u64> {
        text.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
    };
    let (total, available) = (kib("MemTotal:")?, kib("MemAvailable:")?);
    Some((total.saturating_sub(available) / 1024, total / 1024))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, channel};

    fn node() -> (Node, Receiver<Task>) {
        let (writer, inbox) = channel();
        (Node::new(Image::default(), writer, Arc::new(NetworkStatus::new(Box::new(|| {})))), inbox)
    }

    fn last_status(inbox: &Receiver<Task>) -> Status {
        let status = inbox
            .try_iter()
            .filter_map(|task| if let Task::Status(status) = task { Some(status) } else { None })
            .last();
        status.expect("a status")
    }

    #[test]
    fn memory_in_use_is_what_is_not_available() {
        let text = "MemTotal:        1024000 kB\nMemFree:          1000 kB\nMemAvailable:     512000 kB\n";
        assert_eq!(parse_memory(text), Some((500, 1000)));
    }

    #[test]
    fn a_join_error_and_its_help_reach_the_card_until_the_node_is_ready() {
        let (mut node, inbox) = node();
        node.take_notice(Notice::Error("wrong CA".into()));
        node.take_notice(Notice::Help("make a new token".into()));
        node.service_ended("kiln", Exit::Code(1));
        let status = last_status(&inbox);
        assert_eq!((status.error.as_deref(), status.help.as_deref()), (Some("wrong CA"), Some("make a new token")));
        node.take_notice(Notice::Ready);
        let status = last_status(&inbox);
        assert!(status.joined && status.error.is_none());
    }

    #[test]
    fn a_service_that_fails_again_and_again_changes_nothing_on_the_card() {
        let (mut node, inbox) = node();
        let run = |node: &mut Node| {
            node.take_notice(Notice::Step("ca".into()));
            node.take_notice(Notice::Error("no answer".into()));
            node.service_ended("kiln", Exit::Code(1));
        };
        run(&mut node);
        let first = last_status(&inbox);
        run(&mut node);
        let statuses: Vec<Status> = inbox
            .try_iter()
            .filter_map(|task| match task {
                Task::Status(status) => Some(status),
                _ => None,
            })
            .collect();
        assert!(statuses.iter().all(|s| *s == first), "{statuses:?}");
        node.take_notice(Notice::Step("csr".into()));
        let status = last_status(&inbox);
        assert_eq!((status.step.as_str(), status.error), ("joining the cluster: csr", None));
    }

    #[test]
    fn a_failed_phase_counts_before_what_follows_from_it() {
        let (mut node, inbox) = node();
        let mut report = PhaseReport::ok("config", std::time::Duration::ZERO);
        report.error = Some("no node.toml".into());
        node.take_phases(PhasesUpdate {
            reports: vec![report],
            help: Some("write one".into()),
            ..PhasesUpdate::default()
        });
        assert_eq!(last_status(&inbox).error.as_deref(), Some("config: no node.toml"));
    }
}
