//! The command line: parse, resolve, run, and say what came of it.
//!
//! The work is the library's; a file here per verb turns arguments into its types and its answers into text or JSON.
//! Results go to stdout, progress and errors to stderr. [`args`] is the one table that help, completions and man pages
//! come from, [`exit`] the one place where an error becomes an exit code.

mod args;
mod boards;
mod build;
mod bundle;
mod cache;
mod cluster;
mod config;
mod exit;
mod flash;
mod generate;
mod inspect;
mod lock;
mod output;
mod run;
mod settings;
mod verify;
mod workspace;

use std::process::ExitCode;

use clap::{FromArgMatches, error::ErrorKind};
use imager::progress::Progress;

use args::{CacheVerb, Cli, ClusterVerb, ConfigVerb, Verb};
use exit::Exit;
use output::Output;

/// Parses the arguments and runs the verb.
pub(crate) fn main() -> ExitCode {
    let matches = match args::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return usage(&error),
    };
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match run(cli) {
        Ok(exit) => exit.into(),
        Err(error) => exit::report(&error).into(),
    }
}

/// What clap has to say: help on stdout, mistakes on stderr.
fn usage(error: &clap::Error) -> ExitCode {
    // A closed stdout is no reason for another message.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Ok.into(),
        _ => Exit::Usage.into(),
    }
}

fn run(cli: Cli) -> anyhow::Result<Exit> {
    let globals = cli.globals;
    let output = Output::new(globals.output);
    let progress = if globals.quiet { Progress::hidden() } else { Progress::stderr() };
    match cli.verb {
        Verb::Build(args) => build::run(&globals, &args, output, &progress),
        Verb::Bundle(args) => bundle::run(&globals, &args, output, &progress),
        Verb::Boards => boards::run(&globals, output),
        Verb::UpdateLock(args) => lock::run(&globals, args, output, &progress),
        Verb::Cluster { verb: ClusterVerb::Init(args) } => cluster::init(args, output),
        Verb::Config { verb: ConfigVerb::Show(args) } => config::show(&args, output),
        Verb::Config { verb: ConfigVerb::Set(args) } => config::set(&args, output),
        Verb::Cache { verb: CacheVerb::List } => cache::list(&globals, output),
        Verb::Cache { verb: CacheVerb::Prune(args) } => cache::prune(&globals, &args, output),
        Verb::Run(args) => run::run(&globals, *args, &progress),
        Verb::Flash(args) => flash::run(&args, output, &progress),
        Verb::Inspect(args) => inspect::run(&args, output),
        Verb::Verify(args) => verify::run(&args, output, &progress),
        Verb::Completions(args) => generate::completions(&args),
        Verb::Man(args) => generate::man(&args),
    }
}
