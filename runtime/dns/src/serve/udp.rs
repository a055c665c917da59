//! Questions over UDP.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::sync::Semaphore;

use crate::resolver::{Outcome, Resolver, Waiting};
use crate::wire::{Query, UDP_MAX};

/// Questions that are taken before others of the process get their turn.
const BATCH: usize = 64;
/// Octets of a question: more than any name with all that EDNS may say.
const PACKET: usize = 2048;

/// Serves a socket for ever.
pub(super) async fn serve(socket: Arc<UdpSocket>, resolver: Arc<Resolver>, waiting: Arc<Semaphore>) {
    let mut packet = [0; PACKET];
    let mut out = Vec::with_capacity(UDP_MAX);
    loop {
        if let Err(error) = socket.readable().await {
            // The reactor is gone, and with it the process.
            return tracing::error!(%error, "a socket of DNS can no longer be read");
        }
        for _ in 0..BATCH {
            let (length, client) = match socket.try_recv_from(&mut packet) {
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // A client that is gone; the socket is all right.
                Err(_) => continue,
            };
            let message = &packet[..length];
            out.clear();
            match resolver.take(message, Query::udp_limit, &mut out) {
                Outcome::Answered => send(&socket, &out, client),
                Outcome::Silence => {}
                Outcome::Waits(question) => match Arc::clone(&waiting).try_acquire_owned() {
                    Ok(permit) => {
                        let (socket, resolver, message) =
                            (Arc::clone(&socket), Arc::clone(&resolver), message.to_vec());
                        tokio::spawn(async move {
                            let _permit = permit;
                            finish(&socket, &resolver, question, &message, client).await;
                        });
                    }
                    Err(_) => {
                        resolver.overloaded(&question, message, &mut out);
                        send(&socket, &out, client);
                    }
                },
            }
        }
        tokio::task::yield_now().await;
    }
}

async fn finish(socket: &UdpSocket, resolver: &Resolver, question: Box<Waiting>, message: &[u8], client: SocketAddr) {
    let mut out = Vec::with_capacity(UDP_MAX);
    let limit = question.udp_limit();
    resolver.finish(question, message, limit, &mut out).await;
    send(socket, &out, client);
}

/// What can't be sent is lost, as any packet may be.
fn send(socket: &UdpSocket, message: &[u8], client: SocketAddr) {
    if let Err(error) = socket.try_send_to(message, client) {
        tracing::debug!(%client, %error, "an answer is lost");
    }
}
