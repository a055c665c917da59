//! `--config` with a file of flags: what it says stands for words of the command line, where neither the command line nor
//! the environment says the same flag.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Command, CommandFactory as _, FromArgMatches as _, error::ErrorKind};
use kiln_node_config::flags::{self, Entry, Flag, Takes};

use super::Cli;
use crate::exit::Failure;

/// Reads the command line and the file that it names. Wrong words end the program, as do `--help` and `--version`.
///
/// # Errors
/// When the file can't be read or is wrong.
pub(crate) fn read() -> anyhow::Result<Cli> {
    let words: Vec<OsString> = std::env::args_os().collect();
    let matches = merged(&words, Cli::command().get_matches_from(&words))?;
    Ok(Cli::from_arg_matches(&matches)?)
}

/// What the words, which mean `given`, and the file that they name say together.
fn merged(words: &[OsString], given: ArgMatches) -> Result<ArgMatches, Failure> {
    let Some((path, text)) = file(&given)? else { return Ok(given) };
    let mut root = Cli::command();
    root.build();
    let found = given.subcommand().and_then(|(name, matches)| Some((root.find_subcommand(name)?, matches)));
    let Some((verb, matches)) = found else { return Ok(given) };
    let source = path.display().to_string();
    let entries = flags::parse(&text, &source, &known(verb)).map_err(|error| Failure::Input(error.to_string()))?;
    let mut all = words.to_vec();
    let mut merged = given.clone();
    for entry in entries.iter().filter(|entry| !is_given(verb, matches, &entry.name)) {
        all.extend(as_words(entry));
        // One after another, so that the line with a wrong value can be named.
        merged = Cli::command().try_get_matches_from(&all).map_err(|error| {
            Failure::Input(format!("{source}:{}:{}: {}", entry.line, entry.column, first_line(&error)))
        })?;
    }
    Ok(merged)
}

/// The file of flags that the command line names, if it names one.
fn file(matches: &ArgMatches) -> Result<Option<(PathBuf, String)>, Failure> {
    let named = matches.subcommand().and_then(|(_, verb)| verb.try_get_one::<PathBuf>("config").ok().flatten());
    let Some(path) = named else { return Ok(None) };
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| Failure::Input(format!("{}: {error}", path.display())))?;
    Ok((!flags::is_node_config(&text)).then(|| (Path::to_owned(path), text)))
}

/// The flags that a file may hold: all of the verb's, under each of their names.
fn known(verb: &Command) -> Vec<Flag<'_>> {
    let mut flags = Vec::new();
    for argument in verb.get_arguments() {
        let takes = match argument.get_action() {
            ArgAction::SetTrue => Takes::Nothing,
            ArgAction::Set => Takes::One,
            ArgAction::Append => Takes::Many,
            _ => continue,
        };
        let names = argument.get_long().into_iter().chain(argument.get_all_aliases().unwrap_or_default());
        flags.extend(names.filter(|name| *name != "config").map(|name| Flag { name, takes }));
    }
    flags
}

/// Whether the command line or the environment says this flag.
fn is_given(verb: &Command, given: &ArgMatches, name: &str) -> bool {
    let same = |argument: &&clap::Arg| {
        argument.get_long() == Some(name) || argument.get_all_aliases().unwrap_or_default().contains(&name)
    };
    let source = verb.get_arguments().find(same).and_then(|argument| given.value_source(argument.get_id().as_str()));
    matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable))
}

fn as_words(entry: &Entry) -> Vec<OsString> {
    let flag = format!("--{}", entry.name);
    if entry.values.is_empty() {
        return vec![flag.into()];
    }
    entry.values.iter().map(|value| format!("{flag}={value}").into()).collect()
}

/// What clap says of it, without the usage.
fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
    match error.kind() {
        ErrorKind::ArgumentConflict => format!("{line}, which the command line or the environment gives"),
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(file: &str, words: &[&str]) -> Result<ArgMatches, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("server.toml");
        std::fs::write(&path, file).unwrap();
        let mut all: Vec<OsString> = ["kiln", "server", "--config"].map(OsString::from).to_vec();
        all.push(path.clone().into());
        all.extend(words.iter().map(OsString::from));
        let given = Cli::command().try_get_matches_from(&all).unwrap();
        let merged = merged(&all, given).map_err(|e| e.to_string().replace(&path.display().to_string(), "FILE"))?;
        Ok(merged.subcommand_matches("server").unwrap().clone())
    }

    fn port(matches: &ArgMatches) -> Option<u16> {
        matches.get_one("https_listen_port").copied()
    }

    #[test]
    fn a_flag_goes_before_the_file_and_the_file_before_the_default() {
        let file = "https-listen-port = 7000\ncluster-domain = \"a.example\"\ntls-san = [\"x\", \"y\"]\ndisable-agent = true\n";
        let matches = run(file, &["--port", "7001", "--tls-san", "z"]).unwrap();
        assert_eq!(port(&matches), Some(7001));
        assert_eq!(matches.get_one::<String>("cluster_domain").unwrap(), "a.example");
        assert_eq!(matches.get_many::<String>("tls_sans").unwrap().collect::<Vec<_>>(), ["z"]);
        assert!(matches.get_flag("disable_agent"));
        let matches = run("port = 7000\ntls-san = [\"x\", \"y\"]\ndisable = []\n", &[]).unwrap();
        assert_eq!(port(&matches), Some(7000));
        assert_eq!(matches.get_many::<String>("tls_sans").unwrap().collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(matches.get_one::<String>("cluster_domain").unwrap(), "cluster.local");
    }

    #[test]
    fn what_is_wrong_in_the_file_is_told_with_its_line() {
        for (text, message) in [
            ("\nclustr-cidr = \"10.0.0.0/8\"\n", "FILE:2:1: unknown key `clustr-cidr`; did you mean `cluster-cidr`?"),
            (
                "https-listen-port = 7\ncluster-cidr = \"x\"\n",
                "FILE:2:1: invalid value 'x' for '--cluster-cidr <RANGE>'",
            ),
            ("kubelet-arg = [\"max-pods=many\"]\n", "FILE:1:1: invalid value 'max-pods=many'"),
            ("config = \"other.toml\"\n", "FILE:1:1: unknown key `config`"),
        ] {
            let told = run(text, &[]).unwrap_err();
            assert!(told.starts_with(message), "{told}");
        }
    }

    #[test]
    fn every_flag_of_server_and_agent_may_stand_in_a_file() {
        let mut root = Cli::command();
        root.build();
        for name in ["server", "agent"] {
            let verb = root.find_subcommand(name).unwrap();
            let known: Vec<&str> = known(verb).iter().map(|flag| flag.name).collect();
            for argument in verb.get_arguments().filter_map(clap::Arg::get_long) {
                let is_meta = matches!(argument, "config" | "help" | "version");
                assert!(is_meta || known.contains(&argument), "{name} --{argument}");
            }
        }
    }
}
