//! `kiln kubeconfig`, and the access that the other verbs have to the API.

use std::path::{Path, PathBuf};

use clap::Args;
use kiln_client::Client;
use kiln_client::https::{Auth, Https, HttpsConfig};
use kiln_client::kubeconfig::Kubeconfig;

use super::Common;
use crate::exit::Failure;
use crate::server::admin_kubeconfig;

/// Shown with `--help`.
pub(crate) const EXAMPLES: &str = "\
Examples:
  kiln kubeconfig > ~/.kube/config
  kiln kubeconfig --server https://192.168.1.10:6443 > kiln.yaml    for another machine";

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    common: Common,
    /// Address of the API to write into it; must be one that the server's certificate holds
    #[arg(long, value_name = "URL")]
    server: Option<kiln_node_config::ServerUrl>,
    /// Name of cluster, user and context in it
    #[arg(long, value_name = "NAME", default_value = "kiln")]
    name: String,
}

/// Prints it.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let https = Admin::load(&options.common.data_dir, None)?.https;
    let server = options.server.as_ref().map_or(https.server, ToString::to_string);
    let Auth::Certificate { certificate_pem, key_pem } = &https.auth else {
        return Err(Failure::Input(
            "the server's kubeconfig has no client certificate; restart kiln server".to_owned(),
        )
        .into());
    };
    let text = kiln_pki::kubeconfig::Kubeconfig {
        name: &options.name,
        server: &server,
        ca_pem: &https.ca_pem,
        client_cert_pem: certificate_pem,
        client_key_pem: key_pem,
    };
    print!("{}", text.render());
    Ok(())
}

/// All rights in the cluster, by a kubeconfig.
pub(crate) struct Admin {
    /// Server and credentials.
    pub(crate) https: HttpsConfig,
}

impl Admin {
    /// From the file given, or else the one that the server on this machine keeps.
    pub(crate) fn load(data_dir: &Path, kubeconfig: Option<&Path>) -> anyhow::Result<Self> {
        let own = admin_kubeconfig(data_dir);
        let path: PathBuf = match kubeconfig {
            Some(path) => path.to_owned(),
            None if own.exists() => own,
            None => {
                let text = format!(
                    "{} is not there; run this on a server (perhaps with sudo), or give --kubeconfig or --data-dir",
                    own.display()
                );
                return Err(Failure::Input(text).into());
            }
        };
        Ok(Admin { https: Kubeconfig::load(&path)?.https(None, &path)? })
    }

    /// A client with these rights.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::new(Https::new(self.https.clone())?))
    }
}
