//! Secrets leave the card once they have done their work: the single-use token, and a server's imported CA key.

use std::fs;
use std::path::Path;

use super::medium::{remove_secret, replace_secret, with_writable};
use super::{CLUSTER, NODE_TOML};
use crate::error::{Error, Result};

const KEY: &str = "cluster.token";

/// Takes the token out of node.toml and notes when. Without a token nothing is written; returns whether there was one.
pub(crate) fn token(time: &str) -> Result<bool> {
    let text = fs::read_to_string(NODE_TOML).map_err(|e| Error::io("read", NODE_TOML, e))?;
    let Some(clean) = without_token(&text, time)? else {
        return Ok(false);
    };
    with_writable(|| replace_secret(Path::new(NODE_TOML), clean.as_bytes()))?;
    Ok(true)
}

/// The text without its token and with a comment that says when it was used; `None` if it has no token.
fn without_token(text: &str, time: &str) -> Result<Option<String>> {
    let failed =
        |e: kiln_node_config::edit::EditError| Error::Config(format!("cannot remove {KEY} from node.toml: {e}"));
    if kiln_node_config::edit::get(text, KEY).map_err(failed)?.is_none() {
        return Ok(None);
    }
    let mut clean = kiln_node_config::edit::remove(text, KEY).map_err(failed)?;
    if !clean.is_empty() && !clean.ends_with('\n') {
        clean.push('\n');
    }
    clean.push_str(&format!("# The single-use token was used and removed by this node on {time}.\n"));
    Ok(Some(clean))
}

/// Removes what a server has imported into STATE.
pub(crate) fn imported_ca() -> Result<()> {
    let files = ["ca.key", "bootstrap-tokens.json"].map(|name| Path::new(CLUSTER).join(name));
    if !files.iter().any(|file| file.exists()) {
        return Ok(());
    }
    with_writable(|| files.iter().try_for_each(|file| remove_secret(file)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_goes_and_everything_else_stays() {
        let token = format!("K10{}::abcdef:0123456789abcdef", "ab".repeat(32));
        let text = format!(
            "version = 1\n# my node\n[node]\nname = \"pi-1\"\nrole = \"agent\"\n[cluster]\nserver = \"https://10.0.2.2:6443\"\ntoken = \"{token}\"\n"
        );
        let clean = without_token(&text, "2026-11-24").expect("valid").expect("had a token");
        assert!(!clean.contains("0123456789abcdef"));
        assert!(clean.contains("# my node\n"));
        assert!(clean.ends_with("on 2026-11-24.\n"));
        assert_eq!(without_token(&clean, "later").expect("valid"), None);
    }
}
