//! `imager bundle`.

use imager::{
    bundle::{self, BundleOutput, BundleRequest},
    progress::Progress,
};

use super::{
    args::{BundleArgs, Globals},
    build::{options, preloaded},
    exit::Exit,
    output::{Output, size},
    workspace,
};

pub(super) fn run(globals: &Globals, args: &BundleArgs, output: Output, progress: &Progress) -> anyhow::Result<Exit> {
    let workspace = workspace::find(globals.workspace.as_deref())?;
    let container_images = preloaded(globals, &args.sources, &workspace, args.arch, progress)?;
    let options = options(globals, &args.sources, workspace)?;
    let request = BundleRequest { arch: args.arch, container_images, file: args.installer.clone() };
    let made = bundle::build(&request, &options, progress)?;
    output.print(&made, text)?;
    Ok(Exit::Ok)
}

fn text(made: &BundleOutput) -> String {
    format!(
        "{}  {} ({} when installed)\n  sha256 {}\n{}\n{}\n",
        made.installer.display(),
        size(made.size),
        size(made.installed_size),
        made.sha256,
        made.checksums.display(),
        made.sbom.display()
    )
}
