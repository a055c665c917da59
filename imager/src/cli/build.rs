//! `imager build`.

use std::path::{Path, PathBuf};

use imager::{
    image::{self, BuildOptions, BuildOutput},
    packages::Lock,
    profile::{Arch, ContainerImage, Manifest, Profile, Request},
    progress::Progress,
    registry,
};
use kiln_node_config::Role;

use super::{
    args::{BuildArgs, Globals, LockArgs, SourceArgs},
    exit::{Complaint, Exit},
    output::{Output, size},
    settings, workspace,
};

/// Width of the lines in which the profile is shown.
const WIDTH: usize = 110;

pub(super) fn run(globals: &Globals, args: &BuildArgs, output: Output, progress: &Progress) -> anyhow::Result<Exit> {
    let workspace = workspace::find(globals.workspace.as_deref())?;
    let mut request = Request {
        board: args.board.clone(),
        with: args.overlay.clone(),
        without: args.without_overlay.clone(),
        config: settings::resolve(&args.settings)?,
        container_images: Vec::new(),
        manifests: args.manifest.clone(),
    };
    if !args.manifest.is_empty() && args.settings.role == Some(Role::Agent) {
        let message = "--manifest is for a server, which applies it; an agent's card has no use for it";
        return Err(Complaint::new(Exit::Usage, message).into());
    }
    let mut profile = Profile::resolve(&workspace, &request)?;
    if !args.sources.images.container_image.is_empty() {
        request.container_images = preloaded(globals, &args.sources, &workspace, profile.arch, progress)?;
        profile = Profile::resolve(&workspace, &request)?;
    }
    if args.dry_run {
        output.print(&profile, describe)?;
        return Ok(Exit::Ok);
    }
    progress.note(&describe(&profile));
    let options = BuildOptions {
        out: args.out.clone(),
        name: args.image_name.clone(),
        compress: !args.no_compress,
        ..options(globals, &args.sources, workspace)?
    };
    let built = image::build(&profile, &options, progress)?;
    output.print(&built, text)?;
    Ok(Exit::Ok)
}

/// How something is built of these sources: unnamed, compressed, into `out`.
pub(super) fn options(globals: &Globals, args: &SourceArgs, workspace: PathBuf) -> anyhow::Result<BuildOptions> {
    let mut packages = workspace::packages(globals)?;
    packages.offline = args.offline;
    Ok(BuildOptions {
        lock: lock_file(&args.lock, &workspace),
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
    })
}

/// The archives of the images that were named, from their registries where they are no files.
pub(super) fn preloaded(
    globals: &Globals,
    args: &SourceArgs,
    workspace: &Path,
    arch: Arch,
    progress: &Progress,
) -> anyhow::Result<Vec<PathBuf>> {
    let settings = registry::Settings {
        cache: workspace::packages(globals)?.cache,
        credentials: registry::Credentials::read(args.images.auth.registry_auth.as_deref())?,
        locked: args.locked,
        offline: args.offline,
    };
    let lock_file = lock_file(&args.lock, workspace);
    let mut lock = Lock::load(&lock_file)?.unwrap_or_default();
    let before = lock.clone();
    let archives = registry::archives(&settings, &args.images.container_image, arch, &mut lock, progress)?;
    if lock != before {
        lock.save(&lock_file)?;
    }
    Ok(archives)
}

/// The lock that was named, or the checkout's.
pub(super) fn lock_file(args: &LockArgs, workspace: &Path) -> PathBuf {
    args.file.clone().unwrap_or_else(|| workspace.join("imager.lock"))
}

/// The resolved profile for a person. `-o json` has all of it.
fn describe(profile: &Profile) -> String {
    let plan = profile.partitions;
    let sources: Vec<String> =
        profile.sources.iter().map(|source| format!("{} ({})", source.suite, source.components.join(" "))).collect();
    let overlays: Vec<String> = profile.overlays.iter().map(|overlay| overlay.name.clone()).collect();
    let config: Vec<String> =
        profile.config.iter().map(|file| format!("{} ({} bytes)", file.path, file.content.len())).collect();
    let mut out =
        format!("Profile: {} ({}), {}, Kiln {}\n", profile.board, profile.title, profile.arch, profile.version);
    let mut row = |name: &str, words: &[String]| out.push_str(&wrapped(name, words));
    row("sources", &sources);
    row("overlays", &overlays);
    row("kernel", std::slice::from_ref(&profile.kernel.package));
    row("initramfs", &profile.kernel.initramfs_modules);
    row("modules", &profile.kernel.modules);
    row("packages", &profile.packages);
    row("boot packages", &profile.boot_packages);
    row("command line", std::slice::from_ref(&profile.boot.cmdline));
    let table = serde_json::to_value(plan.table).ok().and_then(|table| table.as_str().map(str::to_owned));
    row(
        "partitions",
        &[
            table.unwrap_or_default(),
            format!("CONFIG {} MiB", plan.config_mib),
            format!("2 slots of {} MiB", plan.slot_mib),
            format!("STATE {} MiB", plan.state_mib),
        ],
    );
    let names = |image: &ContainerImage| image.names.clone();
    row("images", &profile.container_images.iter().flat_map(names).collect::<Vec<_>>());
    let objects = |manifest: &Manifest| manifest.objects.clone();
    row("manifests", &profile.manifests.iter().flat_map(objects).collect::<Vec<_>>());
    row("settings", if config.is_empty() { &NO_SETTINGS } else { &config });
    out
}

static NO_SETTINGS: [String; 0] = [];

/// `name: a, b, c`, broken into lines.
fn wrapped(name: &str, words: &[String]) -> String {
    let mut out = String::new();
    let mut line = format!("  {name:14}");
    let indent = line.len();
    if words.is_empty() {
        line.push_str("none");
    }
    for (index, word) in words.iter().enumerate() {
        let comma = if index + 1 < words.len() { ", " } else { "" };
        if line.len() + word.len() > WIDTH && line.len() > indent {
            out.push_str(line.trim_end());
            out.push('\n');
            line = " ".repeat(indent);
        }
        line.push_str(word);
        line.push_str(comma);
    }
    out.push_str(&line);
    out.push('\n');
    out
}

fn text(built: &BuildOutput) -> String {
    let mut out = format!(
        "{}  {} ({} written)\n  sha256 {}\n",
        built.image.display(),
        size(built.image_size),
        size(built.written),
        built.sha256
    );
    if let (Some(path), Some(bytes)) = (&built.compressed, built.compressed_size) {
        out.push_str(&format!("{}  {}\n", path.display(), size(bytes)));
    }
    for path in [&built.bmap, &built.checksums, &built.manifest, &built.sbom] {
        out.push_str(&format!("{}\n", path.display()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_broken_between_words() {
        let words: Vec<String> = (0..40).map(|n| format!("package-{n}")).collect();
        let text = wrapped("packages", &words);
        assert!(text.lines().all(|line| line.len() <= WIDTH + 2), "{text}");
        assert!(text.starts_with("  packages      package-0, package-1"), "{text}");
        assert_eq!(wrapped("settings", &[]), "  settings      none\n");
    }
}
