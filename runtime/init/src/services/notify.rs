//! What a service tells PID 1: the sd_notify protocol on a datagram socket, with Kiln's own keys beside it.

use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;

use crate::error::{Error, Result};

/// The socket's path, which services get as `NOTIFY_SOCKET`.
pub(crate) const PATH: &str = "/run/kiln/notify";

/// One fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The node has joined.
    Ready,
    /// A line for people.
    Status(String),
    /// The join step that begins.
    Step(String),
    /// Why the join does not go on.
    Error(String),
    /// What a person can do about it.
    Help(String),
    /// The token was single-use and has done its work.
    ScrubToken,
    /// The pinned server's date, seconds since 1970.
    Time(i64),
    /// The CA key is on STATE.
    ImportedCa,
}

/// Parses a datagram; lines with other keys or odd values are passed over, as sd_notify asks for.
pub(crate) fn parse(datagram: &str) -> Vec<Notice> {
    datagram
        .lines()
        .filter_map(|line| {
            let (key, value) = line.split_once('=')?;
            let text = || Some(value.trim().to_owned()).filter(|t| !t.is_empty());
            match key {
                "READY" if value == "1" => Some(Notice::Ready),
                "STATUS" => text().map(Notice::Status),
                "X_KILN_STEP" => text().map(Notice::Step),
                "X_KILN_ERROR" => text().map(Notice::Error),
                "X_KILN_HELP" => text().map(Notice::Help),
                "X_KILN_SCRUB_TOKEN" if value == "1" => Some(Notice::ScrubToken),
                "X_KILN_TIME" => value.trim().parse().ok().map(Notice::Time),
                "X_KILN_IMPORTED_CA" if value == "1" => Some(Notice::ImportedCa),
                _ => None,
            }
        })
        .collect()
}

/// The receiving end.
#[derive(Debug)]
pub(crate) struct NotifySocket(UnixDatagram);

impl NotifySocket {
    /// Makes the socket; only root may write to it.
    pub(crate) fn open() -> Result<Self> {
        let failed = |e| Error::io("open the socket", PATH, e);
        // Left by an earlier attempt.
        let _ = std::fs::remove_file(PATH);
        let socket = UnixDatagram::bind(PATH).map_err(failed)?;
        std::fs::set_permissions(PATH, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        Ok(Self(socket))
    }

    /// Takes all waiting datagrams.
    pub(crate) fn drain(&self) -> Vec<Notice> {
        let mut notices = Vec::new();
        let mut buffer = [0u8; 8192];
        loop {
            match self.0.recv(&mut buffer) {
                Ok(length) => notices.extend(parse(&String::from_utf8_lossy(&buffer[..length]))),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return notices,
            }
        }
    }
}

impl AsFd for NotifySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_keys_of_the_contract_are_understood() {
        let text = "READY=1\nSTATUS=joined\nX_KILN_STEP=csr\nX_KILN_ERROR=a = b\nX_KILN_HELP=do\nX_KILN_SCRUB_TOKEN=1\nX_KILN_TIME=1750000000\nX_KILN_IMPORTED_CA=1\n";
        let expected = [
            Notice::Ready,
            Notice::Status("joined".into()),
            Notice::Step("csr".into()),
            Notice::Error("a = b".into()),
            Notice::Help("do".into()),
            Notice::ScrubToken,
            Notice::Time(1_750_000_000),
            Notice::ImportedCa,
        ];
        assert_eq!(parse(text), expected);
    }

    #[test]
    fn other_keys_and_odd_values_are_passed_over() {
        assert_eq!(parse("WATCHDOG=1\nREADY=0\nX_KILN_TIME=soon\nnonsense\n=\nSTATUS="), []);
    }
}
