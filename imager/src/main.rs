//! The `imager` command: builds, inspects, flashes and boots Kiln images.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
