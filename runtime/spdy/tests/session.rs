//! Two sessions on a pipe.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use kiln_spdy::{Headers, Incoming, Role, Session, SpdyError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn pair() -> (Session, Session, Incoming) {
    let (near, far) = tokio::io::duplex(64 << 10);
    let (client, _) = Session::start(near, Role::Client);
    let (server, incoming) = Session::start(far, Role::Server);
    (client, server, incoming)
}

fn named(name: &str) -> Headers {
    vec![("streamtype".into(), name.into())]
}

#[tokio::test]
async fn streams_are_told_apart_by_their_headers_and_end_by_halves() {
    let (client, _server, mut incoming) = pair();
    let serving = tokio::spawn(async move {
        let mut out = Vec::new();
        while let Some(mut stream) = incoming.accept().await {
            let name = stream.header("streamtype").unwrap().to_owned();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            // The other half is open still.
            stream.write_all(format!("{name} said {text}").as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            out.push(name);
        }
        out
    });
    for name in ["stdin", "stdout", "error"] {
        let mut stream = client.open(named(name)).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, format!("{name} said hello"));
        assert!(stream.write_all(b"more").await.is_err(), "this side has ended");
    }
    drop(client);
    assert_eq!(serving.await.unwrap(), ["stdin", "stdout", "error"]);
}

#[tokio::test]
async fn megabytes_flow_both_ways_at_once_on_several_streams() {
    let (client, _server, mut incoming) = pair();
    tokio::spawn(async move {
        while let Some(stream) = incoming.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = tokio::io::split(stream);
                tokio::io::copy(&mut read, &mut write).await.unwrap();
                write.shutdown().await.unwrap();
            });
        }
    });
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..4_u8 {
        let stream = client.open(named("data")).await.unwrap();
        tasks.spawn(async move {
            let (mut read, mut write) = tokio::io::split(stream);
            let sent = vec![i; 3 << 20];
            let writing = async {
                write.write_all(&sent).await.unwrap();
                write.shutdown().await.unwrap();
            };
            let mut got = Vec::new();
            let reading = read.read_to_end(&mut got);
            tokio::join!(writing, async { reading.await.unwrap() });
            assert!(got == sent);
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

#[tokio::test]
async fn a_stream_that_the_peer_gives_up_has_ended_and_takes_nothing_more() {
    let (client, _server, mut incoming) = pair();
    let mut near = {
        let opening = client.open(named("stdout"));
        let (near, far) = tokio::join!(opening, incoming.accept());
        let mut far = far.unwrap();
        far.write_all(b"last words").await.unwrap();
        drop(far);
        near.unwrap()
    };
    let mut text = String::new();
    near.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "last words");
    assert!(near.write_all(b"x").await.is_err());
}

#[tokio::test]
async fn a_connection_that_breaks_is_no_end_of_a_stream() {
    let (near, mut far) = tokio::io::duplex(64 << 10);
    let (client, _) = Session::start(near, Role::Client);
    let opening = tokio::spawn(async move { client.open(named("stdout")).await });
    // The far end answers by hand: the stream is welcome, and then there is nothing.
    let mut head = [0; 8];
    far.read_exact(&mut head).await.unwrap();
    let reply =
        [0x80, 3, 0, 2, 0, 0, 0, 4 + 16, 0, 0, 0, 1, 0x78, 1, 0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
    far.write_all(&reply).await.unwrap();
    let mut stream = opening.await.unwrap().unwrap();
    drop(far);
    assert!(stream.read(&mut [0; 8]).await.is_err());
}

#[tokio::test]
async fn an_end_that_takes_no_streams_refuses_them() {
    let (near, far) = tokio::io::duplex(64 << 10);
    let (client, _) = Session::start(near, Role::Client);
    let (_server, incoming) = Session::start(far, Role::Server);
    drop(incoming);
    assert!(matches!(client.open(named("data")).await, Err(SpdyError::Reset(_))));
}
