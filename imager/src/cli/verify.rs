//! `imager verify`.

use imager::{
    inspect::{Check, verify},
    progress::Progress,
};

use super::{
    args::ImageArgs,
    exit::{Complaint, Exit},
    output::Output,
};

pub(super) fn run(args: &ImageArgs, output: Output, progress: &Progress) -> anyhow::Result<Exit> {
    let checks = verify(&args.image, progress)?;
    output.print(&checks, |checks| text(checks))?;
    let failed = checks.iter().filter(|check| !check.ok).count();
    if failed > 0 {
        let message = format!("{}: {failed} of {} checks failed", args.image.display(), checks.len());
        let help =
            "an image that was run or whose settings were changed differs from its .sha256; the root hash must hold";
        return Err(Complaint::new(Exit::Verification, message).help(help).into());
    }
    if checks.is_empty() {
        let message = format!("{}: there is nothing to check it against", args.image.display());
        return Err(Complaint::new(Exit::Verification, message).into());
    }
    Ok(Exit::Ok)
}

fn text(checks: &[Check]) -> String {
    let mut out = String::new();
    for check in checks {
        let verdict = if check.ok { "ok    " } else { "FAILED" };
        out.push_str(&format!("{verdict}  {}: {}\n", check.name, check.detail));
    }
    out
}
