//! The socket to the kernel's netfilter. The kernel works while a message is sent: when `send` is back, all is done and every answer
//! is there to be read.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::sockopt::{RcvBufForce, ReceiveTimeout, SndBufForce};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::Table;
use super::batch::Batch;
use super::error::NftError;
use super::key::Key;
use super::uapi::{self, chain, data, element, elements, rule, set};
use super::wire::{Message, Messages, Writer};

const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
/// `NLMSG_ERROR` and `NLMSG_DONE`.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// In an error's flags: attributes follow; and that the request is not repeated.
const TLVS: u16 = 0x200;
const CAPPED: u16 = 0x100;
/// The message attribute of an error.
const HINT: u16 = 1;
/// Flag of a dump during which something changed.
const INTERRUPTED: u16 = 0x10;
/// What is read at once: the kernel's messages of a dump are at most this long.
const CHUNK: usize = 64 << 10;
const ANSWERS: usize = 1 << 20;
/// How long an answer to a dump may take.
const PATIENCE: i64 = 10;

/// A socket to netfilter, in the network namespace that the thread was in when it was made.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    buffer: Vec<u8>,
    send_buffer: usize,
}

/// An element that a set holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its key.
    pub key: Key,
    /// What it leads to, unless that is nothing or a verdict.
    pub data: Option<Key>,
    /// How long it still has, if it goes by itself.
    pub expires: Option<Duration>,
}

impl Socket {
    /// Opens one.
    ///
    /// # Errors
    /// [`NftError::Open`] if the process may not or the kernel cannot.
    pub fn open() -> Result<Self, NftError> {
        Self::try_open().map_err(|errno| NftError::Open(errno.into()))
    }

    fn try_open() -> Result<Self, Errno> {
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkNetFilter)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        option::set(&fd, option::EXT_ACK)?;
        option::set(&fd, option::CAP_ACK)?;
        setsockopt(&fd, RcvBufForce, &ANSWERS)?;
        setsockopt(&fd, ReceiveTimeout, &TimeVal::seconds(PATIENCE))?;
        Ok(Self { fd, buffer: vec![0; CHUNK], send_buffer: 0 })
    }

    /// Applies a batch: all of it, or nothing. Takes as long as the kernel needs.
    ///
    /// # Errors
    /// [`NftError::Refused`] with the first object that the kernel did not take.
    pub fn apply(&mut self, batch: &Batch) -> Result<(), NftError> {
        if batch.is_empty() {
            return Ok(());
        }
        self.discard();
        self.send(&batch.finish())?;
        let mut refused = Vec::new();
        let mut applied = false;
        while let Some(length) = self.receive(MsgFlags::MSG_DONTWAIT)? {
            for message in Messages(&self.buffer[..length]).filter(|message| message.kind == ERROR) {
                match failure(&message) {
                    None => applied |= message.sequence == batch.last_sequence(),
                    Some((errno, hint)) => refused.push((message.sequence, errno, hint)),
                }
            }
        }
        let others = refused.len().saturating_sub(1);
        match refused.into_iter().next() {
            Some((sequence, errno, hint)) => {
                Err(NftError::Refused { object: batch.describe(sequence), errno, hint, others })
            }
            None if applied => Ok(()),
            None => Err(NftError::Silent),
        }
    }

    /// Whether there is such a table.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn has_table(&mut self, table: &Table) -> Result<bool, NftError> {
        let mut request = Writer::default();
        let kind = (uapi::SUBSYSTEM << 8) | uapi::GET_TABLE;
        let open = request.message(kind, REQUEST | ACK, 1, table.family as u8, 0);
        request.put_text(uapi::table::NAME, &table.name);
        request.end_message(&open);
        match self.request(&request.bytes) {
            Ok(()) => Ok(true),
            Err(NftError::Io(error)) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What a set holds; nothing if there is no such set or table.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn elements(&mut self, table: &Table, name: &str) -> Result<Vec<Held>, NftError> {
        let mut request = Writer::default();
        let kind = (uapi::SUBSYSTEM << 8) | uapi::GET_ELEMENTS;
        let open = request.message(kind, REQUEST | DUMP, 1, table.family as u8, 0);
        request.put_text(elements::TABLE, &table.name);
        request.put_text(elements::SET, name);
        request.end_message(&open);
        self.dump(&request.bytes, |message, found| {
            for (_, element) in message.attributes().nested(elements::ELEMENTS) {
                let element = super::wire::Attributes(element);
                let bytes = |kind| element.nested(kind).get(data::VALUE);
                if let Some(key) = bytes(element::KEY) {
                    found.push(Held {
                        key: Key::from_bytes(key),
                        data: bytes(element::DATA).map(Key::from_bytes),
                        expires: element.u64(element::EXPIRATION).map(Duration::from_millis),
                    });
                }
            }
        })
    }

    /// The names of a table's chains; none if there is no such table.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn chains(&mut self, table: &Table) -> Result<Vec<String>, NftError> {
        self.names(table, uapi::GET_CHAIN, chain::TABLE, chain::NAME)
    }

    /// The names of a table's sets and maps, without those of single rules; none if there is no such table.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn sets(&mut self, table: &Table) -> Result<Vec<String>, NftError> {
        let mut names = self.names(table, uapi::GET_SET, set::TABLE, set::NAME)?;
        names.retain(|name| !name.starts_with("__"));
        Ok(names)
    }

    /// The rules of a chain: their handles and comments; none if there is no such chain.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn rules(&mut self, table: &Table, chain: &str) -> Result<Vec<(u64, Option<String>)>, NftError> {
        let mut request = Writer::default();
        let kind = (uapi::SUBSYSTEM << 8) | uapi::GET_RULE;
        let open = request.message(kind, REQUEST | DUMP, 1, table.family as u8, 0);
        request.put_text(rule::TABLE, &table.name);
        request.put_text(rule::CHAIN, chain);
        request.end_message(&open);
        self.dump(&request.bytes, |message, found| {
            let attributes = message.attributes();
            if attributes.text(rule::TABLE) != Some(&*table.name) || attributes.text(rule::CHAIN) != Some(chain) {
                return;
            }
            let handle = attributes
                .get(rule::HANDLE)
                .and_then(|bytes| bytes.first_chunk())
                .map(|bytes| u64::from_be_bytes(*bytes));
            // Data of users: a type of zero is a comment, which ends with a zero.
            let comment = attributes.get(rule::USER_DATA).and_then(|data| match data {
                [0, length, text @ ..] => text.get(..usize::from(*length).checked_sub(1)?),
                _ => None,
            });
            let comment = comment.map(|text| String::from_utf8_lossy(text).into_owned());
            found.extend(handle.map(|handle| (handle, comment)));
        })
    }

    fn names(&mut self, table: &Table, kind: u16, of: u16, name: u16) -> Result<Vec<String>, NftError> {
        let mut request = Writer::default();
        let open = request.message((uapi::SUBSYSTEM << 8) | kind, REQUEST | DUMP, 1, table.family as u8, 0);
        request.put_text(of, &table.name);
        request.end_message(&open);
        self.dump(&request.bytes, |message, found| {
            let attributes = message.attributes();
            if attributes.text(of) == Some(&*table.name) {
                found.extend(attributes.text(name).map(str::to_owned));
            }
        })
    }

    /// Sends a request that is answered by many messages, and has each read. Begins anew if something changed meanwhile.
    pub(crate) fn dump<T>(
        &mut self,
        request: &[u8],
        mut read: impl FnMut(&Message<'_>, &mut Vec<T>),
    ) -> Result<Vec<T>, NftError> {
        const TRIES: usize = 10;
        for attempt in 1.. {
            self.discard();
            self.send(request)?;
            let (mut found, mut whole, mut done) = (Vec::new(), true, false);
            while !done {
                let Some(length) = self.receive(MsgFlags::empty())? else { return Err(NftError::Silent) };
                for message in Messages(&self.buffer[..length]) {
                    whole &= message.flags & INTERRUPTED == 0;
                    match message.kind {
                        DONE => done = true,
                        ERROR => match failure(&message) {
                            None => done = true,
                            Some((Errno::ENOENT, _)) => return Ok(Vec::new()),
                            Some((errno, _)) => return Err(errno.into()),
                        },
                        _ => read(&message, &mut found),
                    }
                }
            }
            if whole || attempt == TRIES {
                return Ok(found);
            }
        }
        Err(NftError::Silent)
    }

    /// Sends a request that is answered by an acknowledgement.
    pub(crate) fn request(&mut self, request: &[u8]) -> Result<(), NftError> {
        self.discard();
        self.send(request)?;
        while let Some(length) = self.receive(MsgFlags::empty())? {
            let answer = Messages(&self.buffer[..length]).find(|message| message.kind == ERROR);
            match answer.as_ref().map(failure) {
                Some(None) => return Ok(()),
                Some(Some((errno, _))) => return Err(errno.into()),
                // What was asked for comes before the acknowledgement.
                None => {}
            }
        }
        Err(NftError::Silent)
    }

    /// Throws away what earlier requests left unread.
    fn discard(&mut self) {
        while let Ok(Some(_)) = self.receive(MsgFlags::MSG_DONTWAIT) {}
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), NftError> {
        // The kernel takes a message only if the buffer has room for it and for its own book-keeping.
        let needed = bytes.len() + (32 << 10);
        if needed > self.send_buffer {
            setsockopt(&self.fd, SndBufForce, &needed)?;
            self.send_buffer = needed;
        }
        match send(self.fd.as_raw_fd(), bytes, MsgFlags::empty())? {
            sent if sent == bytes.len() => Ok(()),
            _ => Err(NftError::Io(io::ErrorKind::WriteZero.into())),
        }
    }

    /// Reads once; `None` if there is nothing.
    fn receive(&mut self, flags: MsgFlags) -> Result<Option<usize>, NftError> {
        loop {
            match recv(self.fd.as_raw_fd(), &mut self.buffer, flags) {
                Ok(length) => return Ok(Some(length)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(None),
                // Answers were lost since the buffer was full: those that are there still tell what is wrong.
                Err(Errno::ENOBUFS) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// The error in a message, if it is not a mere acknowledgement, with what the kernel says of it.
fn failure(message: &Message<'_>) -> Option<(Errno, Option<String>)> {
    let code = message.body.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    if code == 0 {
        return None;
    }
    let mut hint = None;
    if message.flags & (TLVS | CAPPED) == TLVS | CAPPED {
        let attributes = message.body.get(size_of::<i32>() + super::wire::HEADER..).unwrap_or_default();
        hint = super::wire::Attributes(attributes).text(HINT).map(str::to_owned);
    }
    Some((Errno::from_raw(code.saturating_neg()), hint))
}

/// Options of netlink sockets, which `nix` does not have.
#[allow(unsafe_code, reason = "setsockopt takes a pointer")]
mod option {
    use std::ffi::c_int;
    use std::os::fd::{AsRawFd, OwnedFd};

    use nix::errno::Errno;

    /// Errors come with a text.
    pub(super) const EXT_ACK: c_int = 11;
    /// Errors do not repeat the request.
    pub(super) const CAP_ACK: c_int = 10;
    const SOL_NETLINK: c_int = 270;

    pub(super) fn set(fd: &OwnedFd, name: c_int) -> Result<(), Errno> {
        let on: c_int = 1;
        let length = libc::socklen_t::try_from(size_of::<c_int>()).unwrap_or(4);
        // SAFETY: the descriptor is open for the whole call, and the pointer leads to as many bytes as are said, which live
        // until the call is back.
        let done = unsafe { libc::setsockopt(fd.as_raw_fd(), SOL_NETLINK, name, (&raw const on).cast(), length) };
        Errno::result(done).map(drop)
    }
}
