//! `kiln agent`: joins a server and is a node of it.

mod credentials;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use kiln_join::{Progress as _, Settings, Step, SystemClock, join, maintain};
use kiln_node_config::{NodeConfig, Role, ServerAddress, Token};
use kiln_pki::files;
use tokio_util::sync::CancellationToken;

use self::credentials::Kept;
use crate::cli::Common;
use crate::exit::Failure;
use crate::node::cluster::ClusterSettings;
use crate::node::reach::{Reach, Way};
use crate::node::{NodeOptions, kubelet};
use crate::service::{self, Report};

/// Shown with `--help`.
pub(crate) const EXAMPLES: &str = "\
Examples:
  kiln agent --config /config/node.toml
  kiln agent --server https://192.168.1.10:6443 --token-file token
  KILN_TOKEN=K10... kiln agent --server discover          find the server by mDNS";

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    node: NodeOptions,
    /// URL of the server, or `discover`
    #[arg(long, short = 's', value_name = "URL", value_parser = server_address, env = "KILN_URL")]
    server: Option<ServerAddress>,
    /// Join token; others can see a process's arguments, so better in a file or in KILN_TOKEN
    #[arg(
        long,
        short = 't',
        value_name = "TOKEN",
        env = "KILN_TOKEN",
        hide_env_values = true,
        conflicts_with = "token_file"
    )]
    token: Option<Token>,
    /// File with the join token
    #[arg(long, value_name = "FILE", env = "KILN_TOKEN_FILE")]
    token_file: Option<PathBuf>,
}

fn server_address(text: &str) -> Result<ServerAddress, String> {
    match text {
        "discover" => Ok(ServerAddress::Discover),
        url => url.parse().map(ServerAddress::Url),
    }
}

/// Runs until it is told to end.
pub(crate) fn run(options: Options) -> anyhow::Result<()> {
    service::run(async move |shutdown| serve(options, shutdown).await)
}

async fn serve(options: Options, shutdown: CancellationToken) -> anyhow::Result<()> {
    let config = options.node.read_config(Role::Agent)?;
    let identity = options.node.identity(config.as_ref())?;
    let settings = options.settings(config, &identity.name, identity.board_id.clone())?;
    let report = Arc::new(Report::new(&options.common.data_dir, "agent", &identity.name));

    let joined = tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        joined = join(&settings, report.as_ref()) => joined,
    };
    report.step(Step::Register, "registering this node");
    let server = joined.credentials().server.clone();
    let kept = Kept::new(Arc::clone(&report), joined.credentials());
    let ca_pem = joined.credentials().ca_pem.clone();
    let reach = Reach { server, way: Way::Tunnels(kept.identity()), ca_pem, certificates: kept.serving() };
    let cluster = tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        cluster = ClusterSettings::read(&joined.client, &options.common.data_dir) => cluster?,
    };
    let kubelet = kubelet::run(
        joined.client.clone(),
        &identity,
        &options.common.data_dir,
        cluster,
        reach,
        Arc::clone(&report),
        shutdown.clone(),
    );
    tokio::select! {
        ended = kubelet => ended,
        () = maintain(joined, &settings, &kept) => Ok(()),
    }
}

impl Options {
    fn settings(&self, config: Option<NodeConfig>, node_name: &str, board_id: String) -> anyhow::Result<Settings> {
        let cluster = config.and_then(|c| c.cluster);
        let (file_server, file_token) = cluster.map_or((None, None), |c| (Some(c.server), c.token));
        let Some(server) = self.server.clone().or(file_server) else {
            let text = "an agent needs to know its server: give --server with its URL or `discover`, or --config";
            return Err(Failure::Input(text.to_owned()).into());
        };
        let token = match &self.token_file {
            Some(path) => {
                let failed = |why: String| Failure::Input(format!("{}: {why}", path.display()));
                let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
                Some(Token::parse(&text).map_err(|e| failed(e.to_string()))?)
            }
            None => self.token.clone().or(file_token),
        };
        self.check_card(token.as_ref())?;
        Ok(Settings {
            server,
            token,
            node_name: node_name.to_owned(),
            board_id,
            folder: self.common.data_dir.join("agent"),
            clock: Box::new(SystemClock),
        })
    }

    /// The CA on the card, if there is one, must be the token's: else the card was put together from two clusters.
    fn check_card(&self, token: Option<&Token>) -> anyhow::Result<()> {
        let (Some(dir), Some(token)) = (&self.node.cluster_dir, token) else {
            return Ok(());
        };
        let path = dir.join("ca.crt");
        let Some(pem) = files::read(&path)? else {
            return Ok(());
        };
        let der = kiln_pki::certificate_der(&pem).with_context(|| path.display().to_string())?;
        if kiln_pki::ca_hash(&der) == token.ca_hash() {
            return Ok(());
        }
        let text = format!(
            "{} and the join token are of different clusters; put both in from the same `imager cluster init`",
            path.display()
        );
        Err(Failure::Input(text).into())
    }
}
