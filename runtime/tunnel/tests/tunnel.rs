//! Both ends of a tunnel over a pipe: what flows, what breaks, and what does not break with it.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::sync::Arc;
use std::time::Duration;

use kiln_tunnel::{BoxFuture, Connection, DialError, Hub, Node, Target, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// Sends back what it gets, in capitals, and then its own end.
struct Shout;

impl Node for Shout {
    fn serve(&self, mut connection: Connection) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let mut buffer = vec![0; 16 << 10];
            while let Ok(n @ 1..) = connection.read(&mut buffer).await {
                buffer[..n].make_ascii_uppercase();
                if connection.write_all(&buffer[..n]).await.is_err() || connection.flush().await.is_err() {
                    return;
                }
            }
            _ = connection.shutdown().await;
        })
    }
}

/// A hub with a tunnel to a node; the task is the node's end.
async fn tunnel(hub: &Hub, name: &'static str) -> tokio::task::JoinHandle<()> {
    let (near, far) = tokio::io::duplex(1 << 20);
    let server = hub.clone();
    tokio::spawn(async move { _ = server.serve(name, Box::new(near)).await });
    let agent = tokio::spawn(async move { _ = serve(Box::new(far), Arc::new(Shout)).await });
    while !hub.reaches(name) {
        tokio::task::yield_now().await;
    }
    agent
}

async fn echo(stream: &mut Connection, text: &str) -> String {
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back).await.unwrap();
    String::from_utf8(back).unwrap()
}

#[tokio::test]
async fn many_streams_flow_at_once_and_each_half_ends_by_itself() {
    let hub = Hub::new();
    tunnel(&hub, "pi").await;
    let mut streams = Vec::new();
    for _ in 0..200 {
        streams.push(hub.dial("pi", &Target::Kubelet).await.unwrap());
    }
    for (i, stream) in streams.iter_mut().enumerate() {
        assert_eq!(echo(stream, &format!("hi {i}")).await, format!("HI {i}"));
    }
    let mut last = streams.pop().unwrap();
    last.write_all(b"the rest").await.unwrap();
    last.shutdown().await.unwrap();
    let mut rest = String::new();
    last.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "THE REST");
    assert_eq!(echo(&mut streams[0], "still").await, "STILL");
}

#[tokio::test]
async fn a_stream_that_nobody_reads_stops_no_other() {
    let hub = Hub::new();
    tunnel(&hub, "pi").await;
    let mut stuck = Vec::new();
    for _ in 0..20 {
        let mut stream = hub.dial("pi", &Target::Kubelet).await.unwrap();
        // Its answers are not read, so that it stops once all windows are full.
        stuck.push(tokio::spawn(async move {
            let chunk = vec![b'x'; 64 << 10];
            while stream.write_all(&chunk).await.is_ok() {}
        }));
    }
    let mut other = hub.dial("pi", &Target::Kubelet).await.unwrap();
    for _ in 0..50 {
        assert_eq!(echo(&mut other, "alive").await, "ALIVE");
    }
    stuck.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn fifty_megabytes_arrive_whole() {
    let hub = Hub::new();
    tunnel(&hub, "pi").await;
    let stream = hub.dial("pi", &Target::Kubelet).await.unwrap();
    let (mut read, mut write) = tokio::io::split(stream);
    let size = 50 << 20;
    let sending = tokio::spawn(async move {
        let chunk = vec![b'a'; 1 << 20];
        for _ in 0..50 {
            write.write_all(&chunk).await.unwrap();
        }
        write.shutdown().await.unwrap();
    });
    let (mut got, mut buffer) = (0, vec![0; 1 << 20]);
    loop {
        match read.read(&mut buffer).await.unwrap() {
            0 => break,
            n => {
                assert!(buffer[..n].iter().all(|b| *b == b'A'));
                got += n;
            }
        }
    }
    sending.await.unwrap();
    assert_eq!(got, size);
}

#[tokio::test]
async fn a_broken_tunnel_ends_its_own_streams_and_no_other_nodes() {
    let hub = Hub::new();
    let agent = tunnel(&hub, "one").await;
    tunnel(&hub, "two").await;
    let mut one = hub.dial("one", &Target::Kubelet).await.unwrap();
    let mut two = hub.dial("two", &Target::Kubelet).await.unwrap();
    assert_eq!(echo(&mut one, "a").await, "A");
    agent.abort();
    let mut rest = Vec::new();
    assert!(one.read_to_end(&mut rest).await.is_err() || rest.is_empty());
    assert_eq!(echo(&mut two, "b").await, "B");
    while hub.reaches("one") {
        tokio::task::yield_now().await;
    }
    let refused = hub.dial("one", &Target::Kubelet).await.err().unwrap();
    assert_eq!(refused.to_string(), "there is no tunnel to node \"one\"");
    // It dials again.
    tunnel(&hub, "one").await;
    let mut again = hub.dial("one", &Target::Kubelet).await.unwrap();
    assert_eq!(echo(&mut again, "c").await, "C");
}

#[tokio::test]
async fn a_newer_tunnel_takes_over_and_the_older_ones_end_does_not_undo_that() {
    let hub = Hub::new();
    let older = tunnel(&hub, "pi").await;
    let mut old = hub.dial("pi", &Target::Kubelet).await.unwrap();
    let newer = tunnel(&hub, "pi").await;
    assert_eq!(echo(&mut old, "old").await, "OLD");
    older.abort();
    _ = older.await;
    let mut rest = Vec::new();
    _ = old.read_to_end(&mut rest).await;
    let mut new = hub.dial("pi", &Target::Kubelet).await.unwrap();
    assert_eq!(echo(&mut new, "new").await, "NEW");
    drop(newer);
}

#[tokio::test]
async fn an_address_is_dialled_from_the_node_and_its_refusal_is_told() {
    let hub = Hub::new();
    tunnel(&hub, "pi").await;
    hub.attach("here", Arc::new(Shout));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = tcp.split();
                _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    for node in ["pi", "here"] {
        let mut stream = hub.dial(node, &Target::Address(address.clone())).await.unwrap();
        assert_eq!(echo(&mut stream, "through").await, "through");
        let refused = hub.dial(node, &Target::Address(closed.clone())).await.err().unwrap();
        assert!(matches!(refused, DialError::Refused(_)));
        assert_eq!(refused.to_string(), format!("dial tcp {closed}: connect: connection refused"));
        let mut own = hub.dial(node, &Target::Kubelet).await.unwrap();
        assert_eq!(echo(&mut own, "kubelet").await, "KUBELET");
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_vanished_without_a_word_is_noticed() {
    let hub = Hub::new();
    let (near, far) = tokio::io::duplex(1 << 20);
    let server = hub.clone();
    let ended = tokio::spawn(async move { server.serve("pi", Box::new(near)).await });
    // Nobody answers on the far end, though it is open.
    let start = tokio::time::Instant::now();
    assert!(ended.await.unwrap().is_err());
    assert!(start.elapsed() <= Duration::from_secs(60), "{:?}", start.elapsed());
    drop(far);
    assert!(!hub.reaches("pi"));
}
