//! `kiln status`: what the service on this machine last noted about itself, and with `--network` whom this node reaches.

mod network;

use std::fmt::Write as _;

use clap::Args;
use jiff::Timestamp;

use super::{Common, Format, Output, output};
use crate::exit::Failure;
use crate::service::block_on;
use crate::service::status::{Status, StatusFile};

/// Shown with `--help`.
pub(crate) const EXAMPLES: &str = "\
Examples:
  kiln status
  kiln status -o json | jq .certificates
  sudo kiln status --network                      who is reached from this node, tried out now";

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    common: Common,
    /// Try out whom this node reaches: the API, other nodes and their pods, DNS, Services; and say why not
    #[arg(long)]
    network: bool,
    #[command(flatten)]
    output: Output,
}

/// Prints it.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let file = StatusFile::of(&options.common.data_dir);
    let Some(status) = file.read()? else {
        let text = format!(
            "{} is not there: no kiln server or agent has run since this machine started",
            file.path().display()
        );
        return Err(Failure::File(text).into());
    };
    if options.network {
        let picture = block_on(network::look(&options.common.data_dir, &status))?;
        return match options.output.format {
            Format::Json => output::json(&picture),
            Format::Text => {
                print!("{}", network::draw(&picture));
                Ok(())
            }
        };
    }
    match options.output.format {
        Format::Json => output::json(&status),
        Format::Text => {
            print!("{}", describe(&status, Timestamp::now()));
            Ok(())
        }
    }
}

fn describe(status: &Status, now: Timestamp) -> String {
    let mut out = String::new();
    let mut line = |key: &str, value: &str| {
        // Writing to a String can't fail.
        let _ = writeln!(out, "{:14}{value}", format!("{key}:"));
    };
    line("node", &format!("{} ({})", status.node, status.role));
    line("server", status.server.as_deref().unwrap_or("-"));
    line("state", &status.state);
    if let Some(error) = &status.error {
        line("error", error);
    }
    if let Some(help) = &status.help {
        line("what to do", help);
    }
    if let Some(since) = status.joined_since {
        line("joined", &format!("{since} ({})", output::relative(since, now)));
    }
    for certificate in &status.certificates {
        let text = format!(
            "{} expires {} ({})",
            certificate.name,
            certificate.not_after,
            output::relative(certificate.not_after, now)
        );
        line("certificate", &text);
    }
    if let Some(storage) = &status.storage {
        let day = storage
            .bytes_per_day(now)
            .map_or_else(|| "a rate is not known yet".to_owned(), |b| format!("{} a day", output::bytes(b)));
        let text = format!(
            "{day} ({} to flash in {} commits since the start)",
            output::bytes(storage.bytes_written),
            storage.commits
        );
        line("writes", &text);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::status::{CertificateStatus, StorageStatus};

    #[test]
    fn the_status_tells_where_as_what_since_when_and_what_is_written() {
        let time = |s: i64| Timestamp::from_second(s).unwrap();
        let status = Status {
            role: "server".to_owned(),
            node: "pi-1".to_owned(),
            server: Some("https://a:1".to_owned()),
            state: "joined".to_owned(),
            error: None,
            help: None,
            joined_since: Some(time(0)),
            certificates: vec![CertificateStatus { name: "server".to_owned(), not_after: time(30 * 86400) }],
            storage: Some(StorageStatus { bytes_written: 1 << 20, commits: 7, since: time(0) }),
        };
        let text = describe(&status, time(43200));
        assert!(text.contains("node:         pi-1 (server)\n"), "{text}");
        assert!(text.contains("joined:       1970-01-01T00:00:00Z (12h ago)\n"), "{text}");
        assert!(
            text.contains("writes:       2.0 MiB a day (1.0 MiB to flash in 7 commits since the start)\n"),
            "{text}"
        );
        assert!(text.contains("certificate:  server expires 1970-01-31T00:00:00Z (in 29d)\n"), "{text}");
    }
}
