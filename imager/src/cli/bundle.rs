//! `imager bundle`.

use imager::{
    bundle::{self, BundleOutput, BundleRequest},
    image::BuildOptions,
    progress::Progress,
};

use super::{
    args::{BundleArgs, Globals},
    build::{lock_file, preloaded},
    exit::Exit,
    output::{Output, size},
    workspace,
};

pub(super) fn run(globals: &Globals, args: &BundleArgs, output: Output, progress: &Progress) -> anyhow::Result<Exit> {
    let workspace = workspace::find(globals.workspace.as_deref())?;
    let mut packages = workspace::packages(globals)?;
    packages.offline = args.offline;
    let lock = lock_file(&args.lock, &workspace);
    let how = (args.locked, args.offline);
    let container_images = preloaded(globals, &args.images, args.arch, &lock, how, progress)?;
    let options = BuildOptions {
        lock,
        workspace,
        cache: packages.cache.clone(),
        out: "out".into(),
        name: None,
        locked: args.locked,
        runtime: args.runtime_binary.clone(),
        toolchain: args.toolchain,
        packages,
        time: None,
        compress: true,
    };
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
