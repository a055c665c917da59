//! Exit codes: the one place where an error becomes a number and a hint.

use std::{error::Error, io, process::ExitCode};

use imager::{
    bundle::BundleError,
    cluster::ClusterError,
    flash::FlashError,
    image::{ImageError, fat::FatError},
    inspect::CardError,
    packages,
    profile::ProfileError,
    qemu::RunError,
    registry::RegistryError,
    rootfs::RootfsError,
    toolchain,
};
use kiln_node_config::{ConfigError, edit::EditError};

/// How the program ends. The contract that scripts may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    Ok,
    Failure,
    Usage,
    BadInput,
    Network,
    Verification,
    Io,
    Build,
    Refused,
    /// The code of the emulator that ran.
    Emulator(u8),
}

/// The codes and their meaning, as `--help` shows them.
pub(super) const TABLE: &str = "\
Exit codes:
  0  done
  1  another failure
  2  wrong usage
  3  a wrong input file: board, overlay, node.toml, lock, cluster directory, image
  4  network or mirror
  5  a signature, hash or lock does not hold
  6  no space, or reading or writing failed
  7  the runtime did not compile
  8  the device was refused
`imager run` ends with the emulator's own code.";

impl Exit {
    fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::BadInput => 3,
            Self::Network => 4,
            Self::Verification => 5,
            Self::Io => 6,
            Self::Build => 7,
            Self::Refused => 8,
            Self::Emulator(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// An error that the command line itself finds.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Complaint {
    exit: Exit,
    message: String,
    help: Option<String>,
}

impl Complaint {
    pub(super) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), help: None }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Writes an error to stderr, with a hint where there is one, and gives its code.
pub(super) fn report(error: &anyhow::Error) -> Exit {
    let (exit, help) = classify(error.as_ref());
    eprintln!("error: {}", message(error));
    if let Some(help) = help {
        eprintln!("help: {help}");
    }
    exit
}

/// An error and its causes in one line. Most of the library's errors say their cause themselves; it is not repeated.
fn message(error: &anyhow::Error) -> String {
    let mut out = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !out.contains(&cause) {
            out.push_str(": ");
            out.push_str(&cause);
        }
    }
    out
}

/// The code of an error and what to do about it: of the first error in its chain that is known here.
fn classify(error: &(dyn Error + 'static)) -> (Exit, Option<String>) {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(known) = known(error) {
            return known;
        }
        next = error.source();
    }
    (Exit::Failure, None)
}

fn known(error: &(dyn Error + 'static)) -> Option<(Exit, Option<String>)> {
    Some(if let Some(error) = error.downcast_ref::<Complaint>() {
        (error.exit, error.help.clone())
    } else if let Some(error) = error.downcast_ref::<ImageError>() {
        image(error)
    } else if let Some(error) = error.downcast_ref::<BundleError>() {
        bundle(error)
    } else if let Some(error) = error.downcast_ref::<CardError>() {
        card(error)
    } else if let Some(error) = error.downcast_ref::<packages::Error>() {
        (packages(error.class()), None)
    } else if let Some(error) = error.downcast_ref::<toolchain::Error>() {
        (toolchain(error), None)
    } else if let Some(error) = error.downcast_ref::<ProfileError>() {
        (Exit::BadInput, profile(error))
    } else if let Some(error) = error.downcast_ref::<ClusterError>() {
        (cluster(error), error.help())
    } else if let Some(error) = error.downcast_ref::<FlashError>() {
        (flash(error), error.help())
    } else if let Some(error) = error.downcast_ref::<RunError>() {
        run(error)
    } else if let Some(error) = error.downcast_ref::<RegistryError>() {
        (registry(error), None)
    } else if error.is::<ConfigError>() || error.is::<EditError>() {
        (Exit::BadInput, None)
    } else if error.is::<io::Error>() {
        (Exit::Io, None)
    } else {
        return None;
    })
}

fn image(error: &ImageError) -> (Exit, Option<String>) {
    match error {
        ImageError::Profile(error) => (Exit::BadInput, profile(error)),
        ImageError::Packages(error) => (packages(error.class()), None),
        ImageError::Toolchain(error) => (toolchain(error), None),
        ImageError::Rootfs(error) => (rootfs(error), None),
        ImageError::Fat(error) => (fat(error), None),
        ImageError::Partition { .. } | ImageError::NoPartition { .. } | ImageError::Epoch { .. } => {
            (Exit::BadInput, None)
        }
        ImageError::NoSpace { .. } | ImageError::Io { .. } => (Exit::Io, None),
        ImageError::Busy { .. } => (Exit::Failure, None),
    }
}

fn bundle(error: &BundleError) -> (Exit, Option<String>) {
    match error {
        BundleError::Profile(error) => (Exit::BadInput, profile(error)),
        BundleError::Packages(error) => (packages(error.class()), None),
        BundleError::Toolchain(error) => (toolchain(error), None),
        BundleError::Image(error) => image(error),
        BundleError::Recipe { .. } | BundleError::Missing { .. } | BundleError::Program { .. } => {
            (Exit::BadInput, None)
        }
        BundleError::Read { .. } => (Exit::Io, None),
    }
}

fn card(error: &CardError) -> (Exit, Option<String>) {
    match error {
        CardError::Open { .. } => (Exit::Io, None),
        CardError::Packed { .. } | CardError::Short { .. } => (Exit::BadInput, None),
        CardError::Image(error) => image(error),
        CardError::Fat { source, .. } => (fat(source), None),
    }
}

fn fat(error: &FatError) -> Exit {
    match error {
        FatError::NotFound { .. } | FatError::Damaged { .. } => Exit::BadInput,
        FatError::Full { .. } | FatError::Io { .. } => Exit::Io,
    }
}

fn packages(class: packages::Class) -> Exit {
    match class {
        packages::Class::BadInput => Exit::BadInput,
        packages::Class::Network => Exit::Network,
        packages::Class::Verification => Exit::Verification,
        packages::Class::Io => Exit::Io,
    }
}

fn toolchain(error: &toolchain::Error) -> Exit {
    match error.class() {
        toolchain::Class::BadInput => Exit::BadInput,
        toolchain::Class::Build => Exit::Build,
        toolchain::Class::Io => Exit::Io,
        toolchain::Class::Packages(class) => packages(class),
    }
}

fn registry(error: &RegistryError) -> Exit {
    match error {
        RegistryError::Reference { .. } | RegistryError::Credentials { .. } | RegistryError::OtherMachine { .. } => {
            Exit::BadInput
        }
        RegistryError::Unreachable { .. }
        | RegistryError::Refused { .. }
        | RegistryError::Protocol { .. }
        | RegistryError::Missing { .. }
        | RegistryError::Offline { .. } => Exit::Network,
        RegistryError::Digest { .. } | RegistryError::Unlocked { .. } => Exit::Verification,
        RegistryError::Io { .. } => Exit::Io,
    }
}

fn profile(error: &ProfileError) -> Option<String> {
    match error {
        ProfileError::UnknownBoard { .. } => {
            Some("`imager boards` tells what each is for; a new board is a file in boards/".to_owned())
        }
        ProfileError::Read { .. } => Some("run imager in a Kiln checkout, or name one with --workspace".to_owned()),
        _ => None,
    }
}

fn rootfs(error: &RootfsError) -> Exit {
    match error {
        RootfsError::Read { .. } => Exit::Io,
        _ => Exit::BadInput,
    }
}

fn cluster(error: &ClusterError) -> Exit {
    match error {
        ClusterError::Io { .. } | ClusterError::Pki(kiln_pki::PkiError::File { .. }) => Exit::Io,
        ClusterError::OtherCa { .. } => Exit::Verification,
        ClusterError::GivenToken(_) | ClusterError::Server { .. } | ClusterError::Name(_) => Exit::Usage,
        _ => Exit::BadInput,
    }
}

fn flash(error: &FlashError) -> Exit {
    match error {
        FlashError::Refused { .. } | FlashError::TooSmall { .. } => Exit::Refused,
        FlashError::BlockMap { .. } => Exit::BadInput,
        FlashError::ImageDiffers { .. } | FlashError::ImageShort { .. } | FlashError::ReadBack { .. } => {
            Exit::Verification
        }
        FlashError::Io { .. } => Exit::Io,
    }
}

fn run(error: &RunError) -> (Exit, Option<String>) {
    match error {
        RunError::Card(error) => card(error),
        RunError::DeviceTree { .. } => (Exit::BadInput, None),
        RunError::FixedMemory { .. } => (Exit::Usage, error.help()),
        RunError::Io { .. } => (Exit::Io, None),
        _ => (Exit::Failure, error.help()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_every_code() {
        for exit in [
            Exit::Ok,
            Exit::Failure,
            Exit::Usage,
            Exit::BadInput,
            Exit::Network,
            Exit::Verification,
            Exit::Io,
            Exit::Build,
            Exit::Refused,
        ] {
            assert!(TABLE.contains(&format!("\n  {}  ", exit.code())), "{exit:?}");
        }
    }

    #[test]
    fn a_cause_is_said_once() {
        let missing = io::Error::from(io::ErrorKind::NotFound);
        let text = missing.to_string();
        let own = anyhow::Error::new(CardError::Open { path: "a.img".into(), source: missing });
        assert_eq!(message(&own), format!("cannot open a.img: {text}"));
        let wrapped = anyhow::Error::new(io::Error::from(io::ErrorKind::NotFound)).context("cannot read node.toml");
        assert_eq!(message(&wrapped), format!("cannot read node.toml: {text}"));
    }

    #[test]
    fn an_error_keeps_its_code_through_its_wrappers() {
        let error = packages::Error::Offline { what: "x".to_owned() };
        let wrapped = anyhow::Error::new(ImageError::Packages(error)).context("building");
        assert_eq!(classify(wrapped.as_ref()).0, Exit::Network);
    }
}
