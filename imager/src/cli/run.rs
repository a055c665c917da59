//! `imager run`.

use imager::{
    inspect::{Card, about},
    profile::Board,
    progress::Progress,
    qemu::{self, Options, options::default_serial},
};

use super::{
    args::{Globals, RunArgs},
    exit::{Complaint, Exit},
    workspace,
};

pub(super) fn run(globals: &Globals, args: RunArgs, progress: &Progress) -> anyhow::Result<Exit> {
    let board = match args.board {
        Some(board) => board,
        None => match about::about(&Card::open(&args.image)?)? {
            Some(about) => about.board,
            None => {
                let message = format!("{} does not say which board it is for", args.image.display());
                return Err(Complaint::new(Exit::BadInput, message).help("name it with --board").into());
            }
        },
    };
    let workspace = workspace::find(globals.workspace.as_deref())?;
    let board = Board::find(&workspace.join("boards"), &board)?;
    let Some(machine) = board.qemu else {
        let message = format!("QEMU cannot play the board {}: its file has no [qemu] table", board.name);
        return Err(Complaint::new(Exit::BadInput, message).into());
    };
    let options = Options {
        serial: args.serial.unwrap_or_else(|| default_serial(&args.image)),
        image: args.image,
        forward: args.forward,
        memory: args.memory,
        disk_size: args.disk_size,
        lan: args.lan,
        serial_log: args.serial_log,
        monitor: args.monitor,
        headless: args.headless,
        snapshot: args.snapshot,
        network: !args.no_net,
        kvm: args.kvm,
    };
    Ok(Exit::Emulator(qemu::run(&machine, &options, progress)?))
}
