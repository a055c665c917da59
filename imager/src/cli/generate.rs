//! `imager completions` and `imager man`: both made of the table of arguments.

use std::{fs, io};

use anyhow::Context;
use clap_mangen::Man;

use super::{
    args::{self, CompletionsArgs, ManArgs},
    exit::Exit,
};

pub(super) fn completions(args: &CompletionsArgs) -> anyhow::Result<Exit> {
    clap_complete::generate(args.shell, &mut args::command(), "imager", &mut io::stdout());
    Ok(Exit::Ok)
}

pub(super) fn man(args: &ManArgs) -> anyhow::Result<Exit> {
    match &args.out {
        Some(directory) => {
            fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
            clap_mangen::generate_to(args::command(), directory)
                .with_context(|| format!("cannot write to {}", directory.display()))?;
        }
        None => Man::new(args::command()).render(&mut io::stdout())?,
    }
    Ok(Exit::Ok)
}
