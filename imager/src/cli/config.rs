//! `imager config show` and `imager config set`.

use imager::{
    image::reader::Part,
    inspect::{
        Card,
        settings::{NODE_TOML, masked, text},
    },
};
use kiln_node_config::{ConfigError, NodeConfig, edit};

use super::{
    args::{ConfigSetArgs, ImageArgs},
    exit::{Complaint, Exit},
    output::Output,
};

pub(super) fn show(args: &ImageArgs, output: Output) -> anyhow::Result<Exit> {
    let card = Card::open(&args.image)?;
    let Some(text) = text(&card)? else {
        let message = format!("{} has no settings: there is no node.toml on CONFIG", args.image.display());
        let help = format!("make them with `imager config set {} node.role=agent ...`", args.image.display());
        return Err(Complaint::new(Exit::BadInput, message).help(help).into());
    };
    let config = NodeConfig::parse(&text, "node.toml");
    match config {
        Ok(config) => output.print(&config, |_| masked(&text))?,
        // The text is shown all the same: it is what has to be mended.
        Err(error) => {
            output.print(&serde_json::json!({ "error": masked(&error.to_string()) }), |_| masked(&text))?;
            return Err(anyhow::Error::new(error));
        }
    }
    Ok(Exit::Ok)
}

pub(super) fn set(args: &ConfigSetArgs, output: Output) -> anyhow::Result<Exit> {
    let card = Card::open_to_edit(&args.image)?;
    let before = text(&card)?.unwrap_or_else(|| "version = 1\n".to_owned());
    let pairs: Vec<(&str, &str)> = args.pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let after = edit::set_all(&before, &pairs)?;
    let config: Result<NodeConfig, ConfigError> = NodeConfig::parse(&after, "node.toml");
    let config = config?;
    if after != before {
        card.replace(Part::Config, NODE_TOML, after.as_bytes())?;
    }
    output.print(&config, |_| {
        let keys: Vec<&str> = pairs.iter().map(|(key, _)| *key).collect();
        let what = if after == before { "already so" } else { "set" };
        format!("{}: {} {what}\n", args.image.display(), keys.join(", "))
    })?;
    Ok(Exit::Ok)
}
