//! The command line: what there is to say, and who does it.

mod config_file;
mod duration;
mod killall;
mod kubeconfig;
mod output;
mod snapshot;
mod status;
mod token;

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

pub(crate) use config_file::read;
pub(crate) use token::TokenSecret;

use crate::{agent, exit, server};

/// Where a node keeps what must outlive a restart.
const DATA_DIR: &str = "/var/lib/kiln";

/// Kubernetes for small machines: server, agent and init in one binary.
#[derive(Debug, Parser)]
#[command(name = "kiln", version, after_help = exit::TABLE, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

/// Flags of every verb that talks to the local service or its files.
#[derive(Debug, Clone, Args)]
pub(crate) struct Common {
    /// Folder of the node's data
    #[arg(long, short = 'd', value_name = "DIR", default_value = DATA_DIR, env = "KILN_DATA_DIR")]
    pub(crate) data_dir: PathBuf,
}

/// The form of what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// `-o`.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Output {
    /// Form of the output
    #[arg(short = 'o', long = "output", value_name = "FORM", default_value = "text")]
    pub(crate) format: Format,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve the Kubernetes API, keep the cluster's data, and be a node of it
    #[command(after_help = server::EXAMPLES)]
    Server(Box<server::Options>),
    /// Join a server and be a node
    #[command(after_help = agent::EXAMPLES)]
    Agent(Box<agent::Options>),
    /// Make, list and delete join tokens
    #[command(after_help = token::EXAMPLES)]
    Token(token::Options),
    /// Print a kubeconfig with all rights in the cluster
    #[command(after_help = kubeconfig::EXAMPLES)]
    Kubeconfig(kubeconfig::Options),
    /// Save, list and restore the cluster's data
    #[command(after_help = snapshot::EXAMPLES)]
    Snapshot(snapshot::Options),
    /// Say what this node is: joined where, as what, since when
    #[command(after_help = status::EXAMPLES)]
    Status(status::Options),
    /// Stop all pods of this node, once kiln is stopped, and remove their mounts, interfaces and rules
    #[command(after_help = killall::EXAMPLES)]
    Killall(killall::Options),
    /// Print the version
    Version(Output),
    /// Print completions for a shell
    #[command(after_help = "Examples:\n  kiln completions bash > /etc/bash_completion.d/kiln")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    #[command(after_help = "Examples:\n  kiln man | man -l -")]
    Man,
}

impl Cli {
    /// Does what was asked.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self.verb {
            Verb::Server(options) => server::run(*options),
            Verb::Agent(options) => agent::run(*options),
            Verb::Token(options) => token::run(options),
            Verb::Kubeconfig(options) => kubeconfig::run(&options),
            Verb::Snapshot(options) => snapshot::run(options),
            Verb::Status(options) => status::run(&options),
            Verb::Killall(options) => killall::run(&options),
            Verb::Version(output) => version(output),
            Verb::Completions { shell } => {
                let mut text = Vec::new();
                clap_complete::generate(shell, &mut Cli::command(), "kiln", &mut text);
                Ok(std::io::stdout().write_all(&text)?)
            }
            Verb::Man => Ok(clap_mangen::Man::new(Cli::command()).render(&mut std::io::stdout())?),
        }
    }
}

fn version(output: Output) -> anyhow::Result<()> {
    let kiln = env!("CARGO_PKG_VERSION");
    let kubernetes = kiln_apiserver::Version::default().git_version;
    match output.format {
        Format::Text => println!("kiln {kiln} (Kubernetes API {kubernetes})"),
        Format::Json => output::json(&serde_json::json!({ "kiln": kiln, "kubernetes": kubernetes }))?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_pid_1_starts_is_understood() {
        for role in ["server", "agent"] {
            let words = ["kiln", role, "--config", "/config/node.toml", "--cluster-dir", "/config/cluster"];
            Cli::try_parse_from(words.iter().chain(&["--data-dir", "/var/lib/kiln"])).unwrap();
        }
    }

    #[test]
    fn every_verb_has_help_with_examples_or_takes_nothing() {
        for verb in Cli::command().get_subcommands() {
            let examples = verb.get_after_help().is_some();
            assert!(examples || matches!(verb.get_name(), "version"), "{}", verb.get_name());
        }
    }
}
