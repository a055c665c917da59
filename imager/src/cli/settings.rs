//! The files for a card's CONFIG partition, from the arguments of `imager build`.

use std::{fs, path::Path};

use anyhow::Context;
use imager::{
    cluster::{CardSpec, Cluster, node_toml},
    profile::ConfigFile,
};
use kiln_node_config::{NodeConfig, Role, Token, edit};

use super::{
    args::SettingsArgs,
    exit::{Complaint, Exit},
};

const NODE_TOML: &str = "/node.toml";

/// What goes onto CONFIG; nothing when no setting was given.
pub(super) fn resolve(args: &SettingsArgs) -> anyhow::Result<Vec<ConfigFile>> {
    let mut files = base(args)?;
    if !args.set.is_empty() {
        let pairs: Vec<(&str, &str)> = args.set.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        match files.iter_mut().find(|file| file.path == NODE_TOML) {
            Some(file) => {
                let text = edit::set_all(&String::from_utf8_lossy(&file.content), &pairs)?;
                file.content = text.into_bytes();
            }
            None => files.push(node(edit::set_all("version = 1\n", &pairs)?)),
        }
    }
    files.extend(args.registries.as_deref().map(registries).transpose()?);
    Ok(files)
}

fn base(args: &SettingsArgs) -> anyhow::Result<Vec<ConfigFile>> {
    if let Some(path) = &args.config {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        NodeConfig::parse(&text, &path.display().to_string())?;
        return match &args.cluster {
            Some(directory) => Ok(Cluster::read(directory)?.files(text)?),
            None => Ok(vec![node(text)]),
        };
    }
    let Some(role) = args.role else {
        if args.cluster.is_some() {
            let message = "--cluster needs --role server|agent, or a --config that has it";
            return Err(Complaint::new(Exit::Usage, message).into());
        }
        return Ok(Vec::new());
    };
    if role == Role::Server && (args.server.is_some() || args.token.is_some()) {
        let message = "--server and --token say which cluster an agent joins; a server makes its own";
        return Err(Complaint::new(Exit::Usage, message).into());
    }
    let spec = CardSpec { role, name: args.name.clone(), server: args.server.clone(), token: args.token.clone() };
    match &args.cluster {
        Some(directory) => Ok(Cluster::read(directory)?.card(&spec)?),
        None => {
            let token = args.token.as_deref().map(Token::parse).transpose();
            let token = token.map_err(|error| Complaint::new(Exit::Usage, format!("--token: {error}")))?;
            Ok(vec![node(node_toml(&spec, token.as_ref())?)])
        }
    }
}

/// Settings of registries, under the name by which the node knows their format.
fn registries(path: &Path) -> anyhow::Result<ConfigFile> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let name = match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => {
            let checked = toml::from_str::<toml::Table>(&text);
            checked.map_err(|error| Complaint::new(Exit::BadInput, format!("{}: {error}", path.display())))?;
            "/registries.toml"
        }
        Some("yaml" | "yml") => "/registries.yaml",
        _ => {
            let message = format!("{}: the name must end in .toml or .yaml", path.display());
            return Err(Complaint::new(Exit::BadInput, message).into());
        }
    };
    Ok(ConfigFile { path: name.to_owned(), content: text.into_bytes() })
}

fn node(text: String) -> ConfigFile {
    ConfigFile { path: NODE_TOML.to_owned(), content: text.into_bytes() }
}
