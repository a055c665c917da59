//! `kiln server`: the API, the cluster's CA and data, the controllers, the scheduler, and the node it runs on.

mod acme;
mod admin;
mod advert;
mod apiserver_args;
mod authority;
mod certificate;
mod compose;
mod control;
mod controller_args;
mod datastore;
mod disable;
mod flags;
mod front_proxy;
mod in_process;
mod leader;
mod own_name;
mod reach;
mod role_label;
mod scheduler_args;
mod shared;
mod snapshots;
mod tokens;

use std::path::{Path, PathBuf};

use anyhow::Context as _;

pub(crate) use admin::{Answer, Question, ask};
pub(crate) use datastore::{database, elsewhere};
pub(crate) use flags::{EXAMPLES, Options};

use crate::service;

/// Runs until it is told to end.
pub(crate) fn run(options: Options) -> anyhow::Result<()> {
    service::run(async move |shutdown| compose::serve(options.resolve()?, shutdown).await)
}

/// The server's own folder in a data folder.
pub(crate) fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("server")
}

/// Where a server keeps the kubeconfig with all rights.
pub(crate) fn admin_kubeconfig(data_dir: &Path) -> PathBuf {
    folder(data_dir).join("admin.kubeconfig")
}

/// The server's folder, made if it is not there.
fn make_folder(data_dir: &Path) -> anyhow::Result<PathBuf> {
    let folder = folder(data_dir);
    kiln_pki::files::private_folder(&folder).context("making the server's folder")?;
    Ok(folder)
}
