//! Progress of long work: bars on a terminal, plain lines otherwise.
//!
//! One [`Progress`] is made by the command line and handed down by reference; a module opens a [`Step`] for each piece
//! of work that a person would name. Everything goes to stderr, so that stdout holds only what was asked for. `NO_COLOR`
//! takes the colours away, and a `TERM` of `dumb` the bars.

use std::{
    env,
    io::{self, IsTerminal, Write},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// How often a spinner moves; also what keeps the elapsed time of a silent step alive.
const TICK: Duration = Duration::from_millis(120);

/// Steps shorter than this are reported without a duration.
const WORTH_TIMING: Duration = Duration::from_millis(100);

/// Where progress is shown. Clones share the screen.
#[derive(Clone, Debug)]
pub struct Progress {
    mode: Mode,
}

#[derive(Clone, Debug)]
enum Mode {
    Bars { screen: MultiProgress, colour: bool },
    Lines,
    Hidden,
}

/// What a step's numbers count, which is only a matter of how they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Items,
    Bytes,
}

/// One piece of work. Dropping it without [`Step::done`] takes its bar away and says nothing: the error that ended the
/// work is what the reader should see.
#[derive(Debug)]
pub struct Step {
    name: String,
    started: Instant,
    finished: AtomicBool,
    view: View,
}

#[derive(Debug)]
enum View {
    Bar { screen: MultiProgress, bar: ProgressBar, colour: bool },
    Lines,
    Hidden,
}

impl Progress {
    /// Shows progress on stderr: bars when it is a terminal, a line at the start and at the end of a step otherwise.
    pub fn stderr() -> Self {
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        if !io::stderr().is_terminal() || dumb {
            return Self { mode: Mode::Lines };
        }
        let colour = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { mode: Mode::Bars { screen: MultiProgress::new(), colour } }
    }

    /// Shows nothing: for `--quiet` and for tests.
    pub fn hidden() -> Self {
        Self { mode: Mode::Hidden }
    }

    /// Opens a step that counts things (`total` of them when that is known).
    pub fn step(&self, name: &str, total: Option<u64>) -> Step {
        self.open(name, total, Unit::Items)
    }

    /// Opens a step that counts bytes (`total` of them when that is known).
    pub fn bytes(&self, name: &str, total: Option<u64>) -> Step {
        self.open(name, total, Unit::Bytes)
    }

    /// Writes one line of information above the bars.
    pub fn note(&self, line: &str) {
        match &self.mode {
            Mode::Bars { screen, .. } => print_above(screen, line),
            Mode::Lines => print_line(line),
            Mode::Hidden => {}
        }
    }

    fn open(&self, name: &str, total: Option<u64>, unit: Unit) -> Step {
        let view = match &self.mode {
            Mode::Bars { screen, colour } => {
                let bar = match total {
                    Some(total) => ProgressBar::new(total),
                    None => ProgressBar::new_spinner(),
                };
                let bar = screen.add(bar);
                bar.set_style(style(total.is_some(), unit, *colour));
                bar.set_prefix(name.to_owned());
                bar.enable_steady_tick(TICK);
                View::Bar { screen: screen.clone(), bar, colour: *colour }
            }
            Mode::Lines => {
                print_line(&format!("{name} ..."));
                View::Lines
            }
            Mode::Hidden => View::Hidden,
        };
        Step { name: name.to_owned(), started: Instant::now(), finished: AtomicBool::new(false), view }
    }
}

impl Step {
    /// Moves the step on by `amount` things or bytes.
    pub fn inc(&self, amount: u64) {
        if let View::Bar { bar, .. } = &self.view {
            bar.inc(amount);
        }
    }

    /// Says what the step is busy with; plain output leaves it out.
    pub fn message(&self, text: &str) {
        if let View::Bar { bar, .. } = &self.view {
            bar.set_message(text.to_owned());
        }
    }

    /// Ends the step with what came of it (`214 packages, 96.1 MB`; may be empty). Only the first call counts.
    pub fn done(&self, outcome: &str) {
        if self.finished.swap(true, Ordering::Relaxed) {
            return;
        }
        let line = summary(&self.name, outcome, self.started.elapsed());
        match &self.view {
            View::Bar { screen, bar, colour } => {
                bar.finish_and_clear();
                let mark = if *colour { "\u{1b}[32m✓\u{1b}[0m" } else { "✓" };
                print_above(screen, &format!("{mark} {line}"));
            }
            View::Lines => print_line(&line),
            View::Hidden => {}
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let View::Bar { bar, .. } = &self.view {
            bar.finish_and_clear();
        }
    }
}

fn summary(name: &str, outcome: &str, took: Duration) -> String {
    let outcome = if outcome.is_empty() { "done" } else { outcome };
    if took < WORTH_TIMING {
        format!("{name}: {outcome}")
    } else {
        format!("{name}: {outcome} ({:.1} s)", took.as_secs_f64())
    }
}

fn template(bounded: bool, unit: Unit, colour: bool) -> String {
    let bar = if colour { "{bar:24.cyan/blue}" } else { "{bar:24}" };
    match (bounded, unit) {
        (true, Unit::Items) => format!("  {{prefix:24}} {bar} {{pos}}/{{len}} {{wide_msg}}"),
        (true, Unit::Bytes) => {
            format!("  {{prefix:24}} {bar} {{bytes}}/{{total_bytes}} {{bytes_per_sec}} {{wide_msg}}")
        }
        (false, Unit::Items) => "{spinner} {prefix:24} {elapsed} {wide_msg}".to_owned(),
        (false, Unit::Bytes) => "{spinner} {prefix:24} {elapsed} {bytes} {wide_msg}".to_owned(),
    }
}

fn style(bounded: bool, unit: Unit, colour: bool) -> ProgressStyle {
    // The templates are constants of this file and a test parses each; a bar without one still counts.
    ProgressStyle::with_template(&template(bounded, unit, colour)).unwrap_or_else(|_| ProgressStyle::default_bar())
}

// A stderr that is gone is no reason to stop the work, so failures to write to it are let go.
fn print_line(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

fn print_above(screen: &MultiProgress, line: &str) {
    if screen.println(line).is_err() {
        print_line(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_valid() {
        for colour in [false, true] {
            for unit in [Unit::Items, Unit::Bytes] {
                for bounded in [false, true] {
                    assert!(ProgressStyle::with_template(&template(bounded, unit, colour)).is_ok());
                }
            }
        }
    }

    #[test]
    fn a_step_ends_once() {
        let step = Progress::hidden().step("fetch", Some(3));
        step.inc(3);
        step.done("3 files");
        step.done("again");
        assert!(step.finished.load(Ordering::Relaxed));
    }

    #[test]
    fn a_short_step_has_no_duration() {
        assert_eq!(summary("fetch", "3 files", Duration::from_millis(5)), "fetch: 3 files");
        assert_eq!(summary("fetch", "", Duration::from_millis(1500)), "fetch: done (1.5 s)");
    }
}
