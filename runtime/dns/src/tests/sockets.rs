//! The sockets themselves.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::fixture::{Fixture, Upstream, asked, read};
use crate::serve::Sockets;
use crate::wire::{Answer, Name, Record};

const NAME: &str = "kubernetes.default.svc.cluster.local";

async fn serving() -> (Fixture, SocketAddr, DropGuard) {
    let fixture = Fixture::of_specification().await;
    let loopback = ["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
    // A port that is free for one family and protocol may be another program's for the next.
    let mut attempts = std::iter::repeat_with(|| Sockets::bind(&loopback, 0)).take(50);
    let sockets = attempts.find_map(Result::ok).expect("a port that is free for all four");
    let (address, stop) = (sockets.address(), CancellationToken::new());
    tokio::spawn(sockets.serve(fixture.resolver.clone(), stop.clone()));
    (fixture, address, stop.drop_guard())
}

async fn over_udp(server: SocketAddr, message: &[u8]) -> Vec<u8> {
    let any = if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
    let socket = UdpSocket::bind(any).await.unwrap();
    socket.connect(server).await.unwrap();
    socket.send(message).await.unwrap();
    let mut out = vec![0; 4096];
    let length = tokio::time::timeout(Duration::from_secs(10), socket.recv(&mut out)).await.unwrap().unwrap();
    out.truncate(length);
    out
}

async fn send(stream: &mut TcpStream, message: &[u8]) {
    stream.write_u16(message.len() as u16).await.unwrap();
    stream.write_all(message).await.unwrap();
}

async fn receive(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut out = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut out).await?;
    Ok(out)
}

#[tokio::test]
async fn questions_are_answered_over_udp_and_tcp_and_both_families() {
    let (fixture, address, _stop) = serving().await;
    let upstream = Upstream::start().await;
    let name = Name::parse("www.example.com").unwrap();
    let record = Record::address(&name, 20, [192, 0, 2, 1].into());
    upstream.say("www.example.com", "A", Answer { answers: vec![record], ..Answer::default() });
    fixture.forward_to(upstream.address);
    for server in [address, SocketAddr::new("::1".parse().unwrap(), address.port())] {
        let mut stream = TcpStream::connect(server).await.unwrap();
        for name in [NAME, "www.example.com"] {
            assert_eq!(read(&over_udp(server, &asked(name, "A")).await).answers.len(), 1, "{server}");
            send(&mut stream, &asked(name, "A")).await;
            assert_eq!(read(&receive(&mut stream).await.unwrap()).answers.len(), 1, "{server}");
        }
        // What is no question is answered over UDP and passed over, and the next one is served.
        assert_eq!(over_udp(server, &[0; 12]).await.len(), 12);
    }
}

#[tokio::test]
async fn a_client_that_is_slow_is_cut_off_and_one_that_is_silent_too() {
    let (_fixture, address, _stop) = serving().await;
    let (mut slow, mut silent) =
        (TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap());
    send(&mut silent, &asked(NAME, "A")).await;
    receive(&mut silent).await.unwrap();
    slow.write_all(&[0, 60, 1, 2, 3]).await.unwrap();
    tokio::time::pause();
    for stream in [&mut slow, &mut silent] {
        assert!(receive(stream).await.is_err());
    }
}

#[tokio::test]
async fn one_client_cannot_take_all_connections() {
    let (_fixture, address, _stop) = serving().await;
    let mut open = Vec::new();
    let mut refused = 0;
    for _ in 0..40 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_u16(asked(NAME, "A").len() as u16).await.unwrap();
        // One that is turned away may be closed before the question is written.
        let written = stream.write_all(&asked(NAME, "A")).await.is_ok();
        match receive(&mut stream).await {
            Ok(_) if written => open.push(stream),
            _ => refused += 1,
        }
    }
    assert_eq!((open.len(), refused), (32, 8));
    drop(open);
    // Those that are free again serve others.
    let served = async {
        loop {
            let mut stream = TcpStream::connect(address).await.unwrap();
            if stream.write_u16(0x41).await.is_ok()
                && stream.write_all(&asked(NAME, "A")).await.is_ok()
                && receive(&mut stream).await.is_ok()
            {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), served).await.unwrap();
}
