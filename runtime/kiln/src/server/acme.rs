//! Where certificates of Ingresses come from, if they are to.

use std::path::PathBuf;

use clap::Args;
use kiln_controllers::acme::{LETS_ENCRYPT, Server};

use crate::exit::Failure;

const INGRESS: &str = "Ingress";

/// Flags about it.
#[derive(Debug, Clone, Default, Args)]
#[group(id = "acme")]
pub(super) struct Flags {
    /// Get certificates for Ingresses with the annotation kiln.dev/tls-acme from an ACME server, whose terms this agrees to:
    /// Let's Encrypt, unless another is named
    #[arg(long, help_heading = INGRESS)]
    ingress_acme: bool,
    /// Whom the ACME server may write to about its account
    #[arg(long, value_name = "ADDRESS", requires = "ingress_acme", help_heading = INGRESS)]
    ingress_acme_email: Option<String>,
    /// The ACME server's directory
    #[arg(long, value_name = "URL", requires = "ingress_acme", help_heading = INGRESS)]
    ingress_acme_directory: Option<String>,
    /// CA of the ACME server; without it those that this system trusts
    #[arg(long, value_name = "FILE", requires = "ingress_acme", help_heading = INGRESS)]
    ingress_acme_ca_file: Option<PathBuf>,
}

impl Flags {
    /// The server, if there is to be one. `ingress` says whether nodes serve Ingresses.
    ///
    /// # Errors
    /// What can't be, and a file that can't be read.
    pub(super) fn resolve(self, ingress: bool) -> Result<Option<Server>, Failure> {
        if !self.ingress_acme {
            return Ok(None);
        }
        if !ingress {
            return Err(Failure::Input("--ingress-acme needs the ingress; leave out --disable ingress".to_owned()));
        }
        let directory = self.ingress_acme_directory.unwrap_or_else(|| LETS_ENCRYPT.to_owned());
        if !directory.starts_with("https://") {
            return Err(Failure::Input(format!("--ingress-acme-directory {directory}: it must begin with https://")));
        }
        let ca_pem = match &self.ingress_acme_ca_file {
            Some(path) => {
                let wrong = |error: &dyn std::fmt::Display| Failure::Input(format!("{}: {error}", path.display()));
                let pem = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
                kiln_pki::certificates_der(&pem).map_err(|error| wrong(&error))?;
                pem
            }
            None => String::new(),
        };
        Ok(Some(Server { directory, ca_pem, email: self.ingress_acme_email }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_there_if_it_is_asked_for_and_can_be() {
        let on = Flags { ingress_acme: true, ..Flags::default() };
        assert!(Flags::default().resolve(false).unwrap().is_none());
        assert_eq!(on.clone().resolve(true).unwrap().unwrap().directory, LETS_ENCRYPT);
        let file = tempfile::NamedTempFile::new().unwrap();
        let plain = Flags { ingress_acme_directory: Some("http://ca.lan/directory".to_owned()), ..on.clone() };
        let empty = Flags { ingress_acme_ca_file: Some(file.path().to_owned()), ..on.clone() };
        for (flags, ingress, expected) in
            [(on, false, "needs the ingress"), (plain, true, "must begin with https"), (empty, true, "CERTIFICATE")]
        {
            let error = format!("{:?}", flags.resolve(ingress).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }
}
