//! Where the checkout and the cache are.

use std::{
    env,
    path::{Path, PathBuf},
};

use super::exit::{Complaint, Exit};

/// The checkout: the one given, or the nearest above the current directory that has boards and overlays.
pub(super) fn find(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    let is_checkout = |path: &Path| path.join("boards").is_dir() && path.join("overlays").is_dir();
    if let Some(given) = given {
        if is_checkout(given) {
            return Ok(given.to_owned());
        }
        let message = format!("{} is not a Kiln checkout: it has no boards/ and overlays/", given.display());
        return Err(Complaint::new(Exit::BadInput, message).into());
    }
    let here = env::current_dir()?;
    match here.ancestors().find(|path| is_checkout(path)) {
        Some(path) => Ok(path.to_owned()),
        None => Err(Complaint::new(Exit::BadInput, "this is not a Kiln checkout: there is no boards/ here or above")
            .help("change into a checkout, or name one with --workspace")
            .into()),
    }
}

/// The cache: the one given, or Kiln's below the user's.
pub(super) fn cache(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(given) = given {
        return Ok(std::path::absolute(given)?);
    }
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    match base {
        Some(base) => Ok(base.join("kiln")),
        None => Err(Complaint::new(Exit::Usage, "neither XDG_CACHE_HOME nor HOME is set")
            .help("name a directory with --cache")
            .into()),
    }
}
