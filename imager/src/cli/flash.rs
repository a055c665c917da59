//! `imager flash`.

use std::io::{self, BufRead, IsTerminal, Write};

use imager::{
    flash::{BlockMap, FlashError, Host, Target, flash},
    progress::Progress,
};

use super::{
    args::FlashArgs,
    exit::{Complaint, Exit},
    output::{Output, size},
};

pub(super) fn run(args: &FlashArgs, output: Output, progress: &Progress) -> anyhow::Result<Exit> {
    let map = if args.no_bmap { None } else { BlockMap::beside(&args.image)? };
    if map.is_none() {
        progress.note("there is no block map beside the image: all of it is written");
    }
    let target = Target::look(&Host::here()?, &args.device)?;
    if !args.force && !target.objections.is_empty() {
        return Err(FlashError::Refused { device: target.path, objections: target.objections }.into());
    }
    if !args.yes {
        confirm(args, &target)?;
    }
    let report = flash(&args.image, map, &target, args.force, progress)?;
    output.print(&report, |report| {
        format!("{}: {} written and read back\n", report.device.display(), size(report.written))
    })?;
    Ok(Exit::Ok)
}

/// Asks before all on the device is lost. Without a terminal nobody can answer, and silence is not consent.
fn confirm(args: &FlashArgs, target: &Target) -> anyhow::Result<()> {
    if !io::stdin().is_terminal() {
        let message = format!("{} was not written: nobody is there to confirm it", target.path.display());
        return Err(Complaint::new(Exit::Refused, message).help("say --yes in scripts").into());
    }
    let mut terminal = io::stderr().lock();
    for objection in &target.objections {
        writeln!(terminal, "warning: {objection}")?;
    }
    write!(terminal, "Write {} to {}? All on it is lost. [y/N] ", args.image.display(), target.describe())?;
    terminal.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(Complaint::new(Exit::Refused, format!("{} was not written", target.path.display())).into())
}
