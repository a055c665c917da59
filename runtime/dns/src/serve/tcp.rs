//! Questions over TCP (RFC 7766): any number on a connection, one after the other.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::resolver::{Outcome, Resolver};

/// Connections at a time, of all and of one client.
const CONNECTIONS: usize = 256;
const OF_ONE: usize = 32;
/// How long a connection may say nothing, and how long a message may take once begun, either way.
const IDLE: Duration = Duration::from_secs(10);
const MESSAGE: Duration = Duration::from_secs(3);
/// The wait after a connection that could not be taken for want of resources.
const BREATH: Duration = Duration::from_millis(100);
/// A message is no longer than its length can say.
const LIMIT: usize = u16::MAX as usize;
/// A question takes no more; a longer message is none.
const QUESTION: usize = 4096;

/// Who is connected.
#[derive(Debug, Clone, Default)]
pub(super) struct Clients(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// A connection that counts.
struct Counted(Clients, IpAddr);

impl Clients {
    /// None if there are too many.
    fn count(&self, client: IpAddr) -> Option<Counted> {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.values().sum::<usize>() >= CONNECTIONS {
            return None;
        }
        let own = clients.entry(client).or_default();
        if *own >= OF_ONE {
            return None;
        }
        *own += 1;
        Some(Counted(self.clone(), client))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut clients = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = clients.get_mut(&self.1) {
            *own -= 1;
            if *own == 0 {
                clients.remove(&self.1);
            }
        }
    }
}

/// Takes connections for ever.
pub(super) async fn serve(listener: TcpListener, resolver: Arc<Resolver>, clients: Clients) {
    loop {
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "a connection for DNS could not be taken");
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        // Who comes over and above is turned away by the closed connection.
        let Some(counted) = clients.count(client.ip()) else { continue };
        let resolver = Arc::clone(&resolver);
        tokio::spawn(async move {
            let _counted = counted;
            if let Err(error) = talk(stream, &resolver).await {
                tracing::debug!(%client, %error, "a connection for DNS ended");
            }
        });
    }
}

async fn talk(mut stream: TcpStream, resolver: &Arc<Resolver>) -> io::Result<()> {
    let (mut message, mut out) = (Vec::new(), Vec::new());
    loop {
        let mut length = [0; 2];
        // The client is done, or has nothing to say.
        match timeout(IDLE, stream.read(&mut length[..1])).await {
            Ok(Ok(1)) => {}
            Ok(Ok(_)) | Err(_) => return Ok(()),
            Ok(Err(error)) => return Err(error),
        }
        timeout(MESSAGE, async {
            stream.read_exact(&mut length[1..]).await?;
            let length = usize::from(u16::from_be_bytes(length));
            if length > QUESTION {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the question is too long"));
            }
            message.resize(length, 0);
            stream.read_exact(&mut message).await.map(|_| ())
        })
        .await??;
        out.clear();
        out.extend([0, 0]);
        match resolver.take(&message, |_| LIMIT, &mut out) {
            Outcome::Answered => {}
            Outcome::Silence => return Ok(()),
            Outcome::Waits(question) => resolver.finish(question, &message, LIMIT, &mut out).await,
        }
        let length = ((out.len() - 2) as u16).to_be_bytes();
        out[..2].copy_from_slice(&length);
        timeout(MESSAGE, stream.write_all(&out)).await??;
    }
}
