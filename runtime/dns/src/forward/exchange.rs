//! One question to one server: over UDP with a number and a port that nobody can guess, and over TCP where the answer is too
//! long for that.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use crate::wire::{Answer, HEADER, Name, UDP_MAX, decode, is_reply, question};

/// What is asked.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) name: Name,
    pub(crate) kind: u16,
    pub(crate) wants_signatures: bool,
    pub(crate) checking_disabled: bool,
}

/// A number that is not to be guessed: a keyed hash of a count, whose key is random for each start.
pub(super) fn number() -> u16 {
    static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    HASHER.hash_one(COUNT.fetch_add(1, Ordering::Relaxed)) as u16
}

impl Question {
    /// Asks a server, without a limit of time.
    pub(crate) async fn ask(&self, server: SocketAddr, over_tcp: bool) -> io::Result<Answer> {
        let id = number();
        let message = question(id, &self.name, self.kind, self.wants_signatures, self.checking_disabled);
        // The question proper, without EDNS.
        let asked = &message[HEADER..HEADER + self.name.octets().len() + 4];
        if !over_tcp {
            let (answer, is_cut) = udp(server, id, &message, asked).await?;
            if !is_cut {
                return Ok(answer);
            }
        }
        tcp(server, id, &message, asked).await
    }
}

async fn udp(server: SocketAddr, id: u16, message: &[u8], asked: &[u8]) -> io::Result<(Answer, bool)> {
    let any = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // A socket for each question: its port is as good as the number against forged answers.
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(server).await?;
    socket.send(message).await?;
    let mut reply = [0; UDP_MAX];
    loop {
        let length = socket.recv(&mut reply).await?;
        let reply = &reply[..length];
        // Anything else is noise, or someone's guess; the true answer may still come.
        if is_reply(reply, id, asked)
            && let Ok(answer) = decode(reply)
        {
            return Ok(answer);
        }
    }
}

async fn tcp(server: SocketAddr, id: u16, message: &[u8], asked: &[u8]) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(server).await?;
    let mut framed = Vec::with_capacity(message.len() + 2);
    framed.extend((message.len() as u16).to_be_bytes());
    framed.extend_from_slice(message);
    stream.write_all(&framed).await?;
    let mut reply = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut reply).await?;
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "the answer is none to the question");
    if !is_reply(&reply, id, asked) {
        return Err(wrong());
    }
    decode(&reply).map(|(answer, _)| answer).map_err(|_| wrong())
}
