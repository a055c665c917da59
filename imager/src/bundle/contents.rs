//! The files of an installer, put together of unpacked packages: programs, each made to run from its new place, the libraries that
//! they need, and what installs and removes them.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    BundleError, LIBRARY, PREFIX, installer,
    recipe::Recipe,
    relocate::{Elf, RelocateError},
};
use crate::{
    profile::ContainerImage,
    tree::{Content, Kind, Tree},
};

/// Programs and data by their path below the installer's folder, each with its mode.
pub(super) type Files = BTreeMap<String, (u32, Content)>;

/// Puts the files together. `packages` are all packages of the recipe in one tree.
pub(super) fn assemble(
    recipe: &Recipe,
    packages: &Tree,
    kiln: Content,
    images: &[ContainerImage],
    version: &str,
) -> Result<Files, BundleError> {
    let mut files = Files::new();
    files.insert("bin/kiln".into(), (0o755, kiln));
    let mut wanted = BTreeSet::new();
    for program in &recipe.programs {
        let path = follow(packages, &program.from).ok_or_else(|| missing(&program.from))?;
        let elf = read(packages, &path)?;
        let wrong = |error: RelocateError| wrong(&path, &error);
        wanted.extend(elf.needed().map_err(wrong)?);
        let content = match elf.interpreter().map_err(wrong)? {
            None => packages.content(&path).cloned().ok_or_else(|| missing(&path))?,
            Some(loader) => {
                let loader = loader.rsplit('/').next().unwrap_or_default().to_owned();
                let moved = elf.relocate(&format!("{LIBRARY}/{loader}"), LIBRARY).map_err(wrong)?;
                wanted.insert(loader);
                moved.into()
            }
        };
        files.insert(program.to.clone(), (0o755, content));
    }
    libraries(packages, wanted, &mut files)?;
    let mut certificates = Vec::new();
    for (path, _) in packages.below("/usr/share/ca-certificates/").filter(|(path, _)| path.ends_with(".crt")) {
        certificates.extend_from_slice(&bytes(packages, path)?);
    }
    files.insert("ca-certificates.crt".into(), (0o644, certificates.into()));
    for (path, node) in packages.below("/usr/share/doc/") {
        let licence = path.strip_prefix("/usr/share/doc/").and_then(|rest| rest.strip_suffix("/copyright"));
        if let (Some(package), Kind::File(content)) = (licence.filter(|name| !name.contains('/')), &node.kind) {
            files.insert(format!("licences/{package}"), (0o644, content.clone()));
        }
    }
    for image in images {
        let name = image.path.rsplit('/').next().unwrap_or_default();
        files.insert(format!("images/{name}"), (0o644, Content::File(image.source.clone())));
    }
    for (path, mode, text) in installer::FILES {
        files.insert((*path).into(), (*mode, (*text).into()));
    }
    files.insert("version".into(), (0o644, format!("{version}\n").as_str().into()));
    Ok(files)
}

/// Adds libraries and what they need in turn.
fn libraries(packages: &Tree, mut wanted: BTreeSet<String>, files: &mut Files) -> Result<(), BundleError> {
    while let Some(name) = wanted.pop_first() {
        let to = format!("lib/{name}");
        if files.contains_key(&to) {
            continue;
        }
        let named = packages.below("/usr/").map(|(path, _)| path).find(|path| path.rsplit('/').next() == Some(&name));
        let path = named.and_then(|path| follow(packages, path)).ok_or_else(|| missing(&name))?;
        wanted.extend(read(packages, &path)?.needed().map_err(|error| wrong(&path, &error))?);
        let content = packages.content(&path).cloned().ok_or_else(|| missing(&path))?;
        // The loader is a program, too.
        files.insert(to, (0o755, content));
    }
    Ok(())
}

/// The path of the file that a path leads to, through links.
fn follow(packages: &Tree, path: &str) -> Option<String> {
    let mut path = path.to_owned();
    for _ in 0..8 {
        match &packages.nodes.get(&path)?.kind {
            Kind::File(_) => return Some(path),
            Kind::Symlink(target) => path = join(&path, target),
            Kind::Directory | Kind::CharDevice(..) => return None,
        }
    }
    None
}

/// Where a link leads, in a system whose `/lib` is in `/usr`.
fn join(link: &str, target: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    if !target.starts_with('/') {
        parts.extend(link.split('/').filter(|part| !part.is_empty()));
        parts.pop();
    }
    for part in target.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    let merged = matches!(parts.first(), Some(&("bin" | "sbin" | "lib" | "lib64")));
    format!("{}/{}", if merged { "/usr" } else { "" }, parts.join("/"))
}

fn read(packages: &Tree, path: &str) -> Result<Elf, BundleError> {
    Elf::parse(bytes(packages, path)?).map_err(|error| wrong(path, &error))
}

fn bytes(packages: &Tree, path: &str) -> Result<Vec<u8>, BundleError> {
    let content = packages.content(path).ok_or_else(|| missing(path))?;
    content.read().map(std::borrow::Cow::into_owned).map_err(|source| BundleError::Read { source })
}

fn missing(what: &str) -> BundleError {
    BundleError::Missing { what: what.to_owned() }
}

fn wrong(path: &str, error: &RelocateError) -> BundleError {
    BundleError::Program { path: path.to_owned(), message: format!("{error}; it cannot run from {PREFIX}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_where_lib_is_in_usr() {
        for (link, target, found) in [
            ("/usr/lib64/ld.so.2", "/lib/x86_64-linux-gnu/ld.so.2", "/usr/lib/x86_64-linux-gnu/ld.so.2"),
            ("/usr/lib64/ld.so.2", "../lib/x/ld.so.2", "/usr/lib/x/ld.so.2"),
            ("/usr/lib/x/liba.so.1", "liba.so.1.2", "/usr/lib/x/liba.so.1.2"),
        ] {
            assert_eq!(join(link, target), found);
        }
        let mut tree = Tree::default();
        tree.symlink("/usr/lib/a", "b");
        tree.symlink("/usr/lib/b", "a");
        assert_eq!(follow(&tree, "/usr/lib/a"), None, "a circle");
        tree.file("/usr/lib/b", 0o644, "x");
        assert_eq!(follow(&tree, "/usr/lib/a").as_deref(), Some("/usr/lib/b"));
    }
}
