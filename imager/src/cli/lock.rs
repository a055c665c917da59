//! `imager update-lock`.

use std::collections::BTreeSet;

use imager::{
    image::request,
    packages::{self, Lock, Section},
    profile::{Arch, Profile, Request, boards},
    progress::Progress,
    registry, toolchain,
};
use serde::Serialize;

use super::{
    args::{Globals, UpdateLockArgs},
    build::lock_file,
    exit::Exit,
    output::Output,
    workspace,
};

/// What changed in one section.
#[derive(Serialize)]
struct Moved {
    section: String,
    packages: usize,
    changes: Vec<String>,
}

pub(super) fn run(
    globals: &Globals,
    args: UpdateLockArgs,
    output: Output,
    progress: &Progress,
) -> anyhow::Result<Exit> {
    let workspace = workspace::find(globals.workspace.as_deref())?;
    let path = lock_file(&args.lock, &workspace);
    let settings = workspace::packages(globals)?;
    let mut lock = Lock::load(&path)?.unwrap_or_default();
    let all = args.board.is_empty();
    let names =
        if all { boards(&workspace.join("boards"))?.into_iter().map(|board| board.name).collect() } else { args.board };
    let profiles = names
        .into_iter()
        .map(|board| Profile::resolve(&workspace, &Request { board, ..Request::default() }))
        .collect::<Result<Vec<_>, _>>()?;

    let mut moved = Vec::new();
    for profile in &profiles {
        let (sources, wanted, exclude) = request(profile);
        let resolution = packages::resolve(&settings, &sources, &wanted, &exclude, progress)?;
        for skipped in &resolution.skipped {
            progress.note(&format!("source {} was not used: {}", skipped.source, skipped.reason));
        }
        let section = Section::new(&sources, &wanted, &exclude, &resolution);
        moved.push(compare(format!("board {}", profile.board), lock.boards.get(&profile.board), &section));
        lock.boards.insert(profile.board.clone(), section);
    }
    let archs: Vec<Arch> = profiles.iter().map(|profile| profile.arch).collect::<BTreeSet<_>>().into_iter().collect();
    for (name, section) in toolchain::lock_sections(&settings, &archs, progress)? {
        moved.push(compare(format!("toolchain {name}"), lock.toolchain.get(&name), &section));
        lock.toolchain.insert(name, section);
    }
    if all && !lock.images.is_empty() {
        let settings = registry::Settings {
            cache: settings.cache.clone(),
            credentials: registry::Credentials::read(args.auth.registry_auth.as_deref())?,
            locked: false,
            offline: false,
        };
        moved.push(images(&settings, &mut lock)?);
    }
    lock.save(&path)?;
    output.print(&moved, |moved| {
        let mut out = String::new();
        for section in moved {
            out.push_str(&format!(
                "{}: {} packages, {} changes\n",
                section.section,
                section.packages,
                section.changes.len()
            ));
            for change in &section.changes {
                out.push_str(&format!("  {change}\n"));
            }
        }
        out.push_str(&format!("{}\n", path.display()));
        out
    })?;
    Ok(Exit::Ok)
}

/// Looks which digests the locked images' names have now.
fn images(settings: &registry::Settings, lock: &mut Lock) -> anyhow::Result<Moved> {
    let known: Vec<(String, Arch)> =
        lock.images.iter().flat_map(|(name, digests)| digests.keys().map(|arch| (name.clone(), *arch))).collect();
    let mut changes = Vec::new();
    for (name, arch) in &known {
        let digest = registry::resolve(settings, &registry::Reference::parse(name)?, *arch)?;
        let before = lock.pin_image(name, *arch, &digest).filter(|before| *before != digest);
        changes.extend(before.map(|before| format!("image {name} for {arch}: {before} -> {digest}")));
    }
    Ok(Moved { section: "container images".to_owned(), packages: known.len(), changes })
}

fn compare(section: String, before: Option<&Section>, after: &Section) -> Moved {
    let changes = match before {
        Some(before) => before.changes(&after.packages).iter().map(ToString::to_string).collect(),
        None => vec!["new".to_owned()],
    };
    Moved { section, packages: after.packages.len(), changes }
}
