//! Checking at build time that a kernel can do what the node will ask of it.

use std::collections::BTreeMap;

use super::RootfsError;

/// Checks `required` against the text of a kernel's `config-<version>` file.
///
/// A requirement is `NAME` (built in or a module), `NAME=y` (built in) or `!NAME` (not set).
///
/// # Errors
/// [`RootfsError::KernelOptions`] with every option that is not met, and what the kernel has.
pub fn lint(version: &str, config: &str, required: &[String]) -> Result<(), RootfsError> {
    let options = parse(config);
    let mut unmet = Vec::new();
    for requirement in required {
        if let Some(name) = requirement.strip_prefix('!') {
            if let Some(value) = options.get(name) {
                unmet.push(format!("CONFIG_{name} is {value}, must not be set"));
            }
            continue;
        }
        let (name, value) = match requirement.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (requirement.as_str(), None),
        };
        match (options.get(name), value) {
            (Some(has), Some(wants)) if *has == wants => {}
            (Some(&("y" | "m")), None) => {}
            (Some(has), Some(wants)) => unmet.push(format!("CONFIG_{name} is {has}, must be {wants}")),
            (Some(has), None) => unmet.push(format!("CONFIG_{name} is {has}, must be y or m")),
            (None, _) => unmet.push(format!("CONFIG_{name} is not set")),
        }
    }
    if unmet.is_empty() {
        return Ok(());
    }
    Err(RootfsError::KernelOptions { version: version.to_owned(), unmet })
}

fn parse(config: &str) -> BTreeMap<&str, &str> {
    config.lines().filter_map(|line| line.strip_prefix("CONFIG_")?.split_once('=')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str =
        "# CONFIG_KASAN is not set\nCONFIG_VXLAN=m\nCONFIG_MEMCG=y\nCONFIG_ARM64_16K_PAGES=y\nCONFIG_HZ=250\n";

    fn check(required: &[&str]) -> Result<(), RootfsError> {
        let required: Vec<String> = required.iter().map(|r| (*r).to_owned()).collect();
        lint("6.12.1-arm64", CONFIG, &required)
    }

    #[test]
    fn options_that_are_built_in_or_modules_pass() {
        check(&["VXLAN", "MEMCG", "MEMCG=y", "HZ=250", "!KASAN"]).expect("every requirement is met");
    }

    #[test]
    fn each_missing_option_is_named_with_what_the_kernel_has() {
        let error = check(&["VXLAN", "BRIDGE_NETFILTER", "VXLAN=y", "!ARM64_16K_PAGES"]).expect_err("three are unmet");
        let text = error.to_string();
        for part in [
            "6.12.1-arm64",
            "CONFIG_BRIDGE_NETFILTER is not set",
            "CONFIG_VXLAN is m, must be y",
            "CONFIG_ARM64_16K_PAGES is y, must not be set",
        ] {
            assert!(text.contains(part), "{part:?} is not in {text:?}");
        }
    }
}
