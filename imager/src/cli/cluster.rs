//! `imager cluster init`.

use std::time::SystemTime;

use imager::cluster::{InitOptions, init as make, server_url};

use super::{
    args::ClusterInitArgs,
    exit::{Complaint, Exit},
    output::Output,
};

pub(super) fn init(args: ClusterInitArgs, output: Output) -> anyhow::Result<Exit> {
    let name = match args.name {
        Some(name) => name,
        None => match std::path::absolute(&args.directory)?.file_name() {
            Some(name) => name.to_string_lossy().into_owned(),
            None => {
                return Err(
                    Complaint::new(Exit::Usage, "the directory has no name; give the cluster one with --name").into()
                );
            }
        },
    };
    let options = InitOptions { name, server: server_url(&args.server)? };
    let created = make(&args.directory, &options, SystemTime::now())?;
    output.print(&created, |created| {
        let directory = created.directory.display();
        format!(
            "cluster {} in {directory}: {}\nCA hash {}\n\nThe key {directory}/ca.key owns the cluster: keep it safe.\n\
             Next: imager build --board BOARD --cluster {directory} --role server|agent --name NAME\n\
             Later: kubectl --kubeconfig {directory}/admin.kubeconfig get nodes   (server {})\n",
            created.name,
            created.files.join(", "),
            created.ca_hash,
            created.server,
        )
    })?;
    Ok(Exit::Ok)
}
