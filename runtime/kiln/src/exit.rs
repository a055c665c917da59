//! Exit codes: one table from kinds of errors to numbers.

use std::process::ExitCode;

use kiln_client::ClientError;
use kiln_pki::PkiError;
use kiln_storage::StorageError;

/// What `--help` says about exit codes.
pub(crate) const TABLE: &str = "\
Exit codes:
  0  done
  1  failed for another reason
  2  wrong usage
  3  an input file is wrong: node.toml, a kubeconfig, the cluster's files
  4  the server can't be reached
  5  the server refused
  6  a file can't be read or written, or the disk is full";

/// A failure with the exit code it deserves where its cause has none of its own.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// An input file is wrong; the text names it and what to do.
    #[error("{0}")]
    Input(String),
    /// A file or folder; the text names it.
    #[error("{0}")]
    File(String),
}

/// Tells a person what went wrong, and the caller by the exit code.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    eprintln!("kiln: {error:#}");
    ExitCode::from(code(error))
}

fn code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(code_of).unwrap_or(1)
}

fn code_of(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if let Some(failure) = cause.downcast_ref::<Failure>() {
        return Some(match failure {
            Failure::Input(_) => 3,
            Failure::File(_) => 6,
        });
    }
    if cause.is::<kiln_node_config::ConfigError>() {
        return Some(3);
    }
    if let Some(error) = cause.downcast_ref::<ClientError>() {
        return match error {
            ClientError::Api(_) => Some(5),
            ClientError::Connect { .. } | ClientError::Timeout { .. } => Some(4),
            ClientError::Config(_) => Some(3),
            ClientError::Decode { .. } | ClientError::Request { .. } => None,
        };
    }
    if let Some(error) = cause.downcast_ref::<PkiError>() {
        return Some(if matches!(error, PkiError::File { .. }) { 6 } else { 3 });
    }
    if cause.is::<StorageError>() || cause.is::<std::io::Error>() {
        return Some(6);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_failure_has_its_code() {
        let connect = ClientError::Connect { server: "s".to_owned(), why: "w".to_owned() };
        for (error, expected) in [
            (anyhow::Error::new(connect).context("listing tokens"), 4),
            (Failure::Input("x".to_owned()).into(), 3),
            (std::io::Error::other("x").into(), 6),
            (anyhow::anyhow!("x"), 1),
        ] {
            assert_eq!(code(&error), expected, "{error:#}");
        }
    }
}
