//! What goes into an installer: data, in `recipe.toml`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::BundleError;
use crate::profile::Arch;

/// The recipe for all architectures.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recipe {
    /// Debian packages.
    pub(super) packages: Vec<String>,
    /// Files of them.
    pub(super) programs: Vec<Program>,
    arch: BTreeMap<Arch, ForArch>,
}

/// A program of a package.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Program {
    /// Where the package has it.
    pub(super) from: String,
    /// Where it goes, below the installer's folder.
    pub(super) to: String,
}

/// What differs between architectures.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ForArch {
    /// The board whose packages these are.
    pub(super) board: String,
    /// Names of machines that run them.
    pub(super) machines: Vec<String>,
}

impl Recipe {
    /// Reads the recipe.
    pub(super) fn read() -> Result<Recipe, BundleError> {
        toml::from_str(include_str!("recipe.toml")).map_err(|error| BundleError::Recipe { message: error.to_string() })
    }

    /// The part for an architecture.
    pub(super) fn of(&self, arch: Arch) -> Result<&ForArch, BundleError> {
        let missing = || BundleError::Recipe { message: format!("it has nothing for {arch}") };
        self.arch.get(&arch).ok_or_else(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_recipe_for_every_architecture() {
        let recipe = Recipe::read().expect("a recipe");
        for arch in Arch::ALL {
            assert!(!recipe.of(arch).expect("there").machines.is_empty(), "{arch}");
        }
    }
}
