//! Where the checkout, the cache and the mirror are.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context;
use imager::packages::Settings;
use serde::Deserialize;

use super::{
    args::Globals,
    exit::{Complaint, Exit},
};

/// The user's own defaults: `imager.toml` in Kiln's folder of the user's configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct UserConfig {
    /// As `--mirror`.
    mirror: Option<String>,
    /// As `--cache`.
    cache: Option<PathBuf>,
}

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

/// How packages are found and fetched, and with that where the cache is. A flag goes before its variable, and that before
/// the user's `imager.toml`.
pub(super) fn packages(globals: &Globals) -> anyhow::Result<Settings> {
    let user = user_config()?;
    let mirror = globals.mirror.clone().or(user.mirror);
    let cache = match globals.cache.clone().or(user.cache) {
        Some(cache) => std::path::absolute(cache)?,
        None => default_cache()?,
    };
    Ok(Settings::new(mirror, cache)?)
}

fn default_cache() -> anyhow::Result<PathBuf> {
    match user_folder("XDG_CACHE_HOME", ".cache") {
        Some(folder) => Ok(folder),
        None => Err(Complaint::new(Exit::Usage, "neither XDG_CACHE_HOME nor HOME is set")
            .help("name a directory with --cache")
            .into()),
    }
}

fn user_config() -> anyhow::Result<UserConfig> {
    let Some(path) = user_folder("XDG_CONFIG_HOME", ".config").map(|folder| folder.join("imager.toml")) else {
        return Ok(UserConfig::default());
    };
    match fs::read_to_string(&path) {
        Ok(text) => toml::from_str(&text).map_err(|error| {
            let message = format!("{}: {}", path.display(), error.to_string().trim_end());
            Complaint::new(Exit::BadInput, message).help("its keys are `mirror` and `cache`").into()
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(UserConfig::default()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Kiln's folder in one of the user's folders.
fn user_folder(variable: &str, below_home: &str) -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set(variable).or_else(|| set("HOME").map(|home| home.join(below_home)))?;
    Some(base.join("kiln"))
}
