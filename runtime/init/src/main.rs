//! The initramfs's `/init`. It finds, checks and mounts the root, whose init is `kiln`.

use std::process::ExitCode;

fn main() -> ExitCode {
    if kiln_init::is_init() {
        kiln_init::first_stage()
    }
    eprintln!("kiln-init: only a kernel starts this, as the init of an initramfs");
    ExitCode::FAILURE
}
